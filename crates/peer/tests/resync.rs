//! A node whom the log has left behind is brought back by another, over a real connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{ABOUT, CALLER, CELL, Member, peer, report, serve, shelf, start};
use futures_util::StreamExt as _;
use ieum_core::apply::position_alone;
use ieum_core::codec::{Code as _, put_varint};
use ieum_core::commands::LEVEL;
use ieum_core::commands::operate::AddNode;
use ieum_core::ids::Position;
use ieum_core::kv::Kv as _;
use ieum_core::tables::accounts::HANDLES;
use ieum_core::tables::cell::{Applied, ONLY, SETTINGS, Settings};
use ieum_drill::unsynced::{self, Mount};
use ieum_log::memory::Memory as Shared;
use ieum_log::sqlite::{Journal, Meta};
use ieum_log::{BatchId, Entry, Log};
use ieum_node::folder::{self, Folder};
use ieum_node::leases::Lent;
use ieum_node::peers::{Phase, Report};
use ieum_node::progress::unwatched;
use ieum_node::{core_position, log_position, service, snapshot, verify};
use ieum_peer::client::{Caller, Error as PeerError, Peer};
use ieum_peer::resync::{Came, Error, begin_anew, bring_back};
use ieum_peer::server::{self, Offer};
use ieum_peer::shelf::{Refusal, Shelf};
use ieum_store::memory::Memory;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A cell of two nodes of which only the first runs, and whose log has forgotten its first batches.
async fn left_behind() -> (TempDir, Arc<Shared>, Member, Folder) {
    let root = tempfile::tempdir().unwrap();
    let log = Arc::new(Shared::new(1));
    let mut first = start(&log, &root.path().join("1"), 1).await;
    first.ask(AddNode { node: 2, dc: "2".into(), level: ieum_core::commands::LEVEL, cell: CELL }).await;
    first.register(0..20).await;
    let folder = Folder::new(root.path().join("2"));
    (root, log, first, folder)
}

async fn back(folder: &Folder, log: &Shared, peers: &[Peer]) -> Result<Came, Error> {
    bring_back(folder, &ABOUT, log, peers, &Shelf::default()).await
}

async fn forget(log: &Shared) {
    log.trim(log.last().await.unwrap()).await.unwrap();
}

/// Log and journal.
async fn forget_all(log: &Shared, member: &Member) {
    let position = member.journal.last();
    log.trim(position).await.unwrap();
    member.journal.trim(position).await.unwrap();
}

