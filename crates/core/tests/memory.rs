//! Lengths in bytes from outside are somebody's word: decoding takes memory for what is there, not for what is said to come.
//!
//! Alone in its file, because it looks at the memory of the whole process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use ieum_core::batch::{Batch, Envelope};
use ieum_core::codec::{Code, put_varint};
use ieum_core::commands::Command;
use ieum_core::commands::archive::AddToArchive;
use ieum_core::ids::UserId;
use ieum_core::tables::cell::Clock;
use ieum_core::tables::messages::Message;
use ieum_core::testing::read_log;

/// What all of it together may take.
const ENOUGH: u64 = 8 << 20;

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim_ascii().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn lengths_that_lie_cost_no_memory() {
    let before = peak();
    for length in [1u64 << 20, 100 << 20, 1 << 32, 1 << 40, u64::MAX] {
        for (lead, filler) in (0..6u8).flat_map(|lead| [0, 1, 0x7f, 0xff].map(|filler| (lead, filler))) {
            let mut lie = vec![lead; lead.into()];
            put_varint(&mut lie, length);
            lie.extend_from_slice(&[filler; 64]);
            let _either = (Vec::<UserId>::from_bytes(&lie), String::from_bytes(&lie), bytes::Bytes::from_bytes(&lie));
            let _either = (Clock::from_bytes(&lie), Message::from_bytes(&lie), AddToArchive::from_bytes(&lie));
            let _either = (Command::from_bytes(&lie), Envelope::from_bytes(&lie), read_log(&lie));
            lie.insert(0, 1);
            assert!(Batch::decode(&lie).is_err());
        }
    }
    let taken = peak() - before;
    assert!(taken < ENOUGH, "{taken} bytes");
}
