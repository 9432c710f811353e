//! What was measured, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::sizes::Sizes;

/// Which way a figure is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Good {
    /// At least the bound.
    High,
    /// At most the bound.
    Low,
}

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    metric: &'static str,
    good: Good,
    required: Option<f64>,
    aim: Option<f64>,
}

const fn bound(metric: &'static str, good: Good, required: Option<f64>, aim: f64) -> Bound {
    Bound { metric, good, required, aim: Some(aim) }
}

/// The table of requirements. Rows of TLS are held against the same figures.
const BOUNDS: &[Bound] = &[
    bound("direct.messages_per_s", Good::High, Some(25_000.0), 40_000.0),
    bound("single.messages_per_s", Good::High, None, 25_000.0),
    bound("direct.p99_ms", Good::Low, Some(5.0), 2.0),
    bound("direct.server_cpu_us_per_message", Good::Low, Some(40.0), 20.0),
    bound("idle.kb_per_session", Good::Low, Some(10.0), 6.0),
    bound("reconnect.seconds", Good::Low, Some(3.0), 1.0),
    bound("room.p99_ms", Good::Low, Some(50.0), 25.0),
    bound("growth.ratio", Good::High, Some(0.8), 0.95),
    bound("restart.seconds", Good::Low, Some(1.0), 0.3),
];

/// One figure.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    metric: String,
    value: f64,
    runs: Vec<f64>,
}

impl Bound {
    fn holds(&self, value: f64, limit: f64) -> bool {
        match self.good {
            Good::High => value >= limit,
            Good::Low => value <= limit,
        }
    }

    fn verdict(&self, value: f64) -> &'static str {
        if self.aim.is_some_and(|aim| self.holds(value, aim)) {
            "aim"
        } else if self.required.is_none_or(|required| self.holds(value, required)) {
            "ok"
        } else {
            "MISSED"
        }
    }
}

/// Figures, in the order in which they were measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

/// The middle one; the lower of two middle ones.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// The smallest value that 99 of 100 do not exceed.
pub(crate) fn p99(sorted: &[u64]) -> f64 {
    let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(0.0, |value| *value as f64)
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => thousands(value),
        middle if middle >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three digits behind the point, so that the file can be compared by eye.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

impl Report {
    /// Adds the median of several runs.
    pub(crate) fn add(&mut self, prefix: &str, metric: &str, runs: &[f64]) {
        let figure = Figure { metric: format!("{prefix}{metric}"), value: median(runs), runs: runs.to_vec() };
        eprintln!("ieum bench:   {} = {}", figure.metric, number(figure.value));
        self.figures.push(figure);
    }

    /// The figures with what they are held against.
    pub(crate) fn table(&self, sizes: &Sizes) -> String {
        let mut rows = vec![["metric", "load", "measured", "required", "aim", "reached"].map(str::to_owned)];
        for figure in &self.figures {
            let bound = bound_of(&figure.metric);
            let limit = |limit: Option<f64>| limit.map(number).unwrap_or_default();
            rows.push([
                figure.metric.clone(),
                bound.map(|b| load(b.metric, sizes)).unwrap_or_default(),
                number(figure.value),
                limit(bound.and_then(|b| b.required)),
                limit(bound.and_then(|b| b.aim)),
                bound.map(|b| b.verdict(figure.value).to_owned()).unwrap_or_default(),
            ]);
        }
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or_default()).collect();
        let mut out = String::new();
        for (index, row) in rows.iter().enumerate() {
            line(&mut out, row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")));
            if index == 0 {
                line(&mut out, widths.iter().map(|width| "-".repeat(*width)));
            }
        }
        out
    }

    /// Every figure by its name, the runs behind it and the commit that it is of; with the figures `before`, if they are of the same
    /// sizes, that were not measured anew.
    pub(crate) fn json(&self, about: Map<String, Value>, before: Option<Value>) -> Value {
        let mut out = about;
        let commit = out.get("versions").and_then(|versions| versions.get("commit")).cloned().unwrap_or_default();
        let before = before.filter(|before| before.get("sizes") == out.get("sizes")).unwrap_or_default();
        let mut add = |name: &str, value: fn(&Figure, &Value) -> Value| {
            let mut all = before.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
            all.extend(self.figures.iter().map(|figure| (figure.metric.clone(), value(figure, &commit))));
            out.insert(name.to_owned(), all.into());
        };
        add("metrics", |figure, _| json!(rounded(figure.value)));
        add("runs", |figure, _| figure.runs.iter().copied().map(rounded).collect());
        add("commits", |_, commit| commit.clone());
        out.into()
    }
}

/// What a figure was measured under.
fn load(metric: &str, sizes: &Sizes) -> String {
    let of = |count: u64| thousands(count as f64);
    match metric {
        "direct.messages_per_s" | "direct.server_cpu_us_per_message" => {
            format!("{} pairs, {} in flight each", sizes.direct_pairs, sizes.direct_window)
        }
        "single.messages_per_s" => format!("{} pairs, 1 in flight each", of(sizes.single_pairs.into())),
        "direct.p99_ms" => format!("send to delivery, {} pairs, 1 in flight", sizes.delay_pairs),
        "idle.kb_per_session" => format!("{} idle sessions", of(sizes.sessions.into())),
        "reconnect.seconds" => format!("{} dropped sessions", of(sizes.sessions.into())),
        "room.p99_ms" => {
            let each = of(sizes.room_members.into());
            format!("{each} members, a message every {} ms", sizes.room_every.as_millis())
        }
        "growth.ratio" => {
            let messages = u64::from(sizes.growth_rooms) * sizes.growth_messages;
            format!("{} messages in {} rooms", of(messages), of(sizes.growth_rooms.into()))
        }
        "restart.seconds" => format!("kill -9 under load, {} messages", of(sizes.restart_messages)),
        _ => String::new(),
    }
}

fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    // Writing to a string does not fail.
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn bound_of(metric: &str) -> Option<&'static Bound> {
    let plain = metric.strip_prefix(TLS).unwrap_or(metric);
    BOUNDS.iter().find(|bound| bound.metric == plain)
}

