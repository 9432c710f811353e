//! Runs the client as a process, and reads what is true over HTTP without it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use ieum_drill::process::{Options, Process};
use ieum_drill::server::Server;
use serde_json::{Map, Value, json};

use crate::common::{PATIENCE, Scene};

pub(crate) const PASSWORD: &str = "correct horse";

/// Node 20.10 is the first with a WebSocket.
const NODE: (u32, u32) = (20, 10);

/// A client's process and its store.
pub(crate) struct Stranger {
    handle: String,
    folder: PathBuf,
    store: PathBuf,
    endpoints: Vec<String>,
    process: Process,
    calls: u64,
}

impl Stranger {
    /// Starts it, on the store of its handle.
    pub(crate) fn new(scene: &Scene, handle: &str, endpoints: &[String]) -> Self {
        let (folder, store) = (scene.folder.path().to_owned(), scene.path(&format!("{handle}.json")));
        Self::at(folder, handle, store, endpoints.to_vec())
    }

    fn at(folder: PathBuf, handle: &str, store: PathBuf, endpoints: Vec<String>) -> Self {
        let process = run(&folder, &store, &endpoints);
        Self { handle: handle.to_owned(), folder, store, endpoints, process, calls: 0 }
    }

    /// Goes on with a store of its own, which is empty.
    pub(crate) fn forget(&mut self) {
        self.store = self.folder.join(format!("{}-other.json", self.handle));
        self.kill();
        self.process = run(&self.folder, &self.store, &self.endpoints);
    }

    pub(crate) fn person(&self) -> Value {
        json!({"handle": self.handle, "name": self.handle, "password": PASSWORD, "device": "laptop"})
    }

    pub(crate) fn register(&mut self) {
        self.ask("register", &[self.person()]);
    }

    pub(crate) fn sign_in(&mut self, device: &str) {
        self.ask("sign_in", &[json!({"handle": self.handle, "password": PASSWORD, "device": device})]);
    }

    pub(crate) fn user(&mut self) -> u64 {
        self.ask("look", &[json!(["account", "user"])]).as_u64().unwrap()
    }

