//! Walking the suffixes of all shards in one order, as in a merge, with what each has in common with the one before.
//!
//! Equal n-grams of all shards stand together in that order, so whoever walks it meets every distinct one once, with all
//! its occurrences. The order is cut into parts that threads walk at the same time. Suffixes that start with a separator
//! sort last, and are left out.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::lookup::{cores, prefetch};
use crate::shard::Shard;

/// Suffixes whose text is asked for before it is read.
const AHEAD: usize = 32;

/// Parts per thread: they are not equally long.
const PER_CORE: usize = 16;

/// Suffixes that a part has at least, about.
const LEAST: usize = 1 << 14;

/// Tokens of neighbours that are compared at most.
const MOST_TOKENS: usize = 1 << 20;

/// One suffix of a walk.
#[derive(Debug, Clone, Copy)]
pub struct Suffix {
    /// The shard it is of.
    pub shard: usize,
    /// Its byte offset in the shard's text.
    pub offset: usize,
    /// Tokens at its start that the suffix before it has too, up to the walk's bound; 0 for the first one.
    pub common: usize,
}

/// A part of the order: the ranks of each shard.
pub type Part = Vec<Range<usize>>;

/// A walk over the suffixes of one part.
pub struct Walk<'s> {
    heads: Vec<Head<'s>>,
    width: usize,
    /// Bytes that are compared at most.
    most: usize,
    /// The shard of the suffix that was given last.
    current: Option<usize>,
    before: Option<&'s [u8]>,
}

impl<'s> Walk<'s> {
    /// Starts before the first suffix of `part`; `most` tokens of neighbours are compared.
    pub fn new(shards: &[&'s Shard], part: &Part, most: usize) -> Result<Walk<'s>> {
        check_tokens(most)?;
        let several = shards.len() > 1;
        let heads = shards.iter().zip(part).map(|(shard, ranks)| Head::new(shard, ranks.clone(), several));
        let heads = heads.collect::<Result<_>>()?;
        Ok(Walk { heads, width: shards[0].width, most: most * shards[0].width, current: None, before: None })
    }

    /// The next suffix; fails where the suffixes of a shard are not in order.
    pub fn next(&mut self) -> Result<Option<Suffix>> {
        if let Some(current) = self.current {
            self.heads[current].advance()?;
        }
        let Some(shard) = self.smallest() else { return Ok(None) };
        let head = &self.heads[shard];
        let text = head.text(self.most);
        let common = match self.before {
            None => 0,
            Some(before) => common_bytes(before, text).ok_or_else(|| head.shard.disorder(head.rank))? / self.width,
        };
        (self.current, self.before) = (Some(shard), Some(text));
        Ok(Some(Suffix { shard, offset: head.offset, common }))
    }

    /// The rank in each shard of the first suffix that is not behind: the one given last, or one after it.
    pub fn ranks(&self) -> impl Iterator<Item = usize> + '_ {
        self.heads.iter().map(|head| head.rank)
    }

    fn smallest(&self) -> Option<usize> {
        if let [only] = &self.heads[..] {
            return (only.rank < only.end).then_some(0);
        }
        let left = self.heads.iter().enumerate().filter(|(_, head)| head.rank < head.end);
        let order = |a: &Head, b: &Head| a.key.cmp(&b.key).then_with(|| a.text(self.most).cmp(b.text(self.most)));
        left.min_by(|(_, a), (_, b)| order(a, b)).map(|(shard, _)| shard)
    }
}

/// The next suffix of one shard.
struct Head<'s> {
    shard: &'s Shard,
    rank: usize,
    end: usize,
    offset: usize,
    /// The suffix's first eight bytes as a number that is ordered as they are; 0 when there is nothing to merge.
    key: u64,
    several: bool,
}

impl<'s> Head<'s> {
    fn new(shard: &'s Shard, ranks: Range<usize>, several: bool) -> Result<Head<'s>> {
        let mut head = Head { shard, rank: ranks.start, end: ranks.end, offset: 0, key: 0, several };
        head.load()?;
        Ok(head)
    }

    fn advance(&mut self) -> Result<()> {
        self.rank += 1;
        self.load()
    }

    #[inline]
    fn load(&mut self) -> Result<()> {
        if self.rank >= self.end {
            return Ok(());
        }
        if self.rank + AHEAD < self.end {
            prefetch(self.shard.text(), self.shard.suffix(self.rank + AHEAD)?);
        }
        self.offset = self.shard.suffix(self.rank)?;
        if self.several {
            let mut first = [0; 8];
            let text = self.text(8);
            first[..text.len()].copy_from_slice(text);
            self.key = u64::from_be_bytes(first);
        }
        Ok(())
    }

    /// The suffix's first bytes, at most `most`.
    fn text(&self, most: usize) -> &'s [u8] {
        let text = &self.shard.text()[self.offset..];
        &text[..most.min(text.len())]
    }
}

