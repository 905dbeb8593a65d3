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
mod frequent;
mod jsonl;
mod keys;
mod lookup;
mod matching;
mod metadata;
mod occurrences;
mod probe;
mod python;
mod python_statistics;
mod query;
mod records;
mod repeats;
mod shard;
mod shard_documents;
mod sidecars;
mod suffix_array;
mod verify;
mod verify_files;
mod walk;
mod windows;

pub use python::_core;
