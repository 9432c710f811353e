//! Does harm on purpose: a file system that forgets unsynced writes, kill -9 rounds, and the checks of what survived.
//!
//! - [`crowd`]: many clients that write, and [`history`]: whether what they lived through fits what a server holds
//! - [`load`]: people, what they write, and probes, through a drill: what users see, written down
//! - [`report`]: the figures of a drill, and whether every promise was kept
//! - [`unsynced`]: the file system to put under a server's log and view, and its power switch
//! - [`world`]: three data centers on this machine, [`scenario`]: what happens to them, [`faults`]: how, and [`run`]: one run of it, for
//!   `drill`
//! - [`apart`]: what it costs that data centers are apart, for `ieum-apart`
//! - [`etcd`]: an etcd cluster on loopback, its members killed, frozen, wiped
//! - [`process`]: runs a real server binary, waits for what it says, kills it
//! - [`server`]: `ieum serve` on loopback, to be killed and started again
//! - [`certificates`]: an operator's own authority, and what it signs
//! - [`tmpfs`]: a small disk to fill
//! - [`random`]: choices that are the same for the same seed
//!
//! Everything that a test starts here ends when its handle is dropped. Mounting needs root and `/dev/fuse`.

pub mod apart;
pub mod certificates;
pub mod crowd;
mod error;
pub mod etcd;
pub mod faults;
pub mod history;
pub mod load;
pub mod process;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod server;
pub mod tmpfs;
pub mod unsynced;
pub mod world;

pub use error::Error;
