//! One open shard: its mapped files, and lookups by binary search in the suffix array.
//!
//! Nothing read from a file is trusted: sizes are checked at open, and every pointer before it is followed. A damaged
//! table gives `Error::Corrupt`; it can't make a read go out of bounds.

use std::cmp::Ordering;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::domain::Domains;
use crate::error::{Error, Result};
use crate::files::{map, pointer_width, shard_file};

/// A mapped file that may be empty, with its name for error messages.
pub struct Bytes {
    /// Where it lies.
    pub path: PathBuf,
    map: Option<Mmap>,
}

impl Bytes {
    /// Maps `path`.
    pub fn open(path: PathBuf) -> Result<Bytes> {
        let map = map(&path)?;
        Ok(Bytes { path, map })
    }

    /// The content.
    pub fn get(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Fails when the file on disk is no longer as long as the map: reading it would be undefined.
    fn check_size(&self) -> Result<()> {
        let now = File::open(&self.path).and_then(|f| f.metadata()).map_err(Error::io(&self.path))?.len() as usize;
        match now == self.get().len() {
            true => Ok(()),
            false => Err(Error::corrupt(
                &self.path,
                now,
                format!("the file changed: it had {} bytes at open", self.get().len()),
            )),
        }
    }
}

/// One open shard.
pub struct Shard {
    tokens: Bytes,
    table: Bytes,
    /// Bytes per token.
    pub width: usize,
    pointer: usize,
    token_count: usize,
    /// The domain column, when the index has one.
    pub domains: Option<Domains>,
}

impl Shard {
    /// Opens `tokenized.S` and `table.S`, and the domain column when `domains` > 0, and checks their sizes.
    pub fn open(directory: &Path, shard: usize, width: usize, domains: usize, block: usize) -> Result<Shard> {
        let tokens = Bytes::open(shard_file(directory, "tokenized", shard))?;
        let table = Bytes::open(shard_file(directory, "table", shard))?;
        if !matches!(width, 1 | 2 | 4) {
            return Err(Error::Corrupt(format!("{}: token width {width} is not 1, 2 or 4", directory.display())));
        }
        let bytes = tokens.get().len();
        if !bytes.is_multiple_of(width) {
            return Err(Error::corrupt(&tokens.path, bytes, format!("not a whole number of {width}-byte tokens")));
        }
        let (token_count, pointer) = (bytes / width, pointer_width(bytes));
        if table.get().len() != token_count * pointer {
            let what =
                format!("expected {} bytes, for the {token_count} tokens of tokenized.{shard}", token_count * pointer);
            return Err(Error::corrupt(&table.path, table.get().len(), what));
        }
        let domains = match domains {
            0 => None,
            d => Some(Domains::open(directory, shard, d, block, token_count)?),
        };
        Ok(Shard { tokens, table, width, pointer, token_count, domains })
    }

    /// Tokens in the shard, separators included.
    pub fn token_count(&self) -> usize {
        self.token_count
    }

    /// The token bytes.
    pub fn text(&self) -> &[u8] {
        self.tokens.get()
    }

    /// Checks that no file was truncated or replaced since it was opened.
    pub fn check_sizes(&self) -> Result<()> {
        self.tokens.check_size()?;
        self.table.check_size()?;
        self.domains.as_ref().map_or(Ok(()), |d| d.files().into_iter().try_for_each(Bytes::check_size))
    }

    /// Byte offset in the text of the suffix of rank `rank`; checked.
    pub fn suffix(&self, rank: usize) -> Result<usize> {
        let at = rank * self.pointer;
        let raw = &self.table.get()[at..at + self.pointer];
        let offset = raw.iter().rev().fold(0usize, |offset, &byte| offset << 8 | usize::from(byte));
        match offset < self.text().len() && offset.is_multiple_of(self.width) {
            true => Ok(offset),
            false => Err(Error::corrupt(&self.table.path, at, format!("pointer {offset} leads nowhere"))),
        }
    }

    /// How the suffix of rank `rank`, cut to the query's length, compares with the query.
    fn compare(&self, rank: usize, query: &[u8]) -> Result<Ordering> {
        let suffix = &self.text()[self.suffix(rank)?..];
        Ok(suffix[..query.len().min(suffix.len())].cmp(query))
    }

    /// The first rank in `within` at which `before` no longer holds; `before` must hold for a first part of it.
    fn partition(&self, within: Range<usize>, before: impl Fn(usize) -> Result<bool>) -> Result<usize> {
        let (mut low, mut high) = (within.start, within.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match before(middle)? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// The ranks of all suffixes that start with `query` (little-endian ids).
    pub fn find(&self, query: &[u8]) -> Result<Range<usize>> {
        let start = self.partition(0..self.token_count, |rank| Ok(self.compare(rank, query)? == Ordering::Less))?;
        // Most n-grams are rare, so the end is searched by doubling steps from the start.
        let mut step = 1;
        while start + step < self.token_count && self.compare(start + step - 1, query)? == Ordering::Equal {
            step *= 2;
        }
        let within = start + step / 2..(start + step).min(self.token_count);
        let end = self.partition(within, |rank| Ok(self.compare(rank, query)? == Ordering::Equal))?;
        Ok(start..end)
    }
}
