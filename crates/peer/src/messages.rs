//! The messages as they go over the wire (protobuf), and how they become what the nodes use.

use ieum_core::ids::Position;
use ieum_log::{BatchId, Entry};
use ieum_node::halt::Stand;
use ieum_node::log_position;
use ieum_node::peers::{Decision, Phase, Report};
use tonic::Status;

use crate::Stood;

/// Who asks: every request begins with it.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Hello {
    /// The cell that the caller belongs to.
    #[prost(uint32, tag = "1")]
    pub(crate) cell: u32,
    /// The caller's number.
    #[prost(uint32, tag = "2")]
    pub(crate) node: u32,
    /// The life of its process.
    #[prost(fixed64, tag = "3")]
    pub(crate) life: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Place {
    #[prost(uint32, tag = "1")]
    pub(crate) generation: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) ordinal: u64,
}

impl From<Position> for Place {
    fn from(Position { generation, ordinal }: Position) -> Self {
        Self { generation, ordinal }
    }
}

impl From<Place> for Position {
    fn from(Place { generation, ordinal }: Place) -> Self {
        Self { generation, ordinal }
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WatchAsked {
    #[prost(message, optional, tag = "1")]
    pub(crate) hello: Option<Hello>,
    /// Where the caller can be asked.
    #[prost(string, optional, tag = "2")]
    pub(crate) address: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Said {
    #[prost(uint32, tag = "1")]
    pub(crate) node: u32,
    #[prost(string, tag = "2")]
    pub(crate) dc: String,
    #[prost(uint32, tag = "3")]
    pub(crate) phase: u32,
    #[prost(message, optional, tag = "4")]
    pub(crate) applied: Option<Place>,
    #[prost(message, optional, tag = "5")]
    pub(crate) synced: Option<Place>,
    #[prost(uint64, tag = "6")]
    pub(crate) build: u64,
    #[prost(string, optional, tag = "7")]
    pub(crate) endpoint: Option<String>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) digests: Vec<Digest>,
    #[prost(fixed64, tag = "9")]
    pub(crate) life: u64,
    #[prost(string, repeated, tag = "10")]
    pub(crate) addresses: Vec<String>,
    #[prost(message, optional, tag = "11")]
    pub(crate) copied: Option<Place>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) decided: Vec<Decided>,
    #[prost(message, optional, tag = "13")]
    pub(crate) began: Option<Place>,
}

/// That a node has to go, and where that showed.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Decided {
    #[prost(uint32, tag = "1")]
    pub(crate) node: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<Place>,
    #[prost(fixed64, optional, tag = "3")]
    pub(crate) life: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Digest {
    #[prost(message, optional, tag = "1")]
    pub(crate) at: Option<Place>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digest: Vec<u8>,
}

impl From<&Report> for Said {
    fn from(report: &Report) -> Self {
        Self {
            node: report.node,
            dc: report.dc.clone(),
            phase: match report.phase {
                Phase::Joining => 1,
                Phase::Ready => 2,
                Phase::Draining => 3,
                Phase::Out => 4,
                Phase::Behind => 5,
            },
            applied: Some(report.applied.into()),
            synced: Some(report.synced.into()),
            build: report.build,
            life: report.life,
            endpoint: report.endpoint.clone(),
            addresses: report.addresses.clone(),
            digests: report
                .digests
                .iter()
                .map(|(at, digest)| Digest { at: Some((*at).into()), digest: digest.to_vec() })
                .collect(),
            began: report.began.map(Place::from),
            copied: report.copied.map(Place::from),
            decided: report
                .decided
                .iter()
                .map(|Decision { node, at, life }| Decided { node: *node, at: Some((*at).into()), life: *life })
                .collect(),
        }
    }
}

/// A message that lacks what it must have.
pub(crate) fn garbled(what: &'static str) -> Status {
    Status::data_loss(format!("the other node sent a message without a sound {what}"))
}

impl TryFrom<Said> for Report {
    type Error = Status;

