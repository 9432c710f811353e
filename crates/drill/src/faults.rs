//! Does to a [`World`] what a scenario says.

use std::time::Duration;

use crate::error::{Error, Naming as _};
use crate::process::Signal;
use crate::scenario::{Act, Clock, Leader, Part, Split, Weather, Which};
use crate::world::net::{self, Cut};
use crate::world::node::Node;
use crate::world::{Dc, World, member};

/// How long a node may take to end when it is asked to, and an operator's command.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a change is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Harm; written down before it is done.
    Fault,
    /// Harm, after which users wait for the drill and not for the cell.
    Uncounted,
    /// The end of harm; written down after it is done.
    Heal,
    /// The end of harm, from which on it is the cell that users wait for.
    Counted,
    /// What an operator does, written down before it is done; users wait for it from then on, and not for the drill.
    Spoken,
    /// All is well again; nothing is done but waited.
    Whole,
}

/// What kind of change an act is, and what is written of it.
pub fn tell(act: &Act, run: u32) -> (Kind, String) {
    let leader = match act.leader(run) {
        Some((_, Leader::In)) => ", etcd's leader in it",
        Some((_, Leader::Out)) => ", etcd's leader elsewhere",
        None => "",
    };
    let (kind, text) = match act {
        Act::Dark(place) => (Kind::Fault, format!("{} goes dark", place.dc)),
        Act::Light(place) => (Kind::Heal, format!("{} has power", place.dc)),
        Act::AllDark {} => (Kind::Uncounted, "all go dark".to_owned()),
        Act::AllLight {} => (Kind::Counted, "all have power".to_owned()),
        Act::Burn(place) => (Kind::Fault, format!("{} burns down", place.dc)),
        Act::Rebuild(place) => (Kind::Heal, format!("a new {} is started from nothing", place.dc)),
        Act::Freeze(part) => (Kind::Fault, format!("{} in {} hangs", who(part), part.dc)),
        Act::Thaw(part) => (Kind::Heal, format!("{} in {} goes on", who(part), part.dc)),
        Act::Stick(part) => (Kind::Fault, format!("the disk of {} in {} hangs", who(part), part.dc)),
        Act::Unstick(part) => (Kind::Heal, format!("the disk of {} in {} goes on", who(part), part.dc)),
        Act::Fill(part) => (Kind::Fault, format!("the disk of {} in {} is full", who(part), part.dc)),
        Act::Empty(part) => (Kind::Heal, format!("the disk of {} in {} has room", who(part), part.dc)),
        Act::Cut(split) => (Kind::Fault, told_cut(split)),
        Act::Join(place) => (Kind::Heal, format!("{} is joined again", place.dc)),
        Act::Slow(weather) => {
            let Weather { delay_ms, lost_percent } = weather;
            (Kind::Fault, format!("{delay_ms} ms each way and {lost_percent} % loss between data centers"))
        }
        Act::Fast {} => (Kind::Heal, "the network is fast again".to_owned()),
        Act::Clock(clock) if clock.by == "+0" => (Kind::Heal, format!("the clock of {} is right again", clock.dc)),
        Act::Clock(clock) => (Kind::Fault, format!("the clock of {} is off by {} s", clock.dc, clock.by)),
        Act::Restart(place) => (Kind::Fault, format!("the node in {} is restarted", place.dc)),
        Act::LoseLog {} => (Kind::Uncounted, "all of etcd's data is gone".to_owned()),
        Act::Reseed {} => (Kind::Spoken, "the operator says `ieum log reseed`".to_owned()),
        Act::Whole {} => (Kind::Whole, "whole".to_owned()),
    };
    (kind, format!("{text}{leader}"))
}

fn who(part: &Part) -> &'static str {
    match part.of {
        Which::Node => "the node",
        Which::Etcd => "etcd",
    }
}

fn told_cut(split: &Split) -> String {
    let how = match split.how {
        Cut::BothWays => "is cut off",
        Cut::Deaf => "hears the others no more",
        Cut::Mute => "is heard by the others no more",
    };
    format!("{} {how}", split.dc)
}

/// Gets the world ready for an act: etcd's leader is where this run wants it.
pub fn prepare(world: &mut World, act: &Act, run: u32) -> Result<(), Error> {
    let Some((dc, leader)) = act.leader(run) else { return Ok(()) };
    let inside = leader == Leader::In;
    world.until("etcd's leader is in place", PATIENCE, |world| world.move_leader(dc, inside))
}

/// Does it.
pub fn carry_out(world: &mut World, act: &Act) -> Result<(), Error> {
    match act {
        Act::Dark(place) => darken(world.dc(&place.dc)?),
        Act::Light(place) => lighten(world, &place.dc),
        Act::AllDark {} => all_dark(world),
        Act::AllLight {} => all_light(world),
        Act::Burn(place) => burn(world.dc(&place.dc)?),
        Act::Rebuild(place) => rebuild(world, &place.dc),
        Act::Freeze(part) => signal(world, part, Signal::SIGSTOP),
        Act::Thaw(part) => signal(world, part, Signal::SIGCONT),
        Act::Stick(part) => disk(world, part)?.stick(),
        Act::Unstick(part) => disk(world, part)?.unstick(),
        Act::Fill(part) => disk(world, part)?.fill(true),
        Act::Empty(part) => disk(world, part)?.fill(false),
        Act::Cut(split) => net::cut(&split.dc, split.how),
        Act::Join(place) => net::heal(&place.dc),
        Act::Slow(Weather { delay_ms, lost_percent }) => weather(world, *delay_ms, *lost_percent),
        Act::Fast {} => weather(world, 0, 0),
        Act::Clock(Clock { dc, by }) => {
            let dc = world.dc(dc)?;
            dc.nodes.iter().try_for_each(Node::follows_clock).and_then(|()| dc.turn_clock(by))
        }
        Act::Restart(place) => restart(world, &place.dc),
        Act::LoseLog {} => lose_log(world),
        Act::Reseed {} => reseed(world),
        Act::Whole {} => world.until_whole(),
    }
}

