//! Nodes know each other by certificates that name them, and let go of whoever shows another one, or none, or takes too long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{CALLER, CELL, report};
use futures_util::StreamExt as _;
use ieum_drill::certificates::{Authority, CertificateParams, date_time_ymd, expired, node_name};
use ieum_drill::etcd::Certificates;
use ieum_node::peers::Report;
use ieum_peer::client::{Caller, Error, Peer};
use ieum_peer::server::{self, Offer};
use ieum_peer::shelf::Shelf;
use ieum_peer::tls::{Files, Tls, Unusable};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

fn authority(folder: &Path) -> Authority {
    Authority::new(folder).unwrap()
}

fn files(Certificates { authority, certificate, key }: Certificates) -> Files {
    Files { authority, certificate, key }
}

/// A certificate with these names, changed by `change`.
fn issue(by: &Authority, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Files {
    files(by.issue(names, change).unwrap())
}

fn node(by: &Authority, node: u32) -> Tls {
    Tls::read(&files(by.node(CELL, node).unwrap()), CELL, node).unwrap()
}

/// A node that says so of itself.
async fn serve(says: Report, tls: Option<Tls>) -> (String, watch::Sender<Report>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = format!("{scheme}://{}", listener.local_addr().unwrap());
    let report = watch::Sender::new(says);
    let offer =
        Offer { cell: CELL, report: report.subscribe(), shelf: Arc::new(Shelf::default()), met: Arc::new(|_| ()) };
    tokio::spawn(server::serve(offer, listener, tls));
    (address, report)
}

async fn first(address: &str, caller: Caller, tls: Option<Tls>) -> Result<Report, Error> {
    let reports = Peer::new(address, caller, tls)?.watch(None).await?;
    let report = Box::pin(reports).next().await;
    report.expect("a report")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_believed_as_the_one_that_its_certificate_names() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let tls = |number| node(&authority, number);
    let (address, _report) = serve(report(1), Some(tls(1))).await;
    assert_eq!(first(&address, CALLER, Some(tls(2))).await.unwrap(), report(1));
    let posing = first(&address, CALLER, Some(tls(3))).await.unwrap_err().to_string();
    assert!(posing.contains("names node 3, and it says that it is node 2"), "{posing}");
    let (posing, _report) = serve(report(1), Some(tls(3))).await;
    let error = first(&posing, CALLER, Some(tls(2))).await.unwrap_err().to_string();
    assert!(error.contains("names node 3, and it says that it is node 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| authority(&folder.path().join(name)));
    let (address, _report) = serve(report(1), Some(node(&ours, 1))).await;
    let error = first(&address, CALLER, Some(node(&theirs, 2))).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    // It trusts both authorities, the other one does not.
    let mut both = files(theirs.node(CELL, 2).unwrap());
    std::fs::write(&both.authority, format!("{}{}", ours.pem(), theirs.pem())).unwrap();
    let error = first(&address, CALLER, Some(Tls::read(&both, CELL, 2).unwrap())).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("does not take this node's certificate"), "{error}");
    both.authority = issue(&ours, &[], |_| ()).authority;
    assert!(matches!(Tls::read(&both, CELL, 2), Err(Unusable::Own { .. })), "it is looked at before it is used");
    let plain = first(&address.replace("https", "http"), CALLER, None).await.unwrap_err();
    assert!(matches!(plain, Error::Unreachable { .. } | Error::Garbage { .. }), "{plain}");
    let scheme = first(&address, CALLER, None).await.unwrap_err().to_string();
    assert!(scheme.contains("[peers] certificates"), "{scheme}");
}

/// Own certificates that the others would refuse are noticed before anything is done.
#[test]
fn certificates_that_the_others_would_refuse_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let name = node_name(CELL, 2);
    let refused = |names: &[&str], change: fn(&mut CertificateParams), says: &str| {
        let files = issue(&authority, names, change);
        let error = Tls::read(&files, CELL, 2).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(&files.certificate.display().to_string()), "{error}");
    };
    refused(&[&name], expired, "expired");
    refused(&[&name], |params| params.not_before = date_time_ymd(4000, 1, 1), "not valid yet");
    refused(&[&name], |params| drop(params.extended_key_usages.pop()), "client authentication");
    refused(&[], |_| (), "names no node, and this is node 2 of cell 3");
    refused(&["node-3.cell-3.ieum"], |_| (), "names node 3 of cell 3, and this is node 2 of cell 3");
    refused(&["node-2.cell-4.ieum"], |_| (), "DNS:node-2.cell-3.ieum");
    refused(&["node-2.cell-3.ieum", "node-3.cell-3.ieum"], |_| (), "several");
    let good = issue(&authority, &[&name], |_| ());
    let no_authority = Files { authority: good.key.clone(), ..good.clone() };
    assert!(matches!(Tls::read(&no_authority, CELL, 2), Err(Unusable::Authority { .. })));
    let gone = Files { key: folder.path().join("gone"), ..good };
    assert!(Tls::read(&gone, CELL, 2).unwrap_err().to_string().contains("gone"));
}

