//! One open shard: its mapped files, and the suffix at any rank.
//!
//! Nothing read from a file is trusted: sizes are checked at open, and every pointer before it is followed. A damaged
//! table gives `Error::Corrupt`; it can't make a read go out of bounds.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::domain::Domains;
use crate::error::{Error, Result};
use crate::fault::Watch;
use crate::files::{map_file, pointer_width, shard_file};
use crate::keys::Keys;
use crate::lookup::prefetch;

/// A mapped file that may be empty, with its name for error messages.
pub struct Bytes {
    /// Where it lies.
    pub path: PathBuf,
    file: File,
    // Before the map: it must not be watched any more when it goes.
    watch: Option<Watch>,
    map: Option<Mmap>,
}

impl Bytes {
    /// Maps `path`.
    pub fn open(path: PathBuf) -> Result<Bytes> {
        // Without waiting: opening a pipe would wait for a writer for ever, and `map_file` refuses it.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = opened.map_err(Error::io(&path))?;
        let map = map_file(&file, &path)?;
        let watch = map.as_deref().map(Watch::new);
        Ok(Bytes { path, file, watch, map })
    }

    /// The content.
    pub fn get(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Tells the kernel that reads are few and far between, so that it reads no neighbours along.
    pub fn at_random(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            // Advice only: where it is refused, reads are right all the same.
            let _ = map.advise(memmap2::Advice::Random);
        }
    }

    /// Tells the kernel that all of it is read, from the first byte to the last.
    fn in_order(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            let _ = map.advise(memmap2::Advice::Sequential);
        }
    }

    /// Asks the disk for `bytes` bytes from `offset` on.
    pub fn fetch(&self, offset: usize, bytes: usize) {
        crate::cold::fetch(&self.file, offset, bytes);
    }

    /// Fails when the mapped file is no longer as long as the map, or a read of it failed. A file that was deleted or
    /// replaced under the same name stays mapped, and valid.
    pub fn check_size(&self) -> Result<()> {
        let (now, then) = (size(&self.file).map_err(Error::io(&self.path))?, self.get().len());
        if now != then {
            return Err(Error::corrupt(&self.path, now, format!("the file changed: it had {then} bytes at open")));
        }
        self.check_reads()
    }

    /// Fails when a read of the map failed.
    pub fn check_reads(&self) -> Result<()> {
        match self.watch.as_ref().is_some_and(Watch::is_broken) {
            false => Ok(()),
            true => Err(Error::Corrupt(format!(
                "{}: a part could not be read: it was truncated while open, or its disk fails; open it again",
                self.path.display()
            ))),
        }
    }
}

/// Bytes of an open file; a single lookup asks for three of them, so it is the fastest call there is.
fn size(file: &File) -> std::io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: stat is plain numbers, for which zeros are a value; fstat fills it.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        match unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) } {
            0 => Ok(stat.st_size as usize),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    file.metadata().map(|facts| facts.len() as usize)
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
    /// Domains that answers have columns for; at least as many.
    pub columns: usize,
    /// Suffixes between two rows of its cumulative counts.
    pub domain_block: usize,
}

impl Shard {
    /// Opens `tokenized.S` and `table.S` in `directory` and the sidecars in `beside`, and checks their sizes.
    pub fn open(directory: &Path, beside: &Path, shard: usize, width: usize, sidecars: Sidecars) -> Result<Shard> {
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
            true => Keys::open(beside, shard, width, token_count)?,
            false => Keys::none(width),
        };
        let domains = match sidecars.domains {
            0 => None,
            d => Some(Domains::open(beside, shard, d, sidecars.columns.max(d), sidecars.domain_block, token_count)?),
        };
        tokens.at_random();
        table.at_random();
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

    /// Checks that no file that a search reads was truncated since it was opened.
    pub fn check_sizes(&self) -> Result<()> {
        self.tokens.check_size()?;
        self.table.check_size()?;
        self.keys.file().map_or(Ok(()), Bytes::check_size)
    }