fn weather(world: &World, delay_ms: u64, lost_percent: u64) -> Result<(), Error> {
    let relay = world.relay.as_ref();
    let missing = || Error::other("slowing the network", "the scenario does not say `relay = true`");
    relay.ok_or_else(missing).map(|relay| relay.set(delay_ms, lost_percent))
}

/// One after the other.
fn restart(world: &mut World, name: &str) -> Result<(), Error> {
    for nth in 0..world.dc(name)?.nodes.len() {
        if let Some(node) = world.dc(name)?.nodes.get_mut(nth) {
            node.stop(PATIENCE)?;
            node.spawn(false)?;
        }
        world.until_whole()?;
    }
    Ok(())
}

/// The wires first: nobody is told of the end.
fn darken(dc: &mut Dc) -> Result<(), Error> {
    net::plug(&dc.name, false)?;
    dc.nodes.iter_mut().try_for_each(Node::kill)?;
    dc.member.kill()
}

fn lighten(world: &mut World, name: &str) -> Result<(), Error> {
    let cluster = world.cluster();
    let dc = world.dc(name)?;
    net::plug(name, true)?;
    dc.member.spawn(&cluster, "existing")?;
    dc.nodes.iter_mut().try_for_each(|node| node.spawn(false))
}

fn all_dark(world: &mut World) -> Result<(), Error> {
    // The order does not matter to the disks: what was synced until its own end is kept.
    world.dcs.iter().try_for_each(|dc| net::plug(&dc.name, false))?;
    for dc in &mut world.dcs {
        dc.nodes.iter_mut().try_for_each(Node::kill)?;
        dc.member.kill()?;
    }
    world.dcs.iter().try_for_each(|dc| dc.node_disk.power_cycle().and_then(|()| dc.member_disk.power_cycle()))
}

fn all_light(world: &mut World) -> Result<(), Error> {
    let names: Vec<String> = world.dcs.iter().map(|dc| dc.name.clone()).collect();
    names.iter().try_for_each(|name| lighten(world, name))
}

fn burn(dc: &mut Dc) -> Result<(), Error> {
    darken(dc)?;
    for data in dc.nodes.iter().map(|node| &node.data).chain([&dc.member.data]) {
        std::fs::remove_dir_all(data).naming(|| format!("burning {}", data.display()))?;
    }
    Ok(())
}

/// As docs/operating says: etcd's member out and in again, then the nodes.
fn rebuild(world: &mut World, name: &str) -> Result<(), Error> {
    let peer = world.dc(name)?.member.peer_url();
    let others: Vec<String> = world.others(name).map(|dc| dc.member.endpoint()).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let listed = member::control(&others, &["member", "list"])?;
    let old = listed.lines().find(|line| line.contains(&format!(" {name},"))).and_then(|line| line.split(',').next());
    let old = old.ok_or_else(|| Error::other("looking for a member's id", listed.clone()))?;
    member::control(&others, &["member", "remove", old])?;
    net::plug(name, true)?;
    let adding = format!("--peer-urls={peer}");
    // etcd changes its members only when the others have been connected for five seconds, and does not tell when that is.
    world.until("etcd takes a new member", PATIENCE, |_| {
        member::control(&others, &["member", "add", name, &adding]).map(drop)
    })?;
    let cluster = world.cluster();
    world.dc(name)?.member.spawn(&cluster, "existing")?;

    let burnt: Vec<u32> = world.dc(name)?.nodes.iter().map(|node| node.number).collect();
    for (nth, burnt) in burnt.into_iter().enumerate() {
        let number = world.last_node + 1;
        world.last_node = number;
        let operator = world.others(name).next();
        let operator =
            operator.ok_or_else(|| Error::other("looking for another data center", "there is none"))?.node()?;
        operator.operate(&["node", "remove", &burnt.to_string()], PATIENCE)?;
        operator.operate(&["node", "add", &number.to_string(), "--dc", name], PATIENCE)?;
        world.replace_node(name, nth, number)?;
        world.dc(name)?.nodes.get_mut(nth).map_or(Ok(()), |node| node.spawn(false))?;
    }
    Ok(())
}

fn lose_log(world: &mut World) -> Result<(), Error> {
    world.dcs.iter_mut().try_for_each(|dc| dc.member.kill())?;
    let cluster = world.cluster();
    for dc in &mut world.dcs {
        let data = &dc.member.data;
        std::fs::remove_dir_all(data).naming(|| format!("removing {}", data.display()))?;
        dc.member.spawn(&cluster, "new")?;
    }
    Ok(())
}

fn reseed(world: &World) -> Result<(), Error> {
    let operator = world.dcs.first().ok_or_else(|| Error::other("looking for a node", "there is none"))?;
    operator.node()?.operate(&["log", "reseed", "--yes"], PATIENCE * 3).map(drop)
}

fn signal(world: &mut World, part: &Part, signal: Signal) -> Result<(), Error> {
    let dc = world.dc(&part.dc)?;
    match part.of {
        Which::Node => dc.node()?.signal(signal),
        Which::Etcd => dc.member.signal(signal),
    }
}

fn disk<'a>(world: &'a mut World, part: &Part) -> Result<&'a mut crate::world::disk::Disk, Error> {
    let dc = world.dc(&part.dc)?;
    Ok(match part.of {
        Which::Node => &mut dc.node_disk,
        Which::Etcd => &mut dc.member_disk,
    })
}
