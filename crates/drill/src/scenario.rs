//! Scenarios: what happens to the three data centers, and when, as text in `drills/NAME.toml`.
//!
//! Steps follow each other; each comes so many seconds after the one before it is done. Where a list is given, each run takes the next entry.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Naming as _};
use crate::world::disk;
use crate::world::net::Cut;

/// A scenario.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line for people.
    pub title: String,
    /// What happened elsewhere that it answers, or why it will happen.
    pub incident: String,
    /// What the data lies on.
    #[serde(default)]
    pub disks: disk::Kind,
    /// The same in a short run, when it is another: not every machine has loop devices.
    pub short_disks: Option<disk::Kind>,
    /// Whether the nodes' clocks can be turned.
    #[serde(default)]
    pub clocks: bool,
    /// Whether the network between the data centers can be slowed; then nothing can be dark.
    #[serde(default)]
    pub relay: bool,
    /// What the longest outage may be, in seconds: of each function, the median over runs. Nothing when none is required.
    pub required_s: Option<f64>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// So many seconds after the step before.
    #[serde(default)]
    pub after: f64,
    /// Not in a short run.
    #[serde(default)]
    pub long: bool,
    /// What is done.
    #[serde(rename = "do")]
    pub act: Act,
}

/// What is done. Each harm has its opposite.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// A data center goes dark at once: its wires are dead, its processes are killed.
    Dark(Place),
    /// Its power comes back, and it is started on what its disks hold.
    Light(Place),
    /// All data centers lose their power at once, and what their disks had not synced. Needs disks that forget.
    AllDark {},
    /// The power comes back everywhere.
    AllLight {},
    /// A data center is dark for good: its disks are gone as well.
    Burn(Place),
    /// A new one in its place, from nothing: the member of etcd is removed and added, so is the node.
    Rebuild(Place),
    /// A process hangs; its connections stay open.
    Freeze(Part),
    /// It goes on.
    Thaw(Part),
    /// A disk gets stuck: writes hang.
    Stick(Part),
    /// What hung goes on.
    Unstick(Part),
    /// A disk has no room left.
    Fill(Part),
    /// It has again.
    Empty(Part),
    /// A data center is cut off from the others, not from its users.
    Cut(Split),
    /// The wires are whole again.
    Join(Place),
    /// Packets between the data centers take so long in each direction, and some are lost.
    Slow(Weather),
    /// The network is as it was.
    Fast {},
    /// A data center's nodes have a clock that is off by so much, such as "+600"; seconds.
    Clock(Clock),
    /// A data center's node is ended by SIGTERM and started again; done when the cell is whole.
    Restart(Place),
    /// All of etcd's data is gone, and its members are empty.
    LoseLog {},
    /// The operator begins a new generation of the log.
    Reseed {},
    /// Waits until every member and node is ready.
    Whole {},
}

/// Where.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The data center.
    pub dc: String,
    /// Where etcd's leader is had to be before; anywhere when not given.
    #[serde(default)]
    pub leader: Vec<Leader>,
}

/// Where, and which way it is cut.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The data center.
    pub dc: String,
    /// Which way.
    pub how: Cut,
    /// See [`Place::leader`].
    #[serde(default)]
    pub leader: Vec<Leader>,
}

/// Where, and what of it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The data center.
    pub dc: String,
    /// The node, or the member of etcd.
    pub of: Which,
    /// See [`Place::leader`].
    #[serde(default)]
    pub leader: Vec<Leader>,
}

/// What the network between the data centers does.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Weather {
    /// How long each packet takes, in each direction.
    pub delay_ms: u64,
    /// How many of a hundred are lost.
    pub lost_percent: u64,
}

/// Where, and how far.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// The data center.
    pub dc: String,
    /// By how much, as libfaketime takes it: "+600", "+0".
    pub by: String,
}

/// A data center's node or its member of etcd.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The node.
    Node,
    /// The member of etcd.
    Etcd,
}

/// Where etcd's leader is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Leader {
    /// In the data center that is harmed.
    In,
    /// In another one.
    Out,
}

/// What a run takes of a list.
pub fn of_run<T: Copy>(list: &[T], run: u32) -> Option<T> {
    let nth = usize::try_from(run).unwrap_or(0).saturating_sub(1);
    list.get(nth.checked_rem(list.len())?).copied()
}

impl Scenario {
    /// Reads one.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let reading = || format!("reading {}", file.display());
        let text = std::fs::read_to_string(file).naming(reading)?;
        toml::from_str(&text).map_err(|error| Error::other(reading(), error.to_string()))
    }

    /// What the data lies on in a run.
    pub fn disks_of(&self, short: bool) -> disk::Kind {
        self.short_disks.filter(|_| short).unwrap_or(self.disks)
    }
}

impl Act {
    /// Where etcd's leader has to be in this run, and for which data center.
    pub fn leader(&self, run: u32) -> Option<(&str, Leader)> {
        let (dc, leader) = match self {
            Self::Dark(place) | Self::Light(place) | Self::Burn(place) | Self::Rebuild(place) => {
                (&place.dc, &place.leader)
            }
            Self::Join(place) | Self::Restart(place) => (&place.dc, &place.leader),
            Self::Freeze(part) | Self::Thaw(part) | Self::Stick(part) => (&part.dc, &part.leader),
            Self::Unstick(part) | Self::Fill(part) | Self::Empty(part) => (&part.dc, &part.leader),
            Self::Cut(split) => (&split.dc, &split.leader),
            Self::AllDark {} | Self::AllLight {} | Self::Clock(_) | Self::Whole {} => return None,
            Self::Slow(_) | Self::Fast {} | Self::LoseLog {} | Self::Reseed {} => return None,
        };
        of_run(leader, run).map(|leader| (dc.as_str(), leader))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn all_that_are_kept_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drills");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
        assert!(!files.is_empty());
        for file in files {
            let scenario = Scenario::read(&file).unwrap();
            assert!(scenario.steps.iter().any(|step| !step.long), "{}", file.display());
            assert!(scenario.required_s.is_none_or(|seconds| seconds > 0.0), "{}", file.display());
        }
    }

    #[test]
    fn a_word_that_is_not_known_is_refused() {
        let refused = |text: &str| toml::from_str::<Scenario>(text).unwrap_err().to_string();
        let step = |step: &str| format!("title = \"t\"\nincident = \"i\"\n[[steps]]\n{step}\n");
        assert!(refused(&step("do.dark = { dc = \"a\", leeder = [\"in\"] }")).contains("leeder"));
        assert!(refused(&step("do.darken = { dc = \"a\" }")).contains("darken"));
        assert!(refused(&step("afte = 1\ndo.whole = {}")).contains("afte"));
    }

    #[test]
    fn runs_take_turns() {
        let list = [Leader::In, Leader::Out];
        assert_eq!([1, 2, 3].map(|run| of_run(&list, run)), [Some(Leader::In), Some(Leader::Out), Some(Leader::In)]);
        assert_eq!(of_run::<Leader>(&[], 1), None);
    }
}
