//! Drives the machine on one tokio task.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use ieum_protocol::frames::{Change, Done};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;

use crate::client::{Reply, Request};
use crate::command::CommandId;
use crate::dial::Trust;
use crate::machine::{Delivery, Failure, Line, Machine, Moment, Output, State};
use crate::outlet::Outlet;
use crate::random::Random;
use crate::socket::{Failed, Socket};
use crate::store::{Store, Write};

/// How many frames or requests are taken before what they ask for is done: so that they share an fsync and a flush.
const BATCH: usize = 64;

/// For how long a server may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a shell is made of.
pub(crate) struct Parts<S> {
    pub(crate) machine: Machine,
    pub(crate) store: S,
    pub(crate) outlet: Outlet,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) trust: Trust,
    pub(crate) numbers: Random,
}

type Dialing = Pin<Box<dyn Future<Output = Result<Socket, Failed>> + Send>>;

/// The task of one client.
pub(crate) struct Shell<S> {
    machine: Machine,
    /// `None` only while it commits, or if committing panicked.
    store: Option<S>,
    outlet: Outlet,
    requests: mpsc::Receiver<Request>,
    state: watch::Sender<State>,
    trust: Trust,
    numbers: Random,
    /// Attempts at connections, and the connections that are there: few of either.
    dialing: Vec<(Line, Dialing)>,
    sockets: Vec<(Line, Socket)>,
    /// A connection that is given up; only a client that stops says goodbye on it.
    parting: Option<Socket>,
    /// The app does not keep up, so the connection is not read.
    deaf: bool,
    stopped: bool,
    /// Who waits for an outcome.
    outcomes: HashMap<CommandId, oneshot::Sender<Result<Done, Failure>>>,
    /// Who waits for the next commit.
    commits: Vec<oneshot::Sender<Result<(), Failure>>>,
    start: Instant,
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to, unless it is over.
    armed: Option<u64>,
}

enum Wake {
    Frame(Line, Utf8Bytes),
    Closed(Line, String),
    Dialed(Line, Result<Socket, Failed>),
    MovedOn,
    Request(Option<Request>),
    Timer,
}

impl<S: Store> Shell<S> {
    pub(crate) fn new(parts: Parts<S>) -> Self {
        let Parts { machine, store, outlet, requests, state, trust, numbers } = parts;
        let start = Instant::now();
        Self {
            machine,
            store: Some(store),
            outlet,
            requests,
            state,
            trust,
            numbers,
            dialing: Vec::new(),
            sockets: Vec::new(),
            parting: None,
            deaf: false,
            stopped: false,
            outcomes: HashMap::new(),
            commits: Vec::new(),
            start,
            sleep: Box::pin(tokio::time::sleep_until(start)),
            armed: None,
        }
    }

    /// Runs until the client is stopped.
    pub(crate) async fn run(mut self) {
        loop {
            self.settle().await;
            if self.stopped {
                break;
            }
            self.hear();
            match self.wait().await {
                Wake::Frame(line, text) => {
                    self.frames(line, &text).await;
                    // A connection on which always more comes must not keep the app waiting.
                    if let Ok(request) = self.requests.try_recv() {
                        self.requested(Some(request));
                    }
                }
                Wake::Closed(line, reason) => self.closed(line, reason),
                Wake::Dialed(line, result) => self.dialed(line, result),
                Wake::MovedOn => {}
                Wake::Request(request) => self.requested(request),
                Wake::Timer => self.armed = None,
            }
            // The connection was looked at before the clock: a task that got no processor for a while does not take that for silence.
            let moment = self.moment();
            if self.machine.deadline().is_some_and(|deadline| moment.now >= deadline) {
                self.machine.tick(moment);
            }
        }
        self.part().await;
    }

    fn moment(&mut self) -> Moment {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { now, random: self.numbers.next() }
    }

