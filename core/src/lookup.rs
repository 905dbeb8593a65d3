//! Batched search in a suffix array.
//!
//! A search step reads one suffix at a random place of the text, and waits for memory. So queries are sorted (neighbours
//! share keys, table lines and pages), equal ones are answered once, and many searches run interleaved: while one waits
//! for its prefetched suffix, the others compare theirs. Processor threads take contiguous rows of the batch.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};

use crate::cold::{Faults, PAGE};
use crate::error::{Error, Result};
use crate::keys::{Bracket, Narrowed};
use crate::shard::Shard;

/// Searches in flight per thread; enough to cover a memory access with the others' work.
pub const LANES: usize = 32;

/// The same when they wait for a disk, which takes a thousand times longer.
const COLD_LANES: usize = 512;

/// Queries per thread at least: below, starting a thread costs more than it saves.
pub const PER_THREAD: usize = 4096;

/// Queries sorted together at most; bounds the memory of a batch.
const MOST_SORTED: usize = 1 << 22;

/// Distinct queries encoded together.
const BLOCK: usize = 1 << 15;

/// Numbers that are answered together: with many domains fewer queries.
const MOST_NUMBERS: usize = 1 << 22;

/// Pages that a query from disk reads, about: a batch that would read most pages of the files has them read in order.
const PAGES_PER_QUERY: usize = 4;

/// A batch of token sequences.
pub trait Queries: Sync {
    /// Number of queries.
    fn rows(&self) -> usize;
    /// The ids of one query.
    fn ids(&self, row: usize) -> &[u32];
    /// Asks the processor for what `ids` reads.
    fn prefetch(&self, _row: usize) {}
}

/// A ragged batch: row i is `values[offsets[i]..offsets[i + 1]]`; checked.
pub struct Ragged<'a> {
    values: &'a [u32],
    offsets: &'a [i64],
}

impl<'a> Ragged<'a> {
    /// Checks that offsets ascend inside the values, and that every query has ids, all below the separator.
    pub fn new(values: &'a [u32], offsets: &'a [i64], width: usize) -> Result<Ragged<'a>> {
        if offsets.first().is_some_and(|&first| first < 0 || first > values.len() as i64) {
            return Err(Error::Query("offsets are not ascending inside the values".into()));
        }
        let inside = |pair: &[i64]| pair[0] <= pair[1] && pair[1] <= values.len() as i64;
        let wrong = |wrong: &dyn Fn(&[i64]) -> bool| offsets.windows(2).position(wrong);
        if let Some(row) = wrong(&|pair| !inside(pair)) {
            return Err(Error::Query(format!("query {row}: offsets are not ascending inside the values")));
        }
        if let Some(row) = wrong(&|pair| pair[0] == pair[1]) {
            return Err(Error::Query(format!("query {row} is empty: a query needs at least one token")));
        }
        let batch = Ragged { values, offsets };
        let separator = separator(width);
        let asked = match (offsets.first(), offsets.last()) {
            (Some(&first), Some(&last)) => &values[first as usize..last as usize],
            _ => &[],
        };
        if asked.iter().fold(0, |most, &id| id.max(most)) >= separator {
            let row = (0..batch.rows()).find(|&row| batch.ids(row).iter().any(|&id| id >= separator)).unwrap_or(0);
            check_ids(batch.ids(row), row, width)?;
        }
        Ok(batch)
    }
}

impl Queries for Ragged<'_> {
    fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn ids(&self, row: usize) -> &[u32] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    fn prefetch(&self, row: usize) {
        prefetch_slice(&self.offsets[row..]);
    }
}

/// Windows of one sequence of ids, each with its own start and length; they may overlap.
pub struct Windows<'a> {
    /// All ids.
    pub values: &'a [u32],
    /// Where each window lies.
    pub bounds: &'a [Range<usize>],
}

impl Queries for Windows<'_> {
    fn rows(&self) -> usize {
        self.bounds.len()
    }

    fn ids(&self, row: usize) -> &[u32] {
        &self.values[self.bounds[row].clone()]
    }
}