    fn try_from(said: Said) -> Result<Self, Status> {
        let digest = |Digest { at, digest }| {
            let digest: [u8; 32] = Vec::try_into(digest).map_err(|_| garbled("digest"))?;
            Ok((at.ok_or_else(|| garbled("position"))?.into(), digest))
        };
        let decision =
            |Decided { node, at, life }| Ok(Decision { node, at: at.ok_or_else(|| garbled("position"))?.into(), life });
        Ok(Self {
            node: said.node,
            dc: said.dc,
            phase: match said.phase {
                1 => Phase::Joining,
                2 => Phase::Ready,
                3 => Phase::Draining,
                4 => Phase::Out,
                5 => Phase::Behind,
                _ => return Err(garbled("phase")),
            },
            applied: said.applied.ok_or_else(|| garbled("position"))?.into(),
            synced: said.synced.ok_or_else(|| garbled("position"))?.into(),
            build: said.build,
            life: said.life,
            endpoint: said.endpoint,
            addresses: said.addresses,
            digests: said.digests.into_iter().map(digest).collect::<Result<_, Status>>()?,
            began: said.began.map(Position::from),
            copied: said.copied.map(Position::from),
            decided: said.decided.into_iter().map(decision).collect::<Result<_, Status>>()?,
        })
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct BatchesAsked {
    #[prost(message, optional, tag = "1")]
    pub(crate) hello: Option<Hello>,
    /// Those behind it.
    #[prost(message, optional, tag = "2")]
    pub(crate) after: Option<Place>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Batch {
    #[prost(message, optional, tag = "1")]
    pub(crate) at: Option<Place>,
    #[prost(uint32, tag = "2")]
    pub(crate) node: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) incarnation: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) number: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) bytes: bytes::Bytes,
}

impl From<Entry> for Batch {
    fn from(Entry { position, id: BatchId { node, incarnation, number }, bytes }: Entry) -> Self {
        Self { at: Some(ieum_node::core_position(position).into()), node, incarnation, number, bytes }
    }
}

impl TryFrom<Batch> for Entry {
    type Error = Status;

    fn try_from(Batch { at, node, incarnation, number, bytes }: Batch) -> Result<Self, Status> {
        let position = log_position(at.ok_or_else(|| garbled("position"))?.into());
        Ok(Self { position, id: BatchId { node, incarnation, number }, bytes })
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct StandAsked {
    #[prost(message, optional, tag = "1")]
    pub(crate) hello: Option<Hello>,
    /// Whether it is to take nothing from others for a while.
    #[prost(bool, tag = "2")]
    pub(crate) still: bool,
}

/// Where a halted node stands.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Stands {
    #[prost(uint32, tag = "1")]
    pub(crate) node: u32,
    #[prost(string, tag = "2")]
    pub(crate) dc: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) applied: Option<Place>,
    /// Empty without a view.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) digest: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) members: Vec<Member>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) others: Vec<Other>,
}

/// A node of another history, and where that shows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Other {
    #[prost(uint32, tag = "1")]
    pub(crate) node: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<Place>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Member {
    #[prost(uint32, tag = "1")]
    pub(crate) node: u32,
    #[prost(string, tag = "2")]
    pub(crate) dc: String,
}

impl From<Stood> for Stands {
    fn from(Stood { node, dc, stand: Stand { applied, digest, members, others } }: Stood) -> Self {
        let others = others.into_iter().map(|(node, at)| Other { node, at: Some(at.into()) }).collect();
        let members = members.into_iter().map(|(node, dc)| Member { node, dc }).collect();
        let digest = digest.map(|digest| digest.to_vec()).unwrap_or_default();
        Self { node, dc, applied: Some(applied.into()), digest, members, others }
    }
}

impl TryFrom<Stands> for Stood {
    type Error = Status;

    fn try_from(Stands { node, dc, applied, digest, members, others }: Stands) -> Result<Self, Status> {
        let applied = applied.ok_or_else(|| garbled("position"))?.into();
        let digest = match digest.as_slice() {
            [] => None,
            digest => Some(digest.try_into().map_err(|_| garbled("digest"))?),
        };
        let members = members.into_iter().map(|Member { node, dc }| (node, dc)).collect();
        let other = |Other { node, at }: Other| Ok((node, at.ok_or_else(|| garbled("position"))?.into()));
        let others = others.into_iter().map(other).collect::<Result<_, Status>>()?;
        Ok(Self { node, dc, stand: Stand { applied, digest, members, others } })
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct SnapshotAsked {
    #[prost(message, optional, tag = "1")]
    pub(crate) hello: Option<Hello>,
    /// A snapshot that the caller has a part of.
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<Place>,
    /// How much of it, in bytes.
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
}

/// A piece of a snapshot's file; one of nothing says that the snapshot is being made and comes on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Piece {
    /// Which snapshot: another one than was asked for when that is gone, and then from its beginning.
    #[prost(message, optional, tag = "1")]
    pub(crate) at: Option<Place>,
    /// How long the whole file is.
    #[prost(uint64, tag = "2")]
    pub(crate) total: u64,
    /// Where in it the piece begins.
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
    /// The piece.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) bytes: bytes::Bytes,
    /// Its BLAKE3.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) digest: Vec<u8>,
}
