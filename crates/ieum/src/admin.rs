//! The operator's door to a running node: a Unix socket in its data folder, which only who may read the folder can open. One JSON
//! request a connection, one JSON answer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ieum_gateway::Ticket;
use ieum_node::folder::{Extent, Folder};
use ieum_node::service::Handle;
use ieum_node::{core_position, snapshot, verify};
use ieum_store::fjall::Fjall;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::serve::{Error, Log};

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Copy the view into this file.
    Backup { to: PathBuf },
    /// Check that log, snapshots and view agree.
    Verify,
    /// Let people register with a code.
    Invite { uses: u32, days: u32 },
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The backup is complete and durable.
    BackedUp { position: String },
    /// What was checked and found.
    Verified { position: String, from: String, batches: u64, rows: u64, findings: Vec<String> },
    /// The code.
    Invited { code: String },
    /// It did not work.
    Failed { reason: String },
}

/// Where the socket of the node with this data lies.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

const LONGEST_REQUEST: u64 = 64 * 1024;

struct Context {
    folder: Folder,
    log: Arc<Log>,
    node: Handle<Fjall, Ticket>,
}

/// Answers operators until aborted.
pub(crate) fn listen(
    folder: Folder,
    log: Arc<Log>,
    node: Handle<Fjall, Ticket>,
) -> Result<tokio::task::JoinHandle<()>, Error> {
    let path = socket(folder.root());
    // The log's lock is held, so a socket that is there is a dead node's.
    let _ = std::fs::remove_file(&path);
    let error = |source| Error::File { operation: "listening on", path: path.clone(), source };
    let listener = UnixListener::bind(&path).map_err(error)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(error)?;
    let context = Arc::new(Context { folder, log, node });
    Ok(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let context = Arc::clone(&context);
            tokio::spawn(async move {
                if let Err(error) = converse(stream, context).await {
                    tracing::warn!(%error, "an operator's request was not answered");
                }
            });
        }
    }))
}

async fn converse(stream: UnixStream, context: Arc<Context>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST_REQUEST)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => answer(request, context).await,
        Err(error) => Answer::Failed { reason: error.to_string() },
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

async fn answer(request: Request, context: Arc<Context>) -> Answer {
    let runtime = tokio::runtime::Handle::current();
    let work = move || match request {
        Request::Backup { to } => match snapshot::write(&context.node.view(), &to) {
            Ok(meta) => Answer::BackedUp { position: meta.position.to_string() },
            Err(error) => failed(&error),
        },
        Request::Verify => check(&context, &runtime),
        Request::Invite { uses, days } => runtime.block_on(crate::invite::make(&context.node, uses, days)),
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Answer::Failed { reason: error.to_string() })
}

pub(crate) fn failed(error: &dyn std::error::Error) -> Answer {
    Answer::Failed { reason: ieum_node::chain(error) }
}

fn check(context: &Context, runtime: &tokio::runtime::Handle) -> Answer {
    let log = context.log.as_ref();
    let last = match runtime.block_on(ieum_log::Log::last(log)) {
        Ok(last) => core_position(last),
        Err(error) => return failed(&error),
    };
    let extent = Extent { meta: *log.meta(), trimmed: core_position(log.trimmed()), last };
    match verify::running(&context.folder, log, &extent, &context.node, runtime) {
        Ok(report) => verified(&report),
        Err(error) => failed(&error),
    }
}

pub(crate) fn verified(report: &verify::Report) -> Answer {
    Answer::Verified {
        position: report.position.to_string(),
        from: report.replayed_from.to_string(),
        batches: report.batches,
        rows: report.rows,
        findings: report.findings.iter().map(ToString::to_string).collect(),
    }
}

/// Asks the node with this data; none when none runs.
pub(crate) fn ask(data: &Path, request: &Request) -> io::Result<Option<Answer>> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = match std::os::unix::net::UnixStream::connect(socket(data)) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::other("the node ended before it answered"));
    }
    Ok(Some(serde_json::from_str(&answer)?))
}