fn separator(width: usize) -> u32 {
    u32::MAX >> (32 - 8 * width)
}

/// Fails when a query is empty or holds an id that no text of this width does.
pub fn check_ids(ids: &[u32], row: usize, width: usize) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::Query(format!("query {row} is empty: a query needs at least one token")));
    }
    match ids.iter().find(|&&id| id >= separator(width)) {
        None => Ok(()),
        Some(id) => Err(Error::Query(format!(
            "query {row}: token id {id} is out of range: this index holds ids 0 to {}",
            separator(width) - 1
        ))),
    }
}

/// Appends ids as little-endian tokens of `width` bytes.
pub fn encode(ids: &[u32], width: usize, out: &mut Vec<u8>) {
    match width {
        1 => out.extend(ids.iter().map(|&id| id as u8)),
        2 => ids.iter().for_each(|&id| out.extend_from_slice(&(id as u16).to_le_bytes())),
        _ => ids.iter().for_each(|&id| out.extend_from_slice(&id.to_le_bytes())),
    }
}

/// What a lookup says about a query, from the ranks of the suffixes that start with it.
pub trait Answer: Sync {
    /// Numbers per query.
    fn columns(&self) -> usize;
    /// What `answer` needs of each query of a block, one or several ranges for each.
    fn find(&self, shard: &Shard, block: &Block, hint: &mut usize, faults: &mut Faults) -> Result<Vec<Range<usize>>> {
        search_block(shard, block, hint, faults)
    }
    /// Fills `columns()` numbers for each query of a block, from what was found for it.
    fn answer(&self, shard: &Shard, block: &Block, found: &[Range<usize>], numbers: &mut [u64]) -> Result<()>;
}

/// The number of occurrences.
pub struct Count;

impl Answer for Count {
    fn columns(&self) -> usize {
        1
    }

    fn answer(&self, _: &Shard, _: &Block, found: &[Range<usize>], numbers: &mut [u64]) -> Result<()> {
        found.iter().zip(numbers).for_each(|(range, count)| *count = range.len() as u64);
        Ok(())
    }
}

/// The first rank and the end of the ranks.
pub struct Ranks;

impl Answer for Ranks {
    fn columns(&self) -> usize {
        2
    }

    fn answer(&self, _: &Shard, _: &Block, found: &[Range<usize>], numbers: &mut [u64]) -> Result<()> {
        for (range, ranks) in found.iter().zip(numbers.chunks_exact_mut(2)) {
            ranks.copy_from_slice(&[range.start as u64, range.end as u64]);
        }
        Ok(())
    }
}

/// The number of occurrences of the first `tokens` tokens, and of the whole query, which stands only where they do.
pub struct CountWithPrefix {
    /// Tokens of the prefix.
    pub tokens: usize,
}

impl Answer for CountWithPrefix {
    fn columns(&self) -> usize {
        2
    }

    /// The ranges of a query's prefix and of the query, in turn.
    fn find(&self, shard: &Shard, block: &Block, hint: &mut usize, faults: &mut Faults) -> Result<Vec<Range<usize>>> {
        let (mut prefixes, mut of_query) = (Block::default(), Vec::with_capacity(block.len()));
        for number in 0..block.len() {
            let query = block.query(number);
            let prefix = &query[..query.len().min(self.tokens * shard.width)];
            if prefixes.len() == 0 || prefixes.query(prefixes.len() - 1) != prefix {
                prefixes.push(shard, prefix);
            }
            of_query.push(prefixes.len() - 1);
        }
        let outer = search_block(shard, &prefixes, hint, faults)?;
        let inner = search(shard, block, faults, |number| Search::within(number, &outer[of_query[number]]))?;
        Ok(of_query.iter().zip(inner).flat_map(|(&prefix, range)| [outer[prefix].clone(), range]).collect())
    }

    fn answer(&self, shard: &Shard, block: &Block, found: &[Range<usize>], numbers: &mut [u64]) -> Result<()> {
        Count.answer(shard, block, found, numbers)
    }
}

