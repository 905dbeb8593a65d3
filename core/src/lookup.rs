//! Batched search in a suffix array.
//!
//! A search step reads one suffix at a random place of the text, and waits for memory. So queries are sorted (neighbours
//! share keys, table lines and pages), equal ones are answered once, and many searches run interleaved: while one waits
//! for its prefetched suffix, the others compare theirs. Processor threads take contiguous parts of the sorted batch.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::Result;
use crate::keys::lowest_key;
use crate::shard::Shard;

/// Searches in flight per thread; enough to cover a memory access with the others' work.
const LANES: usize = 24;

/// Queries per thread at least: below, starting a thread costs more than it saves.
const PER_THREAD: usize = 4096;

/// A batch of byte strings, each a run of little-endian ids, that may overlap in `bytes`.
pub struct Batch {
    /// The bytes of all queries.
    pub bytes: Vec<u8>,
    /// Where each query lies.
    pub bounds: Vec<Range<usize>>,
}

impl Batch {
    /// The bytes of one query.
    pub fn query(&self, row: usize) -> &[u8] {
        &self.bytes[self.bounds[row].clone()]
    }

    /// Rows in the order of their bytes.
    fn sorted(&self) -> Vec<u32> {
        let mut keyed: Vec<(u64, u32)> = self
            .bounds
            .iter()
            .zip(0u32..)
            .map(|(bounds, row)| (lowest_key(&self.bytes[bounds.clone()]), row))
            .collect();
        keyed.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| self.query(a.1 as usize).cmp(self.query(b.1 as usize)))
        });
        keyed.into_iter().map(|(_, row)| row).collect()
    }
}

/// For every query the ranks of the suffixes that start with it; an empty range stands where it would be inserted.
pub fn find_batch(shard: &Shard, batch: &Batch) -> Result<Vec<Range<usize>>> {
    let order = batch.sorted();
    let mut found = vec![0..0; order.len()];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(order.len().div_ceil(PER_THREAD)).max(1);
    if threads == 1 {
        search_sorted(shard, batch, &order, &mut found)?;
    } else {
        let part = order.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let parts = order.chunks(part).zip(found.chunks_mut(part));
            let running: Vec<_> =
                parts.map(|(rows, into)| scope.spawn(move || search_sorted(shard, batch, rows, into))).collect();
            running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
        })?;
    }
    // From sorted order back to the caller's.
    let mut ranges = vec![0..0; order.len()];
    for (row, range) in order.into_iter().zip(found) {
        ranges[row as usize] = range;
    }
    Ok(ranges)
}

/// Answers sorted rows into `into`, place by place.
fn search_sorted(shard: &Shard, batch: &Batch, rows: &[u32], into: &mut [Range<usize>]) -> Result<()> {
    let mut next = 0;
    let mut hint = 0;
    let mut lanes: Vec<Search> = Vec::with_capacity(LANES);
    let mut start = |next: &mut usize| -> Option<Search> {
        let place = *next;
        let query = batch.query(*rows.get(place)? as usize);
        *next += 1;
        // Places of equal queries follow; the answer is copied to them at the end.
        while rows.get(*next).is_some_and(|&row| batch.query(row as usize) == query) {
            *next += 1;
        }
        Some(Search::new(shard, place, query, &mut hint))
    };
    while lanes.len() < LANES {
        let Some(search) = start(&mut next) else { break };
        lanes.push(search);
    }
    let mut i = 0;
    while !lanes.is_empty() {
        i = if i + 1 < lanes.len() { i + 1 } else { 0 };
        let search = &mut lanes[i];
        search.step(shard, batch.query(rows[search.place] as usize))?;
        if let Some(range) = search.done(shard)? {
            into[search.place] = range;
            match start(&mut next) {
                Some(search) => lanes[i] = search,
                None => drop(lanes.swap_remove(i)),
            }
        }
    }
    for place in 1..rows.len() {
        if batch.query(rows[place] as usize) == batch.query(rows[place - 1] as usize) {
            into[place] = into[place - 1].clone();
        }
    }
    Ok(())
}

