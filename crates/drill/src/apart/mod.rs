//! What it costs that a cell's data centers are apart: the same load on one machine's cell and on cells over three data centers, in turns.
//!
//! ```text
//!  ieum-apart ── a round: each arm after the other, each in namespaces of its own ──► round-N.json ──► table, JSON, chart
//!     └─ arm ─► nodes (and members of etcd), as `drill` starts them     └─ people, in a process of their own
//! ```
//!
//! - [`arm`]: one arm's measurement, [`people`] and [`book`]: its load, [`parts`]: what each part of it used, [`wire`]: the network itself
//! - [`results`]: medians and ratios, as a table and JSON, [`chart`]: as a picture, [`about`]: where and with what it was measured
//!
//! How, and why so: `docs/decisions/bench.md`.

pub mod about;
pub mod arm;
mod book;
pub mod chart;
pub mod parts;
pub mod people;
pub mod results;
pub mod spread;
pub mod wire;

pub use book::Figures;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is measured beside each other. The order is that of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// One node, which keeps its log itself.
    Single,
    /// Three data centers on a network as fast as this machine has it.
    Near,
    /// The same with the relay between them, which delays nothing.
    Relayed,
    /// A round trip between data centers takes 1 ms.
    Apart,
    /// Each way takes 1 ms.
    Farther,
}

impl Arm {
    /// All of them, in the order of a round.
    pub const ALL: [Self; 5] = [Self::Single, Self::Near, Self::Relayed, Self::Apart, Self::Farther];

    /// Its name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Near => "near",
            Self::Relayed => "relayed",
            Self::Apart => "apart",
            Self::Farther => "farther",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Single => "one node, log in SQLite",
            Self::Near => "three data centers, no delay (veth)",
            Self::Relayed => "three, relay without delay",
            Self::Apart => "three, 1 ms there and back",
            Self::Farther => "three, 1 ms each way",
        }
    }

    /// How long each way takes, where a relay is between the data centers.
    #[must_use]
    pub fn relay(self) -> Option<Duration> {
        match self {
            Self::Single | Self::Near => None,
            Self::Relayed => Some(Duration::ZERO),
            Self::Apart => Some(Duration::from_micros(500)),
            Self::Farther => Some(Duration::from_millis(1)),
        }
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Pairs of people.
    pub pairs: usize,
    /// Messages a second of the calm load.
    pub calm: u32,
    /// Messages a second of the steady load.
    pub steady: u32,
    /// Messages of each pair under way in the full load.
    pub window: u32,
    /// How long each load is measured, after a quarter of that to warm up.
    pub seconds: f64,
}