/// Answers every query of a batch: row i of the result has `answer.columns()` numbers.
pub fn answer_batch(shard: &Shard, queries: &impl Queries, answer: &impl Answer) -> Result<Vec<u64>> {
    let mut out = zeros(queries.rows(), answer.columns())?;
    let part = queries.rows().div_ceil(cores()).clamp(PER_THREAD, MOST_SORTED);
    let cold = queries.rows() >= LANES && shard.is_cold();
    if cold && queries.rows() >= shard.pages() / PAGES_PER_QUERY {
        shard.fetch_all();
    }
    in_parts(&mut out, part * answer.columns(), |number, out| {
        let rows = number * part..number * part + out.len() / answer.columns();
        answer_part(shard, queries, rows, answer, cold, out)
    })?;
    Ok(out)
}

/// Zeros for so many rows and columns; an error where the system does not give the memory, which else ends the process.
pub fn zeros(rows: usize, columns: usize) -> Result<Vec<u64>> {
    let (mut zeros, numbers) = (Vec::new(), rows.saturating_mul(columns));
    zeros.try_reserve_exact(numbers).map_err(|_| {
        let gigabytes = numbers as f64 * 8e-9;
        Error::Query(format!("{columns} numbers for {rows} rows take {gigabytes:.1} GB: ask in smaller batches"))
    })?;
    zeros.resize(numbers, 0);
    Ok(zeros)
}

/// Lets processor threads work through `items` in parts of at most `size`; this thread works too, and the others are
/// only started for more than one part.
pub fn in_parts<T: Send>(
    items: &mut [T],
    size: usize,
    work: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    let parts: Vec<_> = items.chunks_mut(size.max(1)).map(|part| std::sync::Mutex::new(Some(part))).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        loop {
            let number = next.fetch_add(1, Memory::Relaxed);
            let Some(slot) = parts.get(number) else { return Ok(()) };
            if let Some(part) = slot.lock().ok().and_then(|mut part| part.take()) {
                work(number, part)?;
            }
        }
    };
    std::thread::scope(|scope| {
        // Where the system gives no more threads, fewer do the work.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, run).ok();
        let others: Vec<_> = (1..cores().min(parts.len())).map_while(start).collect();
        let mine = run();
        let all = others.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        all.fold(mine, |before, result| before.and(result))
    })
}

/// Processor threads; asked once, because the answer takes longer than a lookup.
pub fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// A row of the batch and the bracket of its keys' lower end, which it is sorted by.
#[derive(Clone, Copy)]
struct Keyed {
    lowest: u64,
    row: u32,
}

fn answer_part(
    shard: &Shard,
    queries: &impl Queries,
    rows: Range<usize>,
    answer: &impl Answer,
    cold: bool,
    out: &mut [u64],
) -> Result<()> {
    let first = rows.start;
    let ids = |row: u32| queries.ids(first + row as usize);
    let ahead = |row: u32| queries.prefetch(first + row as usize);
    let keyed = sorted(shard, rows.len(), &ids);
    let (mut block, mut hint, mut numbers) = (Block::default(), 0, Vec::new());
    let mut faults = Faults::new(cold);
    let most = (MOST_NUMBERS / answer.columns()).clamp(LANES, BLOCK);
    let mut left = &keyed[..];
    while !left.is_empty() {
        let taken = block.fill(shard, left, most, &ids, &ahead);
        let found = answer.find(shard, &block, &mut hint, &mut faults)?;
        numbers.clear();
        numbers.resize(block.len() * answer.columns(), 0);
        answer.answer(shard, &block, &found, &mut numbers)?;
        for (keyed, &number) in left.iter().zip(&block.number) {
            let row = keyed.row as usize * answer.columns();
            let from = number as usize * answer.columns();
            out[row..row + answer.columns()].copy_from_slice(&numbers[from..from + answer.columns()]);
        }
        left = &left[taken..];
    }
    Ok(())
}

