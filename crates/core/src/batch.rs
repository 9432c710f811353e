//! What one append carries.

use bytes::Bytes;

use crate::codec::{Code, Malformed, Reader, choice, record};
use crate::commands::Command;
use crate::ids::{DeviceId, Millis, NodeId};

record! {
    /// Who wrote a batch, and when by its clock. The log's own id of the batch says the same of node, incarnation and number.
    pub struct Header {
        /// The node.
        pub node: NodeId,
        /// One life of its process; grows with every start.
        pub incarnation: u64,
        /// 1, 2, 3 … within the incarnation.
        pub number: u64,
        /// The node's wall clock, milliseconds since 1970.
        pub clock: Millis,
    }
}

choice! {
    /// On whose behalf a command is.
    pub enum Origin {
        /// The node's own.
        0 => Node,
        /// A device's numbered command.
        1 => Device { device: DeviceId, number: u64, id: [u8; 16], },
        /// A change over HTTP by a signed-in device, once per key.
        2 => Http { device: DeviceId, key: [u8; 16], request: [u8; 16], },
        /// A change over HTTP by somebody not signed in, once per key.
        3 => Anonymous { key: [u8; 16], request: [u8; 16], },
    }
}

/// A command and on whose behalf it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// On whose behalf.
    pub origin: Origin,
    /// What is asked for.
    pub command: Command,
}

impl Code for Envelope {
    fn put(&self, out: &mut Vec<u8>) {
        self.origin.put(out);
        self.command.put(out);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { origin: Code::take(from)?, command: Code::take(from)? })
    }
}

/// What one append carries: header, then commands in the order in which they are applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Who and when.
    pub header: Header,
    /// What is asked for.
    pub commands: Vec<Envelope>,
}

/// The format of the bytes that follow; another first byte is another format.
const FORMAT: u8 = 1;

/// The largest batch once decompressed, in bytes: a longer one is malformed.
pub const MAX_DECODED: usize = 1024 * 1024;

/// Most commands of a batch: with more it is malformed. A command takes some 200 bytes of memory and may take as few as three in the log,
/// so a small batch could decode to hundreds of megabytes. No device's command has fewer than 23 bytes, so no batch that fills the log's
/// 512 KiB with those comes near.
pub const MAX_COMMANDS: usize = 32 * 1024;

impl Batch {
    /// The batch as it goes into the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut commands = Vec::with_capacity(self.commands.len() * 96);
        for envelope in &self.commands {
            envelope.put(&mut commands);
        }
        seal(&self.header, self.commands.len(), &commands)
    }

    /// The batch that `bytes` hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != FORMAT {
            return Err(Malformed("batch of an unknown format"));
        }
        let length = usize::try_from(reader.varint()?).map_err(|_| Malformed("batch too long"))?;
        // An LZ4 block grows at most 255-fold: a longer length is a lie that would cost memory.
        if length > MAX_DECODED || length / 255 > reader.rest().len() {
            return Err(Malformed("batch too long"));
        }
        let plain =
            lz4_flex::block::decompress(reader.rest(), length).map_err(|_| Malformed("batch does not decompress"))?;
        if plain.len() != length {
            return Err(Malformed("batch of another length than it says"));
        }
        let mut reader = Reader::new(&plain);
        let header = Code::take(&mut reader)?;
        // Looked at before they are read, because each takes memory.
        if Reader::new(reader.rest()).length(1)? > MAX_COMMANDS {
            return Err(Malformed("more commands than a batch may have"));
        }
        let batch = Self { header, commands: Code::take(&mut reader)? };
        if reader.is_empty() { Ok(batch) } else { Err(Malformed("bytes left over")) }
    }
}

/// How long the batch in `bytes` is once decompressed, as far as it says: what it costs to apply goes by that, and not by `bytes`. 0 when it
/// is no batch.
#[must_use]
pub fn plain_length(bytes: &[u8]) -> u64 {
    let mut reader = Reader::new(bytes);
    match reader.byte() {
        Ok(FORMAT) => reader.varint().unwrap_or(0),
        _ => 0,
    }
}

/// The bytes of a batch of `count` commands whose encodings, one after the other, are `commands`: format byte, varint of the plain
/// length, LZ4 block.
#[must_use]
pub fn seal(header: &Header, count: usize, commands: &[u8]) -> Bytes {
    let mut plain = Vec::with_capacity(commands.len() + 64);
    header.put(&mut plain);
    crate::codec::put_varint(&mut plain, count as u64);
    plain.extend_from_slice(commands);
    let mut out = vec![FORMAT];
    crate::codec::put_varint(&mut out, plain.len() as u64);
    out.extend_from_slice(&lz4_flex::block::compress(&plain));
    out.into()
}

#[cfg(test)]
mod tests;
