//! A client against a server on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use futures_util::SinkExt as _;
use ieum_client::store::{self, Identity, Memory, Saved, Store, Write};
use ieum_client::{Client, CommandId, Delivery, Failure, State, Stop, Trust, Why};
use ieum_protocol::errors::Code;
use ieum_protocol::frames::{Event, ServerFrame};
use support::{Server, identity, in_time, options, say, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_command_is_sent_acknowledged_and_its_event_delivered() {
    let server = Server::start().await;
    let (client, mut events) = Client::open(options(&[&server]), Memory::new()).unwrap();
    let mut peer = server.accept().await;
    let hello = peer.hello().await;
    assert_eq!((hello.device, hello.secret.as_str(), hello.cursor), (7, "secret", None));
    peer.welcome(0).await;
    assert_eq!(client.live().await, Ok(server.endpoint()));

    let submitted = tokio::spawn({
        let client = client.clone();
        async move { client.submit(say("안녕")).await }
    });
    let cmd = peer.cmd().await;
    assert_eq!((cmd.n, &cmd.change), (1, &say("안녕")));
    peer.send(&ServerFrame::Events { pos: "1.2".into(), list: vec![Event::Left { room: 3 }] }).await;
    peer.ack(1).await;
    assert_eq!(in_time(submitted).await.unwrap().unwrap().seq, Some(1));
    let list = until(&mut events, |delivery| match delivery {
        Delivery::Events { list, .. } => Some(list.clone()),
        _ => None,
    });
    assert_eq!(list.await, [Event::Left { room: 3 }]);
    client.close().await;
    assert_eq!(peer.next().await, None);
}

#[tokio::test]
async fn a_submission_survives_a_lost_connection() {
    let server = Server::start().await;
    let (client, _events) = Client::open(options(&[&server]), Memory::new()).unwrap();
    let mut peer = server.welcome(0).await;
    let submitted = tokio::spawn(async move { client.submit(say("hi")).await });
    let first = peer.cmd().await;
    drop(peer);
    let mut peer = server.welcome(1).await;
    assert_eq!(peer.cmd().await, first);
    peer.ack(1).await;
    assert!(in_time(submitted).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_client_told_of_another_network_connects_anew_and_sends_again() {
    let server = Server::start().await;
    let (client, _events) = Client::open(options(&[&server]), Memory::new()).unwrap();
    let mut before = server.welcome(0).await;
    let submitted = tokio::spawn({
        let client = client.clone();
        async move { client.submit(say("hi")).await }
    });
    let first = before.cmd().await;
    client.reconnect().await;
    assert_eq!(before.next().await, None);
    let mut after = server.welcome(0).await;
    assert_eq!(after.cmd().await, first);
    after.ack(1).await;
    assert!(in_time(submitted).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_server_that_hangs_is_left_for_another() {
    let (hung, well) = (Server::start().await, Server::start().await);
    let mut options = options(&[&hung]);
    options.timing.answer_ms = 50;
    options.timing.backoff_ms = 1;
    options.endpoints.push(well.endpoint());
    let (client, _events) = Client::open(options, Memory::new()).unwrap();
    // Whichever is tried first: the one that hangs takes the connection and says nothing.
    let _peer = well.welcome(0).await;
    assert_eq!(client.live().await, Ok(well.endpoint()));
}

/// The servers listen, so the system takes connections; what one of them takes nobody answers.
#[tokio::test]
async fn another_server_is_tried_beside_one_that_does_not_answer() {
    let (mute, well) = (Server::start().await, Server::start().await);
    let mut options = options(&[&mute, &well]);
    options.home = Some(mute.endpoint());
    // What hangs is not given up before the test is over.
    (options.timing.hedge_ms, options.timing.answer_ms) = (10, 1_000_000);
    let (client, _events) = Client::open(options, Memory::new()).unwrap();
    let mut waiting = mute.accept_tcp().await;
    let _peer = well.welcome(0).await;
    assert_eq!(client.live().await, Ok(well.endpoint()));
    // The one that was tried first is closed, and has heard no hello: nothing but the handshake's question.
    let mut heard = Vec::new();
    let _reset = in_time(waiting.read_to_end(&mut heard)).await;
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.starts_with("GET /v1/socket") && heard.ends_with("\r\n\r\n"), "{heard}");
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn what_was_posted_is_sent_by_the_next_process() {
    use ieum_client::{OpenError, Options};
    use ieum_protocol::frames::ClientFrame;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.ieum");
    let server = Server::start().await;
    let (client, _events) = Client::open(options(&[&server]), store::Disk::open(&path).unwrap()).unwrap();
    let id = client.post(say("hi")).await.unwrap();
    client.close().await;

    // Nobody has to say again who the device is.
    let again = Options::new(vec![server.endpoint()]);
    let (client, _events) = Client::open(again, store::Disk::open(&path).unwrap()).unwrap();
    let waiting = client.waiting().await.unwrap();
    assert_eq!((waiting[0].id, waiting[0].change()), (id, Some(say("hi"))));
    // The first process may have come as far as connecting.
    let mut peer = loop {
        let Some(mut peer) = server.accept_if_there().await else { continue };
        if let Some(ClientFrame::Hello(_)) = peer.next().await {
            peer.welcome(0).await;
            if let Some(ClientFrame::Cmd(cmd)) = peer.next().await {
                assert_eq!((cmd.n, cmd.id), (1, id.to_string()));
                break peer;
            }
        }
    };
    peer.ack(1).await;
    let other = Identity { device: 8, ..identity() };
    client.close().await;
    let error = Client::open(options(&[&server]).identity(other), store::Disk::open(&path).unwrap()).unwrap_err();
    assert!(matches!(error, OpenError::AnotherDevice { stored: 7, given: 8 }));
}

#[tokio::test]
async fn a_slow_app_stops_the_server_and_loses_nothing() {
    const FRAMES: u64 = 2_000;
    let server = Server::start().await;
    let mut options = options(&[&server]);
    options.deliveries = 4;
    let (client, mut events) = Client::open(options, Memory::new()).unwrap();
    let mut peer = server.welcome(0).await;
    let mut sent = 0;
    let mut blocked = false;
    let frame = |n: u64| {
        let name = format!("{n}:{}", "x".repeat(32 * 1024));
        let frame = ServerFrame::Events { pos: format!("1.{}", n + 2), list: vec![Event::Profile { name }] };
        Message::Text(serde_json::to_string(&frame).unwrap().into())
    };
    while sent < FRAMES && !blocked {
        // A frame that was fed is on its way, blocked or not.
        peer.outgoing.feed(frame(sent)).await.unwrap();
        sent += 1;
        blocked = tokio::time::timeout(Duration::from_millis(300), peer.outgoing.flush()).await.is_err();
    }
    assert!(blocked, "{sent} frames went out although nobody takes them");
    // Meanwhile the app can still submit.
    client.post(say("hi")).await.unwrap();
    let rest = tokio::spawn(async move {
        for n in sent..FRAMES {
            peer.outgoing.feed(frame(n)).await.unwrap();
        }
        peer.outgoing.flush().await.unwrap();
        peer
    });
    for n in 0..FRAMES {
        let name = until(&mut events, |delivery| match delivery {
            Delivery::Events { list, .. } => Some(list.clone()),
            Delivery::State(State::Waiting { why: Some(why), .. }) => panic!("{why:?}"),
            _ => None,
        });
        let list = name.await;
        assert!(matches!(&list[..], [Event::Profile { name }] if name.starts_with(&format!("{n}:"))), "{n}");
    }
    rest.await.unwrap();
}

#[tokio::test]
async fn an_observer_hears_everything_in_order() {
    const COUNT: u64 = 1_000;
    let server = Server::start().await;
    let (sender, mut heard) = mpsc::unbounded_channel();
    let observer = move |delivery| {
        if let Delivery::Outcome { id, result, .. } = delivery {
            sender.send((id, result.unwrap().seq)).unwrap();
        }
    };
    let mut options = options(&[&server]);
    options.requests = COUNT as usize;
    let client = Client::observe(options, Memory::new(), observer).unwrap();
    let mut peer = server.welcome(0).await;
    for n in 1..=COUNT {
        client.try_post(CommandId(n.into()), say("hi")).unwrap();
    }
    for n in 1..=COUNT {
        assert_eq!(peer.cmd().await.n, n);
        peer.ack(n).await;
    }
    for n in 1..=COUNT {
        assert_eq!(in_time(heard.recv()).await, Some((CommandId(n.into()), Some(n))));
    }
}

#[tokio::test]
async fn a_client_that_was_replaced_stops_and_says_so() {
    let server = Server::start().await;
    let (client, mut events) = Client::open(options(&[&server]), Memory::new()).unwrap();
    let mut peer = server.welcome(0).await;
    let submitted = tokio::spawn({
        let client = client.clone();
        async move { client.submit(say("hi")).await }
    });
    peer.cmd().await;
    peer.send(&ServerFrame::Bye(Code::Replaced.problem())).await;
    let stop = Stop::Told(Box::new(Code::Replaced.problem()));
    assert_eq!(in_time(submitted).await.unwrap(), Err(Failure::Stopped(stop.clone())));
    while events.next().await.is_some() {}
    assert_eq!(client.state(), State::Stopped(stop.clone()));
    assert_eq!(client.submit(say("late")).await, Err(Failure::Stopped(stop.clone())));
    assert_eq!(client.live().await, Err(stop));
}

#[tokio::test]
async fn a_server_that_takes_no_connection_says_why() {
    let server = Server::start().await;
    let (_client, mut events) = Client::open(options(&[&server]), Memory::new()).unwrap();
    let mut stream = server.accept_tcp().await;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let problem = Code::TooManySessions.problem();
    let body = serde_json::to_string(&problem).unwrap();
    let head = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let (why, for_ms) = until(&mut events, |delivery| match delivery {
        Delivery::State(State::Waiting { why, for_ms }) => Some((why.clone(), *for_ms)),
        _ => None,
    })
    .await;
    assert_eq!(why, Some(Why::Told(Box::new(problem))));
    assert!(for_ms >= 1_000);
}

struct Broken;

impl Store for Broken {
    fn identity(&mut self) -> Result<Option<Identity>, store::Error> {
        Ok(Some(identity()))
    }

    fn load(&mut self) -> Result<Saved, store::Error> {
        Ok(Saved::default())
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), store::Error> {
        if writes.iter().any(Write::must_last) { Err(store::Error::Other("disk full".into())) } else { Ok(()) }
    }

    fn blocks(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_sent() {
    let server = Server::start().await;
    let (client, _events) = Client::open(options(&[&server]), Broken).unwrap();
    let mut peer = server.welcome(0).await;
    client.live().await.unwrap();
    assert_eq!(client.post(say("hi")).await, Err(Failure::NotStored("disk full".into())));
    assert_eq!(client.submit(say("hi")).await, Err(Failure::NotStored("disk full".into())));
    client.close().await;
    assert_eq!(peer.next().await, None);
}

#[tokio::test]
async fn tls_is_spoken_with_those_whom_the_given_authorities_vouch_for() {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let server = Server::start_tls(config).await;
    let mut trusting = options(&[&server]);
    trusting.trust = Trust::authorities(made.cert.pem().as_bytes()).unwrap();
    let (client, _events) = Client::open(trusting, Memory::new()).unwrap();
    let mut peer = server.welcome(0).await;
    let submitted = tokio::spawn(async move { client.submit(say("hi")).await });
    peer.cmd().await;
    peer.ack(1).await;
    assert!(in_time(submitted).await.unwrap().is_ok());

    let (_client, mut events) = Client::open(options(&[&server]), Memory::new()).unwrap();
    server.accept_in_vain().await;
    let why = until(&mut events, |delivery| match delivery {
        Delivery::State(State::Waiting { why, .. }) => why.clone(),
        _ => None,
    });
    assert!(matches!(why.await, Why::Unreachable(_)));
    assert!(Trust::authorities(b"no certificate").is_err());

    // Beside those that browsers trust.
    let mut trusting = options(&[&server]);
    trusting.trust = Trust::web_and(made.cert.pem().as_bytes()).unwrap();
    let (client, _events) = Client::open(trusting, Memory::new()).unwrap();
    let _peer = server.welcome(0).await;
    assert_eq!(client.live().await, Ok(server.endpoint()));
    assert!(Trust::web_and(b"no certificate").is_err());
}
