//! A reader of the log: it reads history until it is near the end, then watches one member, and begins anew when that one skips, hangs
//! or dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ieum_log::{Entry, Error, Position, Result};
use ieum_planted::Bug;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until, timeout};

use crate::Inner;
use crate::assemble::{Assembler, Batch, Broken, Cursor};
use crate::error::{CallError, CompactedElsewhere, Torn, chain, failed};
use crate::history::{batches, counted, places};
use crate::keys::Placed;
use crate::lag::Lag;
use crate::proto::{WatchCreateRequest, WatchRequest, watch_request};
use crate::rpc::{Connection, Watch};

/// How many batches are read ahead of the one who reads.
const AHEAD: usize = 32;
/// How long a member may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(1);
/// Between attempts, lest a member that refuses every watch at once keeps the node busy.
const PAUSE: Duration = Duration::from_millis(20);

/// A reader of an [`crate::Etcd`] log.
#[derive(Debug)]
pub struct Tail {
    batches: mpsc::Receiver<std::result::Result<Entry, End>>,
    end: Option<End>,
    reader: AbortHandle,
}

/// What a tail ends with.
#[derive(Debug, Clone)]
enum End {
    Trimmed { after: Position, trimmed: Position },
    Foreign(String),
    Compacted,
    Damaged(Torn),
    Closed,
}

impl End {
    fn error(&self) -> Error {
        let operation = "reading the log";
        match self.clone() {
            Self::Trimmed { after, trimmed } => Error::Trimmed { after, trimmed },
            Self::Foreign(reason) => Error::Foreign(reason),
            Self::Compacted => failed(operation)(CompactedElsewhere),
            Self::Damaged(torn) => failed(operation)(torn),
            Self::Closed => Error::Closed,
        }
    }
}

impl Tail {
    /// A reader that goes on behind `cursor`.
    pub(crate) fn start(inner: Arc<Inner>, cursor: Cursor) -> Self {
        let (sender, batches) = mpsc::channel(AHEAD);
        let reader = Reader { inner, cursor, shown: None, sender, avoided: None };
        let reader = tokio::spawn(reader.run()).abort_handle();
        Self { batches, end: None, reader }
    }
}

