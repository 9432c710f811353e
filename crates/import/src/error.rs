//! Why a file is not imported, or an import does not begin. What is wrong inside a file goes into the [`Report`](crate::Report).

use std::io;
use std::path::PathBuf;

/// Why an import cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The zone is not in the IANA database that is built in.
    #[error("unknown time zone {name:?}: give an IANA name such as Asia/Seoul or America/New_York")]
    UnknownZone {
        /// What was asked for.
        name: String,
    },
    /// More files than one import takes.
    #[error("{given} files were given; one import takes {limit} at most")]
    TooManyFiles {
        /// How many were given.
        given: usize,
        /// How many are taken.
        limit: usize,
    },
    /// No file was given.
    #[error("no file was given")]
    NoFile,
    /// A file cannot be opened.
    #[error("opening {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read to its end.
    #[error("reading {name}")]
    Read {
        /// The file's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is UTF-16, which no KakaoTalk writes: an editor saved it so.
    #[error("{name} is UTF-16; save it as UTF-8 and import it again")]
    Utf16 {
        /// The file's name.
        name: String,
    },
    /// The file is a ZIP archive, as Android writes it when media are exported too.
    #[error("{name} is a ZIP archive; unpack it and import the .txt file in it")]
    Zip {
        /// The file's name.
        name: String,
    },
}