/// What the names of figures over TLS begin with.
pub(crate) const TLS: &str = "tls.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_bounds() {
        let verdict = |metric: &str, value| bound_of(metric).unwrap().verdict(value);
        assert_eq!(verdict("direct.messages_per_s", 24_999.0), "MISSED");
        assert_eq!(verdict("direct.messages_per_s", 25_000.0), "ok");
        assert_eq!(verdict("tls.direct.messages_per_s", 40_000.0), "aim");
        assert_eq!(verdict("direct.p99_ms", 5.1), "MISSED");
        assert_eq!(verdict("direct.p99_ms", 2.0), "aim");
        assert_eq!(verdict("single.messages_per_s", 1.0), "ok");
    }

    #[test]
    fn every_row_of_the_table_names_its_load() {
        for bound in BOUNDS {
            assert_ne!(load(bound.metric, &crate::sizes::QUICK), "", "{}", bound.metric);
        }
        assert_eq!(load("idle.kb_per_session", &crate::sizes::QUICK), "1,000 idle sessions");
    }

    #[test]
    fn the_middle_and_the_99th_of_a_hundred() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(p99(&values), 99.0);
        assert_eq!(p99(&[7]), 7.0);
    }

    #[test]
    fn what_is_not_measured_anew_stays_if_it_is_of_the_same_sizes() {
        let mut report = Report::default();
        report.add("", "a", &[2.0]);
        let about = json!({"sizes": "quick", "versions": {"commit": "new"}});
        let json = |sizes: &str| {
            let before = json!({"sizes": sizes, "metrics": {"a": 1.0, "b": 1.0}, "commits": {"a": "old", "b": "old"}});
            report.json(about.as_object().unwrap().clone(), Some(before))
        };
        assert_eq!(json("quick")["metrics"], json!({"a": 2.0, "b": 1.0}));
        assert_eq!(json("quick")["commits"], json!({"a": "new", "b": "old"}));
        assert_eq!(json("full")["metrics"], json!({"a": 2.0}));
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(
            ["1,234,568", "999", "0.50"],
            [number(1_234_567.9), number(999.2), number(0.5)].map(|n| n).each_ref().map(|n| n.as_str())
        );
    }
}
