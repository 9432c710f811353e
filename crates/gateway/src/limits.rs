//! How much one device or address may do: token buckets, forgotten when they are full again.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ieum_core::commands::Command;
use ieum_core::ids::{DeviceId, RoomId};
use ieum_core::kv::{self, Read};
use ieum_core::tables::rooms::ROOMS;
use ieum_planted::Bug;
use ieum_protocol::errors::{Code, Problem};
use parking_lot::Mutex;

use crate::options::{self, Rate};

/// How many buckets may be remembered; beyond that, full ones are forgotten first.
const MOST_BUCKETS: usize = 100_000;

/// A bucket that fills by time.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f32,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst as f32, filled: now }
    }

    /// Takes so many tokens, if they are there, else says how long that will take. What costs more than a full bucket holds costs a
    /// full one.
    pub fn take(&mut self, cost: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.fill(rate, now);
        let missing = cost.min(rate.burst.max(1)) as f32 - self.tokens;
        if missing > 0.0 {
            // A rate of none never gives them; that is a wait like any other to whoever asks.
            return Err(Duration::from_secs_f32(missing / rate.per_second.max(1) as f32));
        }
        self.tokens = -missing;
        Ok(())
    }

    /// Takes so many tokens whether they are there or not, and says how long it takes until one is there again.
    pub fn owe(&mut self, cost: u32, rate: Rate, now: Instant) -> Duration {
        self.fill(rate, now);
        self.tokens -= cost as f32;
        Duration::from_secs_f32((1.0 - self.tokens).max(0.0) / rate.per_second.max(1) as f32)
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f32() * rate.per_second as f32;
        self.tokens = (self.tokens + gained).min(rate.burst as f32);
        self.filled = now;
    }

    fn is_full(&self, rate: Rate, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f32() * rate.per_second as f32;
        self.tokens + gained >= rate.burst as f32
    }
}

/// A bucket for each of many.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes one token of `key`'s.
    pub fn take(&self, key: K, now: Instant) -> bool {
        self.try_take(key, now).is_ok()
    }

    /// Takes one token of `key`'s, or says how long that will take.
    pub fn try_take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MOST_BUCKETS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| !bucket.is_full(self.rate, now));
            if buckets.len() >= MOST_BUCKETS {
                return Err(Duration::ZERO);
            }
        }
        buckets.entry(key).or_insert_with(|| Bucket::full(self.rate, now)).take(1, self.rate, now)
    }
}

/// Too much was asked for; it may be asked again after `wait`.
#[must_use]
pub fn rate_limited(wait: Duration) -> Problem {
    let problem = Code::RateLimited.problem();
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    Problem { retry_after_ms: problem.retry_after_ms.map(|usual| usual.max(wait)), ..problem }
}

/// How many commands a device may still give: the same for all of its sessions and requests.
#[derive(Debug, Clone)]
pub struct Allowance {
    rate: Rate,
    bucket: Arc<Mutex<Bucket>>,
}

impl Allowance {
    /// Takes so many tokens, or says what is wrong.
    pub fn take(&self, cost: u32, now: Instant) -> Result<(), Problem> {
        self.bucket.lock().take(cost, self.rate, now).map_err(rate_limited)
    }

    /// Says what is wrong where not even the cheapest command can be paid. Takes nothing.
    pub fn has_any(&self, now: Instant) -> Result<(), Problem> {
        let mut looked_at = *self.bucket.lock();
        looked_at.take(1, self.rate, now).map_err(rate_limited)
    }
}

/// The allowance of each device. One is forgotten when it is full again and nobody holds it.
#[derive(Debug)]
pub struct Allowances {
    rate: Rate,
    devices: Mutex<Devices>,
}

#[derive(Debug)]
struct Devices {
    buckets: HashMap<DeviceId, Arc<Mutex<Bucket>>>,
    /// At so many it is looked for those that can be forgotten.
    tidy_at: usize,
}

