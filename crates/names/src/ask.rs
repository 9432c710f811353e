//! What is known of names, and the threads that look them up.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ieum_planted::Bug;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Error, Names, Shared, THREADS};

/// How many names are remembered. A node asks those of its configuration and at most 64 of which others tell it.
pub(crate) const MOST: usize = 256;

type Found = Result<Arc<[SocketAddr]>, Error>;
/// Nothing until the look-up ends.
type Answer = Option<Found>;

/// What is known of all names.
#[derive(Default)]
pub(crate) struct State {
    names: HashMap<Arc<str>, Name>,
    /// Look-ups that no thread has begun yet, the oldest first.
    waiting: VecDeque<Job>,
    /// How many threads there are.
    threads: usize,
}

/// One name.
struct Name {
    /// What the last look-up found that found something, and when.
    last: Option<(Arc<[SocketAddr]>, Instant)>,
    /// Its last addresses are used because it cannot be looked up, and that was said.
    told: bool,
    /// The look-up under way, and since when.
    under_way: Option<(watch::Receiver<Answer>, Instant)>,
    /// When somebody asked for it last.
    asked: Instant,
}

/// A look-up that is to be made.
struct Job {
    name: Arc<str>,
    answer: watch::Sender<Answer>,
}

/// A look-up that somebody waits for.
pub(crate) struct Asked {
    answer: watch::Receiver<Answer>,
    /// When it was first asked for.
    pub(crate) since: Instant,
    /// Whether the name has had addresses before.
    pub(crate) known: bool,
    name: Arc<str>,
}

impl Asked {
    /// What it finds.
    pub(crate) async fn found(&mut self) -> Found {
        let found = self.answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        found.unwrap_or_else(|| Err(failed(&self.name, io::Error::other("the look-up ended without an answer"))))
    }
}

fn failed(name: &Arc<str>, source: io::Error) -> Error {
    Error { name: Arc::clone(name), source: Arc::new(source) }
}

/// What an operator is told of a name, once each time that it changes.
pub(crate) enum News {
    /// It cannot be looked up, or only slowly; its addresses of so long ago are used, if there are any.
    Fails(Arc<io::Error>, Option<Duration>),
    /// It can be looked up again.
    Found,
}

impl News {
    /// Not under the lock: whoever takes the log's lines may be slow.
    pub(crate) fn tell(self, name: &str) {
        match self {
            Self::Fails(error, Some(age)) => {
                tracing::warn!(name, %error, ?age, "a name cannot be looked up: the addresses that it had last are used");
            }
            Self::Fails(error, None) => {
                tracing::warn!(name, %error, "a name cannot be looked up, and had no address yet")
            }
            Self::Found => tracing::info!(name, "the name can be looked up again"),
        }
    }
}

impl State {
    /// The addresses that a name had last, to be used because of `failure`.
    pub(crate) fn last(&mut self, name: &str, failure: &Error) -> Option<(Arc<[SocketAddr]>, Option<News>)> {
        let known = self.names.get_mut(name)?;
        let news = known.fails(failure);
        let (addresses, _) = known.last.as_ref()?;
        Some((Arc::clone(addresses), news))
    }

    /// Makes room for one name more: forgets the one that nobody asked for the longest.
    fn make_room(&mut self) -> io::Result<()> {
        if self.names.len() < MOST {
            return Ok(());
        }
        let idle = self.names.iter().filter(|(_, known)| known.under_way.is_none());
        let oldest = idle.min_by_key(|(_, known)| known.asked).map(|(name, _)| Arc::clone(name));
        let oldest = oldest.ok_or_else(|| io::Error::other(format!("{MOST} names are looked up already")))?;
        self.names.remove(&oldest);
        Ok(())
    }

