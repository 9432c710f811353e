//! The model behind a power switch and a disk that may get stuck.

use nix::errno::Errno;
use parking_lot::{Mutex, MutexGuard};

use super::model::Model;

/// An operation that waits for a stuck disk; called with the model, or with the error to answer.
pub(crate) type Parked = Box<dyn FnOnce(Result<&mut Model, Errno>) + Send>;

/// What the FUSE sessions and the control socket share.
pub(crate) struct Device {
    state: Mutex<State>,
}

/// See [`Device`].
pub(crate) struct State {
    model: Model,
    powered: bool,
    /// Counts the times that the power came back. What an earlier session still holds open fails.
    epoch: u64,
    /// The operations that hang, while the disk is stuck.
    stuck: Option<Vec<Parked>>,
}

impl Device {
    pub(crate) fn new(model: Model) -> Self {
        Self { state: Mutex::new(State { model, powered: true, epoch: 0, stuck: None }) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// The model, if the power is on and the caller's session belongs to it.
    pub(crate) fn model(&mut self, epoch: u64) -> Result<&mut Model, Errno> {
        if self.powered && epoch == self.epoch { Ok(&mut self.model) } else { Err(Errno::EIO) }
    }

    /// The model for the control socket, whether or not there is power.
    pub(crate) fn inspect(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Where to park an operation while the disk is stuck.
    pub(crate) fn stuck(&mut self, epoch: u64) -> Option<&mut Vec<Parked>> {
        if self.powered && epoch == self.epoch { self.stuck.as_mut() } else { None }
    }

    pub(crate) fn stick(&mut self) {
        self.stuck.get_or_insert_default();
    }

    /// Carries out what hung, in order; how many operations that were.
    pub(crate) fn unstick(&mut self) -> usize {
        let parked = self.stuck.take().unwrap_or_default();
        let count = parked.len();
        for operation in parked {
            operation(if self.powered { Ok(&mut self.model) } else { Err(Errno::EIO) });
        }
        count
    }

    /// Everything fails from now on, also what hangs; false if the power was off already.
    pub(crate) fn cut(&mut self, seed: Option<u64>) -> bool {
        if !std::mem::replace(&mut self.powered, false) {
            return false;
        }
        self.unstick();
        self.model.cut(seed);
        true
    }

    pub(crate) fn is_powered(&self) -> bool {
        self.powered
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A new life begins; the number of its sessions.
    pub(crate) fn begin(&mut self) -> u64 {
        self.epoch += 1;
        self.powered = true;
        self.epoch
    }
}
