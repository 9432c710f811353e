//! HTTP as bytes on a socket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::node::Server;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The status and the code of an error, which must be whole.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, &str) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.body["status"].as_u64(), Some(u64::from(self.status)), "{self:?}");
        assert!(self.header("ieum-position").is_some(), "{self:?}");
        assert_eq!(self.header("www-authenticate").is_some(), self.status == 401, "{self:?}");
        (self.status, self.code())
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        assert!(self.header("ieum-position").is_some(), "{self:?}");
        self.body
    }
}

pub(crate) fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one answer; none when the connection ended before it.
pub(crate) fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.extend_from_slice(&byte),
            _ => return None,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Value::Null };
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    answer.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(answer)
}

/// Sends bytes on a connection of their own and reads the answer.
#[track_caller]
pub(crate) fn raw(server: &Server, bytes: &[u8]) -> Answer {
    let mut stream = connect(server);
    // The server may answer and close before it has read all.
    let _ = stream.write_all(bytes);
    answer(&mut stream).expect("an answer")
}

/// The head of a request and its body.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: ieum\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

#[track_caller]
pub(crate) fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers = [&[("content-type", "application/json")], headers].concat();
    raw(server, &request("POST", path, &headers, body.to_string().as_bytes()))
}

/// Sixteen bytes that no other call gave, in hexadecimal.
pub(crate) fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:032x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn secret() -> String {
    BASE64URL_NOPAD.encode(fresh().as_bytes())
}

/// A person on a device.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) user: u64,
    pub(crate) handle: String,
    pub(crate) device: u64,
    pub(crate) secret: String,
    pub(crate) token: String,
}

pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) fn registration(handle: &str, secret: &str) -> Value {
    json!({"handle": handle, "name": handle, "password": PASSWORD, "device": "phone", "secret": secret})
}

impl Person {
    #[track_caller]
    pub(crate) fn register(server: &Server, handle: &str) -> Self {
        let secret = secret();
        let key = fresh();
        let body = registration(handle, &secret);
        let made = post(server, "/v1/accounts", &[("idempotency-key", &key)], &body).ok();
        Self::at(server, handle, &made, secret)
    }

    /// A device that is there, as registering or signing in was answered.
    pub(crate) fn at(server: &Server, handle: &str, made: &Value, secret: String) -> Self {
        let [user, device] = ["user", "device"].map(|name| made[name].as_u64().unwrap());
        let token = post(server, "/v1/tokens", &[], &json!({"device": device, "secret": secret})).ok();
        Self { user, handle: handle.to_owned(), device, secret, token: token["token"].as_str().unwrap().to_owned() }
    }

    /// Another device of the same person.
    #[track_caller]
    pub(crate) fn another_device(&self, server: &Server) -> Self {
        let secret = secret();
        let body = json!({"handle": self.handle, "password": PASSWORD, "device": "laptop", "secret": secret});
        let made = post(server, "/v1/devices", &[("idempotency-key", &fresh())], &body).ok();
        Self::at(server, &self.handle, &made, secret)
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    #[track_caller]
    pub(crate) fn call(
        &self,
        server: &Server,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let bearer = self.bearer();
        let mut all = vec![("authorization", bearer.as_str())];
        if !body.is_empty() {
            all.push(("content-type", "application/json"));
        }
        all.extend_from_slice(headers);
        raw(server, &request(method, path, &all, body.as_bytes()))
    }

    #[track_caller]
    pub(crate) fn get(&self, server: &Server, path: &str) -> Answer {
        self.call(server, "GET", path, &[], "")
    }

    /// A change under a new key.
    #[track_caller]
    pub(crate) fn change(&self, server: &Server, change: &Value) -> Answer {
        self.call(server, "POST", "/v1/changes", &[("idempotency-key", &fresh())], &change.to_string())
    }
}
