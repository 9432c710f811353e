//! Runs a real binary, waits for what it says, and kills it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::error::{Error, Naming as _};

/// How often a wait looks whether the process still lives.
const GLANCE: Duration = Duration::from_millis(5);

/// How much of the standard error an error message quotes, in bytes.
const QUOTED: usize = 4000;

/// A program of the tested package's `examples` folder, which `cargo test` builds beside the tests.
pub fn example(name: &str) -> Result<PathBuf, Error> {
    let finding = || format!("finding the example {name}");
    let running = std::env::current_exe().naming(finding)?;
    let beside = running.ancestors().skip(1).take(2).map(|folder| folder.join("examples").join(name));
    let found = beside.into_iter().find(|candidate| candidate.is_file());
    found.ok_or_else(|| Error::other(finding(), "it is not built: cargo build --examples, with the package as -p"))
}

/// What the kernel lets a process have; it gets an error, or dies, beyond that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Open file descriptors: EMFILE.
    OpenFiles(u64),
    /// Bytes in one file: EFBIG, and SIGXFSZ unless that is ignored.
    FileSize(u64),
    /// Bytes of address space: ENOMEM.
    AddressSpace(u64),
    /// Processes and threads of its user: EAGAIN. Root is not held to it.
    Processes(u64),
}

impl Limit {
    /// As an argument of `prlimit(1)`.
    fn argument(self) -> String {
        match self {
            Self::OpenFiles(limit) => format!("--nofile={limit}"),
            Self::FileSize(limit) => format!("--fsize={limit}"),
            Self::AddressSpace(limit) => format!("--as={limit}"),
            Self::Processes(limit) => format!("--nproc={limit}"),
        }
    }
}

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    stderr: PathBuf,
    limits: Vec<Limit>,
    stdin: bool,
}

impl Options {
    /// Another program in its place.
    pub fn set_program(&mut self, program: impl Into<PathBuf>) {
        self.program = program.into();
    }

    /// Runs the program in a folder. Its standard error is appended to the file `stderr` there.
    pub fn new(program: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stderr: folder.join("stderr"),
            folder,
            limits: Vec::new(),
            stdin: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of the environment; the others are inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Appends the standard error to this file instead: for a folder on a disk that is harmed.
    #[must_use]
    pub fn stderr(mut self, file: impl Into<PathBuf>) -> Self {
        self.stderr = file.into();
        self
    }

    /// The file that takes its standard error.
    pub fn stderr_file(&self) -> &Path {
        &self.stderr
    }

    /// Holds the process to a limit from its first instruction.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Gives it a standard input that ends when the [`Process`] is dropped; else that is empty.
    #[must_use]
    pub fn hold_stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    fn command(&self) -> Command {
        // prlimit(1) sets the limits and then becomes the program: same process id, nothing runs before the limits hold.
        let mut command = if self.limits.is_empty() {
            Command::new(&self.program)
        } else {
            let mut command = Command::new("prlimit");
            command.args(self.limits.iter().map(|limit| limit.argument())).arg(&self.program);
            command
        };
        command.args(&self.arguments).envs(self.environment.iter().cloned()).current_dir(&self.folder);
        command
    }
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: PathBuf,
}

impl Process {
    /// Starts it. Returns at once: see [`Self::wait_for_line`] and [`Self::wait_for_file`].
    pub fn spawn(options: &Options) -> Result<Self, Error> {
        let name = options.program.display().to_string();
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&options.stderr)
            .naming(|| format!("opening {}", options.stderr.display()))?;
        let mut child = options
            .command()
            .stdin(if options.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .naming(|| format!("starting {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok);
            // Goes on reading when nobody listens any more, lest the process block on a full pipe.
            lines.for_each(|line| drop(sender.send(line)));
        });
        Ok(Self { name, child, stdin, lines, stderr: options.stderr.clone() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its standard error, and those before it that wrote to the same file.
    pub fn stderr(&self) -> String {
        std::fs::read(&self.stderr).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The next line of its standard output that is `wanted`; the ones before it are passed over. An error, which quotes its standard
    /// error, when it ends or the time is over first.
    pub fn wait_for_line(&mut self, mut wanted: impl FnMut(&str) -> bool, patience: Duration) -> Result<String, Error> {
        let deadline = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.complaint("waiting for a line", "it did not come")),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.complaint("waiting for a line", "the standard output ended"));
                }
            }
        }
    }

    /// The lines of its standard output that nobody took yet, until the end of that: for after [`Self::kill`], to learn what it still
    /// acknowledged.
    pub fn rest(&mut self) -> Vec<String> {
        self.lines.iter().collect()
    }

    /// The text of a file that it is about to write (a port, say), as soon as there is any: write it in one go, or rename it there. Its
    /// folder has to exist.
    pub fn wait_for_file(&mut self, file: &Path, patience: Duration) -> Result<String, Error> {
        self.wait_for_text(file, |text| !text.is_empty(), patience)
    }

    /// Its standard error, as soon as that is `wanted`.
    pub fn wait_for_stderr(&mut self, wanted: impl FnMut(&str) -> bool, patience: Duration) -> Result<String, Error> {
        self.wait_for_text(&self.stderr.clone(), wanted, patience)
    }

