//! `memindex._core`: what must be fast, and what must be checked on every access.
//!
//! Python calls take and return whole batches; the interpreter is released while they run.

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
mod python;
mod shard;
mod sidecars;
mod suffix_array;
mod verify;
mod windows;

pub use python::_core;
