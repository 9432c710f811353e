//! `ieum restore --journal`: a backup is brought up with a journal that is left.

use std::path::PathBuf;
use std::process::ExitCode;

use ieum_core::apply::Skips;
use ieum_core::ids::Position;
use ieum_log::Log as _;
use ieum_log_etcd::{Etcd, record};
use ieum_node::beyond::{self, Brought, Whose};
use ieum_node::folder::Folder;

use crate::Failure;
use crate::bar::Bar;
use crate::config::{Config, Engine};
use crate::shared;

/// What the operator asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The backup.
    pub(crate) from: PathBuf,
    /// Move aside what is there.
    pub(crate) replace: bool,
    /// Where the journal lies.
    pub(crate) journal: PathBuf,
    /// The last batch that counts.
    pub(crate) up_to: Option<Position>,
}

pub(crate) fn restore(config: &Config, asked: &Asked) -> Result<ExitCode, Failure> {
    let whose = match config.log.engine {
        Engine::Sqlite => Whose::Alone,
        Engine::Etcd => Whose::Shared(marks(config)?),
    };
    let folder = Folder::new(&config.node.data);
    let Asked { from, replace, journal, up_to } = asked;
    let asked = beyond::Asked {
        folder: &folder,
        cell: config.node.cell,
        backup: from,
        journal,
        replace: *replace,
        up_to: *up_to,
        whose,
    };
    let bar = Bar::new();
    let brought = beyond::restore(&asked, &bar.watch())?;
    drop(bar);
    print!("{}", told(&brought));
    Ok(ExitCode::SUCCESS)
}

/// The marks of commands to be skipped that etcd keeps. In one that holds no log of the cell they are lost with it.
fn marks(config: &Config) -> Result<Skips, Failure> {
    let etcd = shared::etcd(config)?;
    let asking = async {
        let found = record::look_patiently(&etcd).await?;
        if found.log.is_none() {
            return Ok(Vec::new());
        }
        // One of another cell is refused there.
        let log = Etcd::open(ieum_log_etcd::Options { cluster: Some(found.cluster), ..etcd.clone() }).await?;
        log.skips().await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let marks: Result<_, ieum_log::Error> = runtime.block_on(asking);
    let marks = marks.map_err(|error| {
        let what = if matches!(error, ieum_log::Error::Foreign(_)) {
            "which holds no log of this cell: correct [log] endpoints or [node] cell"
        } else {
            "start it, or, if its data is lost, one that is empty"
        };
        format!("whether commands are to be skipped is kept in etcd, {what} ({})", ieum_node::chain(&error))
    })?;
    Ok(ieum_node::skips(&marks))
}

/// What was done, and what is to be done.
fn told(brought: &Brought) -> String {
    let Brought { from, end, batches, last, damaged, torn, generation, kept_aside } = brought;
    let (cell, at) = (from.cell, from.position);
    let mut lines = vec![format!(
        "Restored cell {cell} as of position {at}, and {batches} batches of the journal behind it: up to {end}."
    )];
    if let Some(reason) = damaged {
        lines.push(format!(
            "The journal is torn behind that ({reason}): what it held up to {last} is not in it any more."
        ));
    } else if end < last {
        lines.push(format!("What the journal holds behind that, up to {last}, was given up."));
    }
    if let Some(torn) = torn {
        let (at, length, kept) = (torn.at, torn.length, torn.kept.display());
        lines.push(format!(
            "The journal's write-ahead file was torn at byte {at} of {length}: if batches were written there, they are not in it any more. As it \
             was it is kept in {kept}."
        ));
    }
    if let Some(aside) = kept_aside {
        lines.push(format!("The data that was there is kept in {}.", aside.display()));
    }
    lines.extend(match generation {
        Some(generation) => vec![format!("Generation {generation} of its log begins."), "Start the node: ieum serve".to_owned()],
        None => vec![
            "Start the node: ieum serve".to_owned(),
            "If etcd has lost the log, it halts: start the others, too, and then run `ieum log reseed` once (docs/operating/log-lost.md).".to_owned(),
        ],
    });
    lines.push(String::new());
    lines.join("\n")
}