/// Rows in an order in which equal queries stand together and the lower ends of key brackets ascend.
fn sorted<'q>(shard: &Shard, rows: usize, ids: &impl Fn(u32) -> &'q [u32]) -> Vec<Keyed> {
    let packing = shard.keys.packing();
    let lowest = |row: u32| packing.bracket(ids(row)).lowest;
    let mut keyed: Vec<Keyed> = (0..rows as u32).map(|row| Keyed { lowest: lowest(row), row }).collect();
    // By the key alone, which is fast; then the few runs of equal keys.
    keyed.sort_unstable_by_key(|keyed| keyed.lowest);
    for run in keyed.chunk_by_mut(|a, b| a.lowest == b.lowest).filter(|run| run.len() > 1) {
        run.sort_unstable_by(|a, b| ids(a.row).cmp(ids(b.row)));
    }
    keyed
}

/// Distinct queries, encoded one after the other.
#[derive(Default)]
pub struct Block {
    bytes: Vec<u8>,
    /// Query i ends at `ends[i]`, where the next one starts.
    ends: Vec<usize>,
    /// The bracket of keys of each query.
    brackets: Vec<Bracket>,
    ids: Vec<u32>,
    /// For every row that was taken the number of its query.
    number: Vec<u32>,
}

impl Block {
    /// Number of queries.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of one query.
    pub fn query(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }

    /// Appends an encoded query.
    pub fn push(&mut self, shard: &Shard, query: &[u8]) {
        self.bytes.extend_from_slice(query);
        self.ends.push(self.bytes.len());
        self.ids.clear();
        self.ids.extend(query.chunks_exact(shard.width).take(8).map(crate::keys::token));
        self.brackets.push(shard.keys.packing().bracket(&self.ids));
    }

    /// Takes rows from the front until the block has `most` queries; returns how many.
    fn fill<'q>(
        &mut self,
        shard: &Shard,
        keyed: &[Keyed],
        most: usize,
        ids: &impl Fn(u32) -> &'q [u32],
        ahead: &impl Fn(u32),
    ) -> usize {
        self.bytes.clear();
        self.ends.clear();
        self.brackets.clear();
        self.number.clear();
        let mut before: &[u32] = &[];
        for group in keyed.chunks(LANES) {
            if self.ends.len() + group.len() > most {
                break;
            }
            keyed.iter().skip(self.number.len() + LANES).take(LANES).for_each(|keyed| ahead(keyed.row));
            let mut queries = [before; LANES];
            group.iter().zip(&mut queries).for_each(|(keyed, query)| *query = ids(keyed.row));
            queries.iter().for_each(|ids| prefetch_slice(ids));
            for ids in &queries[..group.len()] {
                if before != *ids {
                    encode(ids, shard.width, &mut self.bytes);
                    self.ends.push(self.bytes.len());
                    self.brackets.push(shard.keys.packing().bracket(ids));
                    before = ids;
                }
                self.number.push(self.ends.len() as u32 - 1);
            }
        }
        self.number.len()
    }
}

/// For every query of the block the ranks of the suffixes that start with it; an empty range stands where it would be
/// inserted.
pub fn search_block(shard: &Shard, block: &Block, hint: &mut usize, faults: &mut Faults) -> Result<Vec<Range<usize>>> {
    search(shard, block, faults, |number| Search::new(shard, number, block.brackets[number], hint))
}

