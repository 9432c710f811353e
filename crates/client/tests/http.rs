//! HTTP `/v1` against a scripted server on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use ieum_client::store::Identity;
use ieum_client::{Endpoint, Http, HttpError, NewAccount, Page, Trust};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::Change;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What came: method and path, headers in lower case, body.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What goes back.
enum Answer {
    Json(u16, Value),
    At(&'static str, Value),
    Nothing,
    Hang,
}

fn problem(problem: Problem) -> Answer {
    Answer::Json(problem.status, serde_json::to_value(problem).unwrap())
}

fn token(text: &str, expires_in_ms: u64) -> Answer {
    Answer::Json(200, json!({ "token": text, "expires_in_ms": expires_in_ms }))
}

/// A server that gives the answers of its script, one to each request, and notes what it was asked.
struct Server {
    endpoint: Endpoint,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&notes)));
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    async fn client(&self) -> Http {
        let http = Http::new(vec![self.endpoint.clone()], Trust::web());
        http.use_identity(Identity { user: 1, device: 7, secret: "secret".into() }).await;
        http
    }
}

async fn serve(stream: TcpStream, script: Arc<Mutex<VecDeque<Answer>>>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = request(&mut stream).await {
        asked.lock().unwrap().push(request);
        let answer = script.lock().unwrap().pop_front().expect("the script is over");
        let (status, position, body) = match answer {
            Answer::Json(status, body) => (status, "", body.to_string()),
            Answer::At(position, body) => (200, position, body.to_string()),
            Answer::Nothing => (204, "", String::new()),
            Answer::Hang => return,
        };
        let position = if position.is_empty() { String::new() } else { format!("ieum-position: {position}\r\n") };
        let head = format!("HTTP/1.1 {status} X\r\n{position}content-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> =
        lines.iter().filter_map(|line| line.split_once(": ")).map(|(a, b)| (a.to_lowercase(), b.to_owned())).collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { line, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

fn done(seq: u64) -> Answer {
    Answer::Json(200, json!({ "ok": { "seq": seq } }))
}

fn say() -> Change {
    Change::Send { room: 1, text: "hi".into(), reply_to: None }
}

/// Whichever is asked first: the one that answers says once that it is busy, and then the other is asked.
#[tokio::test]
async fn one_that_does_not_answer_is_asked_beside_another_with_the_same_key() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registered = Answer::At("1.5", json!({ "user": 3, "device": 4 }));
    let well = Server::start([problem(Code::Busy.problem()), registered]).await;
    let endpoint = format!("http://{}", mute.local_addr().unwrap()).parse().unwrap();
    let http = Http::new(vec![endpoint, well.endpoint.clone()], Trust::web());
    let identity = http.register(NewAccount { handle: "minji".into(), ..NewAccount::default() }).await.unwrap();
    assert_eq!(identity.user, 3);
    let unanswered = request(&mut BufReader::new(mute.accept().await.unwrap().0)).await.unwrap();
    let key = unanswered.header("idempotency-key");
    assert!(key.is_some() && well.asked().iter().all(|asked| asked.header("idempotency-key") == key));
    assert_eq!(well.lines(), ["POST /v1/accounts"; 2]);
}

#[tokio::test]
async fn registering_is_repeated_with_the_same_secret_when_the_answer_was_lost() {
    let server = Server::start([Answer::Hang, Answer::At("1.5", json!({ "user": 3, "device": 4 }))]).await;
    let http = Http::new(vec![server.endpoint.clone()], Trust::web());
    let account = NewAccount {
        handle: "minji".into(),
        name: "민지".into(),
        password: "password".into(),
        ..NewAccount::default()
    };
    let identity = http.register(account).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /v1/accounts");
    assert_eq!(asked[0].body, asked[1].body);
    let key = asked[0].header("idempotency-key");
    assert!(key.is_some() && key == asked[1].header("idempotency-key"));
    assert_eq!(asked[1].body["secret"], identity.secret.as_str());
    assert_eq!((identity.user, identity.device, identity.secret.len()), (3, 4, 43));
    assert_eq!(http.seen().await.as_deref(), Some("1.5"));
    assert_eq!(http.identity().await, Some(identity));
}

#[tokio::test]
async fn a_token_is_used_until_shortly_before_it_expires() {
    let rooms = || Answer::At("1.9", json!({ "rooms": [] }));
    let script = [token("a", 3_600_000), rooms(), rooms(), rooms()];
    let server = Server::start(script).await;
    let http = server.client().await;
    http.rooms(None, None).await.unwrap();
    http.rooms(Some(7), Some(50)).await.unwrap();
    http.note(&"2.1".into()).await;
    http.rooms(None, Some(5)).await.unwrap();
    let asked = server.asked();
    assert_eq!(
        server.lines(),
        ["POST /v1/tokens", "GET /v1/rooms", "GET /v1/rooms?after=7&limit=50", "GET /v1/rooms?limit=5"]
    );
    assert_eq!(asked[0].body, json!({ "device": 7, "secret": "secret" }));
    assert_eq!(asked[1].header("authorization"), Some("Bearer a"));
    let seen: Vec<_> = asked.iter().map(|asked| asked.header("ieum-seen")).collect();
    assert_eq!(seen, [None, None, Some("1.9"), Some("2.1")]);
}

#[tokio::test]
async fn a_token_that_the_server_takes_no_more_is_replaced_once() {
    let script = [
        token("a", 3_600_000),
        problem(Code::TokenExpired.problem()),
        token("b", 3_600_000),
        Answer::Json(200, json!({ "devices": [] })),
        problem(Code::Unauthorized.problem()),
        token("c", 3_600_000),
        problem(Code::Unauthorized.problem()),
    ];
    let server = Server::start(script).await;
    let http = server.client().await;
    http.devices().await.unwrap();
    assert_eq!(server.asked()[3].header("authorization"), Some("Bearer b"));
    assert_eq!(http.devices().await.unwrap_err().code(), Some(Code::Unauthorized));
    assert_eq!(server.lines().len(), 7);
}

#[tokio::test]
async fn a_change_is_repeated_with_the_same_key_while_its_outcome_is_unknown() {
    let script = [token("a", 3_600_000), problem(Code::OutcomeUnknown.problem()), Answer::Hang, done(4)];
    let server = Server::start(script).await;
    let http = server.client().await;
    assert_eq!(http.change(&say()).await.unwrap().seq, Some(4));
    let asked = server.asked();
    let keys: Vec<_> = asked[1..].iter().map(|asked| asked.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys[0].len() == 32 && keys.iter().all(|key| *key == keys[0]));
    assert_eq!(asked[1].body, serde_json::to_value(say()).unwrap());
}

#[tokio::test]
async fn a_problem_is_handed_on_as_it_is() {
    let script = [token("a", 3_600_000), problem(Code::RoomUnknown.problem().detail("room 1"))];
    let server = Server::start(script).await;
    let error = server.client().await.change(&say()).await.unwrap_err();
    let HttpError::Problem(problem) = error else { panic!("{error}") };
    assert_eq!((problem.known(), problem.detail.as_deref()), (Some(Code::RoomUnknown), Some("room 1")));
}

#[tokio::test]
async fn a_server_that_is_down_or_behind_is_left_for_another() {
    let well = Server::start([Answer::Json(200, json!({ "people": [] }))]).await;
    let mut behind = Code::Behind.problem();
    behind.endpoints = vec![well.endpoint.to_string()];
    let late = Server::start([token("a", 3_600_000), problem(behind)]).await;
    let http = late.client().await;
    assert_eq!(http.find_user("min ji&").await.unwrap(), None);
    assert_eq!(well.lines(), ["GET /v1/users?handle=min%20ji%26"]);
    assert_eq!(well.asked()[0].header("authorization"), Some("Bearer a"));

    let down = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint: Endpoint = format!("ws://{}", down.local_addr().unwrap()).parse().unwrap();
    drop(down);
    let person = json!({ "id": 9, "handle": "a.b", "name": "A" });
    let well = Server::start([token("a", 3_600_000), Answer::Json(200, person)]).await;
    let http = Http::new(vec![endpoint, well.endpoint.clone()], Trust::web());
    http.use_identity(Identity { user: 1, device: 7, secret: "secret".into() }).await;
    assert_eq!(http.user(9).await.unwrap().handle, "a.b");
}

#[tokio::test]
async fn a_password_change_is_repeated_with_the_same_key() {
    let script = [token("a", 3_600_000), problem(Code::OutcomeUnknown.problem()), Answer::Nothing];
    let server = Server::start(script).await;
    server.client().await.change_password("old password", "new password").await.unwrap();
    assert_eq!(server.lines(), ["POST /v1/tokens", "PUT /v1/me/password", "PUT /v1/me/password"]);
    let keys =
        server.asked()[1..].iter().map(|asked| asked.header("idempotency-key").map(str::to_owned)).collect::<Vec<_>>();
    assert!(keys[0].is_some() && keys[0] == keys[1]);
}

#[tokio::test]
async fn the_other_calls_are_where_the_server_has_them() {
    let room = json!({ "id": 5, "kind": "group", "members": 2, "role": "member", "from": 1, "last": 0, "last_time": 0, "read": 0, "unread": 0 });
    let person = json!({ "id": 1, "handle": "abc", "name": "A" });
    let json = |value: Value| Answer::Json(200, value);
    let script = [
        token("a", 3_600_000),
        json(json!({ "person": person, "device": 7 })),
        json(room),
        json(json!({ "messages": [] })),
        json(json!({ "messages": [] })),
        json(json!({ "messages": [] })),
        json(json!({ "members": [{ "person": person, "role": "owner", "joined_at": 1 }], "next": 1 })),
        json(json!({ "members": [{ "person": person, "role": "member", "joined_at": 1 }], "next": 4 })),
        // It leads no further: a server's bug, and the end.
        json(json!({ "members": [], "next": 4 })),
        json(json!({ "receipts": [{ "user": 1, "seq": 2 }] })),
        Answer::Nothing,
        problem(Code::DeviceUnknown.problem()),
        Answer::Nothing,
    ];
    let server = Server::start(script).await;
    let http = server.client().await;
    assert_eq!(http.me().await.unwrap().device, 7);
    assert_eq!(http.room(5).await.unwrap().id, 5);
    for page in [Page::Latest, Page::Before(9), Page::After(9)] {
        http.messages(5, page, 20).await.unwrap();
    }
    assert_eq!(http.members(5).await.unwrap().len(), 2);
    assert_eq!(http.receipts(5).await.unwrap().len(), 1);
    http.log_out(8).await.unwrap();
    assert_eq!(http.log_out(8).await.unwrap_err().code(), Some(Code::DeviceUnknown));
    http.change_password("old password", "new password").await.unwrap();
    let lines = [
        "POST /v1/tokens",
        "GET /v1/me",
        "GET /v1/rooms/5",
        "GET /v1/rooms/5/messages?limit=20",
        "GET /v1/rooms/5/messages?before=9&limit=20",
        "GET /v1/rooms/5/messages?after=9&limit=20",
        "GET /v1/rooms/5/members",
        "GET /v1/rooms/5/members?after=1",
        "GET /v1/rooms/5/members?after=4",
        "GET /v1/rooms/5/receipts",
        "DELETE /v1/devices/8",
        "DELETE /v1/devices/8",
        "PUT /v1/me/password",
    ];
    assert_eq!(server.lines(), lines);
    for asked in server.asked() {
        let changes = !asked.line.starts_with("GET") && asked.line != "POST /v1/tokens";
        assert_eq!(asked.header("idempotency-key").is_some(), changes, "{}", asked.line);
    }
}

#[tokio::test]
async fn a_device_that_logged_itself_out_and_did_not_hear_so_is_logged_out() {
    let script = [
        token("a", 3_600_000),
        Answer::Hang,
        problem(Code::Unauthorized.problem()),
        problem(Code::SecretWrong.problem()),
    ];
    let server = Server::start(script).await;
    server.client().await.log_out(7).await.unwrap();
    assert_eq!(server.lines().len(), 4);
}

#[tokio::test]
async fn without_a_device_only_signing_in_works() {
    let http = Http::new(vec!["http://127.0.0.1:1".parse().unwrap()], Trust::web());
    assert!(matches!(http.me().await, Err(HttpError::NobodySignedIn)));
    let server = Server::start([problem(Code::PasswordWrong.problem())]).await;
    let http = Http::new(vec![server.endpoint.clone()], Trust::web());
    let error = http.sign_in("minji", "wrong password", "laptop").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::PasswordWrong));
}
