//! A request that is repeated with its key is answered as it was.

use serde_json::json;

use crate::http::{PASSWORD, Person, fresh, post, registration, secret};
use crate::node::{Server, options};
use crate::socket::Socket;

#[test]
fn registering_and_signing_in_again_give_the_same_working_device() {
    let server = Server::start();
    let (secret, key) = (secret(), fresh());
    let body = registration("minji", &secret);
    let once = |body: &serde_json::Value| post(&server, "/v1/accounts", &[("idempotency-key", &key)], body);
    let made = once(&body).ok();
    assert_eq!(once(&body).ok(), made);
    Person::at(&server, "minji", &made, secret.clone());
    for (member, other) in [
        ("handle", json!("other")),
        ("name", json!("other")),
        ("device", json!("other")),
        ("password", json!("another password")),
        ("secret", json!(crate::http::secret())),
    ] {
        let mut changed = body.clone();
        changed[member] = other;
        assert_eq!(once(&changed).error(), (409, "idempotency_key_reused"), "{member}");
    }
    let (secret, key) = (crate::http::secret(), fresh());
    let body = json!({"handle": "minji", "password": PASSWORD, "device": "laptop", "secret": secret});
    let again = || post(&server, "/v1/devices", &[("idempotency-key", &key)], &body);
    let made = again().ok();
    assert_eq!(again().ok(), made);
    let laptop = Person::at(&server, "minji", &made, secret);
    // Also when the password has changed since.
    let change = json!({"old": PASSWORD, "new": "battery staple"}).to_string();
    laptop.call(&server, "PUT", "/v1/me/password", &[("idempotency-key", &fresh())], &change).ok();
    assert_eq!(again().ok(), made);
    assert_eq!(laptop.get(&server, "/v1/devices").ok()["devices"].as_array().unwrap().len(), 2);
}

#[test]
fn an_invitation_belongs_to_the_request() {
    let options = ieum_gateway::Options { registration: ieum_gateway::Registration::Invitation, ..options() };
    let server = Server::with(options);
    let key = fresh();
    let mut body = registration("minji", &secret());
    let ask = |body: &serde_json::Value| post(&server, "/v1/accounts", &[("idempotency-key", &key)], body);
    assert_eq!(ask(&body).error(), (403, "invitation_needed"));
    body["invitation"] = json!("one");
    assert_eq!(ask(&body).error(), (403, "invitation_invalid"));
    assert_eq!(ask(&body).error(), (403, "invitation_invalid"));
    body["invitation"] = json!("two");
    assert_eq!(ask(&body).error(), (409, "idempotency_key_reused"));
}

#[test]
fn a_password_change_is_answered_again() {
    let server = Server::start();
    let minji = Person::register(&server, "minji");
    let change = |key: &str, old: &str, new: &str| {
        let body = json!({"old": old, "new": new}).to_string();
        minji.call(&server, "PUT", "/v1/me/password", &[("idempotency-key", key)], &body)
    };
    let key = fresh();
    assert_eq!(change(&key, "wrong password", "battery staple").error(), (401, "password_wrong"));
    for _ in 0..2 {
        assert_eq!(change(&key, PASSWORD, "battery staple").status, 204);
    }
    assert_eq!(change(&key, PASSWORD, "something else").error(), (409, "idempotency_key_reused"));
    assert_eq!(change(&fresh(), PASSWORD, "something else").error(), (401, "password_wrong"));
    assert_eq!(change(&fresh(), "battery staple", "short").error(), (422, "password_invalid"));
}

#[test]
fn logging_out_oneself_is_acknowledged_and_what_is_no_device_of_ones_own_is_one_answer() {
    let server = Server::start();
    let [minji, dohyun] = ["minji", "dohyun"].map(|handle| Person::register(&server, handle));
    for device in [dohyun.device.to_string(), "7".to_owned(), "x".to_owned(), u64::MAX.to_string(), "-1".to_owned()] {
        let path = format!("/v1/devices/{device}");
        let answer = minji.call(&server, "DELETE", &path, &[("idempotency-key", &fresh())], "");
        assert_eq!(answer.error(), (403, "not_allowed"), "{device}");
    }
    let mut socket = Socket::live(&server, &minji);
    assert_eq!(socket.done(&json!({"log_out": {"device": dohyun.device}}))["error"]["code"], "not_allowed");
    let ack = socket.done(&json!({"log_out": {"device": minji.device}}));
    assert_eq!(ack["ok"], json!({}));
    assert_eq!(socket.bye()["code"], "logged_out");
    assert_eq!(minji.get(&server, "/v1/me").error(), (401, "logged_out"));
    let logged_out = post(&server, "/v1/tokens", &[], &json!({"device": minji.device, "secret": minji.secret}));
    assert_eq!(logged_out.error(), (401, "secret_wrong"));
    let path = format!("/v1/devices/{}", dohyun.device);
    let answer = dohyun.call(&server, "DELETE", &path, &[("idempotency-key", &fresh())], "");
    assert!(answer.status == 204 && answer.header("ieum-position").is_some());
}

#[test]
fn a_devices_rate_is_one_for_its_sessions_and_its_requests() {
    let mut options = options();
    options.limits.commands = ieum_gateway::options::Rate { per_second: 1, burst: 6 };
    let server = Server::with(options);
    let minji = Person::register(&server, "minji");
    let name = json!({"set_name": {"name": "M"}});
    let mut refused = 0;
    for _ in 0..3 {
        let mut socket = Socket::live(&server, &minji);
        for _ in 0..3 {
            socket.command(&name);
        }
        for _ in 0..3 {
            let answer = loop {
                match socket.get() {
                    crate::socket::Got::Text(frame) if frame.get("ack").is_some() => break None,
                    crate::socket::Got::Text(frame) if frame.get("refused").is_some() => break Some(frame),
                    crate::socket::Got::Text(_) => {}
                    other => panic!("{other:?}"),
                }
            };
            refused += usize::from(answer.is_some_and(|frame| frame["refused"]["pos"].is_string()));
        }
    }
    // One a second comes back, so a slow machine may get some more through.
    assert!(refused >= 1, "nine commands, six at once");
    let answers: Vec<u16> = (0..6).map(|_| minji.change(&server, &name).status).collect();
    assert!(answers.contains(&429), "{answers:?}");
}
