//! WebSocket as bytes on a socket: frames can be as wrong as a test wants them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::http::{Person, connect, fresh};
use crate::node::Server;

pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    n: u64,
}

/// What the server sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    Text(Value),
    Close,
    /// The connection is over.
    End,
}

/// A frame with this first byte, masked with zeros as any mask does.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match body.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) const TEXT: u8 = 0x81;

impl Socket {
    /// Shakes hands.
    pub(crate) fn open(server: &Server) -> Self {
        let mut stream = connect(server);
        stream
            .write_all(
                b"GET /v1/socket HTTP/1.1\r\nhost: ieum\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                  sec-websocket-protocol: ieum.v1\r\n\r\n",
            )
            .unwrap();
        let mut socket = Self { stream, n: 0 };
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(socket.stream.read(&mut byte).unwrap(), 1);
            head.extend_from_slice(&byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        socket
    }

    pub(crate) fn hello(server: &Server, person: &Person, cursor: Option<&str>) -> (Self, Value) {
        let mut socket = Self::open(server);
        let mut hello = json!({"device": person.device, "secret": person.secret});
        if let Some(cursor) = cursor {
            hello["cursor"] = json!(cursor);
        }
        socket.say(&json!({"hello": hello}).to_string());
        let welcome = socket.next("welcome");
        socket.n = welcome["n"].as_u64().unwrap();
        (socket, welcome)
    }

    /// Signed in, with everything caught up.
    pub(crate) fn live(server: &Server, person: &Person) -> Self {
        let (mut socket, _) = Self::hello(server, person, None);
        socket.next("caught_up");
        socket
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.send(&frame(TEXT, text.as_bytes()));
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The server may have ended the session; what it said comes out of `get`.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a command with the next number.
    pub(crate) fn command(&mut self, change: &Value) -> u64 {
        self.n += 1;
        let n = self.n;
        self.say(&json!({"cmd": {"n": n, "id": fresh(), "do": change}}).to_string());
        n
    }

    /// Sends a command and gives its answer.
    #[track_caller]
    pub(crate) fn done(&mut self, change: &Value) -> Value {
        let n = self.command(change);
        let ack = self.next("ack");
        assert_eq!(ack["n"], n);
        ack
    }

    pub(crate) fn get(&mut self) -> Got {
        let mut head = [0; 2];
        if self.stream.read_exact(&mut head).is_err() {
            return Got::End;
        }
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).unwrap();
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length).unwrap();
                u64::from_be_bytes(length)
            }
            length => u64::from(length),
        };
        assert!(length <= 262_144, "a frame of {length} bytes");
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body).unwrap();
        match head[0] {
            0x81 => Got::Text(serde_json::from_slice(&body).unwrap()),
            0x88 => Got::Close,
            0x8a => self.get(),
            other => panic!("frame {other:#x}"),
        }
    }

    /// The body of the next frame of this kind; passes others over.
    #[track_caller]
    pub(crate) fn next(&mut self, kind: &str) -> Value {
        loop {
            match self.get() {
                Got::Text(mut frame) if frame.get(kind).is_some() => return frame[kind].take(),
                Got::Text(frame) if frame.get("bye").is_none() => {}
                other => panic!("{other:?} instead of {kind}"),
            }
        }
    }

    /// Why the session ended: a bye, then a close frame, then the end.
    #[track_caller]
    pub(crate) fn bye(&mut self) -> Value {
        let bye = loop {
            match self.get() {
                Got::Text(mut frame) if frame.get("bye").is_some() => break frame["bye"].take(),
                Got::Text(_) => {}
                other => panic!("{other:?} instead of bye"),
            }
        };
        assert_eq!(self.get(), Got::Close);
        self.send(&frame(0x88, &[]));
        assert_eq!(self.get(), Got::End);
        bye
    }
}
