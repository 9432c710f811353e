//! Measures appends to the `sqlite` log: one in flight, a tail that keeps up, batches of several sizes.
//!
//! `cargo run --release -p ieum-log --example append -- FOLDER [SECONDS [CHECKPOINT_MIB [trim]]]`
//!
//! FOLDER is made, and must be on the disk that is to be measured. With `trim`, what is over 2000 batches old is
//! trimmed meanwhile, 500 batches at a time. The figures are in `docs/decisions/sqlite-log.md`.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ieum_log::sqlite::{Options, Sqlite};
use ieum_log::{BatchId, Log, Position, Tail};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Plan {
    time: Duration,
    checkpoint_bytes: u32,
    trim: bool,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: append FOLDER [SECONDS [CHECKPOINT_MIB [trim]]]")?;
    let seconds = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let checkpoint: u32 = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let plan = Plan {
        time: Duration::from_secs(seconds),
        checkpoint_bytes: checkpoint * 1024 * 1024,
        trim: arguments.next().is_some(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("| batch | appends/s | MB/s | p50 | p99 | p99.9 | worst |\n|---|---|---|---|---|---|---|");
    for kibibytes in [1, 4, 16, 64, 256] {
        let folder = Path::new(&folder).join(format!("{kibibytes}"));
        runtime.block_on(measure(&folder, kibibytes, &plan))?;
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

async fn measure(folder: &Path, kibibytes: usize, plan: &Plan) -> Result<()> {
    let options = Options { create: true, checkpoint_bytes: plan.checkpoint_bytes, ..Options::new(1) };
    let log = Arc::new(Sqlite::open(folder, &options)?);
    let start = log.last().await?;
    let mut tail = log.tail(start).await?;
    let reader = tokio::spawn(async move { while tail.next().await.is_ok() {} });
    let batch = noise(kibibytes * 1024);
    let mut took = Vec::new();
    let mut trimming = Vec::new();
    let begin = Instant::now();
    for number in 1.. {
        let sent = Instant::now();
        let position = log.append(BatchId { node: 1, incarnation: 1, number }, batch.clone()).await?;
        took.push(sent.elapsed());
        if plan.trim && number > 2000 && number % 500 == 0 {
            let log = Arc::clone(&log);
            let up_to = Position { ordinal: position.ordinal - 2000, ..position };
            trimming.push(tokio::spawn(async move { log.trim(up_to).await }));
        }
        if begin.elapsed() > plan.time {
            break;
        }
    }
    report(kibibytes, &mut took, begin.elapsed());
    for trim in trimming {
        trim.await??;
    }
    drop(log);
    reader.await?;
    Ok(())
}

fn report(kibibytes: usize, took: &mut [Duration], elapsed: Duration) {
    took.sort_unstable();
    let rate = took.len() as f64 / elapsed.as_secs_f64();
    let percentile = |per_mille: usize| {
        let index = (took.len() * per_mille / 1000).min(took.len().saturating_sub(1));
        took.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    println!(
        "| {kibibytes} KiB | {rate:.0} | {:.1} | {:.2} ms | {:.2} ms | {:.2} ms | {:.1} ms |",
        rate * kibibytes as f64 * 1024.0 / 1e6,
        percentile(500),
        percentile(990),
        percentile(999),
        percentile(1000),
    );
}

/// Bytes that do not compress, as a disk may.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}