    fn wait_for_text(
        &mut self,
        file: &Path,
        mut wanted: impl FnMut(&str) -> bool,
        patience: Duration,
    ) -> Result<String, Error> {
        let deadline = Instant::now() + patience;
        let folder = file.parent().unwrap_or(Path::new("."));
        let watching = || format!("watching {}", folder.display());
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).naming(watching)?;
        let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO;
        watch.add_watch(folder, events).naming(watching)?;
        let waiting = format!("waiting for {}", file.display());
        loop {
            // Looked at before the file is read: what it wrote last counts.
            let ended = self.ended()?.is_some();
            if let Some(text) = std::fs::read_to_string(file).ok().filter(|text| wanted(text)) {
                return Ok(text);
            }
            if ended {
                return Err(self.complaint(&waiting, "the process ended"));
            }
            if Instant::now() >= deadline {
                return Err(self.complaint(&waiting, "it did not come"));
            }
            let mut watched = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            // An interruption only means looking again.
            let _ = poll(&mut watched, PollTimeout::try_from(GLANCE * 10).unwrap_or(PollTimeout::ZERO));
            let _ = watch.read_events();
        }
    }

    /// SIGKILL, and its end. A process that hangs in a stuck disk does not end before that is loosened or cut.
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.child.kill().naming(|| format!("killing {}", self.name))?;
        self.child.wait().naming(|| format!("waiting for {}", self.name))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .naming(|| format!("sending {signal} to {}", self.name))
    }

    /// Its end, if that came.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().naming(|| format!("looking after {}", self.name))
    }

    /// Its end; an error when it still runs after that long.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.complaint("waiting for the end", "it still runs"));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Writes a line to its standard input, which [`Options::hold_stdin`] gave it.
    pub fn write_line(&mut self, line: &str) -> Result<(), Error> {
        let naming = || format!("writing to {}", self.name);
        let Some(stdin) = &mut self.stdin else { return Err(Error::other(naming(), "it has no standard input")) };
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).naming(naming)
    }

    /// Ends its standard input, if it has one.
    pub fn end_stdin(&mut self) {
        drop(self.stdin.take());
    }

    fn complaint(&self, operation: &str, why: &str) -> Error {
        let stderr = self.stderr();
        let from = stderr.char_indices().map(|(at, _)| at).find(|at| stderr.len() - at <= QUOTED).unwrap_or(0);
        let quoted = stderr.get(from..).unwrap_or_default();
        Error::other(format!("{}: {operation}", self.name), format!("{why}; its standard error: {quoted}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(folder: &Path, script: &str) -> Options {
        Options::new("/bin/sh", folder).arg("-c").arg(script)
    }

    #[test]
    fn a_line_is_waited_for_and_the_process_is_killed() {
        let folder = tempfile::tempdir().expect("make a folder");
        let options = shell(folder.path(), "echo oops >&2; echo one; echo $TWO; exec sleep 1000").env("TWO", "two");
        let mut process = Process::spawn(&options).expect("start a shell");
        assert_eq!(process.wait_for_line(|line| line.starts_with('t'), PATIENCE).expect("a line"), "two");
        assert!(process.wait(Duration::ZERO).expect_err("it sleeps").to_string().contains("still runs"));
        assert_eq!(process.kill().expect("kill it").signal(), Some(9));
        assert_eq!(process.stderr(), "oops\n");
    }

    #[test]
    fn an_end_before_the_line_quotes_the_standard_error() {
        let folder = tempfile::tempdir().expect("make a folder");
        let mut process = Process::spawn(&shell(folder.path(), "echo broken >&2")).expect("start a shell");
        let error = process.wait_for_line(|_| true, PATIENCE).expect_err("there is no line");
        assert!(error.to_string().contains("broken"), "{error}");
    }

    #[test]
    fn a_file_is_waited_for() {
        let folder = tempfile::tempdir().expect("make a folder");
        let script = "touch port; read line; echo 4711 > port.new; mv port.new port; exec sleep 1000";
        let mut process = Process::spawn(&shell(folder.path(), script).hold_stdin()).expect("start a shell");
        let port = folder.path().join("port");
        process.wait_for_file(&port, Duration::from_millis(50)).expect_err("it is empty");
        process.end_stdin();
        assert_eq!(process.wait_for_file(&port, PATIENCE).expect("a port"), "4711\n");
    }

    #[test]
    fn a_limit_holds() {
        let folder = tempfile::tempdir().expect("make a folder");
        let options =
            shell(folder.path(), "ulimit -n; ulimit -f").limit(Limit::OpenFiles(37)).limit(Limit::FileSize(1 << 20));
        let mut process = Process::spawn(&options).expect("start a shell");
        assert_eq!(process.wait_for_line(|_| true, PATIENCE).expect("a line"), "37");
        assert_eq!(process.wait_for_line(|_| true, PATIENCE).expect("a line"), "2048");
        assert!(process.wait(PATIENCE).expect("it ends").success());
    }
}
