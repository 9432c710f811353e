//! What is wrong in a request over HTTP.

use std::io::Write as _;
use std::net::Shutdown;

use serde_json::json;

use crate::http::{Person, answer, connect, fresh, post, raw, registration, request, secret};
use crate::node::Server;

#[test]
fn addresses_and_methods() {
    let server = Server::start();
    let get = |path: &str| raw(&server, &request("GET", path, &[], b""));
    for path in ["/v1", "/v1/", "/v1/me/", "/v2/me", "/v1/rooms/1/2/3", "/%00", "/..%2f..%2fetc/passwd", "/problems/no"]
    {
        assert_eq!(get(path).error(), (404, "not_found"), "{path}");
    }
    assert_eq!(get("/v1/socket").error(), (426, "upgrade_needed"));
    assert_eq!(raw(&server, &request("PATCH", "/v1/me", &[], b"")).error(), (405, "method_not_allowed"));
    assert_eq!(get("/v1/me").error(), (401, "unauthorized"));
    let long = format!("/{}", "x".repeat(100_000));
    assert!(raw(&server, &request("GET", &long, &[], b"")).status >= 400);
    server.is_sound();
}

#[test]
fn tokens_that_are_none() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let with = |value: &str| raw(&server, &request("GET", "/v1/me", &[("authorization", value)], b""));
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        assert_eq!(with(&format!("{scheme} {}", minji.token)).status, 200, "{scheme}");
    }
    let mut flipped = minji.token.clone().into_bytes();
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let short = &minji.token[..60];
    for token in ["", "x", short, &flipped, "\u{ff}", &"A".repeat(118), &"A".repeat(10_000)] {
        assert_eq!(with(&format!("Bearer {token}")).error(), (401, "unauthorized"), "{token}");
    }
    assert_eq!(with(&format!("Basic {}", minji.token)).error(), (401, "unauthorized"));
    assert_eq!(with(&minji.token).error(), (401, "unauthorized"));
    server.is_sound();
}

#[test]
fn bodies_of_the_wrong_kind() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let bearer = minji.bearer();
    let key = fresh();
    let send = |kind: &str, body: &[u8]| {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind), ("idempotency-key", key.as_str())];
        raw(&server, &request("POST", "/v1/changes", &headers, body))
    };
    let good = br#"{"set_name":{"name":"M"}}"#;
    assert_eq!(send("text/plain", good).error(), (415, "unsupported_media_type"));
    assert_eq!(send("application/x-www-form-urlencoded", b"a=b").error(), (415, "unsupported_media_type"));
    assert_eq!(send("application/json; charset=utf-8", good).status, 200);
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 12] = [
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        deep.as_bytes(),
        br#"{"set_name":{"name":"\ud800"}}"#,
        br#"{"set_name":{"name":1}}"#,
        br#"{"set_name":{"name":"a","x":1}}"#,
        br#"{"leave":{"room":1e400}}"#,
        br#"{"leave":{"room":-0}}"#,
        br#"{"leave":{"room":18446744073709551616}}"#,
        br#"{"open_archive":{"key":"no key","name":"x"}}"#,
    ];
    for body in bodies {
        let answer = send("application/json", body);
        assert_eq!(answer.error(), (400, "bad_request"), "{}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        assert!(answer.body["detail"].is_string());
    }
    assert_eq!(send("application/json", &vec![b' '; 262_145]).error(), (413, "too_large"));
    // Without a length, in chunks: the bound is on what comes.
    let head = format!(
        "POST /v1/changes HTTP/1.1\r\nhost: ieum\r\nauthorization: {bearer}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let bytes = format!("{head}{}0\r\n\r\n", chunk.repeat(5));
    assert_eq!(raw(&server, bytes.as_bytes()).error(), (413, "too_large"));
    let announced = head.replace("transfer-encoding: chunked", "content-length: 99999999999");
    assert_eq!(raw(&server, announced.as_bytes()).error(), (413, "too_large"));
    server.is_sound();
}

#[test]
fn headers_and_queries() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let change = r#"{"set_name":{"name":"M"}}"#;
    for key in ["", " ", "a b", &"k".repeat(201)] {
        let answer = minji.call(&server, "POST", "/v1/changes", &[("idempotency-key", key)], change);
        assert_eq!(answer.error(), (400, "bad_request"), "{key:?}");
    }
    assert_eq!(minji.call(&server, "POST", "/v1/changes", &[], change).error(), (400, "bad_request"));
    let mut not_utf8 = request("GET", "/v1/me", &[("authorization", &minji.bearer())], b"");
    let end = not_utf8.len() - 2;
    not_utf8.splice(end..end, *b"ieum-seen: \xff\r\n");
    assert_eq!(raw(&server, &not_utf8).error(), (400, "bad_request"));
    for query in ["limit=x", "limit=-1", "limit=99999999999999999999", "x=1", "after=1e3", "limit=1&limit=2"] {
        assert_eq!(minji.get(&server, &format!("/v1/rooms?{query}")).error(), (400, "bad_request"), "{query}");
    }
    for query in ["limit=0", "limit=18446744073709551615", "after=18446744073709551615"] {
        minji.get(&server, &format!("/v1/rooms?{query}")).ok();
    }
    for handle in ["%ff", "%00", "a%2f", &"h".repeat(5_000)] {
        assert!([200, 400].contains(&minji.get(&server, &format!("/v1/users?handle={handle}")).status), "{handle}");
    }
    let huge = ["x-header", &"v".repeat(60_000)];
    let mut bytes = request("GET", "/v1/me", &[(huge[0], huge[1])], b"");
    assert_eq!(raw(&server, &bytes).status, 431);
    bytes = b"GET / HTTP/1.1\r\n".to_vec();
    (0..500).for_each(|n| bytes.extend_from_slice(format!("h{n}: v\r\n").as_bytes()));
    bytes.extend_from_slice(b"\r\n");
    assert_eq!(raw(&server, &bytes).status, 431);
    assert_eq!(raw(&server, b"NONSENSE\r\n\r\n").status, 400);
    server.is_sound();
}

