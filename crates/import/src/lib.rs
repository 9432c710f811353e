//! Other messengers' exports, read into entries of an archive room.
