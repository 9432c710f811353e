//! Registers everybody and opens their rooms.

use std::sync::Arc;

use ieum_client::store::Identity;
use ieum_client::{Http, HttpError, NewAccount, Trust};
use ieum_protocol::Pos;
use ieum_protocol::frames::Change;
use tokio::task::JoinSet;

use super::people::Person;
use super::probes::{Newcomer, Rejoiner};
use super::shared::Shared;
use crate::error::{Error, Naming as _};

/// How many people are in a group.
const GROUP: usize = 6;
/// How many pairs of a data center send each other the messages of the probe, in turn, so that they ping at different moments.
const PAIRS: usize = 10;
/// How many devices of a data center come back in turn.
const REJOINERS: usize = 24;
/// How many accounts of a data center get new devices in turn.
const NEWCOMERS: usize = 6;
/// How many register at the same time.
const REGISTRARS: usize = 4;

/// Everybody.
pub(super) struct Crowd {
    pub(super) talkers: Vec<Arc<Person>>,
    pub(super) probes: Vec<Arc<Probes>>,
    /// A position at which all of this is so.
    pub(super) seen: Option<Pos>,
}

/// The probes of a data center.
pub(super) struct Probes {
    /// Who writes, and to whom.
    pub(super) pairs: Vec<(Arc<Person>, Arc<Person>)>,
    /// The group in which those who come back or sign in find what the first writer said.
    pub(super) square: u64,
    pub(super) rejoiners: Vec<Arc<Rejoiner>>,
    pub(super) newcomers: Vec<Arc<Newcomer>>,
}

impl Crowd {
    /// All whose device is always there.
    pub(super) fn present(&self) -> impl Iterator<Item = &Arc<Person>> {
        let pairs = self.probes.iter().flat_map(|probes| probes.pairs.iter());
        self.talkers.iter().chain(pairs.flat_map(|(one, other)| [one, other]))
    }
}

/// An account that was made.
struct Account {
    dc: usize,
    handle: String,
    password: String,
    identity: Identity,
    http: Http,
}

/// Makes the accounts and the rooms. `tag` keeps the handles of one run from those of others.
pub(super) async fn gather(shared: &Arc<Shared>, users: usize, tag: &str) -> Result<Crowd, Error> {
    let dcs = shared.dcs.len();
    let each = 2 * PAIRS + REJOINERS + NEWCOMERS;
    let places = (0..users).map(|at| at % dcs).chain((0..dcs).flat_map(|dc| std::iter::repeat_n(dc, each)));
    let accounts = register(shared, places.collect(), tag).await?;
    let (talkers, others) = accounts.split_at_checked(users).unwrap_or_default();
    let mut seen = Seen::default();
    let rooms = |error: HttpError| Error::other("opening rooms", error.to_string());
    let talkers = open_talkers(shared, talkers, &mut seen).await.map_err(rooms)?;
    let mut probes = Vec::new();
    for accounts in others.chunks(each) {
        probes.push(Arc::new(open_probes(shared, accounts, &mut seen).await.map_err(rooms)?));
    }
    Ok(Crowd { talkers, probes, seen: seen.highest })
}

async fn register(shared: &Arc<Shared>, places: Vec<usize>, tag: &str) -> Result<Vec<Account>, Error> {
    let mut waiting = places.into_iter().enumerate();
    let mut registering = JoinSet::new();
    let mut accounts: Vec<(usize, Account)> = Vec::new();
    loop {
        while registering.len() < REGISTRARS
            && let Some((at, dc)) = waiting.next()
        {
            let http = Http::new(shared.endpoints(dc), Trust::web());
            let (handle, password) = (format!("d{tag}_{at}"), format!("password {tag} {at}"));
            registering.spawn(async move {
                let account = NewAccount {
                    handle: handle.clone(),
                    name: format!("사람 {at}"),
                    password: password.clone(),
                    device: "drill".to_owned(),
                    invitation: None,
                };
                let identity = http.register(account).await?;
                Ok::<_, HttpError>((at, Account { dc, handle, password, identity, http }))
            });
        }
        let Some(registered) = registering.join_next().await else { break };
        let registered = registered.naming(|| "registering".to_owned())?;
        accounts.push(registered.map_err(|error| Error::other("registering", error.to_string()))?);
    }
    accounts.sort_by_key(|(at, _)| *at);
    Ok(accounts.into_iter().map(|(_, account)| account).collect())
}

