//! Matching statistics: for every position of a query, the longest match that starts there, and its count.
//!
//! (Chang & Lawler 1994.) Every position is a query of its own, cut after `CUT` tokens: one batch, which is sorted, so the
//! two neighbours of the place where it would be inserted tell how far the longest match goes; the count of that prefix is a
//! second search in the same order. Positions that match for `CUT` tokens go on one after the other: the same passage of the
//! corpus usually matches at the next position too, one token shorter, and is not compared again.

use std::collections::HashMap;
use std::ops::Range;

use crate::cold::Faults;
use crate::error::Result;
use crate::keys::token;
use crate::lookup::{Answer, Block, LANES, Windows, answer_batch, in_parts, search_block};
use crate::shard::Shard;

/// Tokens that are matched in batches.
const CUT: usize = 16;

/// Positions that one thread takes on together; a passage is compared once in each.
const STRETCH: usize = 4096;

/// The longest match at a position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Longest {
    /// Tokens.
    pub length: u32,
    /// Occurrences of that many tokens.
    pub count: u64,
}

/// The longest match at every position of `values`; none goes beyond the end of its row.
pub fn longest_match(shard: &Shard, values: &[u32], offsets: &[i64]) -> Result<Vec<Longest>> {
    let Some((&first, &last)) = offsets.first().zip(offsets.last()) else { return Ok(Vec::new()) };
    let (first, last) = (first as usize, last as usize);
    let mut ends = Vec::with_capacity(last - first);
    offsets.windows(2).for_each(|row| ends.resize(row[1] as usize - first, row[1] as usize));
    let cut = |at: usize| at..ends[at - first].min(at + CUT);
    let bounds: Vec<Range<usize>> = (first..last).map(cut).collect();
    let numbers = answer_batch(shard, &Windows { values, bounds: &bounds }, &CutMatch)?;
    let mut longest: Vec<Longest> =
        numbers.chunks_exact(3).map(|n| Longest { length: n[0] as u32, count: n[2] - n[1] }).collect();
    in_parts(&mut longest, STRETCH, |number, longest| {
        let mut passages = Passages { shard, values, ends: HashMap::new() };
        for (i, longest) in longest.iter_mut().enumerate() {
            let position = number * STRETCH + i;
            let at = first + position;
            if longest.length as usize == CUT && ends[position] > at + CUT {
                let ranks = numbers[position * 3 + 1] as usize..numbers[position * 3 + 2] as usize;
                *longest = passages.longest(at..ends[position], ranks)?;
            }
        }
        Ok(())
    })?;
    Ok(longest)
}

/// For a query: how many of its tokens match, and the ranks of the suffixes that do.
struct CutMatch;

impl Answer for CutMatch {
    fn columns(&self) -> usize {
        3
    }

    fn answer(&self, shard: &Shard, block: &Block, found: &[Range<usize>], numbers: &mut [u64]) -> Result<()> {
        let lengths = matched(shard, block, found)?;
        let (mut shorter, mut of_query) = (Block::default(), Vec::new());
        for (number, &length) in lengths.iter().enumerate() {
            let prefix = &block.query(number)[..length];
            if found[number].is_empty() && length > 0 {
                if shorter.len() == 0 || shorter.query(shorter.len() - 1) != prefix {
                    shorter.push(shard, prefix);
                }
                of_query.push((number, shorter.len() - 1));
            }
        }
        for ((range, length), numbers) in found.iter().zip(&lengths).zip(numbers.chunks_exact_mut(3)) {
            numbers.copy_from_slice(&[(length / shard.width) as u64, range.start as u64, range.end as u64]);
        }
        let found = search_block(shard, &shorter, &mut 0, &mut Faults::new(false))?;
        for (number, place) in of_query {
            let range = &found[place];
            numbers[number * 3 + 1..number * 3 + 3].copy_from_slice(&[range.start as u64, range.end as u64]);
        }
        Ok(())
    }
}

