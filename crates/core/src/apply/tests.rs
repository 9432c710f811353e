mod batches;
mod exactly_once;
mod expiry;
mod failures;
