//! Matching statistics: for every position of a query, the longest match that starts there, and its count.
//!
//! (Chang & Lawler 1994.) Every position is a query of its own, cut after `CUT` tokens: one batch, which is sorted, so the
//! two neighbours of the place where it would be inserted tell how far the longest match goes; the count of that prefix is a
//! second search in the same order. Positions that match for `CUT` tokens go on one after the other: the same passage of the
//! corpus usually matches at the next position too, one token shorter, and is not compared again. Nor is a passage again
//! with what the query repeats: else text that repeats itself would take time quadratic in its length.

use std::collections::HashMap;
use std::ops::Range;

use crate::cold::Faults;
use crate::error::Result;
use crate::keys::common_bytes;
use crate::lookup::{Answer, Block, LANES, Windows, answer_batch, encode, in_parts, search_block};
use crate::shard::Shard;

/// Tokens that are matched in batches.
const CUT: usize = 16;

/// Positions that one thread takes on together; a passage is compared once in each.
const STRETCH: usize = 4096;

/// Tokens of a match from which on it is remembered by its place in the corpus: shorter ones are as fast to compare.
const LONG: usize = 256;

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
    let bytes = match longest.iter().any(|longest| longest.length as usize == CUT) {
        true => encoded(&values[first..last], shard.width),
        false => Vec::new(),
    };
    in_parts(&mut longest, STRETCH, |number, longest| {
        let mut passages = Passages::new(shard, &bytes);
        for (i, longest) in longest.iter_mut().enumerate() {
            let position = number * STRETCH + i;
            let end = ends[position] - first;
            if longest.length as usize == CUT && end > position + CUT {
                let ranks = numbers[position * 3 + 1] as usize..numbers[position * 3 + 2] as usize;
                *longest = passages.longest(position..end, ranks)?;
            }
        }
        Ok(())
    })?;
    Ok(longest)
}

fn encoded(ids: &[u32], width: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ids.len() * width);
    encode(ids, width, &mut bytes);
    bytes
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
            let common = |offset: usize| common_bytes(shard.text().get(offset..).unwrap_or(&[]), query);
            let bytes = if found[number].is_empty() { common(below).max(common(above)) } else { query.len() };
            bytes / shard.width * shard.width
        }));
    }
    Ok(lengths)
}

/// Passages of the corpus that match a query somewhere, and what earlier positions told of them: positions ascend. All
/// places are token positions, and queries lie one after the other.
struct Passages<'a> {
    shard: &'a Shard,
    /// The queries, encoded.
    queries: &'a [u8],
    /// By the passage's distance from the query: where the match ends in the query.
    ends: HashMap<isize, usize>,
    /// By the passage's place: the last position that was compared with it, and where the match ended in the query.
    compared: HashMap<usize, (usize, usize)>,
    /// By period: up to where the queries are known to repeat what stands a period before.
    repeats: HashMap<usize, usize>,
}

impl<'a> Passages<'a> {
    fn new(shard: &'a Shard, queries: &'a [u8]) -> Passages<'a> {
        Passages { shard, queries, ends: HashMap::new(), compared: HashMap::new(), repeats: HashMap::new() }
    }

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
        // Both by halving all the ranks: so passages are met again that were compared at earlier positions.
        let matches = |matched: usize| matched >= length;
        let start = self.boundary(&query, &ranks, |rank| (rank >= place).then_some(true), matches)?;
        let end = self.boundary(&query, &ranks, |rank| (rank < place).then_some(false), |matched| !matches(matched))?;
        Ok(Longest { length: length as u32, count: (end - start) as u64 })
    }

    /// The first of the ranks that is `known` to be beyond the boundary or, by the tokens that match, is `beyond` it.
    fn boundary(
        &mut self,
        query: &Range<usize>,
        ranks: &Range<usize>,
        known: impl Fn(usize) -> Option<bool>,
        beyond: impl Fn(usize) -> bool,
    ) -> Result<usize> {
        let (mut low, mut high) = (ranks.start, ranks.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let beyond = match known(middle) {
                Some(known) => known,
                None => beyond(self.length(query, middle)?),
            };
            match beyond {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// Tokens that the suffix of this rank, which matches for `CUT`, has in common with the query.
    fn length(&mut self, query: &Range<usize>, rank: usize) -> Result<usize> {
        let place = self.shard.suffix(rank)? / self.shard.width;
        let distance = place as isize - query.start as isize;
        if let Some(&end) = self.ends.get(&distance).filter(|&&end| end > query.start && end <= query.end) {
            return Ok(end - query.start);
        }
        let matched = self.compare(query, place);
        let end = query.start + matched;
        self.ends.insert(distance, end);
        if matched >= LONG {
            self.compared.insert(place, (query.start, end));
        }
        Ok(matched)
    }

    /// As `length`, for a passage that was not compared at this distance.
    fn compare(&mut self, query: &Range<usize>, place: usize) -> usize {
        let mut matched = CUT;
        if let Some(&(before, end)) = self.compared.get(&place) {
            // The passage is what stood at `before`: it matches as far as the query is that too.
            let most = (end - before).min(query.len());
            let repeated = self.repeated(query.start, query.start - before, most);
            if repeated < end - before {
                return repeated;
            }
            matched = repeated;
        }
        let width = self.shard.width;
        let passage = self.shard.text().get((place + matched) * width..).unwrap_or(&[]);
        matched + common_bytes(passage, &self.queries[(query.start + matched) * width..query.end * width]) / width
    }

    /// Tokens from `start` on, `most` at most, that are those a period before.
    fn repeated(&mut self, start: usize, period: usize, most: usize) -> usize {
        let (width, end) = (self.shard.width, start + most);
        let known = self.repeats.get(&period).copied().unwrap_or(0);
        let from = known.clamp(start, end);
        let (here, before) = (from * width..end * width, (from - period) * width..);
        let repeated = from + common_bytes(&self.queries[here], &self.queries[before]) / width;
        self.repeats.insert(period, known.max(repeated));
        repeated - start
    }

    /// Whether the suffix, of which `matched` tokens match, sorts before the query.
    fn below(&self, query: &Range<usize>, rank: usize, matched: usize) -> Result<bool> {
        if matched >= query.len() {
            return Ok(false);
        }
        let width = self.shard.width;
        let token = |bytes: &'a [u8], at: usize| bytes.get(at..at + width);
        let next = token(self.shard.text(), self.shard.suffix(rank)? + matched * width);
        Ok(next < token(self.queries, (query.start + matched) * width))
    }
}
