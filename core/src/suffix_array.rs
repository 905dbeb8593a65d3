//! Suffix sorting: libsais over token ids, in the order of infini-gram's tables.
//!
//! That order is memcmp of the little-endian ids. Comparing byte-swapped ids as integers gives the same order, so the
//! text is byte-swapped while it is read and libsais sorts integers. u32 ids are replaced by their rank among the ids
//! that occur, which keeps the order and fits u16 for most corpora (6 bytes a token instead of 8).

use std::collections::BTreeMap;

use libsais::SuffixArrayConstruction;
use libsais::suffix_array::AlphabetSize;

use crate::error::{Error, Result};

/// Tokens in a shard at most: libsais works with 32-bit positions here.
pub const MAX_TOKENS: usize = i32::MAX as usize;

/// Token positions in suffix order (4 bytes a token).
pub fn sort_suffixes(text: &[u8], width: usize) -> Result<Vec<i32>> {
    let tokens = text.len() / width;
    if tokens > MAX_TOKENS {
        return Err(Error::Corpus(format!(
            "a shard holds at most {MAX_TOKENS} tokens, this one has {tokens}: build with more --shards"
        )));
    }
    let sorted = match width {
        1 => sort_u8(text),
        2 => sort_u16(&swapped_u16(text)),
        4 => sort_u32(text),
        _ => return Err(Error::Corpus(format!("token width {width} is not 1, 2 or 4"))),
    };
    sorted.map_err(|error| Error::Corpus(format!("suffix sorting of {tokens} tokens failed: {error:?}")))
}

type Sorted = std::result::Result<Vec<i32>, libsais::LibsaisError>;

fn sort_u8(text: &[u8]) -> Sorted {
    Ok(SuffixArrayConstruction::for_text(text).in_owned_buffer32().single_threaded().run()?.into_vec())
}

fn sort_u16(text: &[u16]) -> Sorted {
    Ok(SuffixArrayConstruction::for_text(text).in_owned_buffer32().single_threaded().run()?.into_vec())
}

fn swapped_u16(text: &[u8]) -> Vec<u16> {
    text.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect()
}

fn sort_u32(text: &[u8]) -> Sorted {
    let swapped = || text.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let mut ranks: BTreeMap<u32, u32> = swapped().map(|id| (id, 0)).collect();
    for (rank, slot) in ranks.values_mut().enumerate() {
        *slot = rank as u32;
    }
    let ranks: std::collections::HashMap<u32, u32> = ranks.into_iter().collect();
    if ranks.len() <= usize::from(u16::MAX) + 1 {
        let dense: Vec<u16> = swapped().map(|id| ranks[&id] as u16).collect();
        return sort_u16(&dense);
    }
    let mut dense: Vec<i32> = swapped().map(|id| ranks[&id] as i32).collect();
    let construction = SuffixArrayConstruction::for_text_mut(&mut dense).in_owned_buffer32().single_threaded();
    // SAFETY: every value is a rank, hence at least 0 and below the number of ranks.
    let construction = unsafe { construction.with_alphabet_size(AlphabetSize::new(ranks.len() as i32)) };
    Ok(construction.run()?.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

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
                assert_eq!(sort_suffixes(&text, width).unwrap(), by_definition(&text, width));
            }
        }
    }

    #[test]
    fn more_than_65536_distinct_ids_are_sorted_too() {
        let text: Vec<u8> = (0..70_000u32).flat_map(|i| (i * 977 % 70_001).to_le_bytes()).collect();
        assert_eq!(sort_suffixes(&text, 4).unwrap(), by_definition(&text, 4));
    }

    #[test]
    fn texts_of_no_and_one_token_are_sorted() {
        assert_eq!(sort_suffixes(&[], 2).unwrap(), Vec::<i32>::new());
        assert_eq!(sort_suffixes(&[1, 0], 2).unwrap(), vec![0]);
    }

    #[test]
    fn unknown_width_is_refused() {
        assert!(sort_suffixes(&[0; 6], 3).is_err());
    }
}
