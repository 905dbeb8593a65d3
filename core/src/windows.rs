//! Sampling windows by how often they occur: the same number per frequency bucket, exactly.
//!
//! In suffix order equal windows stand together, so one pass over the table meets every distinct window of `length`
//! tokens once, with its count. Several shards are walked side by side, as in a merge. Each bucket (floor(log2 count))
//! keeps a uniform sample of its distinct windows (Vitter's algorithm R) with one random occurrence of each.

use crate::error::{Error, Result};
use crate::shard::Shard;

/// Buckets at most: counts are u64.
pub const BUCKETS: usize = 64;

/// One sampled window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Occurrences in all shards.
    pub count: u64,
    /// Shard of the occurrence that was drawn.
    pub shard: usize,
    /// Its token position in that shard.
    pub position: usize,
}

/// What one bucket holds.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    /// Distinct windows in the corpus.
    pub distinct: u64,
    /// Windows in the corpus (distinct windows times their counts).
    pub windows: u64,
    /// The sample.
    pub sample: Vec<Window>,
}

/// Draws up to `per_bucket` distinct windows of `length` tokens from every bucket. Windows never cross a document's
/// end.
pub fn sample_windows(shards: &[&Shard], length: usize, per_bucket: usize, seed: u64) -> Result<Vec<Bucket>> {
    if length == 0 {
        return Err(Error::Query("windows need at least one token".into()));
    }
    let mut heads: Vec<Head> = shards.iter().map(|shard| Head::new(shard, length)).collect::<Result<_>>()?;
    let mut buckets = vec![Bucket::default(); BUCKETS];
    let mut random = Random(seed);
    while let Some(smallest) = heads.iter().filter_map(Head::window).min() {
        let inside = !contains_separator(smallest, shards[0].width);
        let mut runs = Vec::with_capacity(heads.len());
        for (shard, head) in heads.iter_mut().enumerate().filter(|(_, head)| head.window() == Some(smallest)) {
            runs.push((shard, head.take_run()?));
        }
        if inside {
            put(&mut buckets, shards, &runs, per_bucket, &mut random)?;
        }
    }
    Ok(buckets)
}

fn put(
    buckets: &mut [Bucket],
    shards: &[&Shard],
    runs: &[(usize, std::ops::Range<usize>)],
    per_bucket: usize,
    random: &mut Random,
) -> Result<()> {
    let count: u64 = runs.iter().map(|(_, run)| run.len() as u64).sum();
    let bucket = &mut buckets[count.ilog2() as usize];
    bucket.distinct += 1;
    bucket.windows += count;
    let slot = match bucket.sample.len() < per_bucket {
        true => bucket.sample.len(),
        false => random.below(bucket.distinct) as usize,
    };
    if slot >= per_bucket {
        return Ok(());
    }
    let mut nth = random.below(count) as usize;
    for (shard, run) in runs {
        if nth < run.len() {
            let position = shards[*shard].suffix(run.start + nth)? / shards[*shard].width;
            let window = Window { count, shard: *shard, position };
            match slot < bucket.sample.len() {
                true => bucket.sample[slot] = window,
                false => bucket.sample.push(window),
            }
            return Ok(());
        }
        nth -= run.len();
    }
    unreachable!("nth is below the sum of all runs")
}

/// The next window of one shard in suffix order.
struct Head<'s> {
    shard: &'s Shard,
    bytes: usize,
    rank: usize,
    offset: usize,
}

impl<'s> Head<'s> {
    fn new(shard: &'s Shard, length: usize) -> Result<Head<'s>> {
        let bytes = length.checked_mul(shard.width).filter(|&bytes| isize::try_from(bytes).is_ok());
        let bytes =
            bytes.ok_or_else(|| Error::Query(format!("a window of {length} tokens is longer than any text")))?;
        let mut head = Head { shard, bytes, rank: 0, offset: 0 };
        head.skip_short()?;
        Ok(head)
    }

    fn window(&self) -> Option<&'s [u8]> {
        (self.rank < self.shard.token_count()).then(|| &self.shard.text()[self.offset..self.offset + self.bytes])
    }

    /// Moves past suffixes that the text ends before they are a window long.
    fn skip_short(&mut self) -> Result<()> {
        while self.rank < self.shard.token_count() {
            self.offset = self.shard.suffix(self.rank)?;
            // No sum: a length from outside may be close to the largest number.
            if self.bytes <= self.shard.text().len() - self.offset {
                break;
            }
            self.rank += 1;
        }
        Ok(())
    }

    /// The ranks whose windows equal the current one; moves past them.
    fn take_run(&mut self) -> Result<std::ops::Range<usize>> {
        let (start, window) = (self.rank, self.window());
        loop {
            self.rank += 1;
            let before = self.rank;
            self.skip_short()?;
            // A suffix too short to be a window sorts before all longer ones it begins: it can't stand inside a run.
            if self.rank != before || self.window() != window {
                return Ok(start..before);
            }
        }
    }
}

fn contains_separator(window: &[u8], width: usize) -> bool {
    window.chunks_exact(width).any(|token| token.iter().all(|&byte| byte == 0xff))
}

/// SplitMix64 (Steele et al. 2014): small, seeded, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..bound by the high word of a 128-bit product; the bias is below bound / 2^64.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
