//! `history.txt`: what users and probes lived through, a line each, in the order in which it happened here.
//!
//! Every line begins with its time in nanoseconds of CLOCK_MONOTONIC and a letter that says what it is:
//!
//! | line | what happened |
//! |---|---|
//! | `o KEY VALUE` | about the run: settings, versions |
//! | `u CLIENT DC USER ROLE` | client so-and-so is a device of this user: `talker`, `probe`, `rejoiner`, `newcomer` |
//! | `r CLIENT ROOM` | who is in this room and has to have its messages |
//! | `s CLIENT NUMBER ROOM` | the user wrote: the client has the client's how-manieth message, from 0 |
//! | `a CLIENT NUMBER SEQ`, `x CLIENT NUMBER CODE` | it was acknowledged as message SEQ of its room; rejected |
//! | `f CLIENT NUMBER CODE` | a server refused it for now |
//! | `g CLIENT ROOM SEQ FROM N`, `g CLIENT ROOM SEQ - -` | message SEQ came to the client, in the stream or a catch-up: message N of client FROM, or the room's own |
//! | `h …` | the same, paged in over HTTP because a catch-up had left it out |
//! | `v CLIENT`, `l CLIENT ROOM` | all that it held is void; newer messages of the room were left out so far |
//! | `c CLIENT STATE …` | its connection: `waiting MS WHY`, `connecting ENDPOINT`, `catching_up ENDPOINT`, `live ENDPOINT`, `stopped WHY` |
//! | `b PROBE FUNCTION DC CLIENT`, `p PROBE STEP`, `e PROBE` | a probe of `sync` or `login` began, came so far, succeeded |
//! | `n FUNCTION DC` | a probe was left out because as many as may be were waiting already |
//! | `m MARK`, `mu MARK`, `mc MARK` | something was done; from then on waiting does not count; counts again |
//! | `q live`, `q stop`, `q settled`, `q unsettled WHAT`, `q end` | the run's own turns |

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use parking_lot::Mutex;

use super::clock;
use crate::error::{Error, Naming as _};

/// The name of the file.
pub(crate) const FILE: &str = "history.txt";
/// Its first line.
pub(crate) const TITLE: &str = "# ieum drill history 1";

/// The open book.
pub(super) struct Book {
    inner: Mutex<Inner>,
}

struct Inner {
    file: BufWriter<File>,
    /// The first thing that went wrong.
    failed: Option<std::io::Error>,
}

impl Book {
    pub(super) fn create(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let make = || format!("making {}", path.display());
        std::fs::create_dir_all(folder).naming(make)?;
        let file = File::options().write(true).create_new(true).open(&path).naming(make)?;
        let mut file = BufWriter::with_capacity(1 << 18, file);
        writeln!(file, "{TITLE}").naming(make)?;
        Ok(Self { inner: Mutex::new(Inner { file, failed: None }) })
    }

    /// Writes a line that happened now.
    pub(super) fn note(&self, line: fmt::Arguments<'_>) {
        // The time is taken with the lock, so that the file is in order.
        let mut inner = self.inner.lock();
        let at = clock::now();
        inner.write(at, line);
    }

    /// Writes a line that happened then.
    pub(super) fn note_at(&self, at: u64, line: fmt::Arguments<'_>) {
        self.inner.lock().write(at, line);
    }

    /// Writes what is buffered. What went wrong since the beginning is told here.
    pub(super) fn flush(&self) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        let flushed = inner.file.flush();
        let failed = inner.failed.take();
        failed.map_or(flushed, Err).naming(|| "writing the history".to_owned())
    }
}

impl Inner {
    fn write(&mut self, at: u64, line: fmt::Arguments<'_>) {
        if let Err(error) = writeln!(self.file, "{at} {line}") {
            self.failed.get_or_insert(error);
        }
    }
}

/// A text as it may stand in a line.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