    pub(crate) fn device(&mut self) -> u64 {
        self.ask("look", &[json!(["account", "device"])]).as_u64().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// A new process on the same store, which connects.
    pub(crate) fn restart(&mut self) {
        self.process = run(&self.folder, &self.store, &self.endpoints);
        self.ask("start", &[]);
    }

    pub(crate) fn restart_at(&mut self, endpoints: &[String]) {
        self.endpoints = endpoints.to_vec();
        self.restart();
    }

    /// Another process on a copy of the store.
    pub(crate) fn twin(&mut self, scene: &Scene) -> Self {
        let store = self.folder.join("twin.json");
        fs::copy(&self.store, &store).unwrap();
        let mut twin = Self::at(self.folder.clone(), &self.handle, store, vec![scene.server.address()]);
        twin.ask("start", &[]);
        twin
    }

    /// A store that was lost but for the credentials.
    pub(crate) fn keep_only_the_account(&self) {
        let store: Value = serde_json::from_slice(&fs::read(&self.store).unwrap()).unwrap();
        fs::write(&self.store, json!({"account": store["account"]}).to_string()).unwrap();
    }

    /// What a call answers; it must not fail.
    #[track_caller]
    pub(crate) fn ask(&mut self, what: &str, with: &[Value]) -> Value {
        let answer = self.call(what, with);
        assert_eq!(answer.get(2), None, "{what} {with:?}");
        answer[1].clone()
    }

    /// With what a call fails.
    #[track_caller]
    pub(crate) fn complaint(&mut self, what: &str, with: &[Value]) -> String {
        let answer = self.call(what, with);
        answer[2].as_str().unwrap_or_else(|| panic!("{what} did not fail: {answer}")).to_owned()
    }

    #[track_caller]
    fn call(&mut self, what: &str, with: &[Value]) -> Value {
        let number = self.begin(what, with);
        self.end(number)
    }

    /// Calls, and does not wait for the answer.
    #[track_caller]
    pub(crate) fn begin(&mut self, what: &str, with: &[Value]) -> u64 {
        self.calls += 1;
        let mut call = vec![json!(self.calls), json!(what)];
        call.extend_from_slice(with);
        self.process.write_line(&json!(call).to_string()).unwrap();
        self.calls
    }

    /// The answer to a call: the latest one that was not answered yet.
    #[track_caller]
    pub(crate) fn end(&mut self, number: u64) -> Value {
        let start = format!("[{number},");
        match self.process.wait_for_line(|line| line.starts_with(&start), PATIENCE) {
            Ok(line) => serde_json::from_str(&line).unwrap(),
            Err(error) => panic!("{error}; its store: {}", fs::read_to_string(&self.store).unwrap()),
        }
    }

    /// Waits until it holds this.
    #[track_caller]
    pub(crate) fn until(&mut self, path: Value, wanted: Value) {
        self.ask("until", &[path, wanted]);
    }

    #[track_caller]
    pub(crate) fn until_last(&mut self, room: u64, last: u64) {
        self.ask("until_last", &[json!(room), json!(last)]);
    }

    /// Writes changes, and returns their ids when they are on its disk.
    #[track_caller]
    pub(crate) fn write(&mut self, changes: Vec<Value>) -> Value {
        self.ask("write", &[json!(changes)])
    }

    /// Writes changes and waits for all their outcomes.
    #[track_caller]
    pub(crate) fn settle(&mut self, changes: Vec<Value>) -> Vec<Value> {
        let ids = self.write(changes);
        self.until(json!(["waiting"]), json!(0));
        self.ask("outcomes", &[ids]).as_array().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn outcome(&mut self, change: Value) -> Value {
        self.settle(vec![change])[0].clone()
    }

    /// The room as it holds it.
    pub(crate) fn room(&mut self, room: u64) -> Value {
        self.ask("look", &[json!(["rooms", room.to_string(), "room"])])
    }

    /// Waits until it holds what the reader reads: the room, its messages, and how many have not read each.
    #[track_caller]
    pub(crate) fn agrees(&mut self, reader: &Reader, room: u64) {
        let (mut messages, mut counts, mut last) = (Map::new(), Map::new(), 0);
        for mut message in reader.messages(room) {
            last = message["seq"].as_u64().unwrap();
            let seq = message["seq"].to_string();
            if let Some(unread) = message.as_object_mut().unwrap().remove("unread") {
                counts.insert(seq.clone(), unread);
            }
            messages.insert(seq, message);
        }
        let id = room.to_string();
        self.until_last(room, last);
        // More than 50 may have come while it was not connected.
        if self.ask("look", &[json!(["rooms", id, "gap"])]) == true {
            self.ask("fill", &[json!(room)]);
        }
        self.until(json!(["rooms", id, "messages"]), Value::Object(messages));
        self.until(json!(["rooms", id, "room"]), reader.get(&format!("/v1/rooms/{room}")));
        self.until(json!(["counts", id]), Value::Object(counts));
    }
}

fn run(folder: &PathBuf, store: &PathBuf, endpoints: &[String]) -> Process {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stranger/scenario.mjs");
    let options = Options::new(node(), folder)
        .args(["--experimental-websocket", "--no-warnings", program])
        .arg(store)
        .args(endpoints)
        .stderr(store.with_extension("stderr"))
        .hold_stdin();
    Process::spawn(&options).unwrap()
}

/// Node, if it can run the client.
fn node() -> &'static str {
    let wanted = format!("this test runs a client in JavaScript and needs Node {}.{} or later", NODE.0, NODE.1);
    let output = match Command::new("node").arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => panic!("{wanted}; starting `node --version` failed: {error}"),
    };
    let mut numbers = output.trim_start_matches('v').split('.').map_while(|number| number.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    assert!(version.is_some_and(|version| version >= NODE), "{wanted}; `node --version` says {output:?}");
    "node"
}

/// Reads over HTTP, as a device of its own.
pub(crate) struct Reader {
    address: String,
    token: String,
}

impl Reader {
    pub(crate) fn new(scene: &Scene, handle: &str) -> Self {
        let address = scene.server.address().trim_start_matches("http://").to_owned();
        let ask = |path: &str, key: &str, body: Value| -> Value {
            let body = body.to_string();
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n",
                body.len()
            );
            let (status, answer) = exchange(&address, format!("{head}{body}").as_bytes());
            assert_eq!(status, 200, "{answer}");
            answer
        };
        static READERS: AtomicU64 = AtomicU64::new(0);
        let key = format!("idempotency-key: reader-{}\r\n", READERS.fetch_add(1, Ordering::Relaxed));
        // 32 bytes as base64url; nobody has to guess them here.
        let secret = "A".repeat(43);
        let signing_in = json!({"handle": handle, "password": PASSWORD, "device": "reader", "secret": secret});
        let made = ask("/v1/devices", &key, signing_in);
        let token = ask("/v1/tokens", "", json!({"device": made["device"], "secret": secret}));
        Self { token: token["token"].as_str().unwrap().to_owned(), address }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = self.try_to_get(path);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) fn try_to_get(&self, path: &str) -> (u16, Value) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
            self.address, self.token
        );
        exchange(&self.address, request.as_bytes())
    }

    /// All messages of a room.
    #[track_caller]
    pub(crate) fn messages(&self, room: u64) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let after = messages.last().map_or(0, |message: &Value| message["seq"].as_u64().unwrap());
            let page = self.get(&format!("/v1/rooms/{room}/messages?after={after}&limit=200"));
            let page = page["messages"].as_array().unwrap().clone();
            if page.is_empty() {
                return messages;
            }
            messages.extend(page);
        }
    }

    pub(crate) fn devices(&self) -> Vec<u64> {
        let devices = self.get("/v1/devices");
        devices["devices"].as_array().unwrap().iter().map(|device| device["id"].as_u64().unwrap()).collect()
    }
}

/// What the messages say, in their order.
pub(crate) fn texts(messages: &[Value]) -> Vec<String> {
    messages.iter().filter_map(|message| message["text"].as_str()).map(str::to_owned).collect()
}

