//! Which tokens lie in windows that occur more than once, and in which domains they occur elsewhere.
//!
//! In suffix order equal windows stand together. Every occurrence of a repeated window gets a mask, at its position: one
//! bit for the fact, one when another domain has the window too, and one for each of up to 30 domains that it stands in
//! elsewhere. Walking the masks in the order of the text then gives the union of the windows. Masks take 4 bytes for each
//! position and length, of the part of the corpus that is asked for. No window crosses a document's end.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::lookup::{cores, in_parts, zeros};
use crate::shard::Shard;
use crate::walk::{Part, Walk, parts, starts_document};

/// Domains that have a number of their own.
pub const COLUMNS: usize = 30;

/// Numbers of a domain: tokens in windows that occur elsewhere in each of those domains, anywhere, in another domain.
pub const NUMBERS: usize = COLUMNS + 2;

const ANYWHERE: u32 = 1 << COLUMNS;
const OTHER: u32 = 1 << (COLUMNS + 1);

/// Documents of a shard that follow each other; there may be none.
pub struct Documents<'a> {
    /// Token positions of their separators, and the end of the last one.
    pub bounds: &'a [i64],
    /// Their domains.
    pub domains: &'a [u16],
}

/// What is asked.
pub struct Question<'a> {
    /// All shards: windows are looked for in all of them.
    pub shards: &'a [&'a Shard],
    /// Of each shard the documents whose tokens are counted.
    pub documents: &'a [Documents<'a>],
    /// Tokens of a window.
    pub lengths: &'a [usize],
    /// Number of domains.
    pub domains: usize,
    /// The first of the domains that have a number of their own.
    pub first: usize,
}

impl Question<'_> {
    /// For each length and domain `NUMBERS` numbers of tokens, one after the other.
    pub fn answer(&self) -> Result<Vec<u64>> {
        self.check()?;
        let masks = Masks::new(self)?;
        let shortest = self.lengths.iter().copied().min().unwrap_or(1);
        let mut walks = parts(self.shards, shortest)?;
        in_parts(&mut walks, 1, |_, walks| walks.iter().try_for_each(|part| self.mark(part, &masks)))?;
        self.cover(&masks)
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Query(what.into()));
        if self.lengths.is_empty() {
            return wrong("ask for one length of windows at least");
        }
        if self.documents.len() != self.shards.len() {
            return wrong("documents of every shard are needed");
        }
        for (documents, shard) in self.documents.iter().zip(self.shards) {
            let (bounds, most) = (documents.bounds, shard.token_count() as i64);
            if bounds.len() != documents.domains.len() + 1 || bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
                return wrong("bounds of documents must ascend, one more than there are domains");
            }
            if bounds.iter().any(|bound| !(0..=most).contains(bound)) {
                return wrong("bounds of documents must be positions of the shard");
            }
            if documents.domains.iter().any(|&domain| usize::from(domain) >= self.domains) {
                return wrong("a document's domain does not exist");
            }
        }
        Ok(())
    }

    /// Marks the repeated windows of one part of the suffixes.
    fn mark(&self, part: &Part, masks: &Masks) -> Result<()> {
        let longest = self.lengths.iter().copied().max().unwrap_or(1);
        let mut walk = Walk::new(self.shards, part, longest)?;
        let mut tally = Tally::new(self.domains);
        // For each length the ranks where the window that the walk is at began, once it has occurred a second time.
        let mut starts: Vec<Option<Vec<usize>>> = vec![None; self.lengths.len()];
        let mut before = 0;
        loop {
            let suffix = walk.next()?;
            let common = suffix.map_or(0, |suffix| suffix.common);
            for (number, start) in starts.iter_mut().enumerate() {
                if self.lengths[number] <= common {
                    start.get_or_insert_with(|| {
                        // The suffix before is the first occurrence.
                        walk.ranks().enumerate().map(|(shard, rank)| rank - usize::from(shard == before)).collect()
                    });
                } else if let Some(start) = start.take() {
                    let runs: Vec<_> = start.into_iter().zip(walk.ranks()).map(|(start, end)| start..end).collect();
                    self.mark_window(number, &runs, &mut tally, masks)?;
                }
            }
            let Some(suffix) = suffix else { return Ok(()) };
            before = suffix.shard;
        }
    }

    /// Marks all occurrences of one window: the ranks in each shard.
    fn mark_window(&self, number: usize, runs: &[Range<usize>], tally: &mut Tally, masks: &Masks) -> Result<()> {
        let occurrences = || {
            runs.iter()
                .zip(self.shards)
                .enumerate()
                .flat_map(|(i, (run, shard))| run.clone().map(move |rank| (i, *shard, rank)))
        };
        if let Some((_, shard, rank)) = occurrences().next() {
            let window = &shard.text()[shard.suffix(rank)?..][..self.lengths[number] * shard.width];
            if window.chunks_exact(shard.width).any(|token| starts_document(token, shard.width)) {
                return Ok(());
            }
        }
        tally.clear();
        for (_, shard, rank) in occurrences() {
            tally.add(self.domain(shard, rank)?);
        }
        let mask = tally.mask(self.first);
        for (place, shard, rank) in occurrences() {
            let position = shard.suffix(rank)? / shard.width;
            let own = tally.own_bit(self.domain(shard, rank)?, self.first);
            masks.set(number, place, position, mask & !own);
        }
        Ok(())
    }

    fn domain(&self, shard: &Shard, rank: usize) -> Result<usize> {
        let Some(column) = &shard.domains else { return Ok(0) };
        let domain = column.at(rank);
        match domain < self.domains {
            true => Ok(domain),
            false => Err(Error::corrupt(&column.files()[0].path, rank, "a domain that does not exist")),
        }
    }

    /// The tokens under the marked windows, each counted once for each bit.
    fn cover(&self, masks: &Masks) -> Result<Vec<u64>> {
        let row = self.domains * NUMBERS;
        let most = self.documents.iter().map(|documents| documents.domains.len()).sum::<usize>();
        let each = most.div_ceil(cores()).max(1);
        let mut threads = zeros(most.div_ceil(each).max(1), self.lengths.len() * row)?;
        in_parts(&mut threads, self.lengths.len() * row, |thread, counts| {
            for (number, counts) in counts.chunks_exact_mut(row).enumerate() {
                let documents = self.all_documents().skip(thread * each).take(each);
                documents.for_each(|(place, bounds, domain)| {
                    let counts = &mut counts[usize::from(domain) * NUMBERS..][..NUMBERS];
                    cover(masks.of(number, place, bounds), self.lengths[number], counts);
                });
            }
            Ok(())
        })?;
        let mut counts = vec![0; self.lengths.len() * row];
        for part in threads.chunks_exact(counts.len()) {
            counts.iter_mut().zip(part).for_each(|(sum, number)| *sum += number);
        }
        Ok(counts)
    }

    /// Shard, bounds and domain of every document.
    fn all_documents(&self) -> impl Iterator<Item = (usize, Range<usize>, u16)> + '_ {
        self.documents.iter().enumerate().flat_map(|(place, documents)| {
            let bounds = documents.bounds.windows(2).map(|pair| pair[0] as usize..pair[1] as usize);
            bounds.zip(documents.domains).map(move |(bounds, &domain)| (place, bounds, domain))
        })
    }
}

