//! A process that is the first of its own namespaces of processes and mounts: what it starts ends with it, however that comes, and what
//! it mounts is seen by nobody else. Nor has it a network but those that it makes: nothing of a drill reaches anybody outside.
//!
//! `drill` runs each run of a scenario in one, holding its standard input. When that ends, by whatever end of `drill`, the run ends.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Naming as _};

static UNWANTED: AtomicBool = AtomicBool::new(false);

/// How long a run may take to give back what it harmed.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often it is looked whether a run has ended.
const GLANCE: Duration = Duration::from_millis(50);

/// Runs this program again inside, with these arguments, to its end; temporary files go into the folder, which is named when it fails. `name` is
/// what it is for; it may take so long.
pub fn run(name: &str, arguments: &[String], temporary: &Path, patience: Duration) -> Result<(), Error> {
    let failed = |why: String| Error::other(name.to_owned(), format!("{why}; see {}", temporary.display()));
    let waiting = || format!("waiting for {name}");
    let mut child = spawn(arguments, temporary)?;
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().naming(waiting)? {
            break status;
        }
        if Instant::now() >= deadline {
            drop(child.stdin.take());
            child.wait().naming(waiting)?;
            return Err(failed(format!("not done after {patience:?}")));
        }
        std::thread::sleep(GLANCE);
    };
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

/// The child's standard input is its life.
fn spawn(arguments: &[String], temporary: &Path) -> Result<Child, Error> {
    let program = std::env::current_exe().naming(|| "finding this program".to_owned())?;
    Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"])
        .arg(program)
        .args(arguments)
        .env("TMPDIR", temporary)
        .stdin(Stdio::piped())
        .spawn()
        .naming(|| "starting a run with unshare (needs root; Debian: util-linux)".to_owned())
}

/// Watches the standard input from now on.
pub fn watch() {
    std::thread::spawn(|| {
        // What is written there does not matter, nor why it ended.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        UNWANTED.store(true, Ordering::SeqCst);
        std::thread::sleep(FAREWELL);
        // As the first process of its namespace it takes the others along.
        std::process::exit(130);
    });
}

/// An error once nobody wants this run any more.
pub fn still_wanted() -> Result<(), Error> {
    if UNWANTED.load(Ordering::SeqCst) { Err(Error::other("running the drill", "it was stopped")) } else { Ok(()) }
}
