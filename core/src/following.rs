//! What follows an n-gram: every next token, with the ranks of the suffixes that go on so.
//!
//! Suffixes that start with the n-gram stand in the order of their next tokens. So the places where the next token changes
//! are found by halving, all ranges of a batch level by level: D different tokens among N occurrences cost D log(N / D)
//! reads, many of them under way at once.

use std::cmp::Reverse;
use std::ops::Range;

use crate::error::Result;
use crate::lookup::{LANES, in_parts};
use crate::shard::Shard;

/// N-grams that one thread takes on together.
const ROWS: usize = 64;

/// The next tokens of a batch of n-grams: those of row i are at `offsets[i]..offsets[i + 1]`, most frequent first.
#[derive(Debug, Default)]
pub struct Following {
    /// Where each row's tokens stand.
    pub offsets: Vec<i64>,
    /// The next token; all ones (u32) where a document, or the text, ends.
    pub ids: Vec<u32>,
    /// The ranks of the suffixes that go on with it.
    pub ranges: Vec<Range<usize>>,
}

/// A stretch of ranks whose ends go on with different tokens.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    row: usize,
    first: (usize, u64),
    last: (usize, u64),
}

/// Finds all next tokens of the n-grams that start the suffixes of each range; `bytes[row]` is the n-gram's length.
pub fn next_tokens(shard: &Shard, ranges: &[Range<usize>], bytes: &[usize]) -> Result<Following> {
    let mut parts: Vec<Following> = ranges.chunks(ROWS).map(|_| Following::default()).collect();
    in_parts(&mut parts, 1, |number, part| {
        let rows = number * ROWS..((number + 1) * ROWS).min(ranges.len());
        part[0] = next_tokens_of_rows(shard, &ranges[rows.clone()], &bytes[rows])?;
        Ok(())
    })?;
    let mut all = Following { offsets: vec![0], ..Following::default() };
    for part in parts {
        let before = all.ids.len() as i64;
        all.offsets.extend(part.offsets[1..].iter().map(|offset| before + offset));
        all.ids.extend(part.ids);
        all.ranges.extend(part.ranges);
    }
    Ok(all)
}

fn next_tokens_of_rows(shard: &Shard, ranges: &[Range<usize>], bytes: &[usize]) -> Result<Following> {
    let rows = || ranges.iter().enumerate().filter(|(_, range)| !range.is_empty());
    let firsts = read(shard, rows().map(|(row, range)| (range.start, bytes[row])))?;
    let lasts = read(shard, rows().map(|(row, range)| (range.end - 1, bytes[row])))?;
    // (row, first rank of a run, its token as the table orders them)
    let mut runs: Vec<(usize, usize, u64)> = Vec::new();
    let mut stretches = Vec::new();
    for (((row, range), first), last) in rows().zip(firsts).zip(lasts) {
        runs.push((row, range.start, first));
        stretches.push(Stretch { row, first: (range.start, first), last: (range.end - 1, last) });
    }
    while !stretches.is_empty() {
        let mut longer = Vec::new();
        for stretch in stretches {
            match stretch {
                Stretch { first: (_, a), last: (_, b), .. } if a == b => {}
                Stretch { first: (_, a), last: (rank, b), .. } if a > b => return Err(shard.disorder(rank)),
                Stretch { row, first: (a, _), last: (rank, token) } if a + 1 == rank => runs.push((row, rank, token)),
                _ => longer.push(stretch),
            }
        }
        let middle = |s: &Stretch| s.first.0 + (s.last.0 - s.first.0) / 2;
        let tokens = read(shard, longer.iter().map(|stretch| (middle(stretch), bytes[stretch.row])))?;
        stretches = longer
            .iter()
            .zip(tokens)
            .map(|(stretch, token)| (stretch, (middle(stretch), token)))
            .flat_map(|(stretch, middle)| [Stretch { last: middle, ..*stretch }, Stretch { first: middle, ..*stretch }])
            .collect();
    }
    runs.sort_unstable();
    Ok(collect(shard, ranges, &runs))
}

fn collect(shard: &Shard, ranges: &[Range<usize>], runs: &[(usize, usize, u64)]) -> Following {
    let mut found = Following { offsets: vec![0], ..Following::default() };
    let (mut runs, mut of_row) = (runs.iter().peekable(), Vec::new());
    for (row, range) in ranges.iter().enumerate() {
        of_row.clear();
        while let Some(&(_, start, token)) = runs.next_if(|run| run.0 == row) {
            let end = runs.peek().filter(|next| next.0 == row).map_or(range.end, |next| next.1);
            of_row.push((Reverse(end - start), id(token, shard.width), start));
        }
        of_row.sort_unstable();
        found.ids.extend(of_row.iter().map(|&(_, id, _)| id));
        found.ranges.extend(of_row.iter().map(|&(Reverse(count), _, start)| start..start + count));
        found.offsets.push(found.ids.len() as i64);
    }
    found
}

/// The token after `bytes` bytes of the suffixes of these ranks, as numbers in the order of the table: 0 where the text
/// ends.
fn read(shard: &Shard, suffixes: impl Iterator<Item = (usize, usize)>) -> Result<Vec<u64>> {
    let suffixes: Vec<(usize, usize)> = suffixes.collect();
    let mut tokens = Vec::with_capacity(suffixes.len());
    for lanes in suffixes.chunks(LANES) {
        let mut places = [0usize; LANES];
        for ((rank, bytes), place) in lanes.iter().zip(&mut places) {
            *place = shard.suffix(*rank)? + bytes;
        }
        places.iter().for_each(|&place| shard.prefetch_text(place, 0));
        tokens.extend(places[..lanes.len()].iter().map(|&place| {
            let bytes = shard.text().get(place..place + shard.width).unwrap_or(&[]);
            bytes.iter().fold(u64::from(!bytes.is_empty()), |token, &byte| token << 8 | u64::from(byte))
        }));
    }
    Ok(tokens)
}

/// The id that `read` made a number of; all ones for the end of a document and of the text.
fn id(token: u64, width: usize) -> u32 {
    let bytes = (token as u32) << (32 - 8 * width);
    match token {
        0 => u32::MAX,
        _ if bytes == u32::MAX << (32 - 8 * width) => u32::MAX,
        _ => bytes.swap_bytes(),
    }
}
