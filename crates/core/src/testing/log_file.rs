//! A log as a file, for golden logs: batch after batch, each with its author.

use bytes::Bytes;

use crate::Author;
use crate::codec::{Code, Malformed, Reader};
use crate::testing::Logged;

/// The file's bytes.
#[must_use]
pub fn write_log(log: &[Logged]) -> Vec<u8> {
    let mut out = Vec::new();
    for Logged { author, bytes } in log {
        author.node.put(&mut out);
        author.incarnation.put(&mut out);
        author.number.put(&mut out);
        bytes.put(&mut out);
    }
    out
}

/// The log that the file's bytes hold.
pub fn read_log(file: &[u8]) -> Result<Vec<Logged>, Malformed> {
    let mut from = Reader::new(file);
    let mut log = Vec::new();
    while !from.is_empty() {
        let author = Author {
            node: Code::take(&mut from)?,
            incarnation: Code::take(&mut from)?,
            number: Code::take(&mut from)?,
        };
        log.push(Logged { author, bytes: Bytes::take(&mut from)? });
    }
    Ok(log)
}
