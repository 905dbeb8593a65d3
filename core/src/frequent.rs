//! The most frequent n-grams of a corpus, and how many distinct ones there are; exact, for n from 1 on, in one walk.
//!
//! N-grams never cross a document's end. A part of the walk may begin or end inside the occurrences of an n-gram: what
//! stands at its edges is put together at the end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::error::{Error, Result};
use crate::lookup::in_parts;
use crate::shard::Shard;
use crate::walk::{Part, Suffix, Walk, parts, starts_document};

/// An n-gram's count and ids.
pub type Counted = (u64, Vec<u32>);

/// What there is of one length.
#[derive(Debug, Default)]
pub struct Ngrams {
    /// Distinct n-grams.
    pub distinct: u64,
    /// Those that occur once.
    pub once: u64,
    /// The most frequent ones, those of equal count in the order of their ids.
    pub most: Vec<Counted>,
}

/// The `most` most frequent n-grams of 1 to `longest` tokens.
pub fn frequent_ngrams(shards: &[&Shard], longest: usize, most: usize) -> Result<Vec<Ngrams>> {
    if most == 0 {
        return Err(Error::Query("ask for one n-gram at least".into()));
    }
    let mut walks: Vec<(Part, Vec<Length>)> = parts(shards, longest)?.into_iter().map(|p| (p, Vec::new())).collect();
    in_parts(&mut walks, 1, |_, walks| {
        for (part, lengths) in walks {
            *lengths = walk_part(shards, part, longest, most)?;
        }
        Ok(())
    })?;
    let mut whole: Vec<Length> = (0..longest).map(|_| Length::new(most)).collect();
    for (_, lengths) in walks {
        whole.iter_mut().zip(lengths).for_each(|(whole, length)| whole.add(length));
    }
    Ok(whole.into_iter().map(Length::finish).collect())
}

fn walk_part(shards: &[&Shard], part: &Part, longest: usize, most: usize) -> Result<Vec<Length>> {
    let mut walk = Walk::new(shards, part, longest)?;
    let mut lengths: Vec<Length> = (0..longest).map(|_| Length::new(most)).collect();
    // Tokens of the suffix before, up to the end of its document.
    let mut tokens = 0;
    let mut number = 0;
    while let Some(suffix) = walk.next()? {
        let shard = shards[suffix.shard];
        if tokens >= suffix.common {
            tokens = tokens_from(shard, suffix.offset, suffix.common, longest);
        }
        for n in suffix.common + 1..=longest {
            lengths[n - 1].close(shards, n, number, false);
            lengths[n - 1].open = (n <= tokens).then_some((suffix, number));
        }
        number += 1;
    }
    lengths.iter_mut().zip(1..).for_each(|(length, n)| length.close(shards, n, number, true));
    Ok(lengths)
}

/// Tokens of a suffix up to the end of its document, at most `longest`; the first `known` are known to be inside.
fn tokens_from(shard: &Shard, offset: usize, known: usize, longest: usize) -> usize {
    let text = &shard.text()[offset..];
    let inside =
        |&n: &usize| (n + 1) * shard.width <= text.len() && !starts_document(&text[n * shard.width..], shard.width);
    known + (known..longest).take_while(inside).count()
}

/// N-grams of one length.
struct Length {
    ngrams: Ngrams,
    most: usize,
    /// The most frequent ones; the first to go on top.
    heap: BinaryHeap<Reverse<(u64, Reverse<Vec<u32>>)>>,
    /// Counts of those whose other occurrences may stand in other parts.
    edges: HashMap<Vec<u32>, u64>,
    /// The one that the walk is at: its first occurrence, and that one's number.
    open: Option<(Suffix, u64)>,
    is_first: bool,
}

impl Length {
    fn new(most: usize) -> Length {
        let (ngrams, heap, edges) = (Ngrams::default(), BinaryHeap::new(), HashMap::new());
        Length { ngrams, most, heap, edges, open: None, is_first: true }
    }

    fn close(&mut self, shards: &[&Shard], n: usize, number: u64, is_last: bool) {
        let Some((suffix, start)) = self.open.take() else { return };
        let is_edge = std::mem::take(&mut self.is_first) || is_last;
        let count = number - start;
        let ids = || {
            let shard = shards[suffix.shard];
            shard.text()[suffix.offset..][..n * shard.width].chunks_exact(shard.width).map(crate::keys::token).collect()
        };
        match is_edge {
            true => *self.edges.entry(ids()).or_default() += count,
            false => self.count(count, ids),
        }
    }

    fn count(&mut self, count: u64, ids: impl FnOnce() -> Vec<u32>) {
        self.ngrams.distinct += 1;
        self.ngrams.once += u64::from(count == 1);
        if self.heap.len() < self.most || self.heap.peek().is_some_and(|Reverse((least, _))| count >= *least) {
            self.keep((count, ids()));
        }
    }

    fn keep(&mut self, (count, ids): Counted) {
        self.heap.push(Reverse((count, Reverse(ids))));
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    /// Takes what another part found.
    fn add(&mut self, other: Length) {
        self.ngrams.distinct += other.ngrams.distinct;
        self.ngrams.once += other.ngrams.once;
        other.heap.into_iter().for_each(|Reverse((count, Reverse(ids)))| self.keep((count, ids)));
        other.edges.into_iter().for_each(|(ids, count)| *self.edges.entry(ids).or_default() += count);
    }

    fn finish(mut self) -> Ngrams {
        for (ids, count) in std::mem::take(&mut self.edges) {
            self.count(count, || ids);
        }
        self.ngrams.most = self.heap.into_sorted_vec().into_iter().map(|Reverse((n, Reverse(ids)))| (n, ids)).collect();
        self.ngrams
    }
}