#[test]
fn what_an_address_does_not_take_is_refused() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let bearer = minji.bearer();
    let refused = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let all = [&[("authorization", bearer.as_str())], headers].concat();
        let answer = raw(&server, &request(method, path, &all, body.as_bytes()));
        assert_eq!(answer.error(), (400, "bad_request"), "{method} {path} {headers:?}");
        assert!(answer.body["detail"].is_string());
    };
    // Paths that are no UTF-8.
    for path in ["/v1/rooms/%ff", "/v1/rooms/%ff/messages", "/v1/rooms/%c3%28/members", "/v1/users/%ed%a0%80"] {
        refused("GET", path, &[], "");
    }
    refused("DELETE", "/v1/devices/%ff", &[("idempotency-key", "k")], "");
    refused("GET", "/problems/%ff", &[], "");
    // Queries, and bodies where there are none.
    for path in ["/v1/me", "/v1/devices", "/v1/rooms/7", "/v1/rooms/7/receipts", "/v1/socket"] {
        refused("GET", &format!("{path}?limit=1"), &[], "");
    }
    for path in ["/v1/me", "/v1/rooms", "/v1/users?handle=minji", "/v1/rooms/7/messages"] {
        refused("GET", path, &[("content-type", "application/json")], "{}");
    }
    let (json, key) = (("content-type", "application/json"), ("idempotency-key", "k"));
    refused("POST", "/v1/changes?x", &[json, key], r#"{"set_name":{"name":"M"}}"#);
    refused("POST", "/v1/tokens?device=1", &[json], "{}");
    refused("DELETE", "/v1/devices/7", &[json, key], "{}");
    // Headers of which there is one.
    for (name, value) in [("authorization", bearer.as_str()), ("ieum-seen", "1.1"), json, key] {
        let first = if name == "authorization" { vec![] } else { vec![(name, value)] };
        refused("GET", "/v1/me", &[first, vec![(name, value)]].concat(), "");
    }
    // An empty query is none, and pages for people and probes do not mind.
    for path in ["/v1/me?", "/?from=mail", "/healthz?x=1", "/openapi.json?v=2"] {
        assert_eq!(raw(&server, &request("GET", path, &[("authorization", &bearer)], b"")).status, 200, "{path}");
    }
    server.is_sound();
}

#[test]
fn registrations_that_are_wrong() {
    let server = Server::start();
    let ask = |member: &str, value: serde_json::Value| {
        let mut body = registration("minji", &secret());
        body[member] = value;
        post(&server, "/v1/accounts", &[("idempotency-key", &fresh())], &body)
    };
    for handle in ["", "ab", "Minji", "min ji", "민지", "a/b", &"h".repeat(31), &"h".repeat(100_000)] {
        assert_eq!(ask("handle", json!(handle)).error(), (422, "handle_invalid"), "{handle}");
    }
    for member in ["name", "device"] {
        for name in ["", " ", "a\u{0}", "a\u{85}b", &"n".repeat(51)] {
            assert_eq!(ask(member, json!(name)).error(), (422, "name_invalid"), "{member} {name:?}");
        }
    }
    for password in ["", "7 chars", &"p".repeat(201), &"p".repeat(200_000)] {
        assert_eq!(ask("password", json!(password)).error(), (422, "password_invalid"));
    }
    for wrong in ["", "short", &"A".repeat(44), &"=".repeat(43), &"A".repeat(100_000)] {
        assert_eq!(ask("secret", json!(wrong)).error(), (400, "bad_request"));
    }
    let mut without = registration("minji", &secret());
    without.as_object_mut().unwrap().remove("secret");
    let answer = post(&server, "/v1/accounts", &[("idempotency-key", &fresh())], &without);
    assert_eq!(answer.error(), (400, "bad_request"), "the client makes it");
    server.is_sound();
}

#[test]
fn requests_in_a_row_on_one_connection_are_answered_in_order() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let bearer = minji.bearer();
    let one = |path: &str| request("GET", path, &[("authorization", &bearer)], b"");
    let mut stream = connect(&server);
    let paths = ["/v1/me", "/v1/rooms/7", "/v1/devices", "/nowhere"];
    let all: Vec<u8> = paths.iter().cycle().take(100).flat_map(|path| one(path)).collect();
    stream.write_all(&all).unwrap();
    for status in [200, 404, 200, 404].iter().cycle().take(100) {
        assert_eq!(answer(&mut stream).unwrap().status, *status);
    }
    // One who has said all that they have to say is still answered.
    stream.write_all(&one("/v1/me")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut stream).map(|answer| answer.status), Some(200));
}

#[test]
fn the_description_names_the_positions() {
    let server = Server::start();
    let document = raw(&server, &request("GET", "/openapi.json", &[], b"")).body;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|p| p["name"] == "ieum-seen" && p["in"] == "header"), "{method} {path}");
            for response in operation["responses"].as_object().unwrap().values() {
                assert!(response["headers"]["ieum-position"].is_object(), "{method} {path}");
            }
        }
    }
}
