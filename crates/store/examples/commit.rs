//! Measures what committing to the view costs: messages in random rooms, five rows a message.
//!
//! ```text
//! cargo run --release -p ieum-store --example commit -- rooms=1000000 messages=2000000 batch=512 rate=25000
//! ```
//!
//! The run happens in a child process that aborts at its end, so that the parent can time opening what a killed node leaves.
//! Settings are `name=value`: `rooms messages batch rate reads hold layout cache memtable journal workers l0 table block filter
//! dir` (sizes in MiB, `block` in KiB). Without `rate` (messages a second) it runs flat out; then part of the merging is never
//! done, and the CPU time is too small. `reads=1` also reads the three rows that a message rewrites; `hold=1` keeps a
//! snapshot from the first quarter on, `hold=2` a reader of all its rows; `layout=rooms` puts a room's rows side by side; `engine=none` only builds the write sets.
//! Figures: `docs/decisions/view-store.md`.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ieum_core::kv::{Kv, Read, WriteSet};
use ieum_store::Fjall;
use ieum_store::fjall::{Options, destroy};

/// As in the node. glibc's stops a commit for up to 2 s when it tidies up after a memtable of millions of small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Commands between two persists, as the node does it.
const PERSIST_EVERY: u64 = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let settings = Settings::parse(&arguments);
    let done = if settings.child { child(&settings) } else { parent(&settings, &arguments) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Settings {
    numbers: HashMap<String, u64>,
    dir: PathBuf,
    child: bool,
    engine: bool,
    layout: Layout,
}

impl Settings {
    fn parse(arguments: &[String]) -> Self {
        let pairs: HashMap<&str, &str> = arguments.iter().filter_map(|argument| argument.split_once('=')).collect();
        Self {
            numbers: pairs.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.parse().ok()?))).collect(),
            dir: PathBuf::from(pairs.get("dir").copied().unwrap_or("/tmp/ieum-store-commit")),
            child: arguments.iter().any(|argument| argument == "child"),
            engine: pairs.get("engine") != Some(&"none"),
            layout: if pairs.get("layout") == Some(&"rooms") { Layout::Rooms } else { Layout::Tables },
        }
    }

    fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.numbers.get(name).copied().unwrap_or(otherwise)
    }

    fn options(&self) -> Outcome<Options> {
        let default = Options::default();
        let mib = |name, bytes: u64| self.number(name, bytes >> 20) << 20;
        Ok(Options {
            cache_bytes: mib("cache", default.cache_bytes),
            memtable_bytes: mib("memtable", default.memtable_bytes),
            workers: usize::try_from(self.number("workers", u64::try_from(default.workers)?))?,
            journal_bytes: mib("journal", default.journal_bytes),
            level_0_tables: u8::try_from(self.number("l0", default.level_0_tables.into()))?,
            table_bytes: mib("table", default.table_bytes),
            block_bytes: u32::try_from(self.number("block", u64::from(default.block_bytes) >> 10) << 10)?,
            filter_bits: self.numbers.get("filter").map_or(default.filter_bits, |bits| f32::from(*bits as u8)),
        })
    }
}

fn parent(settings: &Settings, arguments: &[String]) -> Outcome<()> {
    destroy(&settings.dir)?;
    Command::new(std::env::current_exe()?).args(arguments).arg("child").status()?;
    if !settings.engine {
        return Ok(());
    }
    let start = Instant::now();
    let view = Fjall::open(&settings.dir, &settings.options()?)?;
    let open = start.elapsed();
    let found = view.snapshot().get(&key(settings.layout, Table::Position, 0, 0))?.ok_or("no position found")?;
    println!("  open after abort {open:.1?}, position {}", u64::from_be_bytes(found.as_ref().try_into()?));
    drop(view);
    destroy(&settings.dir)?;
    Ok(())
}