impl ieum_log::Tail for Tail {
    async fn next(&mut self) -> Result<Entry> {
        if let Some(end) = &self.end {
            return Err(end.error());
        }
        match self.batches.recv().await {
            Some(Ok(entry)) => Ok(entry),
            Some(Err(end)) => Err(self.end.insert(end).error()),
            // The task ends only with an end, or with its runtime.
            None => Err(self.end.insert(End::Closed).error()),
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Why a watch is not gone on with.
enum Stop {
    /// It is begun anew, not at the same member.
    Move(String),
    End(End),
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// The task behind a tail.
struct Reader {
    inner: Arc<Inner>,
    cursor: Cursor,
    /// The batch where it stands, as soon as it has seen one.
    shown: Option<Placed>,
    sender: mpsc::Sender<std::result::Result<Entry, End>>,
    /// The member whose watch was given up last.
    avoided: Option<usize>,
}

impl Reader {
    async fn run(mut self) {
        let end = loop {
            match self.catch_up().await {
                Ok(()) => {}
                Err(CallError::Log(Error::Closed)) => break End::Closed,
                Err(CallError::Log(Error::Foreign(reason))) => break End::Foreign(reason),
                Err(CallError::Log(Error::Trimmed { after, trimmed })) => break End::Trimmed { after, trimmed },
                Err(CallError::Compacted) => match self.compacted().await {
                    Some(end) => break end,
                    None => continue,
                },
                Err(CallError::Log(error)) => {
                    tracing::warn!(error = chain(&error), "reading the log's history; trying again");
                    sleep(PAUSE).await;
                    continue;
                }
            }
            match self.watch().await {
                Stop::End(end) => break end,
                Stop::Move(reason) => {
                    tracing::warn!(reason, after = self.cursor.ordinal, "the tail begins a new watch");
                    sleep(PAUSE).await;
                }
            }
        };
        // Nobody may be left to hear it.
        let _ = self.sender.send(Err(end)).await;
    }

    /// Reads history up to the end as it is now.
    async fn catch_up(&mut self) -> std::result::Result<(), CallError> {
        let Inner { cluster, keys, .. } = &*Arc::clone(&self.inner);
        let ends = cluster.ends(keys).await?;
        if ends.last < self.cursor.ordinal {
            let Cursor { ordinal, .. } = self.cursor;
            let reason = format!("the log ends at batch {}, but batch {ordinal} was in it", ends.last);
            return Err(Error::Foreign(reason).into());
        }
        self.check_trim(ends.trim.ordinal)?;
        self.check_history(ends.revision).await?;
        while self.cursor.ordinal < ends.last {
            if self.cursor.revision >= ends.revision {
                let torn = Torn { ordinal: self.cursor.ordinal, reason: "no revision has what follows".to_owned() };
                return Err(failed("reading the log")(torn).into());
            }
            let places = places(cluster, keys, self.cursor, ends.revision).await?;
            self.check_trim(places.trim.ordinal)?;
            let mut rest = places.found.as_slice();
            while !rest.is_empty() {
                let page = batches(cluster, keys, rest).await?;
                rest = rest.get(page.len()..).unwrap_or_default();
                for batch in page {
                    self.show(batch).await?;
                }
            }
            self.cursor.revision = places.cursor.revision;
        }
        Ok(())
    }

    /// Ends a reader that was overtaken by trimming.
    fn check_trim(&self, trimmed: u64) -> Result<()> {
        if trimmed > self.cursor.ordinal {
            let position = |ordinal| self.inner.position(ordinal);
            return Err(Error::Trimmed { after: position(self.cursor.ordinal), trimmed: position(trimmed) });
        }
        Ok(())
    }

    /// Ends a reader where the log has another batch than the one that it showed last: an older backup of etcd was restored and has grown
    /// since, so that the log's end does not tell.
    async fn check_history(&mut self, newest: i64) -> std::result::Result<(), CallError> {
        let Cursor { ordinal, revision } = self.cursor;
        if ordinal == 0 || Bug::EtcdHistoryUnchecked.planted() {
            return Ok(());
        }
        // etcd's revisions never go back either.
        let (last, placed) = match revision <= newest {
            true => counted(&self.inner.cluster, &self.inner.keys, revision).await?,
            false => (0, None),
        };
        if last != ordinal || self.shown.is_some_and(|shown| placed != Some(shown)) {
            let reason = format!(
                "the log has not the batch {ordinal} that this node was shown: an older backup of etcd was restored and has grown since"
            );
            return Err(Error::Foreign(reason).into());
        }
        self.shown = placed;
        Ok(())
    }

    /// What it means that the history behind the cursor is gone; none when that is not known.
    async fn compacted(&self) -> Option<End> {
        let ends = self.inner.cluster.ends(&self.inner.keys).await.ok()?;
        match self.check_trim(ends.trim.ordinal) {
            Err(Error::Trimmed { after, trimmed }) => Some(End::Trimmed { after, trimmed }),
            _ => Some(End::Compacted),
        }
    }

    async fn show(&mut self, batch: Batch) -> Result<()> {
        let entry =
            Entry { position: self.inner.position(batch.cursor.ordinal), id: batch.placed.id, bytes: batch.bytes };
        self.sender.send(Ok(entry)).await.map_err(|_| Error::Closed)?;
        (self.cursor, self.shown) = (batch.cursor, Some(batch.placed));
        self.inner.cluster.seen.fetch_max(batch.cursor.ordinal, Ordering::Relaxed);
        Ok(())
    }

    /// Watches one member until that does not go on.
    async fn watch(&mut self) -> Stop {
        let inner = Arc::clone(&self.inner);
        let mut changed = inner.cluster.changed.subscribe();
        if *changed.borrow_and_update() {
            return Stop::End(End::Closed);
        }
        let Some((at, connection)) = self.choose() else {
            // Whatever changes, it is looked again.
            let _ = timeout(Duration::from_secs(1), changed.changed()).await;
            return Stop::Move("no member can be used".to_owned());
        };
        let Some(member) = inner.cluster.members.get(at) else { return Stop::Move("no such member".to_owned()) };
        self.avoided = Some(at);
        let mut watch = match timeout(BEGIN, self.begin(&connection)).await {
            Ok(Ok(watch)) => watch,
            Ok(Err(reason)) => return Stop::Move(format!("{}: {reason}", member.endpoint)),
            Err(_) => return Stop::Move(format!("{}: it began no watch within {BEGIN:?}", member.endpoint)),
        };
        let mut assembler = Assembler::new(inner.keys.clone(), self.cursor);
        let mut acknowledged = inner.acknowledged.subscribe();
        let mut lag = Lag::new(self.cursor.ordinal, inner.cluster.started.elapsed());
        loop {
            let now = inner.cluster.started.elapsed();
            lag.known(*acknowledged.borrow_and_update(), now);
            let hangs_at = lag.hangs_at();
            let answer = tokio::select! {
                biased;
                answer = watch.next() => answer,
                _ = acknowledged.changed() => continue,
                () = sleep_until(inner.cluster.started + hangs_at.unwrap_or_default()), if hangs_at.is_some() => {
                    member.suspect.notify_one();
                    return Stop::Move(format!("{}: its watch does not show what was appended", member.endpoint));
                }
                () = member.down() => return Stop::Move(format!("{}: it is down", member.endpoint)),
            };
            let answer = match answer {
                Ok(Some(answer)) if !answer.canceled => answer,
                Ok(Some(answer)) => return Stop::Move(format!("{}: {}", member.endpoint, answer.cancel_reason)),
                Ok(None) => return Stop::Move(format!("{}: it ended the watch", member.endpoint)),
                Err(status) => {
                    member.suspect.notify_one();
                    return Stop::Move(format!("{}: {}", member.endpoint, chain(&status)));
                }
            };
            #[cfg(test)]
            let answer = inner.tamper.apply(answer);
            let mut complete = Vec::new();
            let result = assembler.take(answer, &mut complete);
            for batch in complete {
                if self.show(batch).await.is_err() {
                    return Stop::End(End::Closed);
                }
            }
            lag.shown(self.cursor.ordinal, inner.cluster.started.elapsed());
            match result {
                Ok(()) => {}
                Err(Broken::Damaged(ordinal)) => {
                    let reason = "it is not what was appended".to_owned();
                    return Stop::End(End::Damaged(Torn { ordinal, reason }));
                }
                Err(broken) => {
                    inner.gaps.fetch_add(1, Ordering::Relaxed);
                    return Stop::Move(format!("{}: {broken}", member.endpoint));
                }
            }
        }
    }

    /// The member to watch: the first one in the order given that can be used, knows a leader and was not just given up.
    fn choose(&self) -> Option<(usize, Connection)> {
        let members = self.inner.cluster.members.iter().enumerate();
        let usable = members.filter_map(|(at, member)| Some((at, member.connection()?, member.is_leaderless())));
        let best = usable.min_by_key(|(at, _, leaderless)| (*leaderless, Some(*at) == self.avoided, *at));
        best.map(|(at, connection, _)| (at, connection))
    }

    /// Begins a watch behind the cursor.
    async fn begin(&self, connection: &Connection) -> std::result::Result<Watch, String> {
        let range = self.inner.keys.log();
        let create = WatchCreateRequest {
            key: range.first,
            range_end: range.end,
            start_revision: self.cursor.revision + 1,
            filters: vec![1],
            fragment: true,
        };
        let request = WatchRequest { request: Some(watch_request::Request::Create(create)) };
        let mut watch = connection.watch(request).await.map_err(|status| chain(&status))?;
        match watch.next().await.map_err(|status| chain(&status))? {
            Some(answer) if answer.created && !answer.canceled => Ok(watch),
            Some(answer) => Err(format!("it refused the watch: {}", answer.cancel_reason)),
            None => Err("it ended the watch".to_owned()),
        }
    }
}
