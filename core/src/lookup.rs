//! Batched search in a suffix array.
//!
//! A search step reads one suffix at a random place of the text, and waits for memory. So queries are sorted (neighbours
//! share keys, table lines and pages), equal ones are answered once, and many searches run interleaved: while one waits
//! for its prefetched suffix, the others compare theirs. Processor threads take contiguous parts of the sorted batch.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::Result;
use crate::keys::{Narrowed, lowest_key};
use crate::shard::Shard;

/// Searches in flight per thread; enough to cover a memory access with the others' work.
const LANES: usize = 24;

/// Queries per thread at least: below, starting a thread costs more than it saves.
pub const PER_THREAD: usize = 4096;

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
}

/// Distinct queries in the order of their bytes, lying one after the other.
struct Sorted {
    bytes: Vec<u8>,
    /// Query i ends at `ends[i]`, where the next one starts.
    ends: Vec<usize>,
}

impl Sorted {
    /// Sorts `keyed`, the (key, row) of some rows, and copies their queries; `keyed[i].1` keeps the row, `keyed[i].0` becomes
    /// the number of its distinct query.
    fn new(batch: &Batch, keyed: &mut [(u64, u32)]) -> Sorted {
        let query = |row: u32| batch.query(row as usize);
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| query(a.1).cmp(query(b.1))));
        let mut sorted = Sorted { bytes: Vec::new(), ends: Vec::with_capacity(keyed.len()) };
        for (number, row) in keyed {
            let bytes = query(*row);
            if sorted.ends.is_empty() || sorted.query(sorted.ends.len() - 1) != bytes {
                sorted.bytes.extend_from_slice(bytes);
                sorted.ends.push(sorted.bytes.len());
            }
            *number = sorted.ends.len() as u64 - 1;
        }
        sorted
    }

    fn query(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }
}

/// The answers to a batch, equal queries answered once.
pub struct Found {
    /// For every distinct query the ranks of the suffixes that start with it; an empty range stands where it would be
    /// inserted.
    pub ranges: Vec<Range<usize>>,
    /// For every row of the batch the place of its answer in `ranges`.
    pub of_row: Vec<u32>,
}

/// Finds every query of a batch.
pub fn find_batch(shard: &Shard, batch: &Batch) -> Result<Found> {
    let rows = batch.bounds.len();
    let mut keyed: Vec<(u64, u32)> = (0..rows).map(|row| (lowest_key(batch.query(row)), row as u32)).collect();
    let threads = cores().min(rows.div_ceil(PER_THREAD)).max(1);
    let parts = split(&mut keyed, threads);
    let found: Vec<Result<(Vec<Range<usize>>, usize)>> = std::thread::scope(|scope| {
        let mut parts = parts.into_iter();
        let mine = parts.next();
        let others: Vec<_> = parts.map(|part| scope.spawn(move || answer_part(shard, batch, part))).collect();
        // This thread works too; a single lookup starts none.
        let first = mine.map(|part| answer_part(shard, batch, part));
        let join =
            |thread: std::thread::ScopedJoinHandle<_>| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        first.into_iter().chain(others.into_iter().map(join)).collect()
    });
    let mut answers = Found { ranges: Vec::new(), of_row: vec![0; rows] };
    let mut place = keyed.iter();
    for part in found {
        let (ranges, rows) = part?;
        let before = answers.ranges.len() as u64;
        for (number, row) in (&mut place).take(rows) {
            answers.of_row[*row as usize] = (before + number) as u32;
        }
        answers.ranges.extend(ranges);
    }
    Ok(answers)
}

/// Processor threads; asked once, because the answer takes longer than a lookup.
pub fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Splits into parts of about equal size, all keys of one part below or equal to those of the next.
fn split(mut keyed: &mut [(u64, u32)], parts: usize) -> Vec<&mut [(u64, u32)]> {
    let size = keyed.len().div_ceil(parts).max(1);
    let mut found = Vec::with_capacity(parts);
    while keyed.len() > size {
        keyed.select_nth_unstable(size);
        let (part, rest) = keyed.split_at_mut(size);
        found.push(part);
        keyed = rest;
    }
    found.push(keyed);
    found
}

/// Answers the distinct queries of one part, and says how many rows it has.
fn answer_part(shard: &Shard, batch: &Batch, keyed: &mut [(u64, u32)]) -> Result<(Vec<Range<usize>>, usize)> {
    let sorted = Sorted::new(batch, keyed);
    Ok((search_sorted(shard, &sorted)?, keyed.len()))
}