/// Fewer devices than this are not worth tidying up.
const FEW_DEVICES: usize = 1_024;

impl Allowances {
    fn new(rate: Rate) -> Self {
        Self { rate, devices: Mutex::new(Devices { buckets: HashMap::new(), tidy_at: FEW_DEVICES }) }
    }

    /// The allowance of `device`.
    pub fn of(&self, device: DeviceId, now: Instant) -> Allowance {
        let mut devices = self.devices.lock();
        if devices.buckets.len() >= devices.tidy_at {
            devices.buckets.retain(|_, b| Arc::strong_count(b) > 1 || !b.lock().is_full(self.rate, now));
            devices.tidy_at = FEW_DEVICES.max(devices.buckets.len() * 2);
        }
        let anew = || Arc::new(Mutex::new(Bucket::full(self.rate, now)));
        if Bug::RatePerSession.planted() {
            return Allowance { rate: self.rate, bucket: anew() };
        }
        let bucket = Arc::clone(devices.buckets.entry(device).or_insert_with(anew));
        Allowance { rate: self.rate, bucket }
    }
}

/// Entries or people named in a command that cost one token more, begun tens in full.
const NAMED: usize = 10;
/// Members of a room that cost one token more where a command is told to all of them and some of it is counted anew for each.
const MEMBERS: u32 = 100;

/// What a command costs its device, in tokens: about as much as a message takes to apply, so that nobody makes the cell do more by another
/// kind of command. `members` is how many its [`room_of`] has.
#[must_use]
pub fn cost(command: &Command, members: u32) -> u32 {
    if Bug::EveryCommandCostsOne.planted() {
        return 1;
    }
    let named = match command {
        Command::AddToArchive(add) => add.entries.len(),
        Command::CreateGroup(create) => create.members.len(),
        Command::Invite(invite) => invite.users.len(),
        _ => 0,
    };
    let named = u32::try_from(named.div_ceil(NAMED)).unwrap_or(u32::MAX);
    match command {
        Command::AddToArchive(_) => named.max(1),
        _ => named.saturating_add(1).saturating_add(members / MEMBERS),
    }
}

/// How many members a room has; a room that there is not has none.
pub fn members(view: &impl Read, room: RoomId) -> kv::Result<u32> {
    Ok(ROOMS.get(view, &room)?.map_or(0, |room| room.members))
}

/// The room whose size makes a command dear.
#[must_use]
pub fn room_of(command: &Command) -> Option<RoomId> {
    match command {
        Command::Edit(edit) => Some(edit.room),
        Command::Delete(delete) => Some(delete.room),
        Command::Invite(invite) => Some(invite.room),
        Command::Leave(leave) => Some(leave.room),
        Command::Remove(remove) => Some(remove.room),
        Command::Rename(rename) => Some(rename.room),
        Command::GiveRole(give) => Some(give.room),
        _ => None,
    }
}

/// All limits of a gateway.
#[derive(Debug)]
pub struct Limits {
    /// Commands per device.
    pub commands: Allowances,
    /// Hellos per device.
    pub hellos: Buckets<DeviceId>,
    /// HTTP requests per address.
    pub requests: Buckets<IpAddr>,
    /// Registrations and sign-ins per address.
    pub sign_ins: Buckets<IpAddr>,
    connections: Mutex<Connections>,
    per_address: usize,
    sessionless: usize,
    most: usize,
}

/// Connections that are open, before their hello and behind it, and those of HTTP.
#[derive(Debug, Default)]
struct Connections {
    of: HashMap<IpAddr, OfAddress>,
    all: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct OfAddress {
    all: usize,
    /// Those of them that are no sessions: nobody has said who they are.
    sessionless: usize,
}

impl Limits {
    /// Limits as set.
    #[must_use]
    pub fn new(options: &options::Limits) -> Self {
        Self {
            commands: Allowances::new(options.commands),
            requests: Buckets::new(options.requests),
            sign_ins: Buckets::new(options.sign_ins),
            hellos: Buckets::new(options.hellos),
            connections: Mutex::default(),
            per_address: options.sessions_per_address,
            sessionless: options.sessionless_per_address,
            most: options.connections,
        }
    }

