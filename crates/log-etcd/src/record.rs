//! The record of the cell: whose log an etcd holds, and how a new generation of it begins.
//!
//! Nothing here opens a log. It is for nodes that may have lost theirs, and for operators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ieum_log::sqlite::Predecessor;
use ieum_log::{Error, Position, Result};
use ieum_planted::Bug;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::rustls::ClientConfig;

use crate::Options;
use crate::endpoint::Endpoint;
use crate::ends::Ends;
use crate::error::{Unreachable, chain, failed};
use crate::keys::{CELL, Cell, Keys};
use crate::lasting::lasts;
use crate::proto::TxnRequest;
use crate::rpc::Connection;
use crate::txn::{Answers, delete_all, get, put, put_at, read};

/// How long a member may take to show what it holds: an election passes meanwhile.
const CHECK: Duration = Duration::from_secs(2);
/// Between attempts.
const AGAIN: Duration = Duration::from_millis(200);

/// What an etcd holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// etcd's own number of the cluster.
    pub cluster: u64,
    /// The log, if there is one.
    pub log: Option<Held>,
}

/// A log that an etcd holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Of which cell.
    pub cell: u32,
    /// How the generation before ended; none for the one in which the cell was founded.
    pub predecessor: Option<Predecessor>,
    /// Its last position, which tells its generation.
    pub last: Position,
    /// When the record was put, and the count of the batches; 0: never.
    record_at: i64,
    count_at: i64,
}

/// Asks all members what they hold, once. More than half of those that are given have to answer as one cluster; who answers as another one is
/// told of and passed over.
///
/// # Errors
/// [`Error::Foreign`] when so many are of other clusters, hold something else, are no etcd or cannot be spoken to with these certificates that
/// the others cannot be most of them; [`Error::Engine`] with [`Unreachable`] as its source when fewer answer: that may pass.
pub async fn look(options: &Options) -> Result<Found> {
    let tls = options.tls()?;
    let mut asking = JoinSet::new();
    for endpoint in options.endpoints.clone() {
        let tls = tls.clone();
        asking.spawn(async move {
            let shown = timeout(CHECK, show(&endpoint, tls.as_ref())).await;
            (endpoint, shown.unwrap_or_else(|_| Err(NotShown::Down(format!("no answer within {CHECK:?}")))))
        });
    }
    let mut answers = Answered { asked: options.endpoints.len(), ..Answered::default() };
    while let Some(asked) = asking.join_next().await {
        let Ok((endpoint, shown)) = asked else { continue };
        match shown {
            Ok(shown) => answers.clusters.entry(shown.found.cluster).or_default().push((endpoint, shown)),
            Err(NotShown::Down(reason)) => answers.silent.push(format!("{endpoint}: {reason}")),
            Err(NotShown::Foreign(reason)) => answers.foreign.push(format!("{endpoint}: {reason}")),
            Err(NotShown::Refused(reason)) => answers.refused.push(format!("{endpoint}: {reason}")),
        }
    }
    answers.found()
}

/// What the members that were asked have answered.
#[derive(Default)]
struct Answered {
    asked: usize,
    clusters: BTreeMap<u64, Vec<(Endpoint, Shown)>>,
    silent: Vec<String>,
    foreign: Vec<String>,
    /// Of whom none will answer otherwise later.
    refused: Vec<String>,
}

impl Answered {
    /// What the cluster holds of which most of those that were asked are.
    fn found(mut self) -> Result<Found> {
        let is_most = |count: usize| count > self.asked / 2;
        let most = self.clusters.iter().find(|(_, members)| is_most(members.len())).map(|(cluster, _)| *cluster);
        let ours = most.and_then(|most| self.clusters.remove(&most)).unwrap_or_default();
        let newest = ours.into_iter().map(|(_, shown)| shown).max_by_key(|shown| shown.revision);
        let (strays, refused) = (self.strays(), std::mem::take(&mut self.refused));
        if let Some(Shown { found, .. }) = newest {
            for stray in strays.iter().chain(&refused) {
                let cluster = format!("{:x}", found.cluster);
                tracing::error!(stray, cluster, "alarm: an endpoint of etcd is passed over: correct [log] endpoints");
            }
            return Ok(found);
        }
        // Whoever is silent may turn out to be of the largest.
        let largest = self.clusters.values().map(Vec::len).max().unwrap_or(0);
        if !is_most(largest + self.silent.len()) {
            let what = if refused.is_empty() { "are not of one etcd cluster" } else { "cannot be the cell's etcd" };
            let these = [strays, refused].concat().join("; ");
            return Err(Error::Foreign(format!(
                "most of the endpoints {what}: {these}: correct [log] endpoints, or certificates, which have to be in date and of an authority that \
                 the other side trusts"
            )));
        }
        self.silent.extend([strays, refused].concat());
        Err(failed("looking whose log etcd holds")(Unreachable { members: self.silent }))
    }

    /// Those that have answered as something else.
    fn strays(&self) -> Vec<String> {
        let of = |(cluster, members): (&u64, &Vec<(Endpoint, Shown)>)| {
            let name =
                |(endpoint, _): &(Endpoint, Shown)| format!("{endpoint} belongs to another etcd cluster ({cluster:x})");
            members.iter().map(name).collect::<Vec<_>>()
        };
        self.clusters.iter().flat_map(of).chain(self.foreign.iter().cloned()).collect()
    }
}

