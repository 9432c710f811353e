//! Rounds as medians and ratios, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Arm;
use super::arm::{Measured, Phase};

/// What one round gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    /// Each arm's.
    pub arms: BTreeMap<Arm, Measured>,
}

/// Figures by their name.
pub type Figures = BTreeMap<String, f64>;

/// What is shown, and what ratios are told of: how people fare, and what a message costs.
const TABLE: &[&str] = &[
    "messages_per_s",
    "calm.acknowledged_p50_ms",
    "calm.acknowledged_p99_ms",
    "calm.delivered_p50_ms",
    "calm.delivered_p99_ms",
    "steady.acknowledged_p50_ms",
    "steady.acknowledged_p99_ms",
    "steady.delivered_p50_ms",
    "steady.delivered_p99_ms",
    "calm.cpu_ms_per_1000.log",
    "calm.cpu_ms_per_1000.nodes",
    "calm.cpu_ms_per_1000.people",
    "calm.cpu_ms_per_1000.relay",
    "calm.cpu_ms_per_1000.machine",
    "calm.processors_busy",
    "calm.written_kb_per_1000.log",
    "calm.written_kb_per_1000.nodes",
    "calm.disk_kb_per_1000",
    "calm.memory_mb.log",
    "calm.memory_mb.nodes",
    "calm.memory_growth_kb_per_1000.log",
    "calm.memory_growth_kb_per_1000.nodes",
    "calm.round_trip_p50_us",
    "calm.round_trip_p99_us",
    "calm.packets_per_s_of_a",
    "calm.megabytes_per_s_of_a",
    "steady.cpu_ms_per_1000.log",
    "steady.cpu_ms_per_1000.nodes",
    "steady.cpu_ms_per_1000.people",
    "steady.cpu_ms_per_1000.relay",
    "steady.cpu_ms_per_1000.machine",
    "steady.processors_busy",
    "steady.written_kb_per_1000.log",
    "steady.written_kb_per_1000.nodes",
    "steady.disk_kb_per_1000",
    "steady.memory_mb.log",
    "steady.memory_mb.nodes",
    "steady.memory_growth_kb_per_1000.log",
    "steady.memory_growth_kb_per_1000.nodes",
    "steady.round_trip_p50_us",
    "steady.round_trip_p99_us",
    "steady.packets_per_s_of_a",
    "steady.megabytes_per_s_of_a",
    "full.cpu_ms_per_1000.log",
    "full.cpu_ms_per_1000.nodes",
    "full.cpu_ms_per_1000.people",
    "full.cpu_ms_per_1000.relay",
    "full.cpu_ms_per_1000.machine",
    "full.processors_busy",
    "full.written_kb_per_1000.log",
    "full.written_kb_per_1000.nodes",
    "full.disk_kb_per_1000",
    "full.memory_mb.log",
    "full.memory_mb.nodes",
    "full.memory_growth_kb_per_1000.log",
    "full.memory_growth_kb_per_1000.nodes",
    "full.round_trip_p50_us",
    "full.round_trip_p99_us",
    "full.packets_per_s_of_a",
    "full.megabytes_per_s_of_a",
    "wire.round_trip_p50_us",
    "wire.round_trip_p99_us",
    "wire.megabytes_per_s",
    "wire.packets_per_s",
    "wire.relay_us_per_packet",
];
/// So many of them, the first, tell how people fare.
const PEOPLE: usize = 9;

/// All figures of an arm in a round.
#[must_use]
pub fn figures(measured: &Measured) -> Figures {
    let mut all = Figures::new();
    let people = &measured.full.people;
    all.insert("messages_per_s".to_owned(), people.acknowledged as f64 / people.seconds.max(f64::MIN_POSITIVE));
    for (name, phase) in [("calm", &measured.calm), ("steady", &measured.steady), ("full", &measured.full)] {
        all.extend(of_phase(phase).into_iter().map(|(figure, value)| (format!("{name}.{figure}"), value)));
    }
    if let Some(wire) = &measured.wire {
        all.extend(
            [
                ("round_trip_p50_us", wire.round_trip_us.p50 as f64),
                ("round_trip_p99_us", wire.round_trip_us.p99 as f64),
                ("megabytes_per_s", wire.bytes_per_s / 1e6),
                ("packets_per_s", wire.packets_per_s),
                ("relay_us_per_packet", wire.relay_us_per_packet),
            ]
            .map(|(figure, value)| (format!("wire.{figure}"), value)),
        );
    }
    all
}