/// Ends the searches that `start` begins for every query of the block.
///
/// In rounds: a pointer of every lane, then a suffix of every lane. Each is a short loop, so that the processor has many
/// of its reads, and of the page walks they need, under way at once.
fn search(
    shard: &Shard,
    block: &Block,
    faults: &mut Faults,
    mut start: impl FnMut(usize) -> Search,
) -> Result<Vec<Range<usize>>> {
    let mut found = vec![0..0; block.ends.len()];
    let mut waiting = 0..block.ends.len();
    let mut lanes = Vec::with_capacity(LANES);
    let mut offsets: Vec<usize> = Vec::with_capacity(LANES);
    loop {
        let most = if faults.is_cold() { COLD_LANES } else { LANES };
        while lanes.len() < most
            && let Some(number) = waiting.next()
        {
            let mut search = start(number);
            match search.settle(shard)? {
                Some(range) => found[number] = range,
                None => lanes.push(search),
            }
        }
        if lanes.is_empty() {
            return Ok(found);
        }
        if faults.cold(lanes.len()) {
            lanes.iter_mut().for_each(|search| search.fetch(shard));
        }
        offsets.clear();
        for search in &lanes {
            offsets.push(shard.suffix(search.middle as usize)?);
        }
        if faults.is_cold() {
            lanes.iter().zip(&offsets).for_each(|(s, &offset)| shard.fetch_text(offset, block.query(s.number).len()));
        }
        for (search, &offset) in lanes.iter().zip(&offsets) {
            shard.prefetch_text(offset, block.query(search.number).len());
        }
        // The first one asked for arrives first.
        let mut left = 0;
        for i in 0..lanes.len() {
            let mut search: Search = lanes[i];
            match search.step(shard, &shard.text()[offsets[i]..], block.query(search.number))? {
                Some(range) => found[search.number] = range,
                None => {
                    lanes[left] = search;
                    left += 1;
                }
            }
        }
        lanes.truncate(left);
    }
}

/// The ranks of the suffixes that start with one query; as `answer_batch`, without its costs.
pub fn find_one(shard: &Shard, ids: &[u32]) -> Result<Range<usize>> {
    let mut bytes = Vec::with_capacity(ids.len() * shard.width);
    encode(ids, shard.width, &mut bytes);
    let bracket = shard.keys.packing().bracket(ids);
    let mut search = Search::new(shard, 0, bracket, &mut 0);
    let mut found = search.settle(shard)?;
    loop {
        match found {
            Some(range) => return Ok(range),
            None => found = search.step(shard, &shard.text()[shard.suffix(search.middle as usize)?..], &bytes)?,
        }
    }
}

/// What a search looks for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Any suffix that starts with the query, between `low` and `high`.
    Any,
    /// The first one: it lies after `low`, and the suffix at `high` starts with the query.
    First,
    /// The end: the suffix at `low` starts with the query, the one at `high` does not.
    End,
}

/// One search in flight; ranks as isize, so that -1 and the table's length can stand for its ends.
#[derive(Debug, Clone, Copy)]
struct Search {
    number: usize,
    goal: Goal,
    low: isize,
    high: isize,
    /// The rank between them that is compared next.
    middle: isize,
    /// A suffix that starts with the query, and the last that is known to: once there is one.
    inside: (isize, isize),
    end_high: isize,
    first: isize,
    /// Nothing was read of the table yet.
    fresh: bool,
}

impl Search {
    fn new(shard: &Shard, number: usize, bracket: Bracket, hint: &mut usize) -> Search {
        let Narrowed { low, inside, high } = shard.keys.narrow(bracket, hint, shard.token_count());
        let (goal, end_high) = (Goal::Any, high);
        match inside {
            None => Search { number, goal, low, high, middle: 0, inside: (0, 0), end_high, first: -1, fresh: true },
            Some(inside) => {
                let goal = Goal::First;
                Search { number, goal, low, high: inside.0, middle: 0, inside, end_high, first: -1, fresh: true }
            }
        }
    }

    /// A search among the suffixes of these ranks.
    fn within(number: usize, ranks: &Range<usize>) -> Search {
        let (low, high) = (ranks.start as isize - 1, ranks.end as isize);
        let (goal, inside) = (Goal::Any, (0, 0));
        Search { number, goal, low, high, middle: 0, inside, end_high: high, first: -1, fresh: true }
    }

    /// Asks the disk for the table's page, unless it was asked for before.
    fn fetch(&mut self, shard: &Shard) {
        if self.fresh || self.high - self.low > PAGE as isize / 8 {
            self.fresh = false;
            shard.fetch_table(self.middle as usize);
        }
    }

