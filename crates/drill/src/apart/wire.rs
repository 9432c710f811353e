//! The network between the data centers itself: how long a datagram takes there and back, and how much it carries.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::parts;
use super::spread::Spread;
use crate::error::{Error, Naming as _};
use crate::world::net::{Network, enter, namespace};
use crate::world::relay;

/// How long a datagram may take before it counts as lost.
const LOST: Duration = Duration::from_millis(500);
/// How often a round trip is measured on an idle network, and under load.
const IDLE: Duration = Duration::from_millis(2);
const UNDER_LOAD: Duration = Duration::from_millis(10);
/// How long an idle network is looked at, and how long it is filled.
const LOOK: Duration = Duration::from_secs(1);

/// What a network between data centers is like while nothing else uses it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Wire {
    /// Microseconds of a datagram there and back.
    pub round_trip_us: Spread,
    /// Bytes a second of one connection that sends as fast as it can.
    pub bytes_per_s: f64,
    /// The packets of it, acknowledgements too.
    pub packets_per_s: f64,
    /// Microseconds of the relay's processor time for each packet; 0 without one.
    pub relay_us_per_packet: f64,
}

/// Looks at the network between the first two of these data centers. `inside` is a process in the first.
pub fn look(names: [&str; 2], inside: u32) -> Result<Wire, Error> {
    let echo = Echo::start(names, IDLE)?;
    std::thread::sleep(LOOK);
    let round_trip_us = echo.take();
    drop(echo);
    let own = || parts::threads(std::process::id(), relay::THREADS);
    let traffic = || parts::traffic(inside, Network::Between.name());
    let (packets, cpu) = (traffic()?.packets, own()?.cpu_s);
    let (bytes, seconds) = stream(names)?;
    let (packets, cpu) = ((traffic()?.packets - packets) as f64, own()?.cpu_s - cpu);
    Ok(Wire {
        round_trip_us,
        bytes_per_s: bytes as f64 / seconds,
        packets_per_s: packets / seconds,
        relay_us_per_packet: cpu * 1e6 / packets.max(1.0),
    })
}

/// Does something in a data center's network; what it makes stays there.
fn within<T: Send>(name: &str, make: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T, Error> {
    let doing = || format!("making a socket in data center {name}");
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter(&namespace(name))?;
            make().naming(doing)
        });
        inside.join().unwrap_or_else(|_| Err(Error::other(doing(), "its thread panicked")))
    })
}

/// The first two data centers' addresses.
fn addresses() -> [Ipv4Addr; 2] {
    [Network::Between.address(0), Network::Between.address(1)]
}

/// Sends as fast as it can for [`LOOK`]: how many bytes arrived, and in how many seconds.
fn stream([one, other]: [&str; 2]) -> Result<(u64, f64), Error> {
    let sending = || "sending between two data centers".to_owned();
    let [_, there] = addresses();
    let listener = within(other, move || TcpListener::bind((there, 0)))?;
    let address = listener.local_addr().naming(sending)?;
    let mut to = within(one, move || TcpStream::connect_timeout(&address, LOST))?;
    let (mut from, _) = listener.accept().naming(sending)?;
    let begun = Instant::now();
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        let mut all = 0u64;
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            all += len as u64;
        }
        (all, begun.elapsed().as_secs_f64())
    });
    let block = vec![0; 1 << 16];
    while begun.elapsed() < LOOK {
        to.write_all(&block).naming(sending)?;
    }
    drop(to);
    reader.join().map_err(|_| Error::other(sending(), "the reader panicked"))
}

/// Datagrams there and back, one after the other, as long as it lives.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    micros: Arc<Mutex<Vec<u64>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Under load.
    pub fn beside_a_load(names: [&str; 2]) -> Result<Self, Error> {
        Self::start(names, UNDER_LOAD)
    }

    fn start([one, other]: [&str; 2], every: Duration) -> Result<Self, Error> {
        let [here, there] = addresses();
        let bound = |address| {
            move || {
                let socket = UdpSocket::bind((address, 0))?;
                socket.set_read_timeout(Some(LOST))?;
                Ok(socket)
            }
        };
        let (from, back) = (within(one, bound(here))?, within(other, bound(there))?);
        let to = back.local_addr().naming(|| "finding out where a socket is".to_owned())?;
        let (stop, micros): (Arc<AtomicBool>, Arc<Mutex<Vec<u64>>>) = Default::default();
        let threads = vec![
            std::thread::spawn({
                let stop = Arc::clone(&stop);
                move || answer(&back, &stop)
            }),
            std::thread::spawn({
                let (stop, micros) = (Arc::clone(&stop), Arc::clone(&micros));
                move || ask(&from, to, every, &stop, &micros)
            }),
        ];
        Ok(Self { stop, micros, threads })
    }

    /// How long those took that came back since this was asked last.
    pub fn take(&self) -> Spread {
        Spread::of(std::mem::take(&mut *self.micros.lock()))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut text = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut text) {
            // Like any datagram it may be lost.
            let _ = socket.send_to(text.get(..len).unwrap_or_default(), from);
        }
    }
}

fn ask(socket: &UdpSocket, to: SocketAddr, every: Duration, stop: &AtomicBool, micros: &Mutex<Vec<u64>>) {
    let mut text = [0; 8];
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let begun = Instant::now();
        if socket.send_to(&number.to_be_bytes(), to).is_ok() {
            // Answers to earlier ones, which count as lost, are passed over.
            while socket.recv(&mut text).is_ok() {
                if u64::from_be_bytes(text) == number {
                    micros.lock().push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
                    break;
                }
            }
        }
        std::thread::sleep(every.saturating_sub(begun.elapsed()));
    }
}
