//! Asking another node.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use http::Uri;
use http::uri::PathAndQuery;
use ieum_core::ids::{NodeId, Position};
use ieum_log::Entry;
use ieum_node::peers::Report;
use ieum_planted::Bug;
use parking_lot::Mutex;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::connect::{Connector, Shown};
use crate::messages::{Batch, BatchesAsked, Hello, Piece, Said, SnapshotAsked, StandAsked, Stands, WatchAsked};
use crate::signals::messages::{self as signals, Signal, SignalsAsked};
use crate::tls::{self, Tls};
use crate::{ANSWER, MOST, PING, SMALL, Stood};

/// Why another node gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its address is none.
    #[error("{address} is no address of a node, such as http://10.0.0.7:7400: correct [peers] addresses")]
    Address {
        /// What was given.
        address: String,
    },
    /// It would be asked in plain text, although the cell has certificates, or the other way round.
    #[error(
        "{address}: nodes with [peers] certificates are reached by https, and others by http: correct [peers] addresses"
    )]
    Scheme {
        /// What was given.
        address: String,
    },
    /// It is the very process that asks.
    #[error("{address} is this node itself")]
    Itself {
        /// What was given.
        address: String,
    },
    /// It does not have any more what was asked for.
    #[error("the node at {address} no longer has what was asked for: {reason}")]
    Trimmed {
        /// Which.
        address: String,
        /// What it says.
        reason: String,
    },
    /// It refuses, and will again.
    #[error("the node at {address} refuses: {reason}")]
    Refused {
        /// Which.
        address: String,
        /// What it says.
        reason: String,
    },
    /// It refuses, and that passes in a while.
    #[error("the node at {address} does not give it yet: {reason}")]
    NotYet {
        /// Which.
        address: String,
        /// What it says.
        reason: String,
    },
    /// It sent what cannot be.
    #[error("the node at {address} sent garbage: {reason}")]
    Garbage {
        /// Which.
        address: String,
        /// What.
        reason: String,
    },
    /// It has begun to answer, or lives, and then gives nothing more.
    #[error("the node at {address} has given nothing for {patience:?}: is its disk well?")]
    Stuck {
        /// Which.
        address: String,
        /// For how long.
        patience: Duration,
    },
    /// It cannot be reached, or broke off.
    #[error("the node at {address} does not answer: {reason}")]
    Unreachable {
        /// Which.
        address: String,
        /// How it shows.
        reason: String,
    },
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its cell.
    pub cell: u16,
    /// Its number.
    pub node: NodeId,
    /// Names this life of its process; random.
    pub life: u64,
}

/// Another node of the cell.
#[derive(Debug, Clone)]
pub struct Peer {
    address: String,
    hello: Hello,
    channel: Channel,
    /// What its connection has shown.
    shown: Arc<Mutex<Shown>>,
    patience: Duration,
}

/// A node that gives nothing for so long of what it was asked for counts as one that cannot help now. Its disk may hang, while its connection lives.
const PATIENCE: Duration = Duration::from_secs(30);

impl Peer {
    /// The node at `address`, asked by `caller`. Connects when it is first asked.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Scheme`].
    pub fn new(address: &str, caller: Caller, tls: Option<Tls>) -> Result<Self, Error> {
        let address = address.to_owned();
        let Some((scheme, host, port)) = parts(&address) else { return Err(Error::Address { address }) };
        if (scheme == "https") != tls.is_some() {
            return Err(Error::Scheme { address });
        }
        let shown = Arc::new(Mutex::new(Shown::default()));
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let connector = Connector::new(bare, port, tls, Arc::clone(&shown));
        // TLS is the connector's own matter.
        let Ok(endpoint) = Endpoint::from_shared(format!("http://{host}:{port}")) else {
            return Err(Error::Address { address });
        };
        let endpoint = endpoint.http2_keep_alive_interval(PING).keep_alive_timeout(ANSWER).keep_alive_while_idle(true);
        let channel = endpoint.connect_with_connector_lazy(connector);
        let Caller { cell, node, life } = caller;
        let hello = Hello { cell: cell.into(), node, life };
        Ok(Self { address, hello, channel, shown, patience: PATIENCE })
    }

