//! Pairs of people, one of whom writes to the other, in a process of their own: through the shipped client, as `make bench` has them.
//!
//! It says `ready` when all are connected, and takes lines on its standard input, each of which is one measurement:
//!
//! - `steady RATE SECONDS`: so many messages a second, each when it is due, whether others are answered or not
//! - `full WINDOW SECONDS`: so many messages of each pair under way, always
//!
//! It says `begin` and `end` around the measured time, and then, once each message was acknowledged once and delivered, `settled` with
//! the figures as JSON. It ends with its input.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ieum_client::store::{Identity, Memory};
use ieum_client::{Client, CommandId, Endpoint, Http, HttpError, NewAccount, Trust};
use ieum_protocol::Pos;
use ieum_protocol::frames::Change;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::book::{Book, Figures};
use crate::error::{Error, Naming as _};

/// How long anything may take that must happen in the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(5);
/// What comes before the measured time, as a part of that.
const WARM: u32 = 4;
/// How many pairs register at the same time.
const REGISTRARS: usize = 16;
/// What people say; a message's number follows.
const TEXTS: [&str; 4] = [
    "안녕하세요, 오늘 저녁에 시간 되세요?",
    "네, 7시에 거기서 봬요.",
    "조금 늦을 것 같아요. 미안해요!",
    "ㅋㅋㅋㅋ 알겠어요 천천히 오세요",
];

/// Who there is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The nodes, one in each data center; people are spread over them, and the two of a pair are in different ones.
    pub nodes: Vec<Endpoint>,
    /// How many pairs.
    pub pairs: usize,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Steady { rate: u32, length: Duration },
    Full { window: u32, length: Duration },
}

impl Load {
    fn read(line: &str) -> Result<Self, Error> {
        let unknown = || Error::other("reading what to measure", format!("{line:?} is nothing that is known"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, number, seconds] = words.as_slice() else { return Err(unknown()) };
        let (number, seconds): (u32, f64) =
            (number.parse().map_err(|_| unknown())?, seconds.parse().map_err(|_| unknown())?);
        let length = Duration::try_from_secs_f64(seconds).map_err(|_| unknown())?;
        match *name {
            "steady" if number > 0 => Ok(Self::Steady { rate: number, length }),
            "full" if number > 0 => Ok(Self::Full { window: number, length }),
            _ => Err(unknown()),
        }
    }
}

/// One who writes.
#[derive(Clone)]
struct Writer {
    client: Client,
    room: u64,
}

/// Everybody, connected.
struct People {
    book: Arc<Book>,
    writers: Vec<Writer>,
    /// Which pair's message was acknowledged.
    free: mpsc::UnboundedReceiver<usize>,
    /// Those who only listen; their connections live as long as they.
    _listeners: Vec<Client>,
}

/// Measures what the lines of `input` say, until it ends.
pub fn run(options: &Options, input: impl BufRead, output: &mut impl Write) -> Result<(), Error> {
    // One thread, so that they take at most one processor and no locks between them; the one that keeps the pace sleeps nearly always.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.naming(|| "starting a runtime for the people".to_owned())?;
    let mut say = |line: &str| {
        writeln!(output, "{line}").and_then(|()| output.flush()).naming(|| "saying how far it is".to_owned())
    };
    let mut people = runtime.block_on(People::gather(options))?;
    say("ready")?;
    for line in input.lines() {
        let load = Load::read(&line.naming(|| "reading what to measure".to_owned())?)?;
        let figures = runtime.block_on(people.measure(load, &mut say))?;
        let figures = serde_json::to_string(&figures).naming(|| "writing figures".to_owned())?;
        say(&format!("{SETTLED}{figures}"))?;
    }
    Ok(())
}

/// What stands before the figures.
pub(super) const SETTLED: &str = "settled ";

impl People {
    async fn gather(options: &Options) -> Result<Self, Error> {
        let book = Arc::new(Book::default());
        let (freed, free) = mpsc::unbounded_channel();
        let (mut writers, mut listeners) = (Vec::new(), Vec::new());
        let mut pairs = (0..options.pairs).map(|pair| register(options.nodes.clone(), pair));
        let mut registering: JoinSet<_> = pairs.by_ref().take(REGISTRARS).collect();
        while let Some(registered) = registering.join_next().await {
            let registered = registered.naming(|| "registering".to_owned())?;
            let pair = registered.map_err(|error| Error::other("registering", error.to_string()))?;
            pairs.next().map(|next| registering.spawn(next));
            let (at, freed) = (writers.len(), freed.clone());
            let tell = move || {
                // Nobody takes it any more once the last load is over.
                let _ = freed.send(at);
            };
            let [one, other] = pair.identities.map(|(at, identity)| open(options, at, identity, &pair.seen));
            let observer = book.writer(tell);
            let client = Client::observe(one?, Memory::new(), observer).map_err(opening)?;
            writers.push(Writer { client, room: pair.room });
            let observer = book.listener();
            listeners.push(Client::observe(other?, Memory::new(), observer).map_err(opening)?);
        }
        for client in writers.iter().map(|writer| &writer.client).chain(&listeners) {
            let live = tokio::time::timeout(PATIENCE, client.live()).await;
            let live = live.naming(|| "waiting until somebody is connected".to_owned())?;
            live.map_err(|stop| Error::other("connecting", stop.to_string()))?;
        }
        Ok(Self { book, writers, free, _listeners: listeners })
    }