/// The position of the last answer. No answer is older than the one before it, so it is the highest.
#[derive(Default)]
struct Seen {
    highest: Option<Pos>,
}

impl Seen {
    async fn change(&mut self, by: &Account, change: &Change) -> Result<u64, HttpError> {
        if let Some(seen) = &self.highest {
            by.http.note(seen).await;
        }
        let room = by.http.change(change).await?.room;
        self.highest = by.http.seen().await.or(self.highest.take());
        Ok(room.unwrap_or(0))
    }
}

/// Neighbours have a direct room, and every six have a group: the data centers take turns, so that both lead across them.
async fn open_talkers(
    shared: &Arc<Shared>,
    accounts: &[Account],
    seen: &mut Seen,
) -> Result<Vec<Arc<Person>>, HttpError> {
    let mut rooms: Vec<Vec<u64>> = accounts.iter().map(|_| Vec::new()).collect();
    for (pair, rooms) in accounts.chunks(2).zip(rooms.chunks_mut(2)) {
        let [one, other] = pair else { continue };
        let room = seen.change(one, &Change::OpenDirect { handle: other.handle.clone() }).await?;
        rooms.iter_mut().for_each(|rooms| rooms.push(room));
    }
    for (group, rooms) in accounts.chunks(GROUP).zip(rooms.chunks_mut(GROUP)) {
        let Some((owner, others)) = group.split_first() else { continue };
        let room = seen.change(owner, &create(others)).await?;
        rooms.iter_mut().for_each(|rooms| rooms.push(room));
    }
    Ok(accounts.iter().zip(rooms).map(|(account, rooms)| person(shared, account, "talker", rooms)).collect())
}

fn create(others: &[Account]) -> Change {
    Change::CreateGroup {
        name: "모두".to_owned(),
        handles: others.iter().map(|account| account.handle.clone()).collect(),
    }
}

async fn open_probes(shared: &Arc<Shared>, accounts: &[Account], seen: &mut Seen) -> Result<Probes, HttpError> {
    let (paired, others) = accounts.split_at_checked(2 * PAIRS).unwrap_or_default();
    let mut pairs = Vec::new();
    let mut square = 0;
    for pair in paired.chunks(2) {
        let [one, other] = pair else { continue };
        let mut rooms = vec![seen.change(one, &Change::OpenDirect { handle: other.handle.clone() }).await?];
        let receiver = person(shared, other, "probe", rooms.clone());
        if pairs.is_empty() {
            square = seen.change(one, &create(others)).await?;
            rooms.push(square);
        }
        pairs.push((person(shared, one, "probe", rooms), receiver));
    }
    let (rejoining, new) = others.split_at_checked(REJOINERS).unwrap_or_default();
    let rejoiners = rejoining.iter().map(|account| {
        let client = enter(shared, account, "rejoiner");
        Arc::new(Rejoiner::new(client, account.dc, account.identity.clone(), square, shared))
    });
    let newcomers = new.iter().map(|account| {
        let (handle, password) = (account.handle.clone(), account.password.clone());
        Arc::new(Newcomer { dc: account.dc, user: account.identity.user, handle, password, square })
    });
    Ok(Probes { pairs, square, rejoiners: rejoiners.collect(), newcomers: newcomers.collect() })
}

/// Writes down who a client is.
fn enter(shared: &Shared, account: &Account, role: &str) -> u32 {
    let client = shared.next_client();
    shared.note(format_args!("u {client} {} {} {role}", shared.dc(account.dc), account.identity.user));
    client
}

fn person(shared: &Arc<Shared>, account: &Account, role: &str, rooms: Vec<u64>) -> Arc<Person> {
    let number = enter(shared, account, role);
    for room in &rooms {
        shared.note(format_args!("r {number} {room}"));
    }
    Arc::new(Person::new(number, account.dc, account.identity.clone(), rooms, Arc::clone(shared)))
}