    /// The same node, given up sooner or later when batches or a snapshot do not come on.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Waits for what the node gives next, as long as it may take.
    pub(crate) async fn in_time<T>(&self, next: impl Future<Output = T>) -> Result<T, Error> {
        if Bug::WaitsForEver.planted() {
            return Ok(next.await);
        }
        let stuck = |_| Error::Stuck { address: self.address.clone(), patience: self.patience };
        tokio::time::timeout(self.patience, next).await.map_err(stuck)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it says of itself, now and whenever that changes; it is told that this node is at `address`.
    pub async fn watch(
        &self,
        address: Option<String>,
    ) -> Result<impl Stream<Item = Result<Report, Error>> + Send + use<>, Error> {
        let asked = WatchAsked { hello: Some(self.hello), address };
        let said: Streaming<Said> = self.ask("/ieum.peer.v1.Peer/Watch", asked, SMALL).await?;
        let peer = self.clone();
        Ok(said.map(move |said| {
            let report = said.and_then(Report::try_from).map_err(|status| peer.error(&status))?;
            let (address, named) = (&peer.address, peer.shown.lock().named);
            tls::is(report.node, named).map_err(|reason| Error::Refused { address: address.clone(), reason })?;
            Ok(report)
        }))
    }

    /// What its journal holds behind `after`, up to its end.
    pub async fn batches(
        &self,
        after: Position,
    ) -> Result<impl Stream<Item = Result<Entry, Error>> + Send + use<>, Error> {
        let asked = BatchesAsked { hello: Some(self.hello), after: Some(after.into()) };
        let batches: Streaming<Batch> = self.ask("/ieum.peer.v1.Peer/Batches", asked, MOST).await?;
        let peer = self.clone();
        Ok(batches.map(move |batch| batch.and_then(Entry::try_from).map_err(|status| peer.error(&status))))
    }

    /// Where it stands, if it has halted because the log is lost; none when it runs, or is coming up.
    pub async fn stand(&self) -> Result<Option<Stood>, Error> {
        self.stands(false).await
    }

    /// The same; one that has halted stays there for a while, whatever others have.
    pub async fn stand_still(&self) -> Result<Option<Stood>, Error> {
        self.stands(true).await
    }

    async fn stands(&self, still: bool) -> Result<Option<Stood>, Error> {
        let asked = StandAsked { hello: Some(self.hello), still };
        let mut stands: Streaming<Stands> = self.ask("/ieum.peer.v1.Peer/Stand", asked, SMALL).await?;
        let stands = stands.message().await.map_err(|status| self.error(&status))?;
        let stood = stands.map(Stood::try_from).transpose().map_err(|status| self.error(&status))?;
        if let Some(stood) = &stood {
            let (address, named) = (&self.address, self.shown.lock().named);
            tls::is(stood.node, named).map_err(|reason| Error::Refused { address: address.clone(), reason })?;
        }
        Ok(stood)
    }

    /// What it says that is not durable, as it happens.
    pub(crate) async fn signals(
        &self,
    ) -> Result<impl Stream<Item = Result<signals::Said, Error>> + Send + use<>, Error> {
        let asked = SignalsAsked { hello: Some(self.hello) };
        let said: Streaming<Signal> = self.ask("/ieum.peer.v1.Peer/Signals", asked, SMALL).await?;
        let peer = self.clone();
        Ok(said.map(move |signal| {
            let said = signal.and_then(signals::Said::try_from).map_err(|status| peer.error(&status))?;
            let (address, named) = (&peer.address, peer.shown.lock().named);
            tls::is(said.node, named).map_err(|reason| Error::Refused { address: address.clone(), reason })?;
            Ok(said)
        }))
    }

    /// A snapshot's pieces: from the offset on if it still has the one that the caller has a part of.
    pub(crate) async fn snapshot(&self, part: Option<(Position, u64)>) -> Result<Streaming<Piece>, Error> {
        let (at, offset) = part.map_or((None, 0), |(at, offset)| (Some(at.into()), offset));
        let asked = SnapshotAsked { hello: Some(self.hello), at, offset };
        self.ask("/ieum.peer.v1.Peer/Snapshot", asked, MOST).await
    }

    async fn ask<A, T>(&self, path: &'static str, asked: A, most: usize) -> Result<Streaming<T>, Error>
    where
        A: prost::Message + 'static,
        T: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(most);
        let asking = async {
            grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            let codec = ProstCodec::<A, T>::default();
            grpc.server_streaming(Request::new(asked), PathAndQuery::from_static(path), codec).await
        };
        Ok(asking.await.map_err(|status| self.error(&status))?.into_inner())
    }

    /// What a status means to whoever asked.
    pub(crate) fn error(&self, status: &Status) -> Error {
        let (address, reason) = (self.address.clone(), shortly(status));
        match status.code() {
            Code::AlreadyExists => Error::Itself { address },
            Code::OutOfRange => Error::Trimmed { address, reason },
            Code::Aborted => Error::NotYet { address, reason },
            Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied => {
                Error::Refused { address, reason }
            }
            // From a connection that broke, not from the node.
            Code::DataLoss | Code::Internal if status.source().is_none() => Error::Garbage { address, reason },
            _ => self.unreachable(reason),
        }
    }

    fn unreachable(&self, reason: String) -> Error {
        let (address, broke) = (self.address.clone(), self.shown.lock().broke.clone());
        match broke {
            Some(broke) if broke.contains("received fatal alert") => {
                let reason = format!(
                    "it does not take this node's certificate ({broke}): is it in date, and of the cell's authority?"
                );
                Error::Refused { address, reason }
            }
            broke => Error::Unreachable { address, reason: broke.unwrap_or(reason) },
        }
    }
}

/// Scheme, host and port of `http://HOST:PORT` or `https://HOST:PORT`.
fn parts(address: &str) -> Option<(String, String, u16)> {
    let uri: Uri = address.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?.to_owned();
    let bare = uri.path().trim_matches('/').is_empty() && uri.query().is_none();
    bare.then_some((scheme, uri.host()?.to_owned(), uri.port_u16()?))
}

/// What is behind a status, in one line: the last reason tells most.
fn shortly(status: &Status) -> String {
    let Some(mut last) = status.source() else { return status.message().to_owned() };
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