    async fn measure(&mut self, load: Load, say: &mut impl FnMut(&str) -> Result<(), Error>) -> Result<Figures, Error> {
        self.book.begin_anew();
        while self.free.try_recv().is_ok() {}
        match load {
            Load::Steady { rate, length } => self.steady(rate, length, say).await?,
            Load::Full { window, length } => self.full(window, length, say).await?,
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.book.is_settled() && Instant::now() < deadline {
            tokio::time::sleep(GLANCE).await;
        }
        self.book.figures()
    }

    async fn steady(
        &self,
        rate: u32,
        length: Duration,
        say: &mut impl FnMut(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let warm = length / WARM;
        let count = (f64::from(rate) * (warm + length).as_secs_f64()).round() as u32;
        let pace = {
            let (writers, book) = (self.writers.clone(), Arc::clone(&self.book));
            tokio::task::spawn_blocking(move || keep_pace(&writers, &book, rate, count))
        };
        tokio::time::sleep(warm).await;
        self.book.mark_begin();
        say("begin")?;
        tokio::time::sleep(length).await;
        self.book.mark_end();
        say("end")?;
        pace.await.naming(|| "keeping the pace".to_owned())?
    }

    async fn full(
        &mut self,
        window: u32,
        length: Duration,
        say: &mut impl FnMut(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for _ in 0..window {
            self.writers.iter().try_for_each(|writer| post(writer, &self.book, Instant::now()))?;
        }
        self.keep_going(length / WARM).await?;
        self.book.mark_begin();
        say("begin")?;
        self.keep_going(length).await?;
        self.book.mark_end();
        say("end")
    }

    /// One new message for each that is acknowledged, for so long.
    async fn keep_going(&mut self, length: Duration) -> Result<(), Error> {
        let end = tokio::time::sleep(length);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                pair = self.free.recv() => {
                    let Some(writer) = pair.and_then(|pair| self.writers.get(pair)) else { return Ok(()) };
                    post(writer, &self.book, Instant::now())?;
                }
            }
        }
    }
}

/// One message after another, by one person after another. A message is sent when it is due, or as soon as possible after that, but what it took
/// counts from when it was due.
fn keep_pace(writers: &[Writer], book: &Book, rate: u32, count: u32) -> Result<(), Error> {
    let begun = Instant::now();
    for (number, writer) in (0..count).zip(writers.iter().cycle()) {
        let due = begun + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        post(writer, book, due)?;
    }
    Ok(())
}

fn post(writer: &Writer, book: &Book, due: Instant) -> Result<(), Error> {
    let number = book.sent(due);
    let text = TEXTS.get(number % TEXTS.len()).copied().unwrap_or_default();
    let change = Change::Send { room: writer.room, text: format!("{text} {number}"), reply_to: None };
    let posted = writer.client.try_post(CommandId(Book::id(number)), change);
    posted.map_err(|failure| Error::other("giving a client a message", failure.to_string()))
}

/// Two who have a room.
struct Pair {
    /// With the place of each one's node.
    identities: [(usize, Identity); 2],
    room: u64,
    /// A position at which all of this is so.
    seen: Option<Pos>,
}

/// The endpoints as somebody takes them whose own node has this place: that first.
fn nearest(nodes: &[Endpoint], at: usize) -> Vec<Endpoint> {
    let mut nodes = nodes.to_vec();
    let by = at.checked_rem(nodes.len()).unwrap_or(0);
    nodes.rotate_left(by);
    nodes
}

async fn register(nodes: Vec<Endpoint>, pair: usize) -> Result<Pair, HttpError> {
    let handle = |person: usize| format!("person{person}");
    let person = |person: usize| {
        let http = Http::new(nearest(&nodes, pair), Trust::web());
        let account = NewAccount {
            handle: handle(person),
            name: format!("사람 {person}"),
            password: format!("password of {person}"),
            device: "apart".to_owned(),
            invitation: None,
        };
        async move { http.register(account).await.map(|identity| (http, identity)) }
    };
    let (_, other) = person(2 * pair + 1).await?;
    let (http, one) = person(2 * pair).await?;
    let room = http.change(&Change::OpenDirect { handle: handle(2 * pair + 1) }).await?.room.unwrap_or(0);
    Ok(Pair { identities: [(2 * pair, one), (2 * pair + 1, other)], room, seen: http.seen().await })
}

fn open(options: &Options, at: usize, identity: Identity, seen: &Option<Pos>) -> Result<ieum_client::Options, Error> {
    let mut with = ieum_client::Options::new(nearest(&options.nodes, at)).identity(identity);
    with.home = with.endpoints.first().cloned();
    with.seen = seen.clone();
    with.limits.kept = 0;
    Ok(with)
}

fn opening(error: ieum_client::OpenError) -> Error {
    Error::other("opening a client", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_read_or_refused() {
        let length = Duration::from_millis(1_500);
        assert_eq!(Load::read("steady 200 1.5").expect("a load"), Load::Steady { rate: 200, length });
        assert_eq!(Load::read("full 16 1.5").expect("a load"), Load::Full { window: 16, length });
        for wrong in ["", "full 16", "full 0 1", "steady -1 1", "steady 1 -1", "steady 1 nan", "slow 1 1", "full 1 1 1"]
        {
            Load::read(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn the_two_of_a_pair_are_in_different_data_centers() {
        let nodes: Vec<Endpoint> =
            ["ws://a:1", "ws://b:1", "ws://c:1"].map(|node| node.parse().expect("an endpoint")).into();
        let first = |person| nearest(&nodes, person).first().cloned();
        let mut homes = std::collections::HashMap::<_, usize>::new();
        for pair in 0..30 {
            assert_ne!(first(2 * pair), first(2 * pair + 1));
            *homes.entry(first(2 * pair).map(|node| node.to_string())).or_default() += 1;
        }
        assert_eq!(homes.into_values().collect::<Vec<_>>(), [10, 10, 10]);
        assert_eq!(nearest(&nodes[..1], 5), nodes[..1]);
    }
}
