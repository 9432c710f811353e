//! What a life must not show.

/// Something that must not be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub(crate) String);

/// Result of something that is checked.
pub(crate) type Check<T = ()> = Result<T, Broken>;

/// Says what is broken.
pub(crate) fn broken<T>(what: impl Into<String>) -> Check<T> {
    Err(Broken(what.into()))
}

/// Says what is broken unless it holds.
pub(crate) fn holds(condition: bool, what: impl FnOnce() -> String) -> Check {
    if condition { Ok(()) } else { Err(Broken(what())) }
}

impl From<ieum_core::kv::Error> for Broken {
    fn from(error: ieum_core::kv::Error) -> Self {
        Self(format!("the view failed: {error}"))
    }
}
