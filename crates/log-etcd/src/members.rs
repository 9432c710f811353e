//! The members: a connection to each, checked when it is made and asked every second whether it still lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ieum_log::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::rustls::ClientConfig;

use crate::endpoint::Endpoint;
use crate::ends::Ends;
use crate::error::{AtQuota, Meaning, Unreachable, chain, failed, meaning};
use crate::hedge::Pace;
use crate::identity::Identity;
use crate::keys::{CELL, Cell, Keys};
use crate::proto::{StatusResponse, TxnRequest};
use crate::rpc::Connection;
use crate::txn::{Answers, get, put, version_is};

/// How often a member is asked how it is, and how long it may take to answer. A frozen one keeps its TCP connections.
const PING: Duration = Duration::from_secs(1);
/// How long a member may take to show whose log it holds: an election passes meanwhile.
const CHECK: Duration = Duration::from_secs(2);
/// Between attempts to connect: at first, and at most.
const RECONNECT: Duration = Duration::from_millis(100);
const RECONNECT_MOST: Duration = Duration::from_secs(1);

/// A nearer member than the preferred one is preferred again after so many good answers in a row, each within this time.
const GOOD: u32 = 10;
const GOOD_WITHIN: Duration = Duration::from_millis(100);

/// How a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It cannot be reached, or does not answer.
    Down(String),
    /// It answers, but must not be used; the text says why and what to do.
    Refused(String),
    /// It answers.
    Up {
        /// Of etcd.
        version: String,
        /// Whether it knows a leader.
        leader: bool,
        /// Bytes of its database that are in use.
        in_use: u64,
        /// Alarms and other complaints.
        complaints: Vec<String>,
    },
}

impl Health {
    fn of(status: StatusResponse) -> Self {
        Self::Up {
            version: status.version,
            leader: status.leader != 0,
            in_use: u64::try_from(status.db_size_in_use).unwrap_or(0),
            complaints: status.errors,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Down(reason) | Self::Refused(reason) => reason,
            Self::Up { .. } => "it is up",
        }
    }
}

/// One member as the log sees it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: Endpoint,
    state: watch::Sender<(Health, Option<Connection>)>,
    /// Something is wrong with it: it is asked at once.
    pub(crate) suspect: Notify,
}

impl Member {
    /// Its connection, if it is up.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.state.borrow().1.clone()
    }

    pub(crate) fn health(&self) -> Health {
        self.state.borrow().0.clone()
    }

    /// Whether it is up and knows no leader: it can neither append nor show what others append.
    pub(crate) fn is_leaderless(&self) -> bool {
        matches!(self.state.borrow().0, Health::Up { leader: false, .. })
    }

    /// Waits until it is not up any more.
    pub(crate) async fn down(&self) {
        // The sender is this member's own.
        let _ = self.state.subscribe().wait_for(|(_, connection)| connection.is_none()).await;
    }
}

/// All members, and what is known through them.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    /// Changes with every member that comes or goes; true: the log was closed.
    pub(crate) changed: watch::Sender<bool>,
    /// The member that is asked first.
    pub(crate) preferred: AtomicUsize,
    pub(crate) pace: Mutex<Pace>,
    pub(crate) identity: Mutex<Identity>,
    /// The highest ordinal that was seen in the log.
    pub(crate) seen: AtomicU64,
    /// How long an operation tries.
    pub(crate) patience: Duration,
    pub(crate) started: Instant,
    tls: Option<Arc<ClientConfig>>,
}

/// Why a member is not used.
enum NotUsed {
    Down(String),
    Refused(String),
}

