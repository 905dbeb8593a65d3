//! Suffix sorting: libsais over token ids, in the order of infini-gram's tables.
//!
//! That order is memcmp of the little-endian ids. Comparing byte-swapped ids as integers gives the same order, so the
//! text is byte-swapped while it is read and libsais sorts integers. u32 ids are replaced by their rank among the ids
//! that occur, which keeps the order and fits u16 for most corpora (6 bytes a token instead of 8).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use libsais::SuffixArrayConstruction;
use libsais::suffix_array::AlphabetSize;

use crate::error::{Error, Result};

/// Tokens in a shard at most: libsais works with 32-bit positions here.
pub const MAX_TOKENS: usize = i32::MAX as usize;

/// Bytes read at a time; a multiple of every token width.
const CHUNK: usize = 1 << 20;

/// The tokens of a shard as integers that order like infini-gram's bytes: u16 and u32 ids byte-swapped.
pub enum Text {
    /// One-byte ids.
    U8(Vec<u8>),
    /// Two-byte ids.
    U16(Vec<u16>),
    /// Four-byte ids.
    U32(Vec<u32>),
}

type Sorted = std::result::Result<Vec<i32>, libsais::LibsaisError>;

impl Text {
    /// Reads `tokenized.S` in pieces, so that the file itself takes no memory.
    pub fn read(path: &Path, width: usize) -> Result<Text> {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let bytes = file.metadata().map_err(Error::io(path))?.len() as usize;
        if !matches!(width, 1 | 2 | 4) {
            return Err(Error::Corpus(format!("token width {width} is not 1, 2 or 4")));
        }
        if !bytes.is_multiple_of(width) {
            return Err(Error::corrupt(path, bytes, format!("not a whole number of {width}-byte tokens")));
        }
        let tokens = bytes / width;
        if tokens > MAX_TOKENS {
            return Err(Error::Corpus(format!(
                "a shard holds at most {MAX_TOKENS} tokens, this one has {tokens}: build with more --shards"
            )));
        }
        let mut text = match width {
            1 => Text::U8(Vec::with_capacity(tokens)),
            2 => Text::U16(Vec::with_capacity(tokens)),
            _ => Text::U32(Vec::with_capacity(tokens)),
        };
        let mut chunk = vec![0u8; CHUNK.min(bytes)];
        for start in (0..bytes).step_by(CHUNK) {
            let part = &mut chunk[..CHUNK.min(bytes - start)];
            file.read_exact(part).map_err(Error::io(path))?;
            text.extend(part);
        }
        Ok(text)
    }

    fn extend(&mut self, bytes: &[u8]) {
        match self {
            Text::U8(ids) => ids.extend_from_slice(bytes),
            Text::U16(ids) => ids.extend(bytes.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]]))),
            Text::U32(ids) => ids.extend(bytes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))),
        }
    }

    /// Tokens, separators included.
    pub fn tokens(&self) -> usize {
        match self {
            Text::U8(ids) => ids.len(),
            Text::U16(ids) => ids.len(),
            Text::U32(ids) => ids.len(),
        }
    }

    /// (id, occurrences) of every id that occurs, ascending by id.
    pub fn unigrams(&self) -> Vec<(u32, u64)> {
        match self {
            Text::U8(ids) => count_small(256, ids.iter().map(|&id| usize::from(id))),
            Text::U16(ids) => count_small(1 << 16, ids.iter().map(|&id| usize::from(id.swap_bytes()))),
            Text::U32(ids) => {
                let slots = Slots::new(ids);
                let counts = slots.count(ids);
                (0..counts.len()).filter(|&slot| counts[slot] > 0).map(|slot| (slots.id(slot), counts[slot])).collect()
            }
        }
    }

    /// Token positions in suffix order (4 bytes a token).
    pub fn sort(self) -> Result<Vec<i32>> {
        let tokens = self.tokens();
        let sorted = match self {
            Text::U8(ids) => sort_small(&ids),
            Text::U16(ids) => sort_small(&ids),
            Text::U32(ids) => sort_u32(ids),
        };
        sorted.map_err(|error| Error::Corpus(format!("suffix sorting of {tokens} tokens failed: {error:?}")))
    }
}

fn count_small(ids: usize, tokens: impl Iterator<Item = usize>) -> Vec<(u32, u64)> {
    let mut counts = vec![0u64; ids];
    tokens.for_each(|id| counts[id] += 1);
    (0u32..).zip(counts).filter(|(_, count)| *count > 0).collect()
}

fn sort_small<I: libsais::InputElement + libsais::SmallAlphabet>(text: &[I]) -> Sorted
where
    i32: libsais::IsValidOutputFor<I>,
{
    Ok(SuffixArrayConstruction::for_text(text).in_owned_buffer32().single_threaded().run()?.into_vec())
}

/// A slot for every id that can occur in a u32 text, ascending by id: vocabularies are far smaller than 2^32, so the slot
/// is the id itself, and the all-ones separator has the one behind the largest.
struct Slots {
    largest: u32,
    /// The ids that occur, sorted, where the largest id is too large for a table.
    sparse: Option<Vec<u32>>,
}

impl Slots {
    /// Ids below this are their own slots: a table of them is small beside any text that is worth sorting.
    const MOST: u32 = 1 << 24;

