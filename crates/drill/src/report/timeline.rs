//! The timeline of a run: acknowledged messages per 100 ms of each data center's users, with what was done to the cell.

use std::fmt::Write as _;

use super::figures::{BIN, Run};

const WIDTH: f64 = 960.0;
/// Where the panels begin and end.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 944.0;
const TOP: f64 = 64.0;
/// The height of a panel, and the room between two.
const PANEL: f64 = 96.0;
const GAP: f64 = 30.0;
/// The height of a line of the legend.
const LINE: f64 = 18.0;

const STYLE: &str = "\
:root{--paper:#ffffff;--ink:#1b1f24;--soft:#57606a;--grid:#d0d7de;--fill:#2f6fdb;--fault:#b42318;--heal:#1a7f37;--act:#6e40c9}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--soft:#9da7b3;--grid:#30363d;--fill:#6ea8ff;--fault:#ff7b72;--heal:#56d364;--act:#bc8cff}}
text{font:12px system-ui,sans-serif;fill:var(--ink)}.soft{fill:var(--soft)}.title{font-size:15px;font-weight:600}.badge{font-size:10px;font-weight:700;fill:var(--paper)}
.paper{fill:var(--paper)}.grid{stroke:var(--grid);stroke-width:1}.area{fill:var(--fill)}
.fault{stroke:var(--fault)}.heal{stroke:var(--heal);stroke-dasharray:6 3}.act{stroke:var(--act);stroke-dasharray:2 3}line.fault,line.heal,line.act{stroke-width:1.5}
circle.fault{fill:var(--fault)}circle.heal{fill:var(--heal)}circle.act{fill:var(--act)}";

/// A text as it may stand in XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The steps between labels of an axis: 1, 2 or 5 times a power of ten, at most so many of them.
fn step(span: f64, most: f64) -> f64 {
    let raw = (span / most).max(1e-9);
    let power = 10f64.powf(raw.log10().floor());
    let fitting = [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= raw);
    fitting.unwrap_or(10.0 * power).max(1.0)
}

fn class(text: &str) -> &'static str {
    match text.split(' ').next() {
        Some("fault") => "fault",
        Some("heal" | "whole") => "heal",
        _ => "act",
    }
}

struct Axes {
    seconds: f64,
    highest: f64,
}

impl Axes {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (seconds / self.seconds).clamp(0.0, 1.0)
    }

    fn y(&self, top: f64, count: f64) -> f64 {
        top + PANEL * (1.0 - (count / self.highest).min(1.0))
    }
}

/// The top of the axes, and whether something reaches beyond it: what waited comes in bursts, beside which the usual would not be seen.
fn highest(run: &Run) -> (f64, bool) {
    let mut counts: Vec<u32> = run.acknowledged.values().flatten().copied().filter(|count| *count > 0).collect();
    counts.sort_unstable();
    let largest = counts.last().copied().unwrap_or(1);
    let usual = counts.get(counts.len() / 2).copied().unwrap_or(1);
    let top = largest.min(4 * usual.max(5));
    (f64::from(top), largest > top)
}

/// Draws it.
pub(super) fn draw(title: &str, run: &Run) -> String {
    let bins = run.acknowledged.values().map(Vec::len).max().unwrap_or(1).max(1);
    let (highest, cut) = highest(run);
    let axes = Axes { seconds: bins as f64 * BIN as f64 / 1e9, highest };
    let cut = if cut { format!("; bursts above {highest} are cut off") } else { String::new() };
    let panels = run.acknowledged.len() as f64;
    let bottom = TOP + panels * (PANEL + GAP);
    let height = bottom + 44.0 + LINE * run.marks.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"22\">{0}</text>\n\
         <text class=\"soft\" x=\"{LEFT}\" y=\"40\">Acknowledged messages per 100 ms, by the data center of who wrote them{cut}</text>\n",
        escaped(title)
    );
    for (at, (dc, counts)) in run.acknowledged.iter().enumerate() {
        panel(&mut svg, &axes, TOP + at as f64 * (PANEL + GAP) + 14.0, dc, counts);
    }
    marks(&mut svg, &axes, run, bottom);
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, axes: &Axes, top: f64, dc: &str, counts: &[u32]) {
    let bottom = top + PANEL;
    // Writing into a string does not fail.
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{:.1}\">Users of data center {}</text>", top - 4.0, escaped(dc));
    let every = step(axes.highest, 4.0);
    let mut value = 0.0;
    while value <= axes.highest {
        let y = axes.y(top, value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"soft\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{value}</text>",
            LEFT - 6.0,
            y + 4.0
        );
        value += every;
    }
    let mut path = format!("M{LEFT:.1} {bottom:.1}");
    for (bin, count) in counts.iter().enumerate() {
        let (from, to) = (axes.x(bin as f64 / 10.0), axes.x((bin + 1) as f64 / 10.0));
        let y = axes.y(top, f64::from(*count));
        let _ = write!(path, "L{from:.1} {y:.1}L{to:.1} {y:.1}");
    }
    let _ = writeln!(svg, "<path class=\"area\" d=\"{path}L{RIGHT:.1} {bottom:.1}Z\"/>");
}

/// The marks over all panels, the time below, and what the marks say.
fn marks(svg: &mut String, axes: &Axes, run: &Run, bottom: f64) {
    let every = step(axes.seconds, 12.0);
    let mut seconds = 0.0;
    while seconds <= axes.seconds {
        let x = axes.x(seconds);
        let _ = writeln!(
            svg,
            "<text class=\"soft\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{seconds}</text>",
            bottom + 4.0
        );
        seconds += every;
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    let _ = writeln!(
        svg,
        "<text class=\"soft\" text-anchor=\"middle\" x=\"{middle:.1}\" y=\"{:.1}\">seconds since everybody talked</text>",
        bottom + 20.0
    );
    for (at, (seconds, text)) in run.marks.iter().enumerate() {
        let (x, class, number) = (axes.x(*seconds), class(text), at + 1);
        // Marks close to each other take turns in height, so that none hides another.
        let badge = TOP - 8.0 + 9.0 * (at % 2) as f64;
        let y = bottom + 44.0 + LINE * at as f64;
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{badge:.1}\" y2=\"{:.1}\"/>\
             <circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{badge:.1}\" r=\"7\" stroke=\"none\"/>\
             <text class=\"badge\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{number}</text>\
             <circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"7\" stroke=\"none\"/>\
             <text class=\"badge\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{number}</text>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{seconds:.1} s: {}</text>",
            bottom - 14.0,
            badge + 3.5,
            LEFT + 7.0,
            y - 4.0,
            LEFT + 7.0,
            y - 0.5,
            LEFT + 22.0,
            escaped(text)
        );
    }
}