/// Those that an operator makes with the commands in the documents. Needs Debian's `openssl`.
#[test]
fn certificates_as_the_documents_make_them_are_taken() {
    let page = include_str!("../../../docs/operating/three-data-centers.md");
    let section = page.split("## Certificates").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    let folder = tempfile::tempdir().unwrap();
    let mut shell = std::process::Command::new("bash");
    let made = shell.arg("-ec").arg(commands.join("\n")).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| folder.path().join(name);
    let files = Files { authority: file("ca.pem"), certificate: file("node-1.pem"), key: file("node-1-key.pem") };
    Tls::read(&files, 1, 1).unwrap();
    let etcd = Files { certificate: file("etcd.pem"), key: file("etcd-key.pem"), ..files };
    assert!(matches!(Tls::read(&etcd, 1, 1), Err(Unusable::Name { .. })), "that of etcd is no node's");
}

/// One that accepts connections and says nothing, one that talks of something else, and one that hangs up.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_shake_hands_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let tls = node(&authority, 2);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let talker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = |listener: &TcpListener| format!("https://{}", listener.local_addr().unwrap());
    let urls = [url(&silent), url(&talker)];
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = talker.accept().await {
            // Whoever connects may be gone already.
            let _ = stream.write_all(b"220 smtp.example ESMTP\r\n").await;
        }
    });
    let slow = first(&urls[0], CALLER, Some(tls.clone())).await.unwrap_err().to_string();
    assert!(slow.contains("no connection within"), "{slow}");
    let garbage = first(&urls[1], CALLER, Some(tls)).await.unwrap_err();
    assert!(matches!(garbage, Error::Unreachable { .. }), "{garbage}");
    drop(silent);
}

/// By whatever address, with certificates and without.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_asks_itself_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    for tls in [None, Some(node(&authority, 2))] {
        let own = Report { life: CALLER.life, ..report(2) };
        let (address, _report) = serve(own, tls.clone()).await;
        let peer = Peer::new(&address, CALLER, tls).unwrap();
        assert!(matches!(peer.watch(None).await.err(), Some(Error::Itself { .. })));
        let batches = peer.batches(ieum_core::ids::Position::default()).await.err();
        assert!(matches!(batches, Some(Error::Itself { .. })), "{batches:?}");
    }
}

/// A node that is coming up answers others although it has nothing to give yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_coming_up_says_so() {
    let (address, _report) = serve(report(1), None).await;
    assert_eq!(first(&address, CALLER, None).await.unwrap(), report(1));
    let peer = Peer::new(&address, CALLER, None).unwrap();
    let error = peer.batches(ieum_core::ids::Position::default()).await.err().unwrap().to_string();
    assert!(error.contains("coming up"), "{error}");
}
