//! `memindex._core`: what must be fast, and what must be checked on every access.
//!
//! Python calls take and return whole batches; the interpreter is released while they run.

mod blocks;
mod build;
mod cold;
mod documents;
mod domain;
mod error;
mod fault;
mod files;
mod following;
mod jsonl;
mod keys;
mod lookup;
mod matching;
mod metadata;
mod occurrences;
mod probe;
mod python;
mod query;
mod shard;
mod sidecars;
mod suffix_array;
mod verify;
mod verify_files;
mod windows;

pub use python::_core;
