//! Does harm on purpose: a file system that forgets unsynced writes, kill -9 rounds, and the checks of what survived.
