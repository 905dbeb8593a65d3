//! The sidecars of a shard that was built elsewhere: key table and domain column from the files as they lie there.
//!
//! The builder has the suffix array and the domain of every position in memory; here the table is walked once for each
//! sidecar, and what it points at is prefetched. Memory: 8 bytes a document and 1/16 byte a token.

use std::path::Path;

use crate::build::{DomainColumn, document_starts, write_domains};
use crate::cold::Faults;
use crate::error::{Error, Result};
use crate::files::shard_file;
use crate::keys::{STRIDE, write_keys};
use crate::lookup::prefetch;
use crate::shard::{Shard, Sidecars};

/// Suffixes whose text or document is asked for before the first of them is used.
const AHEAD: usize = 64;

/// Bytes of a suffix that a key is made of.
const KEY_BYTES: usize = 16;

/// Positions that share an entry of `Documents::nearest`.
const SPAN: usize = 64;

/// A shard that was built elsewhere.
pub struct Source<'a> {
    /// Folder of its files, which are only read.
    pub directory: &'a Path,
    /// Its number.
    pub shard: usize,
    /// Bytes per token.
    pub width: usize,
    /// The largest id of its text, the separator not counted.
    pub largest: u32,
}

/// Writes `keys.S` and, when documents are labelled, `domain.S` and `domainsum.S` into `out`.
pub fn write_sidecars(source: &Source, out: &Path, labels: Option<DomainColumn>) -> Result<()> {
    let Source { directory, shard, width, largest } = *source;
    let open = Shard::open(directory, directory, shard, width, Sidecars::default())?;
    open.walk_table();
    write_keys(&shard_file(out, "keys", shard), open.text(), width, largest, STRIDE, offsets_ahead(&open))?;
    let Some(labels) = labels else { return Ok(()) };
    let offsets = shard_file(directory, "offset", shard);
    let starts = document_starts(&offsets, &labels, width)?;
    let documents = Documents::new(&offsets, starts, labels.of_document, open.token_count())?;
    write_domains(out, shard, labels.domains, labels.block, documents.of_suffixes(&open))
}

/// Text offsets of the suffixes that have keys, in table order; the text there is on its way when they come.
fn offsets_ahead(open: &Shard) -> impl Iterator<Item = Result<usize>> {
    let mut faults = Faults::new(false);
    Batches::new(open.token_count(), STRIDE, move |ranks, offsets| {
        let cold = faults.cold(AHEAD);
        for rank in ranks {
            let offset = open.suffix(rank)?;
            match cold {
                true => open.fetch_text(offset, KEY_BYTES),
                false => prefetch(open.text(), offset),
            }
            offsets.push(offset);
        }
        Ok(())
    })
}

/// Which document a token position lies in, and that document's domain.
struct Documents<'a> {
    /// Token position of every document's separator, ascending from 0.
    starts: Vec<usize>,
    /// The document that position i * SPAN lies in: the one looked for is at most SPAN - 1 further on.
    nearest: Vec<u32>,
    domains: &'a [u16],
}

impl<'a> Documents<'a> {
    fn new(offsets: &Path, starts: Vec<usize>, domains: &'a [u16], tokens: usize) -> Result<Documents<'a>> {
        let ascending = starts.windows(2).position(|pair| pair[0] >= pair[1]).map(|i| i + 1);
        let outside = starts.iter().position(|&start| start >= tokens);
        if let Some(i) = ascending.or(outside).or((starts.first().copied().unwrap_or(0) != 0).then_some(0)) {
            return Err(Error::corrupt(offsets, i * 8, "documents are not in order"));
        }
        if u32::try_from(starts.len()).is_err() || (starts.is_empty() && tokens > 0) {
            return Err(Error::corrupt(offsets, 0, format!("{} documents in {tokens} tokens", starts.len())));
        }
        let mut nearest = Vec::with_capacity(tokens.div_ceil(SPAN));
        let mut document = 0;
        for position in (0..tokens).step_by(SPAN) {
            while starts.get(document + 1).is_some_and(|&start| start <= position) {
                document += 1;
            }
            nearest.push(document as u32);
        }
        Ok(Documents { starts, nearest, domains })
    }

    fn domain(&self, position: usize) -> u16 {
        let mut document = self.nearest[position / SPAN] as usize;
        while self.starts.get(document + 1).is_some_and(|&start| start <= position) {
            document += 1;
        }
        self.domains[document]
    }

    /// The domain of every suffix in table order.
    fn of_suffixes(&self, shard: &Shard) -> impl Iterator<Item = Result<u16>> {
        let mut positions = Vec::with_capacity(AHEAD);
        Batches::new(shard.token_count(), 1, move |ranks, domains| {
            positions.clear();
            for rank in ranks {
                positions.push(shard.suffix(rank)? / shard.width);
            }
            domains.extend(positions.iter().map(|&position| self.domain(position)));
            Ok(())
        })
    }
}

/// Every `step`th rank below `end` turned into something, `AHEAD` at a time, so that memory accesses overlap.
struct Batches<T, F> {
    ranks: std::iter::StepBy<std::ops::Range<usize>>,
    made: Vec<T>,
    given: usize,
    make: F,
}

impl<T, F: FnMut(std::iter::Take<&mut std::iter::StepBy<std::ops::Range<usize>>>, &mut Vec<T>) -> Result<()>>
    Batches<T, F>
{
    /// `make` appends one item per rank it is given.
    fn new(end: usize, step: usize, make: F) -> Batches<T, F> {
        Batches { ranks: (0..end).step_by(step), made: Vec::with_capacity(AHEAD), given: 0, make }
    }
}

impl<T: Copy, F: FnMut(std::iter::Take<&mut std::iter::StepBy<std::ops::Range<usize>>>, &mut Vec<T>) -> Result<()>>
    Iterator for Batches<T, F>
{
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if self.given == self.made.len() {
            self.made.clear();
            self.given = 0;
            if let Err(error) = (self.make)(self.ranks.by_ref().take(AHEAD), &mut self.made) {
                return Some(Err(error));
            }
        }
        self.given += 1;
        self.made.get(self.given - 1).map(|&item| Ok(item))
    }
}
