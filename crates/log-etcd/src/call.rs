//! A transaction through whichever member answers first.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ieum_log::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use crate::ends::Ends;
use crate::error::{CallError, Meaning, Refused, failed, meaning};
use crate::hedge::{Hedge, Next};
use crate::keys::Keys;
use crate::members::Cluster;
use crate::proto::{CompactionRequest, TxnRequest, TxnResponse};
use crate::txn::Answers;

/// After how long a try is given up. By then it was made again several times.
const TRY: Duration = Duration::from_secs(2);

type Tried = (usize, Instant, Result<TxnResponse, Status>);

impl Cluster {
    /// Makes a transaction, which MUST be one that may be made twice. It goes to another member when the first is slow or fails.
    pub(crate) async fn txn(&self, operation: &'static str, request: TxnRequest) -> Result<TxnResponse, CallError> {
        let mut changed = self.changed.subscribe();
        let slow = self.pace.lock().slow();
        let mut hedge = Hedge::new(self.members.len(), self.started.elapsed(), slow, self.patience);
        let mut tries: JoinSet<Tried> = JoinSet::new();
        let mut first = None;
        loop {
            if *changed.borrow_and_update() {
                return Err(Error::Closed.into());
            }
            let until = match hedge.next(self.started.elapsed(), &self.usable()) {
                Next::Send(at) => {
                    self.suspect(first, at);
                    first.get_or_insert(at);
                    self.spawn(&mut tries, at, request.clone());
                    continue;
                }
                Next::Wait(until) => self.started + until,
                Next::GiveUp => return Err(self.unreachable(operation).into()),
            };
            let tried = tokio::select! {
                Some(Ok(tried)) = tries.join_next() => tried,
                () = sleep_until(until) => continue,
                _ = changed.changed() => continue,
            };
            let (at, began, answer) = tried;
            match answer {
                Ok(answer) => {
                    self.pace.lock().took(began.elapsed());
                    if first != Some(at) {
                        self.preferred.store(at, Ordering::Relaxed);
                    }
                    return Ok(answer);
                }
                Err(status) => {
                    hedge.failed();
                    self.failed(operation, at, status, hedge.is_under_way())?;
                }
            }
        }
    }

    fn spawn(&self, tries: &mut JoinSet<Tried>, at: usize, request: TxnRequest) {
        let connection = self.members.get(at).and_then(crate::members::Member::connection);
        tries.spawn(async move {
            let began = Instant::now();
            let Some(connection) = connection else { return (at, began, Err(Status::unavailable("it went away"))) };
            let answer = timeout(TRY, connection.txn(request)).await;
            (at, began, answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {TRY:?}")))))
        });
    }

    /// A second member has to be asked: the first one is looked at.
    fn suspect(&self, first: Option<usize>, at: usize) {
        if let Some(first) = first.filter(|first| *first != at).and_then(|first| self.members.get(first)) {
            first.suspect.notify_one();
        }
    }

    /// Whether the request goes on after a refusal; else what it comes to.
    fn failed(&self, operation: &'static str, at: usize, status: Status, under_way: bool) -> Result<(), CallError> {
        let Some(member) = self.members.get(at) else { return Ok(()) };
        match meaning(&status) {
            Meaning::Again => {
                member.suspect.notify_one();
                Ok(())
            }
            Meaning::Compacted => Err(CallError::Compacted),
            // Another try may still have written.
            Meaning::Full if !under_way => Err(Error::Full.into()),
            Meaning::Full | Meaning::Never => {
                let refused = Refused { member: member.endpoint.to_string(), status };
                Err(failed(operation)(refused).into())
            }
        }
    }

    /// A transaction whose answers are read one by one.
    pub(crate) async fn ask(&self, operation: &'static str, request: TxnRequest) -> Result<Answers, CallError> {
        let answer = self.txn(operation, request).await?;
        Ok(Answers::new(answer).map_err(failed(operation))?)
    }

    /// Where the log begins and ends.
    pub(crate) async fn ends(&self, keys: &Keys) -> ieum_log::Result<Ends> {
        let operation = "reading the ends of the log";
        let answers = self.ask(operation, Ends::request(keys)).await.map_err(|error| error.into_log(operation))?;
        Ends::read(answers).map_err(failed(operation))
    }

    /// Compacts through the first member that does it. That it was done already is well.
    pub(crate) async fn compact(self: &Arc<Self>, revision: i64) -> ieum_log::Result<()> {
        let operation = "compacting etcd";
        for at in self.usable() {
            let Some(member) = self.members.get(at) else { continue };
            let Some(connection) = member.connection() else { continue };
            match timeout(TRY, connection.compact(CompactionRequest { revision })).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(status)) => match meaning(&status) {
                    Meaning::Compacted => return Ok(()),
                    Meaning::Again => {}
                    Meaning::Full | Meaning::Never => {
                        return Err(failed(operation)(Refused { member: member.endpoint.to_string(), status }));
                    }
                },
                Err(_) => {}
            }
        }
        Err(self.unreachable(operation))
    }
}