    fn new(swapped: &[u32]) -> Slots {
        let ids = || swapped.iter().map(|id| id.swap_bytes());
        let largest = ids().filter(|&id| id != u32::MAX).max().unwrap_or(0);
        let sparse = (largest >= Slots::MOST).then(|| {
            // One by one: collecting the iterator would hold a sorted copy of the whole text.
            let mut distinct = std::collections::BTreeSet::new();
            for id in ids() {
                distinct.insert(id);
            }
            distinct.into_iter().collect()
        });
        Slots { largest, sparse }
    }

    fn len(&self) -> usize {
        self.sparse.as_ref().map_or(self.largest as usize + 2, Vec::len)
    }

    fn slot(&self, id: u32) -> usize {
        match &self.sparse {
            None => id.min(self.largest + 1) as usize,
            Some(ids) => ids.binary_search(&id).unwrap_or_else(|slot| slot),
        }
    }

    fn id(&self, slot: usize) -> u32 {
        match &self.sparse {
            None if slot > self.largest as usize => u32::MAX,
            None => slot as u32,
            Some(ids) => ids[slot],
        }
    }

    fn count(&self, swapped: &[u32]) -> Vec<u64> {
        let mut counts = vec![0u64; self.len()];
        swapped.iter().for_each(|id| counts[self.slot(id.swap_bytes())] += 1);
        counts
    }
}

fn sort_u32(text: Vec<u32>) -> Sorted {
    let slots = Slots::new(&text);
    let counts = slots.count(&text);
    let mut present: Vec<u32> = (0..counts.len()).filter(|&slot| counts[slot] > 0).map(|slot| slots.id(slot)).collect();
    present.sort_unstable_by_key(|id| id.swap_bytes());
    let mut ranks = vec![0i32; slots.len()];
    for (rank, &id) in (0..).zip(&present) {
        ranks[slots.slot(id)] = rank;
    }
    let rank = |swapped: u32| ranks[slots.slot(swapped.swap_bytes())];
    if present.len() <= usize::from(u16::MAX) + 1 {
        let dense: Vec<u16> = text.iter().map(|&id| rank(id) as u16).collect();
        drop(text);
        return sort_small(&dense);
    }
    // The standard library collects this into the same allocation: no second copy of the text.
    let mut dense: Vec<i32> = text.into_iter().map(rank).collect();
    let construction = SuffixArrayConstruction::for_text_mut(&mut dense).in_owned_buffer32().single_threaded();
    // SAFETY: every value is a rank, hence at least 0 and below the number of ranks.
    let construction = unsafe { construction.with_alphabet_size(AlphabetSize::new(present.len() as i32)) };
    Ok(construction.run()?.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort_suffixes(bytes: &[u8], width: usize) -> Vec<i32> {
        let mut text = match width {
            1 => Text::U8(vec![]),
            2 => Text::U16(vec![]),
            _ => Text::U32(vec![]),
        };
        text.extend(bytes);
        text.sort().unwrap()
    }

    /// The definition: sort suffixes by memcmp of their little-endian bytes.
    fn by_definition(text: &[u8], width: usize) -> Vec<i32> {
        let mut positions: Vec<i32> = (0..(text.len() / width) as i32).collect();
        positions.sort_by_key(|&p| &text[p as usize * width..]);
        positions
    }

    fn random_text(bytes: usize, alphabet: u64, width: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        (0..bytes / width)
            .flat_map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let id = (state >> 33) % alphabet;
                id.to_le_bytes()[..width].to_vec()
            })
            .collect()
    }

    #[test]
    fn order_is_memcmp_of_the_little_endian_ids() {
        for width in [1, 2, 4] {
            for alphabet in [1, 2, 200, 70_000] {
                let text = random_text(4000, alphabet, width, 7 + alphabet);
                assert_eq!(sort_suffixes(&text, width), by_definition(&text, width));
            }
        }
    }

    #[test]
    fn more_than_65536_distinct_ids_are_sorted_too() {
        let text: Vec<u8> = (0..70_000u32).flat_map(|i| (i * 977 % 70_001).to_le_bytes()).collect();
        assert_eq!(sort_suffixes(&text, 4), by_definition(&text, 4));
    }

    #[test]
    fn ids_near_the_largest_are_sorted_and_counted_too() {
        let ids = [u32::MAX, 5, 1 << 30, u32::MAX - 1, 5, 1 << 30, u32::MAX];
        let text: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!(sort_suffixes(&text, 4), by_definition(&text, 4));
        let mut read = Text::U32(vec![]);
        read.extend(&text);
        assert_eq!(read.unigrams(), vec![(5, 2), (1 << 30, 2), (u32::MAX - 1, 1), (u32::MAX, 2)]);
    }

    #[test]
    fn unigrams_are_counted_for_every_width() {
        for width in [1, 2, 4] {
            let mut text = match width {
                1 => Text::U8(vec![]),
                2 => Text::U16(vec![]),
                _ => Text::U32(vec![]),
            };
            let all = |id: u32| id.to_le_bytes()[..width].to_vec();
            text.extend(&[all(7), all(u32::MAX), all(7), all(0)].concat());
            let separator = u32::MAX >> (32 - 8 * width as u32);
            assert_eq!(text.unigrams(), vec![(0, 1), (7, 2), (separator, 1)]);
        }
    }

    #[test]
    fn texts_of_no_and_one_token_are_sorted() {
        assert_eq!(sort_suffixes(&[], 2), Vec::<i32>::new());
        assert_eq!(sort_suffixes(&[1, 0], 2), vec![0]);
    }
}