    /// A look-up has ended.
    fn end(&mut self, job: &Job, found: io::Result<Vec<SocketAddr>>) -> Option<News> {
        let found = match found {
            Ok(addresses) if addresses.is_empty() => Err(io::Error::other("it has no address")),
            found => found,
        };
        let found: Found = found.map(Arc::from).map_err(|error| failed(&job.name, error));
        let news = self.names.get_mut(&job.name).and_then(|known| {
            known.under_way = None;
            match &found {
                Ok(addresses) => known.found(addresses),
                Err(failure) => known.fails(failure),
            }
        });
        // Nobody may be waiting any more.
        job.answer.send_replace(Some(found));
        news
    }
}

impl Name {
    fn new(now: Instant) -> Self {
        Self { last: None, told: false, under_way: None, asked: now }
    }

    fn found(&mut self, addresses: &Arc<[SocketAddr]>) -> Option<News> {
        if self.last.is_none() || !Bug::FirstAddressesKept.planted() {
            self.last = Some((Arc::clone(addresses), Instant::now()));
        }
        std::mem::take(&mut self.told).then_some(News::Found)
    }

    fn fails(&mut self, failure: &Error) -> Option<News> {
        if Bug::LastAddressesForgotten.planted() {
            self.last = None;
        }
        let age = self.last.as_ref().map(|(_, since)| since.elapsed());
        let told = std::mem::replace(&mut self.told, true);
        (!told).then(|| News::Fails(Arc::clone(&failure.source), age))
    }
}

impl Names {
    /// Has the name looked up, with those who wait for that already.
    pub(crate) fn ask(&self, name: &str) -> Result<Asked, Error> {
        let mut state = self.0.state.lock();
        let now = Instant::now();
        let name = state.names.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| Arc::clone(name));
        if !state.names.contains_key(&name) {
            state.make_room().map_err(|error| failed(&name, error))?;
        }
        let known = state.names.entry(Arc::clone(&name)).or_insert_with(|| Name::new(now));
        known.asked = now;
        let (is_known, under_way) = (known.last.is_some(), known.under_way.clone());
        if let Some((answer, since)) = under_way
            && !Bug::EachCallerLooksUp.planted()
        {
            return Ok(Asked { answer, since, known: is_known, name });
        }
        let (sender, answer) = watch::channel(None);
        known.under_way = Some((answer.clone(), now));
        state.waiting.push_back(Job { name: Arc::clone(&name), answer: sender });
        let more = state.threads < THREADS || Bug::LookUpsUnbounded.planted();
        if more {
            state.threads += 1;
        }
        drop(state);
        if more {
            self.begin();
        }
        Ok(Asked { answer, since: now, known: is_known, name })
    }

    /// Begins a thread, which has been counted.
    fn begin(&self) {
        let shared = Arc::clone(&self.0);
        if Bug::NamesTakeSharedThreads.planted() {
            drop(tokio::task::spawn_blocking(move || shared.work()));
            return;
        }
        let begun = std::thread::Builder::new().name("ieum-names".to_owned()).spawn(move || shared.work());
        if let Err(error) = begun {
            self.0.no_thread(&error);
        }
    }

    /// How many threads there are.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.0.state.lock().threads
    }

    /// How many names are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.0.state.lock().names.len()
    }
}

impl Shared {
    /// Looks names up until none waits.
    fn work(&self) {
        loop {
            let job = {
                let mut state = self.state.lock();
                let Some(job) = state.waiting.pop_front() else {
                    // Under the same lock: whoever asks next counts right.
                    state.threads = state.threads.saturating_sub(1);
                    return;
                };
                job
            };
            let found = catch_unwind(AssertUnwindSafe(|| (self.lookup)(&job.name)));
            let found = found.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")));
            let news = self.state.lock().end(&job, found);
            if let Some(news) = news {
                news.tell(&job.name);
            }
        }
    }

    /// The system gives no thread. Those that are there come to what waits; without any it has failed.
    fn no_thread(&self, error: &io::Error) {
        let mut state = self.state.lock();
        state.threads = state.threads.saturating_sub(1);
        if state.threads > 0 {
            return;
        }
        for job in std::mem::take(&mut state.waiting) {
            // Whoever waits is told; the operator by them.
            let _ = state.end(&job, Err(io::Error::new(error.kind(), error.to_string())));
        }
    }
}