fn search_sorted(shard: &Shard, sorted: &Sorted) -> Result<Vec<Range<usize>>> {
    let mut found = vec![0..0; sorted.ends.len()];
    let mut waiting = 0..sorted.ends.len();
    let mut hint = 0;
    let mut start = || waiting.next().map(|number| Search::new(shard, number, sorted.query(number), &mut hint));
    let mut lanes: Vec<Search> = std::iter::from_fn(&mut start).take(LANES).collect();
    let mut i = 0;
    while !lanes.is_empty() {
        i = if i + 1 < lanes.len() { i + 1 } else { 0 };
        let search = &mut lanes[i];
        search.step(shard, sorted.query(search.number))?;
        if let Some(range) = search.done(shard)? {
            found[search.number] = range;
            match start() {
                Some(search) => lanes[i] = search,
                None => drop(lanes.swap_remove(i)),
            }
        }
    }
    Ok(found)
}

/// What a search still looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looking {
    /// Nothing yet: the table's lines are on their way.
    Waiting,
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
    number: usize,
    looking: Looking,
    low: isize,
    high: isize,
    /// Where the first and the end are looked for, once some suffix in between is known.
    inside: Option<(isize, isize)>,
    end_high: isize,
    first: isize,
    /// The rank in the middle, and the offset of its suffix in the text; prefetched.
    middle: isize,
    offset: Result<usize>,
}

impl Search {
    fn new(shard: &Shard, number: usize, query: &[u8], hint: &mut usize) -> Search {
        let Narrowed { low, inside, high } = shard.keys.narrow(query, hint, shard.token_count());
        shard.prefetch_table(low + (high - low) / 2);
        Search {
            number,
            looking: Looking::Waiting,
            low,
            high,
            inside,
            end_high: high,
            first: -1,
            middle: 0,
            offset: Ok(0),
        }
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
        if self.looking == Looking::Waiting {
            self.looking = Looking::ForAny;
            if let Some((first, _)) = self.inside {
                (self.looking, self.high) = (Looking::ForFirst, first);
            }
            self.settle(shard, query.len());
            return Ok(());
        }
        let suffix = &shard.text()[std::mem::replace(&mut self.offset, Ok(0))?..];
        match (compare(suffix, query), self.looking) {
            (Ordering::Less, Looking::ForEnd) | (Ordering::Greater, Looking::ForFirst) => {
                return Err(shard.disorder(self.middle as usize));
            }
            (Ordering::Less, _) | (Ordering::Equal, Looking::ForEnd) => self.low = self.middle,
            (Ordering::Greater, _) | (Ordering::Equal, Looking::ForFirst) => self.high = self.middle,
            (Ordering::Equal, _) => {
                (self.looking, self.inside, self.end_high) =
                    (Looking::ForFirst, Some((self.middle, self.middle)), self.high);
                self.high = self.middle;
            }
        }
        self.settle(shard, query.len());
        Ok(())
    }

    /// Moves on to what is looked for next, and prefetches the suffix in the middle of what is left.
    fn settle(&mut self, shard: &Shard, query_bytes: usize) {
        while self.high - self.low <= 1 {
            match (self.looking, self.inside) {
                (Looking::ForFirst, Some((_, last))) => {
                    self.first = self.high;
                    (self.looking, self.low, self.high) = (Looking::ForEnd, last, self.end_high);
                }
                (Looking::ForEnd, _) => {
                    self.looking = Looking::Done;
                    return;
                }
                _ => {
                    self.first = self.high;
                    self.looking = Looking::Done;
                    return;
                }
            }
        }
        self.middle = self.low + (self.high - self.low) / 2;
        self.offset = shard.suffix(self.middle as usize);
        if let Ok(offset) = self.offset {
            // The line it starts in, and the lines a long query goes on to.
            (0..=query_bytes.min(128)).step_by(64).for_each(|more| prefetch(shard.text(), offset + more));
        }
    }
}

/// How a suffix, cut to the query's length, compares with the query.
#[inline]
fn compare(suffix: &[u8], query: &[u8]) -> Ordering {
    match (suffix.first_chunk::<8>(), query.first_chunk::<8>()) {
        (Some(a), Some(b)) if a != b => u64::from_be_bytes(*a).cmp(&u64::from_be_bytes(*b)),
        _ => suffix[..query.len().min(suffix.len())].cmp(query),
    }
}

/// Asks the processor for the cache line at `offset`; a no-op where there is no such instruction.
#[inline]
pub fn prefetch(bytes: &[u8], offset: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(place) = bytes.get(offset) {
        // SAFETY: a prefetch of a valid address has no effect a program can see.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(place).cast())
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, offset);
}