/// The same, as soon as enough of them answer, for as long as [`Options::patience`].
///
/// # Errors
/// As [`look`].
pub async fn look_patiently(options: &Options) -> Result<Found> {
    let until = Instant::now() + options.patience;
    loop {
        match look(options).await {
            Err(Error::Engine { .. }) if Instant::now() < until => sleep(AGAIN).await,
            found => return found,
        }
    }
}

/// What one member showed, and at which revision.
struct Shown {
    found: Found,
    revision: i64,
}

enum NotShown {
    Down(String),
    Foreign(String),
    /// It is no etcd, or one that does not take this node's certificate or has one that is not trusted.
    Refused(String),
}

fn down(error: impl std::error::Error + 'static) -> NotShown {
    if lasts(&error) { NotShown::Refused(chain(&error)) } else { NotShown::Down(chain(&error)) }
}

async fn show(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> std::result::Result<Shown, NotShown> {
    let connection = Connection::open(endpoint, tls).await.map_err(down)?;
    let answer = connection.txn(read(vec![get(CELL.clone())])).await.map_err(down)?;
    let mut answers = Answers::new(answer).map_err(down)?;
    let (cluster, revision) = (answers.cluster, answers.revision);
    let Some(record) = answers.one().map_err(down)? else {
        return Ok(Shown { found: Found { cluster, log: None }, revision });
    };
    let foreign = |error: &dyn std::error::Error| NotShown::Foreign(chain(error));
    let Cell { cell, generation, predecessor } = Cell::decode(&record.value).map_err(|error| foreign(&error))?;
    let answer = connection.txn(Ends::request(&Keys::new(generation))).await.map_err(down)?;
    let answers = Answers::new(answer).map_err(down)?;
    let ends = Ends::read(answers).map_err(|error| foreign(&error))?;
    let last = Position { generation, ordinal: ends.last };
    let held = Held { cell, predecessor, last, record_at: record.mod_revision, count_at: ends.last_revision };
    Ok(Shown { found: Found { cluster, log: Some(held) }, revision: ends.revision })
}

/// What became of a new generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It has begun, with this call or an earlier one that asked for the same.
    Here,
    /// Nothing was written: what etcd holds is no longer what was found.
    Changed,
}

/// Begins `generation` of the cell's log behind `predecessor`, where nothing has changed since `found`. The log that it replaces, if there was
/// one, is deleted, and who still appends to it is fenced. Nothing is sent any more after `until`.
///
/// # Errors
/// [`Error::Engine`] with [`Unreachable`] as its source when no member has done it in time: then it may have happened, and the same may
/// be asked again.
pub async fn begin(
    options: &Options,
    found: &Found,
    generation: u32,
    predecessor: Predecessor,
    until: Instant,
) -> Result<Begun> {
    let operation = "beginning a generation of the log";
    let record = Cell { cell: options.cell, generation, predecessor: Some(predecessor) };
    let request = beginning(found, record);
    let (tls, mut silent) = (options.tls()?, BTreeMap::new());
    loop {
        for (member, endpoint) in options.endpoints.iter().enumerate() {
            let now = Instant::now();
            if now >= until && !Bug::BeginsTooLate.planted() {
                return Err(failed(operation)(Unreachable { members: silent.into_values().collect() }));
            }
            let asking = async {
                let connection = Connection::open(endpoint, tls.as_ref()).await.map_err(|error| chain(&error))?;
                connection.check_cluster(found.cluster).await?;
                connection.txn(request.clone()).await.map_err(|status| chain(&status))
            };
            let patience = if Bug::BeginsTooLate.planted() { CHECK } else { CHECK.min(until - now) };
            let asked = timeout(patience, asking).await;
            let answer = match asked.unwrap_or_else(|_| Err(format!("no answer within {patience:?}"))) {
                Ok(answer) => answer,
                Err(reason) => {
                    silent.insert(member, format!("{endpoint}: {reason}"));
                    continue;
                }
            };
            let mut answers = Answers::new(answer).map_err(failed(operation))?;
            if answers.succeeded {
                return Ok(Begun::Here);
            }
            // An earlier try whose answer was lost.
            let now = answers.one().map_err(failed(operation))?;
            let ours = now.is_some_and(|now| now.value == record.encode());
            return Ok(if ours { Begun::Here } else { Begun::Changed });
        }
        sleep(AGAIN).await;
    }
}

fn beginning(found: &Found, record: Cell) -> TxnRequest {
    let (record_at, mut compare) = (found.log.map_or(0, |held| held.record_at), Vec::new());
    if !Bug::TwoReseedsTwoLogs.planted() {
        compare.push(put_at(CELL.clone(), record_at));
    }
    let mut success = vec![put(CELL.clone(), record.encode())];
    if let Some(held) = found.log {
        let keys = Keys::new(held.last.generation);
        // Nobody has appended since it was found to be too short.
        compare.push(put_at(keys.count(), held.count_at));
        success.push(delete_all(keys.all()));
    }
    TxnRequest { compare, success, failure: vec![get(CELL.clone())] }
}