    /// Does what the machine asks for.
    async fn settle(&mut self) {
        while let Some(output) = self.machine.next_output() {
            match output {
                Output::Store(writes) => {
                    let result = self.commit(writes).await;
                    for waiter in self.commits.drain(..) {
                        let _ = waiter.send(result.clone().map_err(Failure::NotStored));
                    }
                    let moment = self.moment();
                    self.machine.stored(moment, result);
                }
                Output::Connect { line, endpoint } => {
                    self.dialing.push((line, Box::pin(Socket::connect(endpoint, self.trust.clone()))));
                }
                Output::Send { line, text } => {
                    let socket = self.sockets.iter_mut().find(|(of, _)| *of == line);
                    let sent = socket.map_or(Ok(()), |(_, socket)| socket.send(text));
                    if let Err(error) = sent {
                        self.closed(line, error.to_string());
                    }
                }
                Output::Close { line } => {
                    self.dialing.retain(|(of, _)| *of != line);
                    self.parting = self.take_socket(line).or(self.parting.take());
                }
                Output::Deliver(delivery) => self.deliver(delivery),
            }
        }
        if !self.stopped {
            self.parting = None;
        }
    }

    fn take_socket(&mut self, line: Line) -> Option<Socket> {
        let at = self.sockets.iter().position(|(of, _)| *of == line)?;
        Some(self.sockets.swap_remove(at).1)
    }

    fn closed(&mut self, line: Line, reason: String) {
        drop(self.take_socket(line));
        let moment = self.moment();
        self.machine.closed(moment, line, reason);
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<(), String> {
        let Some(mut store) = self.store.take() else { return Err("it is gone".to_owned()) };
        if !store.blocks() {
            let result = store.commit(&writes);
            self.store = Some(store);
            return result.map_err(|error| describe(&error));
        }
        let work = tokio::task::spawn_blocking(move || (store.commit(&writes), store));
        let (result, store) = work.await.map_err(|error| error.to_string())?;
        self.store = Some(store);
        result.map_err(|error| describe(&error))
    }

    fn deliver(&mut self, delivery: Delivery) {
        match &delivery {
            Delivery::Outcome { id, result, .. } if !self.outcomes.is_empty() => {
                if let Some(waiter) = self.outcomes.remove(id) {
                    let _ = waiter.send(result.clone());
                }
            }
            Delivery::State(state) => {
                self.stopped = matches!(state, State::Stopped(_));
                self.state.send_replace(state.clone());
            }
            _ => {}
        }
        self.outlet.push(delivery);
    }

    /// Tells the machine whether the connection is read.
    fn hear(&mut self) {
        let deaf = self.outlet.is_full();
        if deaf != self.deaf {
            self.deaf = deaf;
            let moment = self.moment();
            self.machine.listening(moment, !deaf);
        }
    }

    async fn wait(&mut self) -> Wake {
        self.arm();
        let Self { sockets, dialing, outlet, requests, sleep, armed, deaf, .. } = self;
        let (read, timed) = (!*deaf, armed.is_some());
        tokio::select! {
            biased;
            wake = poll_fn(|context| first(sockets, |line, socket| socket.poll(context, read).map(|it| heard(line, it)))) => wake,
            wake = poll_fn(|context| first(dialing, |line, dialing| {
                dialing.as_mut().poll(context).map(|result| Wake::Dialed(line, result))
            })) => wake,
            () = outlet.move_on() => Wake::MovedOn,
            request = requests.recv() => Wake::Request(request),
            () = sleep.as_mut(), if timed => Wake::Timer,
        }
    }

    /// Sets the timer if it would fire too late. One that fires too early does no harm and costs less than setting it each time.
    fn arm(&mut self) {
        let Some(deadline) = self.machine.deadline() else { return };
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            self.sleep.as_mut().reset(self.start + Duration::from_millis(deadline));
        }
    }

    fn dialed(&mut self, line: Line, result: Result<Socket, Failed>) {
        self.dialing.retain(|(of, _)| *of != line);
        let moment = self.moment();
        match result {
            Ok(socket) => {
                self.sockets.push((line, socket));
                self.machine.connected(moment, line);
            }
            Err(Failed { reason, told }) => self.machine.failed(moment, line, reason, told),
        }
    }

