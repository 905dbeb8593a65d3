//! The key table: the first eight bytes of every `STRIDE`th suffix, big-endian, so that integers order as bytes do.
//!
//! It narrows a search to one stride of the suffix array before any page of the text is touched. A suffix that the text
//! ends before eight bytes is filled with zeros; then its key may equal that of a longer one, so equal keys decide nothing
//! and only smaller and larger ones are used.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{Output, map, shard_file};
use crate::shard::Bytes;

/// Suffixes per key: 8 / 32 = a quarter byte per token.
pub const STRIDE: usize = 32;

/// Writes `keys.S` for a suffix array over the tokens in `tokenized.S`.
pub fn write_keys(directory: &Path, shard: usize, order: &[i32], width: usize) -> Result<()> {
    let text = map(&shard_file(directory, "tokenized", shard))?;
    let text = text.as_deref().unwrap_or(&[]);
    let path = shard_file(directory, "keys", shard);
    let mut out = Output::create(&path)?;
    for &position in order.iter().step_by(STRIDE) {
        out.write(&lowest_key(&text[position as usize * width..]).to_le_bytes())?;
    }
    out.finish()
}

/// The key of `bytes`, filled with zeros: no suffix that starts with them has a smaller one.
pub fn lowest_key(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut filled = [0u8; 8];
            filled[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(filled)
        }
    }
}

/// The key of `bytes`, filled with ones: no suffix that starts with them has a larger one.
pub fn highest_key(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0..8 => lowest_key(bytes) | (u64::MAX >> (8 * bytes.len())),
        _ => lowest_key(bytes),
    }
}

/// `keys.S` of an open shard, or none: then searches begin with the whole table.
pub struct Keys(Option<Bytes>);

/// Where the suffixes that start with a query can lie; ranks, `low` and `high` exclusive and possibly outside the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Narrowed {
    /// The suffix of this rank is smaller than the query (-1: before the table).
    pub low: isize,
    /// A suffix that is known to start with the query, and the last such: set only when they differ from one stride.
    pub inside: Option<(isize, isize)>,
    /// The suffix of this rank is larger and does not start with the query (or the table's end).
    pub high: isize,
}

impl Keys {
    /// No key table.
    pub fn none() -> Keys {
        Keys(None)
    }

    /// Opens `keys.S` and checks its size against the number of suffixes.
    pub fn open(directory: &Path, shard: usize, suffixes: usize) -> Result<Keys> {
        let file = Bytes::open(shard_file(directory, "keys", shard))?;
        let expected = suffixes.div_ceil(STRIDE) * 8;
        match file.get().len() == expected {
            true => Ok(Keys(Some(file))),
            false => Err(Error::corrupt(&file.path, file.get().len(), format!("expected {expected} bytes"))),
        }
    }

    /// The file, for size checks.
    pub fn file(&self) -> Option<&Bytes> {
        self.0.as_ref()
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |file| file.get().len() / 8)
    }

    fn get(&self, i: usize) -> u64 {
        let bytes = self.0.as_ref().map_or(&[][..], Bytes::get);
        bytes.get(i * 8..i * 8 + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().expect("8 bytes")))
    }

    /// The first key from `start` on that is not below `bound` (or above it, with `above`); doubling steps first, because
    /// sorted queries land near each other.
    fn seek(&self, start: usize, bound: u64, above: bool) -> usize {
        let before = |i: usize| if above { self.get(i) <= bound } else { self.get(i) < bound };
        let (mut low, mut step) = (start, 1);
        while low + step <= self.len() && before(low + step - 1) {
            low += step;
            step *= 2;
        }
        let mut high = (low + step - 1).min(self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match before(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// Narrows a query to the ranks where it can stand. `hint` is the first key of a smaller query's answer (0 at first)
    /// and becomes this one's.
    pub fn narrow(&self, query: &[u8], hint: &mut usize, suffixes: usize) -> Narrowed {
        if self.0.is_none() {
            return Narrowed { low: -1, inside: None, high: suffixes as isize };
        }
        let (lowest, highest) = (lowest_key(query), highest_key(query));
        let rank = |key: usize| (key * STRIDE).min(suffixes) as isize;
        // Keys before `first` are below the query; from `end` on they are above all that starts with it.
        let first = self.seek(*hint, lowest, false);
        *hint = first;
        let end = self.seek(first, highest, true);
        let low = if first == 0 { -1 } else { rank(first - 1) };
        // Keys strictly between lowest and highest belong to suffixes that start with the query.
        let inside = match query.len() {
            0..8 if first < end => {
                let (from, to) = (self.seek(first, lowest, true), self.seek(first, highest, false));
                (from < to).then(|| (rank(from), rank(to - 1)))
            }
            _ => None,
        };
        Narrowed { low, inside, high: rank(end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_bracket_everything_that_starts_with_the_bytes() {
        assert_eq!(lowest_key(&[1, 2]), 0x0102_0000_0000_0000);
        assert_eq!(highest_key(&[1, 2]), 0x0102_ffff_ffff_ffff);
        assert_eq!(highest_key(&[]), u64::MAX);
        assert_eq!(lowest_key(&[1; 8]), highest_key(&[1; 9]));
    }
}