/// Bytes of each query that match somewhere, whole tokens.
fn matched(shard: &Shard, block: &Block, found: &[Range<usize>]) -> Result<Vec<usize>> {
    let mut lengths = Vec::with_capacity(found.len());
    let numbers: Vec<usize> = (0..found.len()).collect();
    for lanes in numbers.chunks(LANES) {
        let mut neighbours = [(usize::MAX, usize::MAX); LANES];
        for (&number, pair) in lanes.iter().zip(&mut neighbours) {
            let rank = found[number].start;
            let offset = |rank: usize| if rank < shard.token_count() { shard.suffix(rank) } else { Ok(usize::MAX) };
            if found[number].is_empty() {
                *pair = (offset(rank.wrapping_sub(1))?, offset(rank)?);
            }
        }
        neighbours.iter().for_each(|&(below, above)| {
            shard.prefetch_text(below, 0);
            shard.prefetch_text(above, 0);
        });
        lengths.extend(lanes.iter().zip(&neighbours).map(|(&number, &(below, above))| {
            let query = block.query(number);
            let common = |offset: usize| common(shard.text().get(offset..).unwrap_or(&[]), query);
            let bytes = if found[number].is_empty() { common(below).max(common(above)) } else { query.len() };
            bytes / shard.width * shard.width
        }));
    }
    Ok(lengths)
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Passages of the corpus that match a query somewhere: how far is remembered.
struct Passages<'a> {
    shard: &'a Shard,
    values: &'a [u32],
    /// By the passage's distance from the query: where the match ends in the query.
    ends: HashMap<isize, usize>,
}

impl Passages<'_> {
    /// The longest match of the query, where the suffixes of `ranks` match for `CUT` tokens.
    fn longest(&mut self, query: Range<usize>, ranks: Range<usize>) -> Result<Longest> {
        let (mut low, mut high) = (ranks.start, ranks.end);
        let mut length = CUT;
        // Where the query would be inserted; the longest match stands next to it.
        while low < high {
            let middle = low + (high - low) / 2;
            let matched = self.length(&query, middle)?;
            length = length.max(matched);
            match self.below(&query, middle, matched)? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let place = low;
        for neighbour in [place.wrapping_sub(1), place] {
            if ranks.contains(&neighbour) {
                length = length.max(self.length(&query, neighbour)?);
            }
        }
        let start = self.boundary(&query, ranks.start..place, |matched| matched < length)?;
        let end = self.boundary(&query, place..ranks.end, |matched| matched >= length)?;
        Ok(Longest { length: length as u32, count: (end - start) as u64 })
    }

    /// The first rank whose match is not `before`, where all before it are.
    fn boundary(&mut self, query: &Range<usize>, ranks: Range<usize>, before: impl Fn(usize) -> bool) -> Result<usize> {
        let (mut low, mut high) = (ranks.start, ranks.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match before(self.length(query, middle)?) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// Tokens that the suffix of this rank, which matches for `CUT`, has in common with the query.
    fn length(&mut self, query: &Range<usize>, rank: usize) -> Result<usize> {
        let (text, width) = (self.shard.text(), self.shard.width);
        let offset = self.shard.suffix(rank)?;
        let distance = (offset / width) as isize - query.start as isize;
        let known = self.ends.get(&distance).copied().filter(|&end| end > query.start && end <= query.end);
        let end = known.unwrap_or_else(|| {
            let suffix = text[offset..].chunks_exact(width).map(token).skip(CUT);
            let ids = &self.values[query.start + CUT..query.end];
            query.start + CUT + suffix.zip(ids).take_while(|(a, b)| a == *b).count()
        });
        self.ends.insert(distance, end);
        Ok(end - query.start)
    }

    /// Whether the suffix, of which `matched` tokens match, sorts before the query.
    fn below(&self, query: &Range<usize>, rank: usize, matched: usize) -> Result<bool> {
        let width = self.shard.width;
        let next = self.shard.suffix(rank)? + matched * width;
        let Some(&id) = self.values[query.clone()].get(matched) else { return Ok(false) };
        let bytes = self.shard.text().get(next..next + width);
        Ok(bytes.is_none_or(|bytes| bytes < &id.to_le_bytes()[..width]))
    }
}
