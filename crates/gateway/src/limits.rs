//! How much one device or address may do: token buckets, forgotten when they are full again.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use ieum_core::ids::DeviceId;
use ieum_planted::Bug;
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

    /// Takes one token, if there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f32() * rate.per_second as f32;
        self.tokens = (self.tokens + gained).min(rate.burst as f32);
        self.filled = now;
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
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
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MOST_BUCKETS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| !bucket.is_full(self.rate, now));
            if buckets.len() >= MOST_BUCKETS {
                return false;
            }
        }
        buckets.entry(key).or_insert_with(|| Bucket::full(self.rate, now)).take(self.rate, now)
    }
}

/// How many commands a device may still give: the same for all of its sessions and requests.
#[derive(Debug, Clone)]
pub struct Allowance {
    rate: Rate,
    bucket: Arc<Mutex<Bucket>>,
}

impl Allowance {
    /// Takes one token, if there is one.
    pub fn take(&self, now: Instant) -> bool {
        self.bucket.lock().take(self.rate, now)
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

/// All limits of a gateway.
#[derive(Debug)]
pub struct Limits {
    /// Commands per device.
    pub commands: Allowances,
    /// HTTP requests per address.
    pub requests: Buckets<IpAddr>,
    /// Registrations and sign-ins per address.
    pub sign_ins: Buckets<IpAddr>,
    sessions: Mutex<HashMap<IpAddr, usize>>,
    sessions_per_address: usize,
}

impl Limits {
    /// Limits as set.
    #[must_use]
    pub fn new(options: &options::Limits) -> Self {
        Self {
            commands: Allowances::new(options.commands),
            requests: Buckets::new(options.requests),
            sign_ins: Buckets::new(options.sign_ins),
            sessions: Mutex::default(),
            sessions_per_address: options.sessions_per_address,
        }
    }

    /// Counts a connection from `address` in, if it may have one more.
    pub fn enter(&self, address: IpAddr) -> bool {
        let mut sessions = self.sessions.lock();
        let count = sessions.entry(subscriber(address)).or_default();
        if *count >= self.sessions_per_address {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts a connection from `address` out.
    pub fn leave(&self, address: IpAddr) {
        let mut sessions = self.sessions.lock();
        if let Some(count) = sessions.get_mut(&subscriber(address)) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&subscriber(address));
            }
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
    use std::time::Duration;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let start = Instant::now();
        let mut bucket = Bucket::full(rate, start);
        assert_eq!((0..5).filter(|_| bucket.take(rate, start)).count(), 3);
        assert!(bucket.take(rate, start + Duration::from_millis(101)));
        assert!(!bucket.take(rate, start + Duration::from_millis(102)));
    }

    #[test]
    fn what_a_device_does_counts_together_whatever_it_comes_through() {
        let commands = Rate { per_second: 10, burst: 3 };
        let limits = Limits::new(&options::Limits { commands, ..options::Options::default().limits });
        let now = Instant::now();
        let session = limits.commands.of(DeviceId(1), now);
        assert!(session.take(now) && session.take(now));
        let again = limits.commands.of(DeviceId(1), now);
        assert!(again.take(now) && !again.take(now) && !session.take(now));
        assert!(limits.commands.of(DeviceId(2), now).take(now));
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
        limits.leave("2001:db8::1".parse().unwrap());
        assert!(limits.enter("2001:db8::2".parse().unwrap()));
    }
}