    /// Counts a connection from `address` in, if it may have one more.
    pub fn enter(&self, address: IpAddr) -> bool {
        let mut connections = self.connections.lock();
        let of = connections.of.get(&subscriber(address)).copied().unwrap_or_default();
        if of.all >= self.per_address || of.sessionless >= self.sessionless || connections.all >= self.most {
            return false;
        }
        let of = OfAddress { all: of.all + 1, sessionless: of.sessionless + 1 };
        connections.of.insert(subscriber(address), of);
        connections.all += 1;
        true
    }

    /// A connection from `address` is a session from here on.
    pub fn is_session(&self, address: IpAddr) {
        if let Some(of) = self.connections.lock().of.get_mut(&subscriber(address))
            && !Bug::SessionsCountAsStrangers.planted()
        {
            of.sessionless -= 1;
        }
    }

    /// Counts a connection from `address` out, which was a `session` in the end or never.
    pub fn leave(&self, address: IpAddr, session: bool) {
        let mut connections = self.connections.lock();
        if let Some(of) = connections.of.get_mut(&subscriber(address)) {
            of.all -= 1;
            of.sessionless -= usize::from(!session);
            if of.all == 0 {
                connections.of.remove(&subscriber(address));
            }
            connections.all -= 1;
        }
    }
}

/// Who an address belongs to: a subscriber has a whole IPv6 /64.
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let start = Instant::now();
        let mut bucket = Bucket::full(rate, start);
        assert_eq!((0..5).filter(|_| bucket.take(1, rate, start).is_ok()).count(), 3);
        assert!(bucket.take(1, rate, start + Duration::from_millis(101)).is_ok());
        assert!(bucket.take(1, rate, start + Duration::from_millis(102)).is_err());
    }

    #[test]
    fn a_dear_command_waits_for_its_price_and_says_how_long() {
        let rate = Rate { per_second: 10, burst: 30 };
        let start = Instant::now();
        let mut bucket = Bucket::full(rate, start);
        assert!(bucket.take(20, rate, start).is_ok());
        let wait = bucket.take(20, rate, start).unwrap_err();
        assert!((999..=1_001).contains(&wait.as_millis()), "ten tokens are missing: {wait:?}");
        assert!(bucket.take(10, rate, start).is_ok(), "a refused one took nothing");
        assert!(
            bucket.take(u32::MAX, rate, start + Duration::from_secs(4)).is_ok(),
            "no command costs more than there can be"
        );
        let allowance = Allowances::new(Rate { per_second: 1, burst: 50 }).of(DeviceId(1), start);
        assert!(allowance.has_any(start).is_ok() && allowance.has_any(start).is_ok());
        allowance.take(50, start).unwrap();
        assert_eq!(allowance.has_any(start).unwrap_err().retry_after_ms, Some(1_001));
        assert_eq!(allowance.take(1, start).unwrap_err().retry_after_ms, Some(1_001));
        assert_eq!(allowance.take(50, start).unwrap_err().retry_after_ms, Some(50_001));
    }

    #[test]
    fn a_command_costs_what_it_makes_the_cell_do() {
        use ieum_core::commands::archive::{AddToArchive, Entry};
        use ieum_core::commands::group::{CreateGroup, Leave};
        use ieum_core::commands::message::{Edit, Send};
        let room = RoomId(1);
        let entry = Entry { key: [0; 16], time: 0, author: String::new(), kind: String::new(), text: String::new() };
        let add = |count| Command::from(AddToArchive { room, entries: vec![entry.clone(); count] });
        assert_eq!([0, 1, 10, 11, 500].map(|count| cost(&add(count), 0)), [1, 1, 1, 2, 50]);
        let create = CreateGroup { name: String::new(), members: vec!["minji".to_owned(); 100] };
        assert_eq!(cost(&create.into(), 0), 11);
        let edit = Command::from(Edit { room, seq: 1, text: String::new() });
        assert_eq!([2, 99, 100, 3_000].map(|members| cost(&edit, members)), [1, 1, 2, 31]);
        assert_eq!((room_of(&edit), room_of(&Leave { room }.into())), (Some(room), Some(room)));
        let send = Command::from(Send { room, text: String::new(), reply_to: None });
        assert_eq!((room_of(&send), cost(&send, 0)), (None, 1));
    }

    #[test]
    fn what_a_device_does_counts_together_whatever_it_comes_through() {
        let commands = Rate { per_second: 10, burst: 3 };
        let limits = Limits::new(&options::Limits { commands, ..options::Options::default().limits });
        let now = Instant::now();
        let session = limits.commands.of(DeviceId(1), now);
        let takes = |allowance: &Allowance| allowance.take(1, now).is_ok();
        assert!(takes(&session) && takes(&session));
        let again = limits.commands.of(DeviceId(1), now);
        assert!(takes(&again) && !takes(&again) && !takes(&session));
        assert!(takes(&limits.commands.of(DeviceId(2), now)));
    }

    #[test]
    fn devices_that_have_their_allowance_back_are_forgotten() {
        let limits = Limits::new(&options::Options::default().limits);
        let now = Instant::now();
        let held = limits.commands.of(DeviceId(0), now);
        for device in 1..10_000 {
            limits.commands.of(DeviceId(device), now);
        }
        let devices = limits.commands.devices.lock();
        assert!(devices.buckets.len() <= FEW_DEVICES && devices.buckets.contains_key(&DeviceId(0)));
        drop(held);
    }

    #[test]
    fn addresses_of_one_subscriber_count_together() {
        let limits = Limits::new(&options::Limits { sessions_per_address: 1, ..options::Options::default().limits });
        assert!(limits.enter("2001:db8::1".parse().unwrap()));
        assert!(!limits.enter("2001:db8::2".parse().unwrap()));
        assert!(limits.enter("2001:db8:0:1::1".parse().unwrap()));
        limits.leave("2001:db8::1".parse().unwrap(), false);
        assert!(limits.enter("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn connections_that_are_no_sessions_are_bounded_apart() {
        let options = options::Options::default().limits;
        let limits = Limits::new(&options::Limits { sessionless_per_address: 2, sessions_per_address: 4, ..options });
        let [here, there] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        assert!(limits.enter(here) && limits.enter(here) && !limits.enter(here) && limits.enter(there));
        limits.is_session(here);
        assert!(limits.enter(here) && !limits.enter(here));
        limits.is_session(here);
        assert!(limits.enter(here) && !limits.enter(here), "two sessions and two others are all that it may have");
        limits.leave(here, true);
        assert!(!limits.enter(here), "a session that goes makes no room for what is none");
        limits.leave(here, false);
        assert!(limits.enter(here) && !limits.enter(here));
        for session in [true, false, false] {
            limits.leave(here, session);
        }
        limits.leave(there, false);
        let left = limits.connections.lock();
        assert_eq!((left.of.len(), left.all), (0, 0));
    }

    #[test]
    fn connections_are_bounded_whoever_opens_them() {
        let limits = Limits::new(&options::Limits { connections: 2, ..options::Options::default().limits });
        let [first, second, third] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|address| address.parse().unwrap());
        assert!(limits.enter(first) && limits.enter(second) && !limits.enter(third));
        // One that was turned away was not counted in.
        assert!(!limits.enter(third) && !limits.enter(first));
        limits.leave(first, false);
        assert!(limits.enter(third) && !limits.enter(first));
    }
}