fn of_phase(phase: &Phase) -> Figures {
    let thousands = (phase.people.acknowledged as f64 / 1e3).max(f64::MIN_POSITIVE);
    let seconds = phase.people.seconds.max(f64::MIN_POSITIVE);
    let mut all = Figures::new();
    for (name, spread) in [("acknowledged", phase.people.acknowledged_us), ("delivered", phase.people.delivered_us)] {
        for (which, micros) in [("p50", spread.p50), ("p99", spread.p99), ("max", spread.max)] {
            all.insert(format!("{name}_{which}_ms"), micros as f64 / 1e3);
        }
    }
    for (part, used) in &phase.parts {
        all.insert(format!("cpu_ms_per_1000.{part}"), used.used.cpu_s * 1e3 / thousands);
        all.insert(format!("written_kb_per_1000.{part}"), used.used.written as f64 / 1e3 / thousands);
        // Threads have no memory of their own.
        if used.used.resident > 0 {
            all.insert(format!("memory_mb.{part}"), used.used.resident as f64 / 1e6);
            all.insert(format!("anonymous_memory_mb.{part}"), used.used.anonymous as f64 / 1e6);
            all.insert(format!("memory_growth_kb_per_1000.{part}"), used.grown as f64 / 1e3 / thousands);
        }
    }
    all.insert("cpu_ms_per_1000.machine".to_owned(), phase.busy_s * 1e3 / thousands);
    all.insert("processors_busy".to_owned(), phase.busy_s / seconds);
    all.insert("lost_connections".to_owned(), phase.people.lost_connections as f64);
    if let Some(bytes) = phase.disk_bytes {
        all.insert("disk_kb_per_1000".to_owned(), bytes as f64 / 1e3 / thousands);
    }
    if let Some(between) = phase.between {
        all.insert("megabytes_per_s_of_a".to_owned(), between.bytes as f64 / 1e6 / seconds);
        all.insert("packets_per_s_of_a".to_owned(), between.packets as f64 / seconds);
    }
    if let Some(spread) = phase.round_trip_us {
        all.insert("round_trip_p50_us".to_owned(), spread.p50 as f64);
        all.insert("round_trip_p99_us".to_owned(), spread.p99 as f64);
    }
    all
}

/// The middle one; of two middle ones what lies between them.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    if sorted.is_empty() { 0.0 } else { f64::midpoint(at((sorted.len() - 1) / 2), at(sorted.len() / 2)) }
}

/// Each arm's figures in each round.
#[must_use]
pub fn runs(rounds: &[Round]) -> BTreeMap<Arm, BTreeMap<String, Vec<f64>>> {
    let mut all: BTreeMap<Arm, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for (arm, measured) in rounds.iter().flat_map(|round| &round.arms) {
        let of = all.entry(*arm).or_default();
        figures(measured).into_iter().for_each(|(name, value)| of.entry(name).or_default().push(value));
    }
    all
}

/// Each arm's medians.
#[must_use]
pub fn medians(rounds: &[Round]) -> BTreeMap<Arm, Figures> {
    let of = |runs: BTreeMap<String, Vec<f64>>| runs.iter().map(|(name, runs)| (name.clone(), median(runs))).collect();
    runs(rounds).into_iter().map(|(arm, runs)| (arm, of(runs))).collect()
}

/// How much a figure of one arm is of another arm's, in each round that has both.
#[must_use]
pub fn ratios(rounds: &[Round], of: Arm, to: Arm, figure: &str) -> Vec<f64> {
    let ratio = |round: &Round| {
        let value = |arm: Arm| figures(round.arms.get(&arm)?).get(figure).copied();
        Some(value(of)? / value(to).filter(|value| *value > 0.0)?)
    };
    rounds.iter().filter_map(ratio).collect()
}

/// Which arm is held against which.
const AGAINST: &[(Arm, Arm)] = &[
    (Arm::Near, Arm::Single),
    (Arm::Apart, Arm::Single),
    (Arm::Farther, Arm::Single),
    (Arm::Relayed, Arm::Near),
    (Arm::Apart, Arm::Relayed),
    (Arm::Apart, Arm::Near),
    (Arm::Farther, Arm::Near),
];

/// Everything, with where and how it was measured.
#[must_use]
pub fn json(about: &Value, rounds: &[Round]) -> Value {
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let all = |values: &[f64]| values.iter().copied().map(rounded).collect::<Vec<_>>();
    let arms: serde_json::Map<String, Value> = runs(rounds)
        .into_iter()
        .map(|(arm, runs)| {
            let medians: BTreeMap<&String, f64> =
                runs.iter().map(|(name, runs)| (name, rounded(median(runs)))).collect();
            let runs: BTreeMap<&String, Vec<f64>> = runs.iter().map(|(name, runs)| (name, all(runs))).collect();
            (arm.name().to_owned(), json!({"title": arm.title(), "medians": medians, "rounds": runs}))
        })
        .collect();
    let mut against = serde_json::Map::new();
    for (of, to) in AGAINST {
        let figures = TABLE.iter().filter_map(|figure| {
            let ratios = ratios(rounds, *of, *to, figure);
            let ratio = json!({"median": rounded(median(&ratios)), "rounds": all(&ratios)});
            (!ratios.is_empty()).then(|| ((*figure).to_owned(), ratio))
        });
        let figures: serde_json::Map<String, Value> = figures.collect();
        if !figures.is_empty() {
            against.insert(format!("{}/{}", of.name(), to.name()), figures.into());
        }
    }
    json!({"about": about, "rounds": rounds.len(), "arms": arms, "ratios": against})
}

