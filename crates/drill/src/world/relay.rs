//! A slow and lossy network between the data centers. The kernel here may have no netem, so packets go through this process: each place's
//! interface is a TUN device, and what comes out of one is put into another, later, or not at all.
//!
//! ```text
//!  dc-a `between` (TUN) ──► reader of a ──► what is due, per place ──► writer of b ──► dc-b `between` (TUN)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::net::{Network, OUTSIDE, WORLD, namespace};
use crate::error::{Error, Naming as _};
use crate::random::Random;

/// A packet, and when it is due.
type Packet = (Instant, Vec<u8>);

/// What its threads are called, for whoever asks what they use.
pub const THREADS: &str = "relay";
/// The largest packet.
const LARGEST: usize = 65_536;
/// What `lost_percent` is out of.
const WHOLE: u64 = 100;

/// What the network between the data centers is like at the moment. The operator's own wire is never slow.
#[derive(Debug, Default)]
struct Weather {
    delay_us: AtomicU64,
    lost_percent: AtomicU64,
}

/// The network between the data centers, as long as this process lives.
#[derive(Clone, Debug)]
pub struct Relay {
    weather: Arc<Weather>,
}

/// One place that the relay serves, by the last byte of its address.
struct Place {
    number: u8,
    device: Arc<SyncDevice>,
    due: Sender<Packet>,
}

impl Relay {
    /// Makes the interfaces and carries packets between them from now on, without delay at first.
    pub fn start(names: &[&str]) -> Result<Self, Error> {
        let relay = Self { weather: Arc::default() };
        let inside = (1..).zip(names).map(|(number, name)| (number, namespace(name)));
        let mut places = Vec::new();
        for (number, namespace) in inside.chain([(OUTSIDE, WORLD.to_owned())]) {
            let device = Arc::new(open(&namespace, number)?);
            let (due, packets) = channel();
            let writer = Arc::clone(&device);
            thread(move || write(&writer, &packets))?;
            places.push(Place { number, device, due });
        }
        for place in &places {
            let ways: Vec<_> = places.iter().map(|place| (place.number, place.due.clone())).collect();
            let (number, device, weather) = (place.number, Arc::clone(&place.device), Arc::clone(&relay.weather));
            thread(move || read(number, &device, &ways, &weather))?;
        }
        Ok(relay)
    }

    /// From now on each packet takes so long in each direction, and so many of a hundred are lost.
    pub fn set(&self, delay_ms: u64, lost_percent: u64) {
        self.delay(Duration::from_millis(delay_ms));
        self.weather.lost_percent.store(lost_percent, Ordering::Relaxed);
    }

    /// From now on each packet takes so long in each direction.
    pub fn delay(&self, each_way: Duration) {
        let micros = u64::try_from(each_way.as_micros()).unwrap_or(u64::MAX);
        self.weather.delay_us.store(micros, Ordering::Relaxed);
    }
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = std::thread::Builder::new().name(THREADS.to_owned()).spawn(work);
    spawned.map(drop).naming(|| "starting a thread of the relay".to_owned())
}

/// Makes the interface in the namespace; a device stays where it was made.
fn open(namespace: &str, number: u8) -> Result<SyncDevice, Error> {
    let making = || format!("making a TUN device in {namespace}");
    let network = Network::Between;
    let made = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            super::net::enter(namespace)?;
            DeviceBuilder::new()
                .name(network.name())
                .layer(Layer::L3)
                .inherit_enable_state()
                .build_sync()
                .naming(making)
        });
        inside.join().unwrap_or_else(|_| Err(Error::other(making(), "its thread panicked")))
    })?;
    let address = format!("{}/24", network.numbered(number));
    super::net::ip(&["-n", namespace, "addr", "add", &address, "dev", network.name()])?;
    super::net::ip(&["-n", namespace, "link", "set", network.name(), "up"])?;
    Ok(made)
}

/// Takes what a place sends until its device is gone.
fn read(from: u8, device: &SyncDevice, ways: &[(u8, Sender<Packet>)], weather: &Weather) {
    let mut packet = vec![0; LARGEST];
    let mut random = Random::new(u64::from(from));
    while let Ok(len) = device.recv(&mut packet) {
        // The last byte of an IPv4 packet's destination; nothing else is carried.
        let Some((0x45, to)) = packet.get(..len).and_then(|packet| Some((*packet.first()?, *packet.get(19)?))) else {
            continue;
        };
        let Some((_, way)) = ways.iter().find(|(number, _)| *number == to) else { continue };
        let operator = from == OUTSIDE || to == OUTSIDE;
        if !operator && random.below(WHOLE) < weather.lost_percent.load(Ordering::Relaxed) {
            continue;
        }
        let delay = if operator { 0 } else { weather.delay_us.load(Ordering::Relaxed) };
        let due = Instant::now() + Duration::from_micros(delay);
        let _ = way.send((due, packet.get(..len).unwrap_or_default().to_vec()));
    }
}

/// Gives a place what is due, in the order in which it was sent.
fn write(device: &SyncDevice, packets: &Receiver<Packet>) {
    for (due, packet) in packets {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // What its kernel does not take is lost, as on any wire.
        let _ = device.send(&packet);
    }
}