    /// Checks that no read failed since: to be asked before an answer is given.
    pub fn check_reads(&self) -> Result<()> {
        self.tokens.check_reads()?;
        self.table.check_reads()?;
        self.keys.file().map_or(Ok(()), Bytes::check_reads)?;
        self.domains.as_ref().map_or(Ok(()), |d| d.files().into_iter().try_for_each(Bytes::check_reads))
    }

    /// `check_sizes` for the domain column.
    pub fn check_domain_sizes(&self) -> Result<()> {
        self.domains.as_ref().map_or(Ok(()), |d| d.files().into_iter().try_for_each(Bytes::check_size))
    }

    /// Where the file of another kind, as `offset`, lies beside the tokens.
    pub fn beside(&self, kind: &str) -> PathBuf {
        let number = self.tokens.path.extension().unwrap_or_default();
        self.tokens.path.with_file_name(kind).with_extension(number)
    }

    /// The error for damage in the tokens, at byte `offset`.
    pub fn damaged_text(&self, offset: usize, what: impl std::fmt::Display) -> Error {
        Error::corrupt(&self.tokens.path, offset, what)
    }

    /// Byte offset in the text of the suffix of rank `rank`; checked.
    #[inline]
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
        match offset < self.text().len() && offset & (self.width - 1) == 0 {
            true => Ok(offset),
            false => Err(self.stray(rank, offset)),
        }
    }

    /// Out of the way of the searches, which follow millions of right pointers.
    #[cold]
    #[inline(never)]
    fn stray(&self, rank: usize, offset: usize) -> Error {
        self.damaged(rank, format!("pointer {offset} leads nowhere"))
    }

    /// Whether a part of the tokens or the table is not in memory.
    pub fn is_cold(&self) -> bool {
        [&self.tokens, &self.table].into_iter().any(|file| crate::cold::is_cold(file.get()))
    }

    /// Pages of tokens and table.
    pub fn pages(&self) -> usize {
        (self.tokens.get().len() + self.table.get().len()) / crate::cold::PAGE
    }

    /// Asks the disk for tokens and table, in order.
    pub fn fetch_all(&self) {
        [&self.tokens, &self.table].into_iter().for_each(|file| file.fetch(0, file.get().len()));
    }

    /// Tells the kernel that the table is walked from its first entry to its last.
    pub fn walk_table(&self) {
        self.table.in_order();
    }

    /// Tells the kernel that the table is searched again.
    pub fn search_table(&self) {
        self.table.at_random();
    }

    /// Asks the processor for the table at a rank.
    pub fn prefetch_table(&self, rank: usize) {
        prefetch(self.table.get(), rank * self.pointer);
    }

    /// Asks the processor for the lines of the text at `offset`.
    #[inline]
    pub fn prefetch_text(&self, offset: usize, bytes: usize) {
        prefetch(self.text(), offset);
        if bytes >= 64 {
            prefetch(self.text(), offset + 64);
            prefetch(self.text(), offset + bytes.min(128));
        }
    }

    /// Asks the disk for the table at a rank.
    pub fn fetch_table(&self, rank: usize) {
        self.table.fetch(rank * self.pointer, self.pointer);
    }

    /// Asks the disk for the text at `offset`.
    pub fn fetch_text(&self, offset: usize, bytes: usize) {
        self.tokens.fetch(offset, bytes);
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_map_whose_file_shrank_reads_zeros_and_says_so() {
        let path = std::env::temp_dir().join(format!("memindex-fault-{}", std::process::id()));
        std::fs::write(&path, vec![7u8; 20_000]).unwrap();
        let (bytes, other) = (Bytes::open(path.clone()).unwrap(), Bytes::open(path.clone()).unwrap());
        assert_eq!(bytes.get()[15_000], 7);
        bytes.check_size().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        assert!(bytes.check_size().is_err());
        assert_eq!(std::hint::black_box(bytes.get())[15_000], 0);
        assert!(bytes.check_reads().is_err());
        assert!(other.check_reads().is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