/// The second node starts and has everybody.
async fn comes_back(log: &Arc<Shared>, folder: &Folder, first: Member, people: u32) {
    let mut second = start(log, folder.root(), 2).await;
    second.register(people..people + 1).await;
    let view = second.node.handle().view();
    for person in 0..=people {
        assert!(HANDLES.get(&view, &format!("person{person}")).unwrap().is_some(), "{person}");
    }
    drop(view);
    let position = core_position(log.last().await.unwrap());
    for member in [&first, &second] {
        member.node.handle().reach(position).await;
    }
    first.stop().await;
    second.stop().await;
    assert_eq!(verify::offline(folder, CELL, unwatched()).unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_empty_gets_a_snapshot_and_what_follows() {
    let (_root, log, mut first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    let peers = [peer(&first.offer().await)];
    let came = back(&folder, &log, &peers).await.unwrap();
    assert!(matches!(came, Came::FromSnapshot(_)), "{came:?}");
    first.register(20..30).await;
    assert!(folder.copied().unwrap().is_some(), "its view is no vote of its own");
    comes_back(&log, &folder, first, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_gets_batches() {
    let (_root, log, mut first, folder) = left_behind().await;
    start(&log, folder.root(), 2).await.stop().await;
    first.register(20..30).await;
    forget(&log).await;
    first.register(30..31).await;
    let peers = [peer(&first.offer().await)];
    assert_eq!(back(&folder, &log, &peers).await.unwrap(), Came::FromJournal);
    assert_eq!(back(&folder, &log, &[]).await.unwrap(), Came::FromLog, "now nobody is needed");
    assert_eq!(folder.copied().unwrap(), None, "what it has applied itself is no copy");
    comes_back(&log, &folder, first, 31).await;
}

/// The copy breaks off, again and again; what has arrived is not asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_breaks_off_is_gone_on_with() {
    let (root, log, first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    let (meta, whole) = snapshot::take(first.view.as_ref(), root.path(), unwatched()).unwrap();
    let content = std::fs::read(&whole).unwrap();
    // What an earlier try has left behind: the first half, and a piece of another snapshot.
    std::fs::create_dir_all(folder.snapshots()).unwrap();
    let part = folder.snapshots().join(format!("{}.part", meta.position));
    std::fs::write(&part, &content[..content.len() / 2]).unwrap();
    std::fs::write(folder.snapshots().join("1.1.part"), b"old").unwrap();
    // The half that is not asked for again is not there to be sent.
    let served = root.path().join("served");
    let mut second_half = vec![0; content.len() / 2];
    second_half.extend_from_slice(&content[content.len() / 2..]);
    std::fs::write(&served, second_half).unwrap();
    let position = meta.position;
    let peers = [peer(&first.offer_snapshot(move |_| Ok(Lent::kept(position, served.clone()))).await)];
    let came = back(&folder, &log, &peers).await.unwrap();
    assert_eq!(came, Came::FromSnapshot(position));
    let left: Vec<_> = std::fs::read_dir(folder.snapshots()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    comes_back(&log, &folder, first, 20).await;
}

/// A snapshot that is not what was written does not become a view; another node's does.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_refused_and_another_node_helps() {
    let (root, log, first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    let (meta, file) = snapshot::take(first.view.as_ref(), root.path(), unwatched()).unwrap();
    let mut content = std::fs::read(&file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&file, content).unwrap();
    let position = meta.position;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let damaged = first
        .offer_snapshot(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Lent::kept(position, file.clone()))
        })
        .await;
    let error = back(&folder, &log, &[peer(&damaged)]).await.unwrap_err();
    assert!(
        matches!(&error, Error::NoPeer { reasons, .. } if reasons.iter().any(|r| r.contains("damaged"))),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.snapshots()).unwrap().count(), 0, "nothing is kept of it");
    let peers = [peer(&damaged), peer(&first.offer().await)];
    back(&folder, &log, &peers).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    comes_back(&log, &folder, first, 20).await;
}

/// Its connection lives, and nothing comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_hangs_is_passed_over() {
    let (_root, log, first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    let (hangs, until) = std::sync::mpsc::channel::<()>();
    let until = std::sync::Mutex::new(until);
    let hanging = first
        .offer_snapshot(move |_| {
            // Until the test is over.
            let _ = until.lock().unwrap().recv();
            Err("it hung".to_owned())
        })
        .await;
    let peers = [peer(&hanging).with_patience(Duration::from_millis(50)), peer(&first.offer().await)];
    let came = back(&folder, &log, &peers).await.unwrap();
    assert!(matches!(came, Came::FromSnapshot(_)), "{came:?}");
    let error = begin_anew(&folder, &ABOUT, log.as_ref(), &peers[..1]).await.unwrap_err();
    assert!(error.to_string().contains("has given nothing for 50ms"), "{error}");
    drop(hangs);
    comes_back(&log, &folder, first, 20).await;
}

/// Its journal's thread hangs in what it is to read.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_hangs_under_its_journal_is_passed_over() {
    let (_root, log, mut first, folder) = left_behind().await;
    start(&log, folder.root(), 2).await.stop().await;
    first.register(20..30).await;
    forget(&log).await;
    let disk = Mount::new(&unsynced::Options::default()).unwrap();
    let journal = Arc::new(Journal::open(disk.path().join("journal"), &ABOUT, 0).unwrap());
    let mut entries = first.journal.read(log_position(Position::new(1, 0))).await.unwrap();
    let last = entries.pop().unwrap();
    for entry in &entries {
        journal.put(entry).await.unwrap();
    }
    journal.flush().await.unwrap();
    disk.stick().unwrap();
    // It must be on the disk before anything is read.
    journal.put(&last).await.unwrap();
    let hanging = serve(&journal, |_| Err("not here".to_owned())).await;
    let hanging = peer(&hanging).with_patience(Duration::from_millis(50));
    let error = back(&folder, &log, std::slice::from_ref(&hanging)).await.unwrap_err();
    assert!(error.to_string().contains("has given nothing for 50ms"), "{error}");
    let sound = peer(&first.offer().await);
    assert_eq!(back(&folder, &log, &[hanging, sound]).await.unwrap(), Came::FromJournal);
    disk.unstick().unwrap();
    comes_back(&log, &folder, first, 30).await;
}

/// An etcd that was restored from an older backup, and has grown since: its length says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_another_batch_where_the_journal_ends_is_refused() {
    let (root, log, first, folder) = left_behind().await;
    start(&log, folder.root(), 2).await.stop().await;
    first.stop().await;
    let other = Arc::new(Shared::new(1));
    let mut stranger = start(&other, &root.path().join("other"), 1).await;
    let short = back(&folder, &other, &[]).await.unwrap_err();
    assert!(matches!(short, Error::LogBehind { .. }), "{short}");
    stranger.register(100..140).await;
    let refused = back(&folder, &other, &[]).await.unwrap_err();
    assert!(matches!(&refused, Error::OtherHistory { whose, .. } if whose == "the log"), "{refused}");
    // That log has forgotten the batch; the others have not.
    forget(&other).await;
    let refused = back(&folder, &other, &[peer(&stranger.offer().await)]).await.unwrap_err();
    assert!(matches!(&refused, Error::OtherHistory { whose, .. } if whose.starts_with("the node at")), "{refused}");
    stranger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_cell_or_of_another_log_is_refused() {
    let (_root, log, first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    let peers = [peer(&first.offer().await)];
    let of_another = Meta { cell: 4, ..ABOUT };
    let refused = bring_back(&folder, &of_another, log.as_ref(), &peers, &Shelf::default()).await.unwrap_err();
    assert!(refused.to_string().contains("it is of cell 3, not of cell 4"), "{refused}");
    std::fs::remove_dir_all(folder.root()).unwrap();
    let short = Shared::new(1);
    let refused = begin_anew(&folder, &ABOUT, &short, &peers).await.unwrap_err();
    assert!(refused.to_string().contains("though the log ends at 1.0"), "{refused}");
    std::fs::remove_dir_all(folder.root()).unwrap();
    back(&folder, &log, &peers).await.unwrap();
    comes_back(&log, &folder, first, 20).await;
}

/// What it gives would make the newcomer's view differ, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_view_differs_gives_no_snapshot() {
    let (_root, log, first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    let out = peer(&first.offer().await);
    first.report.send_replace(Report { phase: Phase::Out, ..report(1) });
    let refused = back(&folder, &log, &[out]).await.unwrap_err();
    assert!(refused.to_string().contains("its view differs"), "{refused}");
    first.stop().await;
}

/// Its journal reaches the log, so that batches are not what it needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_sound_journal_without_a_view_begins_anew_from_another_node() {
    let (_root, log, first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    let peers = [peer(&first.offer().await)];
    back(&folder, &log, &peers).await.unwrap();
    let options = Default::default();
    let open = || folder.open_shared(&ABOUT, Arc::clone(&log), &options);
    let opened = open().await.unwrap();
    service::catch_up(opened.log.as_ref(), Arc::clone(&opened.view), LEVEL, None).await.unwrap();
    drop(opened);
    std::fs::remove_dir_all(folder.view()).unwrap();
    std::fs::remove_dir_all(folder.snapshots()).unwrap();
    assert_eq!(back(&folder, &log, &peers).await.unwrap(), Came::FromLog);
    let lacking = open().await.err().unwrap();
    assert!(matches!(lacking, folder::Error::NothingToRebuildFrom { .. }), "{lacking}");
    begin_anew(&folder, &ABOUT, log.as_ref(), &peers).await.unwrap();
    comes_back(&log, &folder, first, 20).await;
}

/// A connection that is cut on the way does not begin anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_cut_off_goes_on_where_it_was() {
    const ROWS: u8 = 80;
    let (root, log, first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    let position = core_position(log.last().await.unwrap());
    let view = Memory::default();
    let mut rows = position_alone(&Applied { position, digest: [0; 32] });
    for row in 0..ROWS {
        // Such that it cannot be compressed.
        let mut bytes = vec![0; 64 * 1024];
        blake3::Hasher::new_derive_key("rows").update(&[row]).finalize_xof().fill(&mut bytes);
        rows.rows.insert(vec![0xfe, row], Some(bytes.into()));
    }
    let settings = SETTINGS.get(&first.view.snapshot(), &ONLY).unwrap().unwrap();
    rows.rows.insert(SETTINGS.key(&ONLY), Some(settings.to_bytes().into()));
    view.commit(&rows).unwrap();
    let (_, file) = snapshot::take(&view, root.path(), unwatched()).unwrap();
    let size = usize::try_from(std::fs::metadata(&file).unwrap().len()).unwrap();
    let offered = first.offer_snapshot(move |_| Ok(Lent::kept(position, file.clone()))).await;
    let cut = Cut::before(&offered, size / 2).await;
    let came = back(&folder, &log, &[peer(&cut.address)]).await.unwrap();
    assert_eq!(came, Came::FromSnapshot(position));
    let sent = cut.sent.load(Ordering::Relaxed);
    assert!(sent > size && sent < size * 3 / 2, "{sent} bytes for {size}");
    first.stop().await;
}

/// Stands before a node and cuts the first connection off after so many bytes.
struct Cut {
    address: String,
    /// To those who ask, over all connections.
    sent: Arc<AtomicUsize>,
}

impl Cut {
    async fn before(node: &str, mut after: usize) -> Self {
        let node = node.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        tokio::spawn(async move {
            loop {
                let (asking, _) = listener.accept().await.unwrap();
                let mut answering = TcpStream::connect(&node).await.unwrap();
                let (mut ask, mut hear) = asking.into_split();
                let (mut answer, mut listen) = answering.split();
                let told = async {
                    let mut bytes = vec![0; 16 * 1024];
                    while let Ok(read @ 1..) = answer.read(&mut bytes).await {
                        let cut = counted.fetch_add(read, Ordering::Relaxed) + read >= after;
                        if cut || hear.write_all(bytes.get(..read).unwrap_or_default()).await.is_err() {
                            break;
                        }
                    }
                };
                tokio::select! {
                    () = told => {}
                    _ = tokio::io::copy(&mut ask, &mut listen) => {}
                }
                after = usize::MAX;
            }
        });
        Self { address, sent }
    }
}

/// What is behind a node that has nothing takes longer to apply than a snapshot to load; but where nobody gives one it is applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_asked_for_when_there_is_much_to_apply() {
    const BATCHES: u64 = 24;
    let root = tempfile::tempdir().unwrap();
    let (log, folder) = (Shared::new(1), Folder::new(root.path().join("2")));
    let journal = Arc::new(Journal::open(root.path().join("1"), &ABOUT, 0).unwrap());
    for number in 1..=BATCHES {
        let id = BatchId { node: 1, incarnation: 1, number };
        // All that counts is how long it says that it is.
        let mut bytes = vec![1];
        put_varint(&mut bytes, 400 * 1024);
        let bytes = Bytes::from(bytes);
        let position = log.append(id, bytes.clone()).await.unwrap();
        journal.put(&Entry { position, id, bytes }).await.unwrap();
    }
    forget(&log).await;
    let position = core_position(journal.last());
    let view = Memory::default();
    let mut rows = position_alone(&Applied { position, digest: [0; 32] });
    let settings = Settings { cell: CELL, level: 1, edit_limit: 0, delete_limit: 0, horizon: 0 };
    rows.rows.insert(SETTINGS.key(&ONLY), Some(settings.to_bytes().into()));
    view.commit(&rows).unwrap();
    let (_, file) = snapshot::take(&view, root.path(), unwatched()).unwrap();
    let refusing = serve(&journal, |_| Err("no room for one".to_owned())).await;
    assert_eq!(back(&folder, &log, &[peer(&refusing)]).await.unwrap(), Came::FromJournal);
    std::fs::remove_dir_all(folder.root()).unwrap();
    let kept = file.clone();
    let giving = serve(&journal, move |_| Ok(Lent::kept(position, file.clone()))).await;
    let came = back(&folder, &log, &[peer(&refusing), peer(&giving)]).await.unwrap();
    assert_eq!(came, Came::FromSnapshot(position));
    std::fs::remove_dir_all(folder.root()).unwrap();
    let soon = gives_soon(&journal, move |_| Ok(Lent::kept(position, kept.clone()))).await;
    assert_eq!(back(&folder, &log, &[soon]).await.unwrap(), Came::FromSnapshot(position), "it has yet to compare");
}

/// One that was just started, and gives a snapshot when it is asked for the second time.
async fn gives_soon(
    journal: &Arc<Journal>,
    snapshot: impl Fn(Option<Position>) -> Result<Lent, String> + Send + Sync + 'static,
) -> Peer {
    let (listener, shelf) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), shelf(journal, snapshot).await);
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = AtomicUsize::new(0);
    let refuses = move || asked.fetch_add(1, Ordering::SeqCst) == 0;
    shelf.put_doubt(Arc::new(move |_| {
        refuses().then(|| Refusal { why: "it was not compared yet".to_owned(), passes: true })
    }));
    let offer = Offer { cell: CELL, report: watch::channel(report(1)).1, shelf, met: Arc::new(|_| ()) };
    tokio::spawn(server::serve(offer, listener, None));
    peer(&address)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_help_it_says_whom_it_asked() {
    let (_root, log, first, folder) = left_behind().await;
    forget_all(&log, &first).await;
    // Nobody listens there any more.
    let nobody = format!("http://{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap());
    let error = back(&folder, &log, &[peer(&nobody)]).await.unwrap_err();
    assert!(error.to_string().contains(&nobody), "{error}");
    let other_cell = Peer::new(&first.offer().await, Caller { cell: 4, ..CALLER }, None).unwrap();
    let refused = back(&folder, &log, &[other_cell]).await.unwrap_err();
    assert!(refused.to_string().contains("of cell 4, this one of cell 3"), "{refused}");
    for text in ["::", "10.0.0.7:7400", "http://10.0.0.7", "ftp://10.0.0.7:7400"] {
        assert!(matches!(Peer::new(text, CALLER, None), Err(PeerError::Address { .. })), "{text}");
    }
    let secured = Peer::new("https://127.0.0.1:7400", CALLER, None);
    assert!(matches!(secured, Err(PeerError::Scheme { .. })), "{secured:?}");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_of_itself_is_heard_whenever_it_changes() {
    let (_root, _log, first, _folder) = left_behind().await;
    let mut heard = Box::pin(peer(&first.offer().await).watch(None).await.unwrap());
    assert_eq!(heard.next().await.unwrap().unwrap(), report(1));
    for phase in [Phase::Ready, Phase::Draining, Phase::Out] {
        let next = Report { phase, ..report(1) };
        first.report.send_replace(next.clone());
        assert_eq!(heard.next().await.unwrap().unwrap(), next);
    }
    first.stop().await;
}
