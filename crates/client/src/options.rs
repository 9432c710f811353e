//! What a client is opened with.

use ieum_protocol::Pos;

use crate::Endpoint;
use crate::dial::Trust;
use crate::machine::{Limits, Timing};
use crate::store::Identity;

/// What a client is opened with. The defaults are the shipped settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// Servers to try; servers name more of them later.
    pub endpoints: Vec<Endpoint>,
    /// The server that is liked best, if one is: that of the nearest data center. It is tried first. A session that had to go elsewhere comes
    /// back to it after some minutes, each after a time of its own.
    pub home: Option<Endpoint>,
    /// Who the device is; `None`: as the store says.
    pub identity: Option<Identity>,
    /// A position that the app has seen elsewhere, for example [`crate::Http::seen`] after registering, so that a server which does
    /// not know of it yet waits or points elsewhere.
    pub seen: Option<Pos>,
    /// The client's name and version, for the operator's logs.
    pub client: Option<String>,
    /// Whether somebody looks at it: pings every second then, every 30 seconds otherwise.
    pub foreground: bool,
    /// Whom to believe that a server is who it says.
    pub trust: Trust,
    /// How many deliveries may wait for the app; then the connection is not read.
    pub deliveries: usize,
    /// How many requests of the app may wait for the client.
    pub requests: usize,
    /// The waits.
    pub timing: Timing,
    /// How much the outbox holds. A load tool with thousands of clients sets `kept` to 0.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            home: None,
            identity: None,
            seen: None,
            client: Some(concat!("ieum-client ", env!("CARGO_PKG_VERSION")).to_owned()),
            foreground: true,
            trust: Trust::web(),
            deliveries: 256,
            requests: 256,
            timing: Timing::default(),
            limits: Limits::default(),
        }
    }
}

impl Options {
    /// The defaults, with these servers.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, ..Self::default() }
    }

    /// The same, for this device.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }
}
