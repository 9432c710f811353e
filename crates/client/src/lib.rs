//! The Rust client of Ieum: what the terminal client, the load tool, probes and drills speak through.
//!
//! | part | what it is |
//! |---|---|
//! | [`machine`] | the logic: outbox, cursor, pings, failover. No IO, no clock, no randomness: the simulation runs the real thing |
//! | [`store`] | where the outbox is kept: [`store::Disk`], [`store::Memory`] |
//! | [`Client`] | a device's connection: one tokio task around the machine |
//! | [`Http`] | registering, signing in, and what is asked for now and then |
//!
//! # An app
//!
//! ```no_run
//! use ieum_client::{Client, Delivery, Http, NewAccount, Options, Trust, store};
//! use ieum_protocol::frames::Change;
//!
//! # async fn app() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoints = vec!["wss://a.chat.example".parse()?, "wss://b.chat.example".parse()?];
//! let http = Http::new(endpoints.clone(), Trust::web());
//! let account = NewAccount { handle: "minji".into(), name: "민지".into(), password: "…".into(), ..NewAccount::default() };
//! let identity = http.register(account).await?;
//!
//! let mut options = Options::new(endpoints).identity(identity);
//! options.seen = http.seen().await;
//! let (client, mut events) = Client::open(options, store::Disk::open("minji.ieum")?)?;
//!
//! tokio::spawn(async move {
//!     while let Some(delivery) = events.next().await {
//!         match delivery {
//!             Delivery::Resync => { /* forget everything: the catch-up holds all of it */ }
//!             Delivery::CatchUp(_) | Delivery::Events { .. } => { /* apply, idempotently by (room, seq) */ }
//!             Delivery::Typing { .. } => { /* somebody types: show it for 5 s */ }
//!             Delivery::CaughtUp { .. } | Delivery::Outcome { .. } | Delivery::Refused { .. } | Delivery::State(_) => {}
//!         }
//!     }
//! });
//!
//! let done = client.submit(Change::Send { room: 1, text: "안녕".into(), reply_to: None }).await?;
//! println!("message {:?}", done.seq);
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! - The next process opens the same file without an identity: the store knows it, and sends what was left in the outbox.
//!   [`Client::waiting`] shows that, its outcomes come as [`Delivery::Outcome`].
//! - [`Client::submit`] resolves when the outcome is known, through every reconnect; [`Client::post`] when the command is on disk.
//! - The cursor in the store moves only when the app says [`Client::applied`], which an app does that keeps a durable copy of its
//!   own. Any other gets [`Delivery::Resync`] and everything anew at each start.
//! - Take deliveries in a task of their own: while too many wait, the connection is not read.
//!
//! # A load tool
//!
//! [`Client::observe`] with [`store::Memory`] hands every [`Delivery`] to an [`Observer`] on the client's own task, and
//! [`Client::try_post`] submits without waiting under an id of one's choice, which comes back in [`Delivery::Outcome`]. Set
//! `limits.kept` to 0: nobody restores the log under a load test, and ten thousand clients would keep a thousand commands each.

mod client;
mod command;
mod dial;
mod endpoint;
mod http;
pub mod machine;
mod options;
mod outlet;
mod position;
mod random;
mod shell;
mod socket;
pub mod store;

pub use client::{Client, OpenError};
pub use command::{Command, CommandId};
pub use dial::{Trust, Untrustworthy};
pub use endpoint::{Endpoint, Invalid};
pub use http::{Error as HttpError, Http, NewAccount, Page};
pub use machine::{Delivery, Failure, State, Stop, Why};
pub use options::Options;
pub use outlet::{Events, Observer};
pub use position::Position;
