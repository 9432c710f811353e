//! Other messengers' exports, read into entries of an archive room.
//!
//! This half only reads: [`Import`] takes files and gives [`Event`]s, a chat and then its entries, oldest first as the
//! export has them. Sending them into a room is the caller's part. `docs/importing.md` in this crate says, for users,
//! what is understood and what becomes of it.
//!
//! ```
//! use ieum_import::{Event, Import, Options, Source};
//!
//! let export = "가족방 님과 카카오톡 대화\n저장한 날짜 : 2024-05-01 15:15:10\n\n\
//!     --------------- 2024년 5월 1일 수요일 ---------------\n[엄마] [오후 3:12] 저녁 먹었니?\n";
//! let source = Source::reader("export.txt", export.len() as u64, export.as_bytes());
//! let mut import = Import::of(vec![source], Options::default())?;
//! while let Some(event) = import.next_event()? {
//!     match event {
//!         Event::Chat(chat) => assert_eq!(chat.title.as_deref(), Some("가족방")),
//!         Event::Entry(entry) => assert_eq!(entry.text, "저녁 먹었니?"),
//!     }
//! }
//! assert_eq!(import.report().files[0].unread.total, 0);
//! # Ok::<(), ieum_import::Error>(())
//! ```

mod entry;
mod error;
mod import;
mod kakaotalk;
mod key;
mod lines;
mod options;
mod report;

pub use entry::{Chat, Entry, Kind, Label, Language, Part, Platform, Precision};
pub use error::Error;
pub use import::{Event, Import, Progress, Source};
pub use key::{ChatKey, Key, chat_key};
pub use lines::Encoding;
pub use options::{Limits, Options, Zone};
pub use report::{FileReport, Problem, Problems, Report, Why};