/// What a search still looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looking {
    /// Any suffix that starts with the query, between `low` and `high`.
    ForAny,
    /// The first one: it lies after `low`, and the suffix at `high` starts with the query.
    ForFirst,
    /// The end: the suffix at `low` starts with the query, the one at `high` does not.
    ForEnd,
    /// Nothing.
    Done,
}

/// One search in flight; ranks as isize, so that -1 and the table's length can stand for its ends.
struct Search {
    place: usize,
    looking: Looking,
    low: isize,
    high: isize,
    /// Where the end is looked for once the first is known.
    end_low: isize,
    end_high: isize,
    first: isize,
    /// Offset in the text of the suffix in the middle; prefetched.
    middle: isize,
    offset: Result<usize>,
}

impl Search {
    fn new(shard: &Shard, place: usize, query: &[u8], hint: &mut usize) -> Search {
        let narrowed = shard.keys.narrow(query, hint, shard.token_count());
        let (looking, high, end_low) = match narrowed.inside {
            None => (Looking::ForAny, narrowed.high, -1),
            Some((first, last)) => (Looking::ForFirst, first, last),
        };
        let (low, end_high) = (narrowed.low, narrowed.high);
        let mut search = Search { place, looking, low, high, end_low, end_high, first: -1, middle: 0, offset: Ok(0) };
        search.settle(shard);
        search
    }

    /// The answer, when the search is over.
    fn done(&self, shard: &Shard) -> Result<Option<Range<usize>>> {
        match self.looking {
            Looking::Done if self.first > self.high => Err(shard.disorder(self.high as usize)),
            Looking::Done => Ok(Some(self.first as usize..self.high as usize)),
            _ => Ok(None),
        }
    }

    /// Compares the prefetched suffix with the query and halves what is left.
    fn step(&mut self, shard: &Shard, query: &[u8]) -> Result<()> {
        if self.looking == Looking::Done {
            return Ok(());
        }
        let suffix = &shard.text()[std::mem::replace(&mut self.offset, Ok(0))?..];
        match (suffix[..query.len().min(suffix.len())].cmp(query), self.looking) {
            (Ordering::Less, Looking::ForEnd) | (Ordering::Greater, Looking::ForFirst) => {
                return Err(shard.disorder(self.middle as usize));
            }
            (Ordering::Less, _) | (Ordering::Equal, Looking::ForEnd) => self.low = self.middle,
            (Ordering::Greater, _) | (Ordering::Equal, Looking::ForFirst) => self.high = self.middle,
            (Ordering::Equal, _) => {
                (self.looking, self.end_low, self.end_high) = (Looking::ForFirst, self.middle, self.high);
                self.high = self.middle;
            }
        }
        self.settle(shard);
        Ok(())
    }

    /// Moves on to what is looked for next, and prefetches the suffix in the middle of what is left.
    fn settle(&mut self, shard: &Shard) {
        while self.high - self.low <= 1 {
            match self.looking {
                Looking::ForFirst => {
                    self.first = self.high;
                    (self.looking, self.low, self.high) = (Looking::ForEnd, self.end_low, self.end_high);
                }
                Looking::ForAny => {
                    self.first = self.high;
                    self.looking = Looking::Done;
                    return;
                }
                Looking::ForEnd | Looking::Done => {
                    self.looking = Looking::Done;
                    return;
                }
            }
        }
        self.middle = self.low + (self.high - self.low) / 2;
        self.offset = shard.suffix(self.middle as usize);
        if let Ok(offset) = self.offset {
            prefetch(shard.text(), offset);
        }
    }
}

/// Asks the processor for the cache line at `offset`; a no-op where there is no such instruction.
#[inline]
fn prefetch(text: &[u8], offset: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(place) = text.get(offset) {
        // SAFETY: a prefetch of a valid address has no effect a program can see.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(place).cast())
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (text, offset);
}