fn exchange(address: &str, request: &[u8]) -> (u16, Value) {
    let answer = forward(address, request);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

fn forward(address: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Stands before the server, hands one request on, and keeps the answer to itself.
pub(crate) struct Swallower {
    address: String,
    answers: Receiver<(u16, Value)>,
}

impl Swallower {
    pub(crate) fn new(server: &Server) -> Self {
        let listener = black_hole();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, answers) = channel();
        let server = server.address().trim_start_matches("http://").to_owned();
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let request = read_request(&mut client);
            sender.send(exchange(&server, &request)).unwrap();
            client.shutdown(Shutdown::Both).unwrap();
        });
        Self { address, answers }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn swallowed(&self) -> (u16, Value) {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }
}

/// A request with a body, asking for the connection to be closed after it.
fn read_request(client: &mut TcpStream) -> Vec<u8> {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        request.extend_from_slice(&byte);
    }
    let head = String::from_utf8(request).unwrap().replace("connection: keep-alive", "connection: close");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    client.read_exact(&mut body).unwrap();
    [head.into_bytes(), body].concat()
}

/// Takes connections and never says anything.
pub(crate) fn black_hole() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// What a [`Proxy`] keeps back of what the server says.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Sockets,
    Pages,
    /// All frames but acks; they are lost.
    Stream,
}

#[derive(Default)]
struct Held {
    kind: Option<Kind>,
    /// How many pieces wait to go on.
    waiting: usize,
    streams: Vec<TcpStream>,
}

/// Stands between a client and the server. What the client says always goes on at once.
pub(crate) struct Proxy {
    address: String,
    held: Arc<(Mutex<Held>, Condvar)>,
}

impl Proxy {
    pub(crate) fn new(server: &Server) -> Self {
        let listener = black_hole();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = server.address().trim_start_matches("http://").to_owned();
        let held = Arc::new((Mutex::default(), Condvar::new()));
        let shared = Arc::clone(&held);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (server, held) = (TcpStream::connect(&server).unwrap(), Arc::clone(&shared));
                thread::spawn(move || link(client, server, &held));
            }
        });
        Self { address, held }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn hold(&self, kind: Kind) {
        self.held.0.lock().unwrap().kind = Some(kind);
    }

    /// Waits until the server said something that is kept back.
    pub(crate) fn wait_for_something_held(&self) {
        let held = self.held.0.lock().unwrap();
        let (_held, timeout) = self.held.1.wait_timeout_while(held, PATIENCE, |held| held.waiting == 0).unwrap();
        assert!(!timeout.timed_out(), "the server said nothing");
    }

    pub(crate) fn release(&self) {
        self.held.0.lock().unwrap().kind = None;
        self.held.1.notify_all();
    }

    /// Ends all connections; what was kept back is lost.
    pub(crate) fn cut(&self) {
        for stream in self.held.0.lock().unwrap().streams.drain(..) {
            // It may have ended before.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.release();
    }
}

fn link(mut client: TcpStream, mut server: TcpStream, held: &Arc<(Mutex<Held>, Condvar)>) {
    held.0.lock().unwrap().streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
    let mut first = [0; 1024];
    let length = client.read(&mut first).unwrap_or(0);
    let kind = if first.starts_with(b"GET /v1/socket ") { Kind::Sockets } else { Kind::Pages };
    let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let shared = Arc::clone(held);
    thread::spawn(move || {
        let mut head = kind == Kind::Sockets;
        while let Ok(piece) = if kind == Kind::Pages { some(&mut from_server) } else { frame(&mut from_server, head) } {
            let mut held = shared.0.lock().unwrap();
            held.waiting += 1;
            shared.1.notify_all();
            held = shared.1.wait_while(held, |held| held.kind == Some(kind)).unwrap();
            held.waiting -= 1;
            let is_lost = held.kind == Some(Kind::Stream) && kind == Kind::Sockets && !is_ack(&piece);
            drop(held);
            head = false;
            if !is_lost && to_client.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    if server.write_all(&first[..length]).is_ok() {
        let _ = std::io::copy(&mut client, &mut server);
    }
    let _ = server.shutdown(Shutdown::Both);
}

/// What there is to read.
fn some(server: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; 65_536];
    let length = server.read(&mut piece)?;
    piece.truncate(length);
    if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(piece) }
}

/// A frame of the server, which are not masked, or the head of its answer to the handshake.
fn frame(server: &mut TcpStream, head: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut take = |count: u64| {
        let start = bytes.len();
        server.take(count).read_to_end(&mut bytes)?;
        let is_whole = (bytes.len() - start) as u64 == count;
        if is_whole { Ok(bytes.clone()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
    };
    if head {
        while !take(1)?.ends_with(b"\r\n\r\n") {}
        return Ok(bytes);
    }
    let length = match take(2)?[1] {
        126 => take(2)?[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        127 => take(8)?[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        short => u64::from(short),
    };
    take(length)
}

fn is_ack(frame: &[u8]) -> bool {
    frame.windows(6).take(12).any(|start| start == br#"{"ack""#)
}