impl Cluster {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        tls: Option<Arc<ClientConfig>>,
        identity: Identity,
        patience: Duration,
    ) -> Arc<Self> {
        let member = |endpoint| Member {
            endpoint,
            state: watch::Sender::new((Health::Down("not connected yet".to_owned()), None)),
            suspect: Notify::new(),
        };
        Arc::new(Self {
            members: endpoints.into_iter().map(member).collect(),
            changed: watch::Sender::new(false),
            preferred: AtomicUsize::new(0),
            pace: Mutex::default(),
            identity: Mutex::new(identity),
            seen: AtomicU64::new(0),
            patience,
            started: Instant::now(),
            tls,
        })
    }

    /// The members that can be used, the best first: the preferred one, then as they were given, and last who knows no leader.
    pub(crate) fn usable(&self) -> Vec<usize> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut usable: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.connection().is_some())
            .map(|(at, _)| at)
            .collect();
        let leaderless = |at: &usize| self.members.get(*at).is_some_and(Member::is_leaderless);
        usable.sort_by_key(|at| (leaderless(at), *at != preferred));
        usable
    }

    /// Waits for the first member that can be used, and tells the log's generation.
    pub(crate) async fn wait_until_usable(&self) -> Result<u32> {
        let mut changed = self.changed.subscribe();
        let settled = async {
            loop {
                let healths: Vec<_> = self.members.iter().map(Member::health).collect();
                let refused = healths.iter().filter(|health| matches!(health, Health::Refused(_))).count();
                if refused == healths.len() || !self.usable().is_empty() || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(self.patience, settled).await;
        match self.identity.lock().generation {
            Some(generation) if !self.usable().is_empty() => return Ok(generation),
            _ => {}
        }
        let refusals: Vec<_> = self
            .members
            .iter()
            .filter_map(|member| match member.health() {
                Health::Refused(reason) => Some(format!("{}: {reason}", member.endpoint)),
                _ => None,
            })
            .collect();
        // As long as the others can be most of them, one of those may come.
        let most = refusals.len() * 2 >= self.members.len();
        let refusal = refusals.into_iter().next().filter(|_| most);
        Err(refusal.map_or_else(|| self.unreachable("connecting to etcd"), Error::Foreign))
    }

    /// That no member answered, with what is known of each.
    pub(crate) fn unreachable(&self, operation: &'static str) -> Error {
        let tell = |member: &Member| format!("{}: {}", member.endpoint, member.health().reason());
        failed(operation)(Unreachable { members: self.members.iter().map(tell).collect() })
    }

    /// Connects to a member and checks whose log it holds.
    async fn connect(&self, member: &Member) -> std::result::Result<(Connection, Health), NotUsed> {
        let down = |error: &dyn std::error::Error| NotUsed::Down(chain(error));
        let connection = Connection::open(&member.endpoint, self.tls.as_ref()).await.map_err(|error| down(&error))?;
        let checking = async {
            // With TLS 1.3 a client learns only now that its certificate was not taken, and not always in words.
            let hint = if self.tls.is_some() {
                " (is the node's certificate in date, and of the authority that etcd trusts?)"
            } else {
                ""
            };
            let (create, cluster) = {
                let identity = self.identity.lock();
                (identity.create, identity.cluster)
            };
            if let Some(cluster) = cluster.filter(|_| create) {
                connection.check_cluster(cluster).await.map_err(NotUsed::Refused)?;
            }
            let first = connection.txn(self.whose(create)).await;
            let answer = first.map_err(|error| match meaning(&error) {
                Meaning::Full => NotUsed::Refused(AtQuota.to_string()),
                _ => NotUsed::Down(format!("{}{hint}", chain(&error))),
            })?;
            let keys = self.check_cell(create, Answers::new(answer).map_err(|error| down(&error))?)?;
            // Read afterwards: what is there now is at least what was ever seen.
            let seen = self.seen.load(Ordering::Relaxed);
            let answer = connection.txn(Ends::request(&keys)).await.map_err(|error| down(&error))?;
            let ends = Ends::read(Answers::new(answer).map_err(|error| down(&error))?).map_err(|error| down(&error))?;
            self.identity.lock().check_end(&ends, seen).map_err(NotUsed::Refused)?;
            let status = connection.status().await.map_err(|error| down(&error))?;
            Ok(Health::of(status))
        };
        let health = timeout(CHECK, checking).await.unwrap_or_else(|_| {
            Err(NotUsed::Down(format!("it did not show its log within {CHECK:?}: it may have no leader")))
        })?;
        Ok((connection, health))
    }

    /// Reads the record of the cell, or makes it where there is none and it was asked for.
    fn whose(&self, create: bool) -> TxnRequest {
        let cell = self.identity.lock().cell;
        let success = if create {
            vec![put(CELL.clone(), Cell { cell, generation: 1, predecessor: None }.encode()), get(CELL.clone())]
        } else {
            vec![]
        };
        TxnRequest { compare: vec![version_is(CELL.clone(), 0)], success, failure: vec![get(CELL.clone())] }
    }

    /// Reads the answer to [`Self::whose`].
    fn check_cell(&self, create: bool, mut answers: Answers) -> std::result::Result<Keys, NotUsed> {
        let down = |error: &dyn std::error::Error| NotUsed::Down(chain(error));
        let record = if answers.succeeded && !create {
            None
        } else {
            if answers.succeeded {
                answers.pass_over_writes(1).map_err(|error| down(&error))?;
            }
            answers.one().map_err(|error| down(&error))?
        };
        let mut identity = self.identity.lock();
        let cell = record.map(|record| Cell::decode(&record.value)).transpose();
        let cell = cell.map_err(|error| NotUsed::Refused(error.to_string()))?;
        let generation = identity.admit(answers.cluster, cell).map_err(NotUsed::Refused)?;
        // Once there is a log, one that is gone is not made anew.
        identity.create = false;
        Ok(Keys::new(generation))
    }

    /// Asks a member every second how it is, until it does not answer; tells why.
    async fn watch_over(&self, at: usize, member: &Member, connection: &Connection) -> String {
        let mut good = 0u32;
        loop {
            // Either way it is time to ask.
            let _ = timeout(PING, member.suspect.notified()).await;
            let asked = Instant::now();
            let health = match timeout(PING, connection.status()).await {
                Ok(Ok(status)) => Health::of(status),
                Ok(Err(status)) => return chain(&status),
                Err(_) => return format!("no answer within {PING:?}"),
            };
            let fine = matches!(health, Health::Up { leader: true, .. }) && asked.elapsed() < GOOD_WITHIN;
            good = if fine { good.saturating_add(1) } else { 0 };
            if good >= GOOD {
                self.preferred.fetch_min(at, Ordering::Relaxed);
            }
            member.state.send_if_modified(|state| std::mem::replace(&mut state.0, health.clone()) != health);
        }
    }
}

/// Keeps a connection to a member for ever.
pub(crate) async fn keep(cluster: Arc<Cluster>, at: usize) {
    let Some(member) = cluster.members.get(at) else { return };
    let mut pause = RECONNECT;
    loop {
        let health = match cluster.connect(member).await {
            Ok((connection, health)) => {
                pause = RECONNECT;
                tracing::info!(member = %member.endpoint, "connected to etcd");
                member.state.send_replace((health, Some(connection.clone())));
                cluster.changed.send_modify(|_| {});
                let reason = cluster.watch_over(at, member, &connection).await;
                tracing::warn!(member = %member.endpoint, reason, "a member of etcd does not answer");
                Health::Down(reason)
            }
            Err(NotUsed::Down(reason)) => Health::Down(reason),
            Err(NotUsed::Refused(reason)) => {
                if member.health() != Health::Refused(reason.clone()) {
                    tracing::error!(member = %member.endpoint, reason, "a member of etcd is not used");
                }
                Health::Refused(reason)
            }
        };
        member.state.send_replace((health, None));
        cluster.changed.send_modify(|_| {});
        sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_MOST);
    }
}
