//! Asking another node.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use http::uri::PathAndQuery;
use ieum_core::ids::Position;
use ieum_log::Entry;
use ieum_node::peers::Report;
use tonic::client::Grpc;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::MOST;
use crate::messages::{Batch, BatchesAsked, Hello, Piece, Said, SnapshotAsked, WatchAsked};

/// How long a connection may take to be there, and a node to answer that it lives.
const ANSWER: Duration = Duration::from_millis(1_500);
/// How often it is asked.
const PING: Duration = Duration::from_secs(1);

/// Why another node gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its address is none.
    #[error("{address} is no address of a node, such as http://10.0.0.7:7400")]
    Address {
        /// What was given.
        address: String,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// It would be asked in plain text, although the cell has certificates.
    #[error("{address} is not https, though there are certificates: correct [peers] addresses")]
    Plain {
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
    /// It sent what cannot be.
    #[error("the node at {address} sent garbage: {reason}")]
    Garbage {
        /// Which.
        address: String,
        /// What.
        reason: String,
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

/// Another node of the cell.
#[derive(Debug, Clone)]
pub struct Peer {
    address: String,
    hello: Hello,
    channel: Channel,
}

impl Peer {
    /// The node at `address`, asked by node `node` of `cell`. Connects when it is first asked.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Plain`].
    pub fn new(address: &str, cell: u16, node: u32, tls: Option<ClientTlsConfig>) -> Result<Self, Error> {
        let wrong = |source| Error::Address { address: address.to_owned(), source };
        let mut endpoint = Endpoint::from_shared(address.to_owned()).map_err(wrong)?;
        if let Some(tls) = tls {
            if endpoint.uri().scheme_str() != Some("https") {
                return Err(Error::Plain { address: address.to_owned() });
            }
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        let endpoint = endpoint
            .connect_timeout(ANSWER)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(ANSWER)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_lazy();
        Ok(Self { address: address.to_owned(), hello: Hello { cell: cell.into(), node }, channel })
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
        let asked = WatchAsked { hello: Some(self.hello.clone()), address };
        let said: Streaming<Said> = self.ask("/ieum.peer.v1.Peer/Watch", asked).await?;
        let peer = self.clone();
        Ok(said.map(move |said| said.and_then(Report::try_from).map_err(|status| peer.error(&status))))
    }

    /// What its journal holds behind `after`, up to its end.
    pub async fn batches(
        &self,
        after: Position,
    ) -> Result<impl Stream<Item = Result<Entry, Error>> + Send + use<>, Error> {
        let asked = BatchesAsked { hello: Some(self.hello.clone()), after: Some(after.into()) };
        let batches: Streaming<Batch> = self.ask("/ieum.peer.v1.Peer/Batches", asked).await?;
        let peer = self.clone();
        Ok(batches.map(move |batch| batch.and_then(Entry::try_from).map_err(|status| peer.error(&status))))
    }

    /// A snapshot's pieces: from the offset on if it still has the one that the caller has a part of.
    pub(crate) async fn snapshot(&self, part: Option<(Position, u64)>) -> Result<Streaming<Piece>, Error> {
        let (at, offset) = part.map_or((None, 0), |(at, offset)| (Some(at.into()), offset));
        let asked = SnapshotAsked { hello: Some(self.hello.clone()), at, offset };
        self.ask("/ieum.peer.v1.Peer/Snapshot", asked).await
    }

    async fn ask<A, T>(&self, path: &'static str, asked: A) -> Result<Streaming<T>, Error>
    where
        A: prost::Message + 'static,
        T: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MOST);
        let asking = async {
            grpc.ready().await.map_err(|error| Status::unavailable(shortly(&error)))?;
            let codec = ProstCodec::<A, T>::default();
            grpc.server_streaming(Request::new(asked), PathAndQuery::from_static(path), codec).await
        };
        Ok(asking.await.map_err(|status| self.error(&status))?.into_inner())
    }

    /// What a status means to whoever asked.
    pub(crate) fn error(&self, status: &Status) -> Error {
        let (address, reason) = (self.address.clone(), status.message().to_owned());
        match status.code() {
            Code::OutOfRange => Error::Trimmed { address, reason },
            Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied => {
                Error::Refused { address, reason }
            }
            Code::DataLoss | Code::Internal => Error::Garbage { address, reason },
            _ => Error::Unreachable { address, reason },
        }
    }
}

/// What is behind an error, in one line: the last reason tells most.
fn shortly(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