pub(super) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Medians, and of the first figures the ratios' medians, smallest and largest.
#[must_use]
pub fn table(rounds: &[Round]) -> String {
    let medians = medians(rounds);
    let arms: Vec<Arm> = medians.keys().copied().collect();
    let mut out = format!("{:<38}", format!("medians of {} rounds", rounds.len()));
    // Writing into a string does not fail.
    for arm in &arms {
        let _ = write!(out, " {:>10}", arm.name());
    }
    out.push('\n');
    for figure in TABLE {
        let values = arms.iter().map(|arm| medians.get(arm)?.get(*figure).map(|value| number(*value)));
        let values: Vec<String> = values.map(Option::unwrap_or_default).collect();
        if values.iter().any(|value| !value.is_empty()) {
            let _ = write!(out, "{figure:<38}");
            for value in &values {
                let _ = write!(out, " {value:>10}");
            }
            out.push('\n');
        }
    }
    out.push_str("\nratios in each round: median (smallest to largest)\n");
    for (of, to) in AGAINST {
        for figure in TABLE.iter().take(PEOPLE) {
            let mut ratios = ratios(rounds, *of, *to, figure);
            ratios.sort_by(f64::total_cmp);
            if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
                let (between, middle) = (format!("{}/{}", of.name(), to.name()), number(median(&ratios)));
                let _ = writeln!(out, "{between:<18}{figure:<28}{middle} ({} to {})", number(*least), number(*most));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apart::arm::Used;
    use crate::apart::parts::Usage;
    use crate::apart::{self, spread::Spread};

    fn phase(acknowledged: u64, micros: u64, cpu_s: f64) -> Phase {
        let spread = Spread { count: acknowledged, p50: micros, p99: 2 * micros, max: 3 * micros };
        let used = Usage { cpu_s, written: 3_000_000, resident: 5_000_000, anonymous: 1_000_000 };
        Phase {
            people: apart::Figures {
                seconds: 2.0,
                acknowledged,
                acknowledged_us: spread,
                delivered_us: spread,
                lost_connections: 0,
            },
            parts: [("log".to_owned(), Used { used, grown: -2_000 })].into(),
            busy_s: 3.0,
            disk_bytes: None,
            between: None,
            round_trip_us: None,
        }
    }

    fn round(single: u64, near: u64) -> Round {
        let measured = |rate| Measured {
            wire: None,
            calm: phase(200, rate / 2, 0.5),
            steady: phase(2_000, rate, 0.5),
            full: phase(rate, 9_000, 0.5),
        };
        Round { arms: [(Arm::Single, measured(single)), (Arm::Near, measured(near))].into() }
    }

    #[test]
    fn figures_are_of_a_thousand_messages() {
        let round = round(4_000, 2_000);
        let figures = figures(round.arms.get(&Arm::Single).expect("an arm"));
        let of = |name: &str| figures.get(name).copied();
        assert_eq!(of("messages_per_s"), Some(2_000.0));
        assert_eq!(of("steady.acknowledged_p50_ms"), Some(4.0));
        assert_eq!(of("calm.delivered_p99_ms"), Some(4.0));
        assert_eq!(of("full.cpu_ms_per_1000.log"), Some(125.0));
        assert_eq!(of("steady.written_kb_per_1000.log"), Some(1_500.0));
        assert_eq!(of("steady.memory_growth_kb_per_1000.log"), Some(-1.0));
        assert_eq!(of("full.processors_busy"), Some(1.5));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let rounds = [round(4_000, 1_000), round(1_000, 500), round(2_000, 2_000)];
        assert_eq!(ratios(&rounds, Arm::Near, Arm::Single, "messages_per_s"), [0.25, 0.5, 1.0]);
        let json = json(&Value::Null, &rounds);
        assert_eq!(json["ratios"]["near/single"]["messages_per_s"]["median"], 0.5);
        assert_eq!(json["arms"]["single"]["medians"]["messages_per_s"], 1_000.0);
        assert_eq!(json["ratios"].as_object().expect("ratios").len(), 1);
        let table = table(&rounds);
        let svg = super::super::chart::draw(&rounds);
        assert!(
            svg.contains("medians of 3 rounds") && svg.contains(Arm::Near.title()) && svg.ends_with("</svg>\n"),
            "{svg}"
        );
        assert!(table.lines().any(|line| line.ends_with("messages_per_s              0.50 (0.25 to 1.00)")), "{table}");
    }

    #[test]
    fn the_middle_of_two_lies_between_them() {
        assert_eq!(median(&[4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