/// Bytes at the start of both; none when `before` is not smaller or equal.
#[inline]
fn common_bytes(before: &[u8], text: &[u8]) -> Option<usize> {
    let most = before.len().min(text.len());
    let mut common = 0;
    while let (Some(a), Some(b)) = (before[common..].first_chunk::<8>(), text[common..].first_chunk::<8>()) {
        let (a, b) = (u64::from_be_bytes(*a), u64::from_be_bytes(*b));
        if a != b {
            return (a < b).then_some(common + ((a ^ b).leading_zeros() / 8) as usize);
        }
        common += 8;
    }
    while common < most && before[common] == text[common] {
        common += 1;
    }
    // Of two texts of which one begins with the other, the shorter one stands first.
    match common < most {
        true => (before[common] < text[common]).then_some(common),
        false => (before.len() <= text.len()).then_some(common),
    }
}

/// Parts that together hold every suffix that starts with no separator. Suffixes whose first `tokens` tokens are equal
/// stand in one part.
pub fn parts(shards: &[&Shard], tokens: usize) -> Result<Vec<Part>> {
    check_tokens(tokens)?;
    let Some(first) = shards.first() else { return Err(Error::Query("there is no shard".into())) };
    if shards.iter().any(|shard| shard.width != first.width) {
        return Err(Error::Query("all shards must have the same token width".into()));
    }
    let ends = shards.iter().map(|shard| separators(shard).map(|ranks| ranks.start)).collect::<Result<Vec<_>>>()?;
    let largest = (0..shards.len()).max_by_key(|&shard| ends[shard]).unwrap_or(0);
    let number = (ends[largest] / LEAST).clamp(1, cores() * PER_CORE);
    let mut parts: Vec<Part> = Vec::with_capacity(number);
    let mut starts = vec![0; shards.len()];
    for part in 1..=number {
        let stops = match part == number {
            true => ends.clone(),
            false => cut(shards, &starts, &ends, largest, part * (ends[largest] / number), tokens)?,
        };
        parts.push(starts.iter().zip(&stops).map(|(&start, &stop)| start..stop).collect());
        starts = stops;
    }
    parts.retain(|part| part.iter().any(|ranks| !ranks.is_empty()));
    Ok(parts)
}

fn check_tokens(tokens: usize) -> Result<()> {
    match tokens {
        1..=MOST_TOKENS => Ok(()),
        _ => Err(Error::Query(format!("windows and n-grams have 1 to {MOST_TOKENS} tokens, not {tokens}"))),
    }
}

/// The rank in every shard of the first suffix that is not smaller than the first `tokens` tokens of one of them.
fn cut(
    shards: &[&Shard],
    starts: &[usize],
    ends: &[usize],
    shard: usize,
    rank: usize,
    tokens: usize,
) -> Result<Vec<usize>> {
    let text = &shards[shard].text()[shards[shard].suffix(rank)?..];
    let text = &text[..text.len().min(tokens * shards[shard].width)];
    let first = |shard: usize| {
        // From the last cut on: cuts of a damaged table ascend too.
        first_rank(shards[shard], starts[shard]..ends[shard], |suffix| suffix[..suffix.len().min(text.len())] >= *text)
    };
    (0..shards.len()).map(first).collect()
}

/// The ranks of the suffixes that start with a separator.
pub fn separators(shard: &Shard) -> Result<Range<usize>> {
    let start = first_rank(shard, 0..shard.token_count(), |suffix| starts_document(suffix, shard.width))?;
    Ok(start..shard.token_count())
}

/// Whether a text starts with a separator.
pub fn starts_document(text: &[u8], width: usize) -> bool {
    text.len() >= width && text[..width].iter().all(|&byte| byte == 0xff)
}

/// The first of some ranks whose suffix `is_behind`; their end when none is.
fn first_rank(shard: &Shard, ranks: Range<usize>, is_behind: impl Fn(&[u8]) -> bool) -> Result<usize> {
    let (mut low, mut high) = (ranks.start, ranks.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match is_behind(&shard.text()[shard.suffix(middle)?..]) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::common_bytes;

    #[test]
    fn common_bytes_equal_a_count_by_hand() {
        let text =
            |seed: usize| -> Vec<u8> { (0..seed % 21).map(|at| u8::from(at * at % 23 == seed / 21 % 23)).collect() };
        for (first, second) in (0..483).flat_map(|a| (0..483).map(move |b| (a, b))) {
            let (a, b) = (text(first), text(second));
            let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            assert_eq!(common_bytes(&a, &b), (a <= b).then_some(common), "{a:?} {b:?}");
        }
    }
}
