//! Marks of commands to skip that need every node's word.

use super::*;
use crate::keys::Agreed;

fn at(ordinal: u64) -> Position {
    Position { ordinal, ..START }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_marked_when_all_agree_and_their_word_counts_as_long_as_it_stands() {
    let cluster = InEtcd::new().await;
    let log = cluster.open().await;
    let mut writer = Writer::new(&log, 1).await;
    writer.append_some(&log, 3).await;
    let mark = (at(2), 1);
    assert!(log.agree(1, mark, true).await.unwrap() && log.agree(1, mark, true).await.unwrap());
    assert!(!log.skip_agreed(mark, &[1, 2]).await.unwrap(), "the second one has not");
    assert!(log.agree(2, mark, true).await.unwrap());
    assert_eq!(log.agreed().await.unwrap(), [(mark, 1), (mark, 2)]);
    assert!(log.agree(1, mark, false).await.unwrap());
    assert!(!log.skip_agreed(mark, &[1, 2]).await.unwrap(), "the first one does no longer");
    assert!(!log.skip_agreed((at(2), 0), &[2]).await.unwrap(), "it is another command");
    assert_eq!(log.skips().await.unwrap(), []);
    assert!(log.agree(1, mark, true).await.unwrap());
    // Nodes have in their journals what etcd forgets.
    log.trim(at(2)).await.unwrap();
    assert!(log.skip_agreed(mark, &[1, 2]).await.unwrap());
    assert_eq!(log.skips().await.unwrap(), [mark]);
    for stands in [true, false] {
        assert!(!log.agree(1, mark, stands).await.unwrap(), "it is marked");
        assert!(!log.agree(3, mark, stands).await.unwrap(), "it is marked");
    }
    assert_eq!(log.agreed().await.unwrap(), [(mark, 1), (mark, 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_agrees_to_skip_what_is_not_in_the_log() {
    let cluster = InEtcd::new().await;
    let log = cluster.open().await;
    Writer::new(&log, 1).await.append_some(&log, 1).await;
    for position in [at(0), at(2), Position { generation: 2, ordinal: 1 }] {
        let agreed = log.agree(1, (position, 0), true).await;
        assert!(matches!(agreed, Err(Error::NotInLog { .. })), "{position}: {agreed:?}");
        let marked = log.skip_agreed((position, 0), &[]).await;
        assert!(matches!(marked, Err(Error::NotInLog { .. })), "{position}: {marked:?}");
    }
    assert_eq!(log.agreed().await.unwrap(), []);
    assert!(log.agree(1, (at(1), 0), false).await.unwrap(), "nothing was to be taken back");
    assert_eq!(log.agreed().await.unwrap(), []);
    // What is written all the same stops a first request to agree that arrives only now.
    let said: Vec<_> = log.inner.agreed().await.unwrap().into_iter().map(|(said, _)| said).collect();
    assert_eq!(said, [Agreed { ordinal: 1, index: 0, node: 1, stands: false }]);
}
