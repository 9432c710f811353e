//! What operators do with a node's data: through the node when it runs, on the folder when it does not.

use std::path::Path;
use std::process::ExitCode;

use ieum_core::ids::NodeId;
use ieum_node::folder::Folder;
use ieum_node::{backup, marks, verify};

use crate::Failure;
use crate::admin::{self, Answer, Request};
use crate::bar::Bar;
use crate::config::{Config, Engine};
use crate::marks::Asked;
use crate::nodes::{Row, Says};
use crate::owner;
use crate::reseed;

pub(crate) fn backup(config: &Config, to: &Path) -> Result<ExitCode, Failure> {
    // The node writes it, from its own working directory.
    let to = std::path::absolute(to)?;
    let bar = Bar::new();
    let position = match admin::ask(&config.node.data, &Request::Backup { to: to.clone() }, &bar)? {
        Some(Answer::BackedUp { position }) => position,
        Some(other) => return unexpected(other),
        None => {
            owner::check(&config.node.data)?;
            let folder = Folder::new(&config.node.data);
            backup::offline(&folder, config.node.cell, &to, &bar.watch())?.position.to_string()
        }
    };
    drop(bar);
    println!("Backed up to {}: everything up to position {position}.", to.display());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(config: &Config, from: &Path, replace: bool, without: &[NodeId]) -> Result<ExitCode, Failure> {
    if config.log.engine == Engine::Sqlite && !without.is_empty() {
        return Err("a cell of one node has no others to go on without: leave --without out".into());
    }
    let bar = Bar::new();
    let restored = match config.log.engine {
        Engine::Sqlite => backup::restore(&Folder::new(&config.node.data), from, replace, &bar.watch())?,
        Engine::Etcd => reseed::restore(config, from, replace, without, &bar)?,
    };
    drop(bar);
    println!(
        "Restored cell {} as of position {}. Generation {} of its log begins.",
        restored.from.cell, restored.from.position, restored.generation
    );
    if let Some(aside) = restored.kept_aside {
        println!("The data that was there is kept in {}.", aside.display());
    }
    println!("Start the node: ieum serve");
    if config.log.engine == Engine::Etcd {
        println!("Then the other nodes of the cell, which resync from this one.");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn verify(config: &Config) -> Result<ExitCode, Failure> {
    let bar = Bar::new();
    let answer = match admin::ask(&config.node.data, &Request::Verify, &bar)? {
        Some(answer) => answer,
        None => {
            owner::check(&config.node.data)?;
            let folder = Folder::new(&config.node.data);
            admin::verified(&verify::offline(&folder, config.node.cell, &bar.watch())?)
        }
    };
    drop(bar);
    let Answer::Verified { position, from, batches, rows, findings } = answer else { return unexpected(answer) };
    if findings.is_empty() {
        println!("All is well at position {position}: {rows} rows are what {batches} batches behind {from} give.");
        return Ok(ExitCode::SUCCESS);
    }
    for finding in &findings {
        println!("{finding}");
    }
    println!("{} findings. What each means and what to do: docs/operating/verify.md", findings.len());
    Ok(ExitCode::from(2))
}

/// What the running node answers; an error when none runs.
fn ask_running(config: &Config, request: &Request) -> Result<Answer, Failure> {
    let data = &config.node.data;
    let bar = Bar::new();
    let answer = admin::ask(data, request, &bar)?;
    drop(bar);
    answer.ok_or_else(|| format!("no node runs on {}; start it with `ieum serve`", data.display()).into())
}

pub(crate) fn invite(config: &Config, uses: u32, days: u32) -> Result<ExitCode, Failure> {
    match ask_running(config, &Request::Invite { uses, days })? {
        Answer::Invited { code } => println!("{code}"),
        other => return unexpected(other),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn accept_clock(config: &Config) -> Result<ExitCode, Failure> {
    match ask_running(config, &Request::AcceptClock)? {
        Answer::ClockAccepted { jump_ms: 0 } => println!("The clock has not jumped; nothing was changed."),
        Answer::ClockAccepted { jump_ms } => println!("The clock, which jumped by {jump_ms} ms, is followed now."),
        other => return unexpected(other),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn levels(config: &Config) -> Result<ExitCode, Failure> {
    let (active, members) = match ask_running(config, &Request::Levels)? {
        Answer::Levels { active, members } => (active, members),
        other => return unexpected(other),
    };
    println!("The cell is at level {active}.");
    for member in &members {
        println!("Node {} in data center {} knows up to level {}.", member.node, member.dc, member.level);
    }
    if let Some(all) = members.iter().map(|member| member.level).min().filter(|all| *all > active) {
        println!(
            "All of them know level {all}: `ieum level activate {all}` makes it the cell's. There is no way back."
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn activate(config: &Config, level: u32) -> Result<ExitCode, Failure> {
    match ask_running(config, &Request::Activate { level })? {
        Answer::Activated { level } => println!("The cell is at level {level} now."),
        other => return unexpected(other),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn nodes(config: &Config) -> Result<ExitCode, Failure> {
    let members = match ask_running(config, &Request::Nodes)? {
        Answer::Nodes { members } => members,
        other => return unexpected(other),
    };
    for Row { node, dc, says } in members {
        match says {
            Some(Says { phase, applied, endpoint }) => {
                let endpoint = endpoint.map(|endpoint| format!(", clients come in at {endpoint}")).unwrap_or_default();
                println!("Node {node} in data center {dc} is {phase}, at {applied}{endpoint}.");
            }
            None => println!("Node {node} in data center {dc} was not heard of in the last ten seconds."),
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn add_node(config: &Config, node: u32, dc: String) -> Result<ExitCode, Failure> {
    match ask_running(config, &Request::AddNode { node, dc })? {
        Answer::NodeAdded { node, dc } => {
            println!(
                "Node {node} is a member, in data center {dc}. Start it with [node] number = {node} and dc = \"{dc}\"."
            );
        }
        other => return unexpected(other),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn drain(config: &Config, seconds: Option<u64>) -> Result<ExitCode, Failure> {
    match ask_running(config, &Request::Drain { seconds })? {
        Answer::Drained { sessions } => {
            println!("{sessions} clients were sent to the other nodes; this one takes no more.");
            println!("Stop it with SIGTERM, or have it take clients again: ieum node drain --end");
        }
        other => return unexpected(other),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn end_drain(config: &Config) -> Result<ExitCode, Failure> {
    match ask_running(config, &Request::EndDrain)? {
        Answer::DrainEnded { before: false } => println!("The node takes clients again."),
        Answer::DrainEnded { before: true } => println!("The node takes clients already; nothing was changed."),
        other => return unexpected(other),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn remove_node(config: &Config, node: u32, force: bool) -> Result<ExitCode, Failure> {
    match ask_running(config, &Request::RemoveNode { node, force })? {
        Answer::NodeRemoved { node } => println!("Node {node} is no member any more; stop it."),
        other => return unexpected(other),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn resync(config: &Config) -> Result<ExitCode, Failure> {
    if config.log.engine != Engine::Etcd {
        return Err(
            "a node that is alone has no others to begin anew from: `ieum restore` begins anew from a backup".into()
        );
    }
    let aside = Folder::new(&config.node.data).set_aside()?;
    println!("What this node had is kept in {}.", aside.display());
    println!("Start it, and it begins anew from the others of its cell: ieum serve");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn skip(config: &Config, asked: &Asked) -> Result<ExitCode, Failure> {
    if config.log.engine == Engine::Etcd {
        return crate::marks::skip(config, asked);
    }
    let &Asked { position, index, take_back, .. } = asked;
    if take_back || !asked.without.is_empty() {
        return Err(
            "a cell of one node has no others who would have to agree: leave --without and --take-back out".into()
        );
    }
    let marked = marks::mark(&Folder::new(&config.node.data), config.node.cell, position, index)?;
    if marked.before {
        println!("Command {index} ({}) of {} at {position} is marked already.", marked.command, marked.of);
    } else {
        println!("Command {index} ({}) of {} at {position} will be skipped.", marked.command, marked.of);
    }
    println!("Start the node: ieum serve");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn skips(config: &Config) -> Result<ExitCode, Failure> {
    if config.log.engine == Engine::Etcd {
        // Which only asks etcd.
        return crate::marks::list(config);
    }
    owner::check(&config.node.data)?;
    for (position, index) in marks::list(&Folder::new(&config.node.data), config.node.cell)? {
        println!("{position} {index}");
    }
    Ok(ExitCode::SUCCESS)
}

fn unexpected(answer: Answer) -> Result<ExitCode, Failure> {
    match answer {
        Answer::Failed { reason } => Err(reason.into()),
        other => Err(format!("the node answered something else: {other:?}").into()),
    }
}