    /// Takes this frame and those that are there already on its connection.
    async fn frames(&mut self, line: Line, text: &Utf8Bytes) {
        let moment = self.moment();
        self.machine.frame(moment, line, text.as_str());
        for _ in 1..BATCH {
            let Some((_, socket)) = self.sockets.iter_mut().find(|(of, _)| *of == line) else { return };
            let polled = poll_fn(|context| Poll::Ready(socket.poll(context, true).map(|it| heard(line, it)))).await;
            match polled {
                Poll::Ready(Wake::Frame(line, text)) => {
                    let moment = self.moment();
                    self.machine.frame(moment, line, text.as_str());
                }
                Poll::Ready(Wake::Closed(line, reason)) => return self.closed(line, reason),
                _ => return,
            }
        }
    }

    /// Takes this request and those that are there already.
    fn requested(&mut self, request: Option<Request>) {
        // No handle is left.
        let Some(mut request) = request else { return self.machine.stop() };
        for _ in 0..BATCH {
            self.take(request);
            match self.requests.try_recv() {
                Ok(next) => request = next,
                Err(_) => return,
            }
        }
        self.take(request);
    }

    fn take(&mut self, request: Request) {
        let moment = self.moment();
        match request {
            Request::Submit { id, change, reply } => {
                let id = id.unwrap_or_else(|| CommandId::from_random(moment.random, self.numbers.next()));
                let taken = self.machine.submit(id, &change);
                self.reply(id, &change, taken, reply);
            }
            Request::Foreground(foreground) => self.machine.foreground(moment, foreground),
            Request::Reconnect => self.machine.reconnect(moment),
            Request::Typing(room) => self.machine.typing(moment, room),
            Request::Applied(pos) => self.machine.applied(moment, &pos),
            Request::Waiting(sender) => {
                let _ = sender.send(self.machine.waiting().cloned().collect());
            }
            Request::Seen(sender) => {
                let _ = sender.send(self.machine.seen().map(ToString::to_string));
            }
            Request::Stop => self.machine.stop(),
        }
    }

    fn reply(&mut self, id: CommandId, change: &Change, taken: Result<(), Failure>, reply: Reply) {
        match (taken, reply) {
            (Ok(()), Reply::Outcome(sender)) => {
                self.outcomes.insert(id, sender);
            }
            (Ok(()), Reply::Stored(sender)) => self.commits.push(sender),
            (Ok(()), Reply::Nothing) => {}
            (Err(failure), Reply::Outcome(sender)) => {
                let _ = sender.send(Err(failure));
            }
            (Err(failure), Reply::Stored(sender)) => {
                let _ = sender.send(Err(failure));
            }
            (Err(failure), Reply::Nothing) => {
                let body = serde_json::to_string(change).unwrap_or_default().into();
                self.outlet.push(Delivery::Outcome { id, body, result: Err(failure), again: false });
            }
        }
    }

    /// Ends: the server hears goodbye, the store is closed, then those who wait learn of it, and the app takes what is left.
    async fn part(mut self) {
        if let Some(socket) = self.parting.take() {
            let _ = tokio::time::timeout(GOODBYE, socket.close()).await;
        }
        drop(self.store.take());
        drop(self.requests);
        while self.outlet.is_full() {
            self.outlet.move_on().await;
        }
    }
}

/// The first of those that are ready.
fn first<T>(of: &mut [(Line, T)], mut poll: impl FnMut(Line, &mut T) -> Poll<Wake>) -> Poll<Wake> {
    // Each is polled, so that each wakes the task.
    let mut wakes = of.iter_mut().map(|(line, it)| poll(*line, it));
    wakes.find(Poll::is_ready).unwrap_or(Poll::Pending)
}

fn heard(line: Line, heard: Result<Option<Utf8Bytes>, tokio_tungstenite::tungstenite::Error>) -> Wake {
    match heard {
        Ok(Some(text)) => Wake::Frame(line, text),
        Ok(None) => Wake::Closed(line, "the server closed the connection".to_owned()),
        Err(error) => Wake::Closed(line, error.to_string()),
    }
}

/// An error with its sources.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
