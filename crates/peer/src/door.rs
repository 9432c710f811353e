//! Where other nodes come in: connections are accepted, shown certificates are looked at, and what takes too long or too much is let go.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ieum_core::ids::NodeId;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use crate::line::{Line, Of, Stream};
use crate::tls::Tls;

/// How long whoever connects may take to show who it is.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often it is read what somebody has sent who is refused, at most.
const MOST_UNREAD: usize = 64;
/// Connections at a time. A node has two from each other one, and another while that one needs help.
const MOST: usize = 256;
/// Between attempts to accept when this process has no files left.
const NO_FILES: Duration = Duration::from_millis(100);
/// So many addresses are remembered of those that were refused.
const MOST_REFUSED: usize = 64;

/// A connection that may ask.
pub(crate) type Came = Line<Guest>;

/// Who has come, and its place among [`MOST`].
pub(crate) struct Guest {
    from: From,
    _counted: OwnedSemaphorePermit,
}

impl Of for Guest {}

/// Which node a connection is of, if there are certificates to tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From(pub(crate) Option<NodeId>);

impl Connected for Came {
    type ConnectInfo = From;

    fn connect_info(&self) -> From {
        self.of.from
    }
}

/// Accepts until `let_in` has nobody who takes what comes.
pub(crate) async fn open(listener: TcpListener, tls: Option<Tls>, let_in: mpsc::Sender<io::Result<Came>>) {
    let (room, refused) = (Arc::new(Semaphore::new(MOST)), Arc::new(Refused::default()));
    let mut coming = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = let_in.closed() => return,
            Some(_) = coming.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, address, counted)) => {
                let (tls, let_in, refused) = (tls.clone(), let_in.clone(), Arc::clone(&refused));
                coming.spawn(async move {
                    match greet(stream, tls.as_ref()).await {
                        Ok((stream, from)) => {
                            refused.forget(address);
                            // Nobody may be there any more.
                            let _ = let_in.send(Ok(Line::new(stream, Guest { from, _counted: counted }))).await;
                        }
                        Err(reason) => refused.tell(address, reason),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted from another node");
                tokio::time::sleep(NO_FILES).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let counted = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    // One that is gone already shows when it is read.
    let _ = stream.set_nodelay(true);
    Ok((stream, address.ip(), counted))
}

/// Finds out who has connected.
async fn greet(stream: TcpStream, tls: Option<&Tls>) -> Result<(Box<dyn Stream>, From), String> {
    let Some(tls) = tls else { return Ok((Box::new(stream), From(None))) };
    let shaking = TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream).into_fallible();
    let stream = match tokio::time::timeout(HANDSHAKE, shaking).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, stream))) => {
            hang_up(stream).await;
            return Err(error.to_string());
        }
        Err(_) => return Err(format!("it showed no certificate within {HANDSHAKE:?}")),
    };
    let named = tls.named(stream.get_ref().1.peer_certificates())?;
    Ok((Box::new(stream), From(Some(named))))
}

/// Closes a connection that was told why. What the other side has sent meanwhile is read: else the kernel resets the connection, and the reason
/// is lost on the way.
async fn hang_up(mut stream: TcpStream) {
    let mut nothing = [0; 1024];
    let reading = async {
        stream.shutdown().await?;
        for _ in 0..MOST_UNREAD {
            if stream.read(&mut nothing).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // Either way it is closed now.
    let _ = tokio::time::timeout(HANDSHAKE, reading).await;
}

/// Who was refused and why, so that one that tries again and again is told of once.
#[derive(Default)]
struct Refused(Mutex<BTreeMap<IpAddr, String>>);

impl Refused {
    fn tell(&self, address: IpAddr, reason: String) {
        let mut refused = self.0.lock();
        if refused.get(&address) == Some(&reason) {
            return;
        }
        tracing::warn!(%address, reason, "a connection to [peers] listen was refused");
        if refused.len() >= MOST_REFUSED {
            refused.clear();
        }
        refused.insert(address, reason);
    }

    fn forget(&self, address: IpAddr) {
        self.0.lock().remove(&address);
    }
}