fn child(settings: &Settings) -> Outcome<()> {
    let (rooms, messages) = (settings.number("rooms", 1_000), settings.number("messages", 2_000_000));
    let (batch, reads) = (settings.number("batch", 512), settings.number("reads", 0) > 0);
    let options = settings.options()?;
    let view = if settings.engine { Some(Fjall::open(&settings.dir, &options)?) } else { None };
    let mut traffic = Traffic::new(rooms, settings.layout);
    let mut commits = Vec::new();
    let mut persists = Vec::new();
    let (start, cpu_start) = (Instant::now(), cpu(Path::new("/proc/self/stat"))?);
    let hold = settings.number("hold", 0);
    let (mut held, mut held_rows) = (None, None);
    let mut done = 0;
    std::thread::scope(|scope| -> Outcome<()> {
        let mut persist = None;
        while done < messages {
            let writes = traffic.batch(batch, view.as_ref().filter(|_| reads).map(Kv::snapshot).as_ref())?;
            done += batch;
            let Some(view) = &view else { continue };
            if done >= messages / 4 && done < messages / 4 + batch {
                held = (hold == 1).then(|| view.snapshot());
                held_rows = (hold == 2).then(|| view.rows(view.snapshot()));
            }
            let begun = Instant::now();
            view.commit(&writes)?;
            commits.push(begun.elapsed());
            if let Some(due) =
                settings.numbers.get("rate").map(|rate| Duration::from_secs_f64(done as f64 / *rate as f64))
            {
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
            if done % PERSIST_EVERY < batch {
                persists.extend(persist.replace(scope.spawn(|| persist_timed(view))).map(join));
            }
        }
        Ok(())
    })?;
    let persists = &mut persists.into_iter().collect::<Outcome<Vec<_>>>()?;
    let (wall, cpu_all) = (start.elapsed(), cpu(Path::new("/proc/self/stat"))? - cpu_start);
    let cpu_main = cpu(&PathBuf::from(format!("/proc/self/task/{}/stat", std::process::id())))?;
    let per = |cpu: Duration| cpu.as_secs_f64() * 1e6 / done as f64;
    println!("rooms={rooms} batch={batch} reads={} hold={hold} {options:?}", u8::from(reads));
    println!(
        "  {:.0} messages/s, CPU {:.2} us/message (caller {:.2}, workers {:.2})",
        done as f64 / wall.as_secs_f64(),
        per(cpu_all),
        per(cpu_main),
        per(cpu_all.saturating_sub(cpu_main))
    );
    println!("  commit {}; persist {}", spread(&mut commits), spread(persists));
    drop(held);
    println!("  {}; disk {} MiB", memory()?, view.as_ref().map_or(Ok(0), Fjall::disk_bytes)? >> 20);
    if let Some(rows) = held_rows {
        println!("  {} rows read at the end; {}", rows.count(), memory()?);
    }
    if view.is_some() {
        std::process::abort();
    }
    Ok(())
}

fn persist_timed(view: &Fjall) -> ieum_core::kv::Result<Duration> {
    let begun = Instant::now();
    view.persist().map(|()| begun.elapsed())
}

fn join(thread: ScopedJoinHandle<'_, ieum_core::kv::Result<Duration>>) -> Outcome<Duration> {
    Ok(thread.join().map_err(|_| "a persist panicked")??)
}

#[derive(Clone, Copy)]
enum Table {
    Position,
    Room,
    Device,
    Member,
    Message,
    Change,
}

/// Where a row stands among the others: 20 bytes, as the real tables have.
#[derive(Clone, Copy)]
enum Layout {
    /// Table, then room or device, then number.
    Tables,
    /// All rows of a room side by side: room or device, then table, then number.
    Rooms,
}

fn key(layout: Layout, table: Table, first: u64, second: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(20);
    let (table, first, second) = (table as u8, first.to_be_bytes(), second.to_be_bytes());
    match layout {
        Layout::Tables => key.extend([table, 0, 0, 0].into_iter().chain(first).chain(second)),
        Layout::Rooms => key.extend([0, 0, 0].into_iter().chain(first).chain([table]).chain(second)),
    }
    key
}

/// Messages of random users in random rooms.
struct Traffic {
    random: u64,
    position: u64,
    seqs: Vec<u64>,
    layout: Layout,
}

impl Traffic {
    fn new(rooms: u64, layout: Layout) -> Self {
        Self { random: 0x9E37_79B9_7F4A_7C15, position: 0, seqs: vec![0; usize::try_from(rooms).unwrap_or(1)], layout }
    }

    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One write set: per message a new message and a new change row; the room, the device and the member written over.
    fn batch(&mut self, messages: u64, reads: Option<&impl Read>) -> Outcome<WriteSet> {
        let mut writes = WriteSet::default();
        let rooms = self.seqs.len() as u64;
        for _ in 0..messages {
            let random = self.next();
            let room = (random >> 8) % rooms;
            let (device, member) = ((random >> 20) % rooms, random % 10);
            let Some(seq) = self.seqs.get_mut(usize::try_from(room)?) else { continue };
            *seq += 1;
            let seq = *seq;
            self.position += 1;
            let over = [(Table::Room, room, 0, 48), (Table::Device, device, 0, 120), (Table::Member, room, member, 24)];
            let new = [(Table::Message, room, seq, 180), (Table::Change, room, self.position, 20)];
            if let Some(view) = reads {
                for (table, first, second, _) in over {
                    std::hint::black_box(view.get(&key(self.layout, table, first, second))?);
                }
            }
            for (table, first, second, length) in over.into_iter().chain(new) {
                writes
                    .rows
                    .insert(key(self.layout, table, first, second), Some(Bytes::from(vec![random as u8; length])));
            }
        }
        let position = Bytes::copy_from_slice(&self.position.to_be_bytes());
        writes.rows.insert(key(self.layout, Table::Position, 0, 0), Some(position));
        Ok(writes)
    }
}

/// User and system time of a process or thread; the kernel counts in 10 ms.
fn cpu(stat: &Path) -> Outcome<Duration> {
    let text = std::fs::read_to_string(stat)?;
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn memory() -> Outcome<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() >> 10
    };
    Ok(format!("resident {} MiB, at most {} MiB", mib("VmRSS"), mib("VmHWM")))
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    let text = |share| at(share).map_or_else(String::new, |time| format!("{time:.1?}"));
    format!("p50 {} p99 {} max {}", text(0.5), text(0.99), text(1.0))
}
