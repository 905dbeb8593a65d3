//! One open shard: its mapped files, and the suffix at any rank.
//!
//! Nothing read from a file is trusted: sizes are checked at open, and every pointer before it is followed. A damaged
//! table gives `Error::Corrupt`; it can't make a read go out of bounds.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::domain::Domains;
use crate::error::{Error, Result};
use crate::files::{map_file, pointer_width, shard_file};
use crate::keys::Keys;
use crate::lookup::prefetch;

/// A mapped file that may be empty, with its name for error messages.
pub struct Bytes {
    /// Where it lies.
    pub path: PathBuf,
    file: File,
    map: Option<Mmap>,
}

impl Bytes {
    /// Maps `path`.
    pub fn open(path: PathBuf) -> Result<Bytes> {
        let file = File::open(&path).map_err(Error::io(&path))?;
        let map = map_file(&file, &path)?;
        Ok(Bytes { path, file, map })
    }

    /// The content.
    pub fn get(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Fails when the mapped file is no longer as long as the map: reading on would be a fault. A file that was deleted or
    /// replaced under the same name stays mapped, and valid.
    fn check_size(&self) -> Result<()> {
        let now = self.file.metadata().map_err(Error::io(&self.path))?.len() as usize;
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
    /// The key table, or none.
    pub keys: Keys,
    /// The domain column, when the index has one.
    pub domains: Option<Domains>,
}

/// Which optional files a shard has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sidecars {
    /// Whether there is a key table.
    pub keys: bool,
    /// Domains in the domain column; 0 for none.
    pub domains: usize,
    /// Suffixes between two rows of its cumulative counts.
    pub domain_block: usize,
}

impl Shard {
    /// Opens `tokenized.S`, `table.S` and the sidecars, and checks their sizes.
    pub fn open(directory: &Path, shard: usize, width: usize, sidecars: Sidecars) -> Result<Shard> {
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
        let keys = match sidecars.keys {
            true => Keys::open(directory, shard, token_count)?,
            false => Keys::none(),
        };
        let domains = match sidecars.domains {
            0 => None,
            d => Some(Domains::open(directory, shard, d, sidecars.domain_block, token_count)?),
        };
        Ok(Shard { tokens, table, width, pointer, token_count, keys, domains })
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
        self.keys.file().map_or(Ok(()), Bytes::check_size)?;
        self.domains.as_ref().map_or(Ok(()), |d| d.files().into_iter().try_for_each(Bytes::check_size))
    }

    /// Byte offset in the text of the suffix of rank `rank`; checked.
    pub fn suffix(&self, rank: usize) -> Result<usize> {
        let at = rank * self.pointer;
        let offset = match self.table.get()[at..].first_chunk::<8>() {
            // One load for all but the last pointers: the bytes of the next pointer are masked out.
            Some(wide) => (u64::from_le_bytes(*wide) & (u64::MAX >> (64 - 8 * self.pointer))) as usize,
            None => {
                let raw = &self.table.get()[at..at + self.pointer];
                raw.iter().rev().fold(0usize, |offset, &byte| offset << 8 | usize::from(byte))
            }
        };
        match offset < self.text().len() && offset.is_multiple_of(self.width) {
            true => Ok(offset),
            false => Err(Error::corrupt(&self.table.path, at, format!("pointer {offset} leads nowhere"))),
        }
    }

    /// Asks the processor for the part of the table around a rank.
    pub fn prefetch_table(&self, rank: isize) {
        let middle = rank.max(0) as usize * self.pointer;
        prefetch(self.table.get(), middle.saturating_sub(32));
        prefetch(self.table.get(), middle + 32);
    }

    /// The error for a suffix that stands where order forbids it.
    pub fn disorder(&self, rank: usize) -> Error {
        self.damaged(rank, "suffixes are not in order")
    }

    /// The error for a damaged entry of the table.
    pub fn damaged(&self, rank: usize, what: impl std::fmt::Display) -> Error {
        Error::corrupt(&self.table.path, rank * self.pointer, what)
    }
}
