//! The engine's knobs. The defaults are the measured ones: `docs/decisions/view-store.md`.

use std::path::Path;
use std::sync::Arc;

use ::fjall::compaction::Leveled;
use ::fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy, RestartIntervalPolicy,
};
use ::fjall::{Database, DatabaseBuilder, KeyspaceCreateOptions};

/// How a view is kept. A node sets `cache_bytes`; the rest is for measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Memory for blocks read from disk. Never more than this, apart from what snapshots and readers hold.
    pub cache_bytes: u64,
    /// The size (as fjall counts: about 80 bytes a row more than its key and value) at which rows move from memory to a
    /// table.
    pub memtable_bytes: u64,
    /// Threads that flush and compact, at least 1. With more than one, fjall 3.1 spins while a compaction runs.
    pub workers: usize,
    /// How large all journals together may be, at least 64 MiB.
    pub journal_bytes: u64,
    /// How many tables may gather in level 0 before they are merged. *Fixed at creation.*
    pub level_0_tables: u8,
    /// The size of one table; level 1 is `level_0_tables` times as large. *Fixed at creation.*
    pub table_bytes: u64,
    /// The size of one data block: what a read of a row that is not cached reads. *Fixed at creation.*
    pub block_bytes: u32,
    /// Bits per key of the filters that spare reads of absent keys; 0 for none. *Fixed at creation.*
    pub filter_bits: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            memtable_bytes: 32 << 20,
            workers: 1,
            journal_bytes: 256 << 20,
            level_0_tables: 4,
            table_bytes: 64 << 20,
            block_bytes: 4 << 10,
            filter_bits: 10.0,
        }
    }
}

impl Options {
    pub(super) fn builder(&self, path: &Path) -> DatabaseBuilder<Database> {
        Database::builder(path)
            .cache_size(self.cache_bytes)
            .worker_threads(self.workers.max(1))
            .max_journaling_size(self.journal_bytes.max(64 << 20))
    }

    pub(super) fn keyspace(&self) -> KeyspaceCreateOptions {
        let filter = if self.filter_bits > 0.0 {
            FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(self.filter_bits))
        } else {
            FilterPolicyEntry::None
        };
        KeyspaceCreateOptions::default()
            // The engine changes memtables itself.
            .max_memtable_size(u64::MAX)
            .compaction_strategy(Arc::new(
                Leveled::default().with_l0_threshold(self.level_0_tables).with_table_target_size(self.table_bytes),
            ))
            .data_block_size_policy(BlockSizePolicy::all(self.block_bytes))
            .data_block_restart_interval_policy(RestartIntervalPolicy::all(16))
            .filter_policy(FilterPolicy::all(filter))
            .filter_block_pinning_policy(PinningPolicy::new([true, false]))
            // Values are small and rewritten often: keeping them apart would only add a file to read.
            .with_kv_separation(None)
    }
}
