//! The log's figures, and what comes of them, beside those of a single machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Arm;
use super::results::{self, Figures, Round};

const WIDTH: f64 = 960.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 236.0;
const LONGEST: f64 = 600.0;
const TOP: f64 = 52.0;
/// The height of a bar with its gap, and what a panel's title and the room below it take.
const BAR: f64 = 20.0;
const TITLE: f64 = 26.0;

const STYLE: &str = "\
:root{--paper:#ffffff;--ink:#1b1f24;--soft:#57606a;--grid:#d0d7de;--a:#2f6fdb;--b:#8a94a3;--c:#c98a1b;--d:#a35db8}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--soft:#9da7b3;--grid:#30363d;--a:#6ea8ff;--b:#7d8794;--c:#e3b341;--d:#d2a8ff}}
text{font:12px system-ui,sans-serif;fill:var(--ink)}.soft{fill:var(--soft)}.title{font-size:15px;font-weight:600}.panel{font-weight:600}
.paper{fill:var(--paper)}.a{fill:var(--a)}.b{fill:var(--b)}.c{fill:var(--c)}.d{fill:var(--d)}";

/// A panel: a bar for each arm, made of these figures one after the other.
struct Panel {
    title: &'static str,
    unit: &'static str,
    /// Figure, class of its colour, and what it is.
    of: &'static [(&'static str, &'static str, &'static str)],
}

const PANELS: &[Panel] = &[
    Panel { title: "Messages a second, as many as it takes (full load)", unit: "", of: &[("messages_per_s", "a", "")] },
    Panel {
        title: "Until a message is acknowledged, half of them, calm load",
        unit: "ms",
        of: &[("calm.acknowledged_p50_ms", "a", "")],
    },
    Panel { title: "99 of 100, calm load", unit: "ms", of: &[("calm.acknowledged_p99_ms", "a", "")] },
    Panel {
        title: "Until a message is acknowledged, half of them, steady load",
        unit: "ms",
        of: &[("steady.acknowledged_p50_ms", "a", "")],
    },
    Panel { title: "99 of 100, steady load", unit: "ms", of: &[("steady.acknowledged_p99_ms", "a", "")] },
    Panel {
        title: "Processor time for 1,000 messages, calm load",
        unit: "ms",
        of: &[
            ("calm.cpu_ms_per_1000.log", "a", "log"),
            ("calm.cpu_ms_per_1000.nodes", "b", "nodes"),
            ("calm.cpu_ms_per_1000.people", "c", "people"),
            ("calm.cpu_ms_per_1000.relay", "d", "relay"),
        ],
    },
    Panel {
        title: "Processor time for 1,000 messages, steady load",
        unit: "ms",
        of: &[
            ("steady.cpu_ms_per_1000.log", "a", "log"),
            ("steady.cpu_ms_per_1000.nodes", "b", "nodes"),
            ("steady.cpu_ms_per_1000.people", "c", "people"),
            ("steady.cpu_ms_per_1000.relay", "d", "relay"),
        ],
    },
    Panel {
        title: "Processor time for 1,000 messages, full load",
        unit: "ms",
        of: &[
            ("full.cpu_ms_per_1000.log", "a", "log"),
            ("full.cpu_ms_per_1000.nodes", "b", "nodes"),
            ("full.cpu_ms_per_1000.people", "c", "people"),
            ("full.cpu_ms_per_1000.relay", "d", "relay"),
        ],
    },
    Panel {
        title: "Written for 1,000 messages, calm load",
        unit: "kB",
        of: &[("calm.written_kb_per_1000.log", "a", "log"), ("calm.written_kb_per_1000.nodes", "b", "nodes")],
    },
    Panel {
        title: "Written for 1,000 messages, steady load",
        unit: "kB",
        of: &[("steady.written_kb_per_1000.log", "a", "log"), ("steady.written_kb_per_1000.nodes", "b", "nodes")],
    },
    Panel {
        title: "Written for 1,000 messages, full load",
        unit: "kB",
        of: &[("full.written_kb_per_1000.log", "a", "log"), ("full.written_kb_per_1000.nodes", "b", "nodes")],
    },
    Panel {
        title: "Memory at the end of the full load; the single node's holds its log",
        unit: "MB",
        of: &[("full.memory_mb.log", "a", "log"), ("full.memory_mb.nodes", "b", "nodes")],
    },
];

/// Draws the medians.
#[must_use]
pub fn draw(rounds: &[Round]) -> String {
    let medians = results::medians(rounds);
    let each = TITLE + BAR * medians.len() as f64 + 12.0;
    let height = TOP + each * PANELS.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>A cell over three data centers beside one on one machine</title>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"16\" y=\"24\">A cell over three data centers beside one on one machine</text>\n\
         <text class=\"soft\" x=\"16\" y=\"42\">All of it on one machine, which the parts share; medians of {} rounds</text>\n",
        rounds.len()
    );
    for (at, panel) in (0u16..).zip(PANELS) {
        draw_panel(&mut svg, panel, TOP + each * f64::from(at), &medians);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, top: f64, medians: &BTreeMap<Arm, Figures>) {
    let value = |figures: &Figures, name: &str| figures.get(name).copied().unwrap_or_default();
    let whole = |figures: &Figures| panel.of.iter().map(|(name, ..)| value(figures, name)).sum::<f64>();
    let largest = medians.values().map(whole).fold(f64::MIN_POSITIVE, f64::max);
    // Writing into a string does not fail.
    let _ = writeln!(svg, "<text class=\"panel\" x=\"16\" y=\"{:.1}\">{}</text>", top + 16.0, panel.title);
    let mut x = WIDTH - 16.0;
    for (_, class, what) in panel.of.iter().rev().filter(|(.., what)| !what.is_empty()) {
        x -= 64.0;
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\"/><text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{what}</text>",
            top + 7.0,
            x + 14.0,
            top + 16.0
        );
    }
    for (at, (arm, figures)) in (0u16..).zip(medians) {
        let y = top + TITLE + BAR * f64::from(at);
        let _ = writeln!(svg, "<text class=\"soft\" x=\"16\" y=\"{:.1}\">{}</text>", y + 12.0, arm.title());
        let mut x = LEFT;
        for (name, class, _) in panel.of {
            let width = LONGEST * value(figures, name) / largest;
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                BAR - 5.0
            );
            x += width;
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{} {}</text>",
            x + 6.0,
            y + 12.0,
            results::number(whole(figures)),
            panel.unit
        );
    }
}