/// Adds the tokens of a document that lie under windows of `length` tokens, for each bit of their masks.
fn cover(masks: &[AtomicU32], length: usize, counts: &mut [u64]) {
    // Windows come in the order of their starts: of each only what lies behind the one before is new.
    let mut covered = [0usize; NUMBERS];
    for (at, mask) in masks.iter().enumerate() {
        let mut mask = mask.load(Ordering::Relaxed);
        while mask != 0 {
            let bit = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            counts[bit] += (at + length - at.max(covered[bit])) as u64;
            covered[bit] = at + length;
        }
    }
}

/// A mask for every position of the documents, for each length.
struct Masks {
    /// For each shard its first position, and the place of that one's mask.
    shards: Vec<(usize, Range<usize>)>,
    lengths: Vec<Vec<AtomicU32>>,
}

impl Masks {
    fn new(question: &Question) -> Result<Masks> {
        let (mut shards, mut positions) = (Vec::new(), 0);
        for documents in question.documents {
            let (first, end) = (documents.bounds[0] as usize, documents.bounds[documents.bounds.len() - 1] as usize);
            shards.push((first, positions..positions + end - first));
            positions += end - first;
        }
        let mut lengths = Vec::new();
        for _ in question.lengths {
            let mut masks = Vec::new();
            masks.try_reserve_exact(positions).map_err(|_| {
                Error::Query(format!("{positions} positions take {} MB: give less at a time", positions / 250_000))
            })?;
            masks.resize_with(positions, AtomicU32::default);
            lengths.push(masks);
        }
        Ok(Masks { shards, lengths })
    }

    /// Occurrences are at different positions: threads never set the same mask.
    fn set(&self, number: usize, shard: usize, position: usize, mask: u32) {
        let (first, places) = &self.shards[shard];
        if let Some(at) = position.checked_sub(*first).filter(|&at| at < places.len()) {
            self.lengths[number][places.start + at].store(mask, Ordering::Relaxed);
        }
    }

    fn of(&self, number: usize, shard: usize, positions: Range<usize>) -> &[AtomicU32] {
        let (first, places) = &self.shards[shard];
        &self.lengths[number][places.start + positions.start - first..places.start + positions.end - first]
    }
}

/// How often a window stands in each domain.
struct Tally {
    counts: Vec<u64>,
    seen: Vec<usize>,
}

impl Tally {
    fn new(domains: usize) -> Tally {
        Tally { counts: vec![0; domains], seen: Vec::new() }
    }

    fn clear(&mut self) {
        self.seen.drain(..).for_each(|domain| self.counts[domain] = 0);
    }

    fn add(&mut self, domain: usize) {
        if self.counts[domain] == 0 {
            self.seen.push(domain);
        }
        self.counts[domain] += 1;
    }

    /// The bits of a repeated window.
    fn mask(&self, first: usize) -> u32 {
        let bits = self.seen.iter().filter(|&&domain| (first..first + COLUMNS).contains(&domain));
        let other = if self.seen.len() > 1 { OTHER } else { 0 };
        bits.fold(ANYWHERE | other, |mask, domain| mask | 1 << (domain - first))
    }

    /// The bit of a domain that holds the window only once: from there it is nowhere else in it.
    fn own_bit(&self, domain: usize, first: usize) -> u32 {
        match self.counts[domain] == 1 && (first..first + COLUMNS).contains(&domain) {
            true => 1 << (domain - first),
            false => 0,
        }
    }
}
