//! Connections to hosts by name, with a resolver that may hang.
//!
//! ```text
//!  connect("etcd.b.example", 2379) ──► under way? ──► wait with those who wait already
//!        │                                 └ no ────► queue ──► a thread of its own: the system's resolver
//!        └─► what it finds, or, if it fails or takes longer than the patience, the addresses that the name had last
//! ```
//!
//! The system's resolver blocks, for half a minute and more where no server answers it. So it never has a thread that others need: not one of
//! the runtime's blocking pool, on which the view is read and passwords are checked. A name is looked up once at a time, and no more than
//! [`THREADS`] at once; whoever waits may give up, and what is found later is kept for whoever comes next.
//!
//! An address may be used that the name no longer has. Whoever connects has to look at who answers there, which it has to with a new one as well.

mod ask;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::ask::State;

/// How many names are looked up at once at most, each on a thread of its own while it takes. More wait for their turn.
pub const THREADS: usize = 32;
/// How long a look-up may take, from when it was first asked for, before the addresses are used that the name had last. Well below what the callers
/// give a connection (1 s to etcd, 1.5 s to a node).
const PATIENCE: Duration = Duration::from_millis(250);

/// Finds the addresses of a name; their ports mean nothing. It may block for as long as it likes.
pub type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Why a name has no addresses.
#[derive(Debug, Clone, thiserror::Error)]
#[error("looking up {name}")]
pub struct Error {
    name: Arc<str>,
    source: Arc<io::Error>,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Connects by the resolver of the system; the whole process shares what it finds.
///
/// # Errors
/// The name has no addresses, or none of them takes the connection: then what the last one said, as with [`TcpStream::connect`].
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    static SYSTEM: LazyLock<Names> = LazyLock::new(|| {
        let lookup = |name: &str| (name, 0).to_socket_addrs().map(Iterator::collect);
        Names::new(Box::new(lookup), PATIENCE)
    });
    SYSTEM.connect(host, port).await
}

/// Names, and the addresses that they had last. Clones share them.
#[derive(Clone)]
pub struct Names(Arc<Shared>);

struct Shared {
    lookup: Box<Lookup>,
    patience: Duration,
    state: Mutex<State>,
}

impl Names {
    /// Names that `lookup` finds. Where it takes longer than `patience`, the addresses are used that the name had last.
    #[must_use]
    pub fn new(lookup: Box<Lookup>, patience: Duration) -> Self {
        Self(Arc::new(Shared { lookup, patience, state: Mutex::default() }))
    }

    /// Connects to the host, which is a name or an address: to each of its addresses in turn, until one takes the connection. Waits for as long
    /// as all of it takes; it may be dropped at any time.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return TcpStream::connect((address, port)).await;
        }
        let mut addresses = self.addresses(host).await?.to_vec();
        addresses.iter_mut().for_each(|address| address.set_port(port));
        TcpStream::connect(addresses.as_slice()).await
    }

    /// The addresses of the name, at least one.
    async fn addresses(&self, name: &str) -> Result<Arc<[SocketAddr]>, Error> {
        let mut asked = self.ask(name)?;
        if !asked.known {
            return asked.found().await;
        }
        let patience = asked.since + self.0.patience;
        let failure = match timeout_at(patience, asked.found()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let slow = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {:?}", self.0.patience));
                Error { name: name.into(), source: Arc::new(slow) }
            }
        };
        let last = self.0.state.lock().last(name, &failure);
        let (addresses, news) = last.ok_or(failure)?;
        if let Some(news) = news {
            news.tell(name);
        }
        Ok(addresses)
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

#[cfg(test)]
mod tests;