    /// Compares the suffix in the middle with the query and halves what is left; the answer, when the search is over.
    fn step(&mut self, shard: &Shard, suffix: &[u8], query: &[u8]) -> Result<Option<Range<usize>>> {
        match (compare(suffix, query), self.goal) {
            (Ordering::Less, Goal::End) | (Ordering::Greater, Goal::First) => {
                return Err(shard.disorder(self.middle as usize));
            }
            (Ordering::Less, _) | (Ordering::Equal, Goal::End) => self.low = self.middle,
            (Ordering::Greater, _) | (Ordering::Equal, Goal::First) => self.high = self.middle,
            (Ordering::Equal, Goal::Any) => self.found(shard, query.len() / shard.width),
        }
        self.settle(shard)
    }

    /// The suffix in the middle starts with the query: its first and its end are left, next to the last keys that do.
    fn found(&mut self, shard: &Shard, tokens: usize) {
        (self.goal, self.inside, self.end_high) = (Goal::First, (self.middle, self.middle), self.high);
        if let Some(run) = shard.keys.run(self.middle as usize, tokens) {
            let stride = shard.keys.stride() as isize;
            let (first, last) = (run.first as isize, run.last as isize);
            self.inside = (first.max(self.low + 1), last.min(self.high - 1));
            if run.first_is_known {
                self.low = self.low.max(first - stride);
            }
            if run.last_is_known {
                self.end_high = self.end_high.min(last + stride);
            }
        }
        self.high = self.inside.0;
    }

    /// Moves on to what is looked for next, and to the middle of what is left.
    fn settle(&mut self, shard: &Shard) -> Result<Option<Range<usize>>> {
        while self.high - self.low <= 1 {
            match self.goal {
                Goal::First => {
                    self.first = self.high;
                    (self.goal, self.low, self.high) = (Goal::End, self.inside.1, self.end_high);
                }
                Goal::End if self.first > self.high => return Err(shard.disorder(self.high as usize)),
                Goal::End => return Ok(Some(self.first as usize..self.high as usize)),
                Goal::Any => return Ok(Some(self.high as usize..self.high as usize)),
            }
        }
        self.middle = self.low + (self.high - self.low) / 2;
        if self.goal == Goal::Any {
            // A suffix that has a key tells most.
            let stride = shard.keys.stride() as isize;
            let aligned = self.middle - self.middle % stride;
            self.middle = if aligned > self.low { aligned } else { self.middle };
        }
        Ok(None)
    }
}

/// How a suffix, cut to the query's length, compares with the query.
#[inline]
fn compare(suffix: &[u8], query: &[u8]) -> Ordering {
    let suffix = &suffix[..query.len().min(suffix.len())];
    let order = |a: Option<&[u8; 8]>, b: Option<&[u8; 8]>| match (a, b) {
        (Some(a), Some(b)) => u64::from_be_bytes(*a).cmp(&u64::from_be_bytes(*b)),
        _ => Ordering::Equal,
    };
    match order(suffix.first_chunk(), query.first_chunk()) {
        // Most queries are this short: the last eight bytes overlap the first.
        Ordering::Equal if suffix.len() == query.len() && (8..=16).contains(&query.len()) => {
            order(suffix.last_chunk(), query.last_chunk())
        }
        Ordering::Equal => suffix.cmp(query),
        unequal => unequal,
    }
}

/// Asks the processor for the start of a slice of integers.
pub fn prefetch_slice<T: Copy>(items: &[T]) {
    // SAFETY: integers have no padding; the length in bytes is that of the slice.
    let bytes = unsafe { std::slice::from_raw_parts(items.as_ptr().cast::<u8>(), size_of_val(items)) };
    prefetch(bytes, 0);
}

/// Asks the processor for the cache line of an item; a no-op where there is no such instruction.
#[inline]
pub fn prefetch<T>(items: &[T], number: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(place) = items.get(number) {
        // SAFETY: a prefetch of a valid address has no effect a program can see.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(place).cast())
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, number);
}
