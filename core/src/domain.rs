//! The domain column: exact counts of a range of suffixes in every domain, at any frequency.

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::shard_file;
use crate::lookup::{Answer, Block, PER_THREAD, cores, in_parts, prefetch};
use crate::shard::{Bytes, Shard};

/// `domain.S` and `domainsum.S` of an open shard; the layout stands at `build::write_domains`.
pub struct Domains {
    column: Bytes,
    sums: Bytes,
    count: usize,
    block: usize,
}

impl Domains {
    /// Opens both files and checks their sizes against `len` suffixes.
    pub fn open(directory: &Path, shard: usize, count: usize, block: usize, len: usize) -> Result<Domains> {
        let column = Bytes::open(shard_file(directory, "domain", shard))?;
        let sums = Bytes::open(shard_file(directory, "domainsum", shard))?;
        if block == 0 || count > 1 << 16 {
            return Err(Error::Corrupt(format!("{}: {count} domains in blocks of {block}", column.path.display())));
        }
        let width = if count > 256 { 2 } else { 1 };
        let rows = len.div_ceil(block) + 1;
        for (file, expected) in [(&column, len * width), (&sums, rows * count * 8)] {
            if file.get().len() != expected {
                return Err(Error::corrupt(&file.path, file.get().len(), format!("expected {expected} bytes")));
            }
        }
        Ok(Domains { column, sums, count, block })
    }

    /// Both files, for size checks.
    pub fn files(&self) -> [&Bytes; 2] {
        [&self.column, &self.sums]
    }

    /// Number of domains.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Counts of every range in every domain, range by range; processor threads take parts of the ranges.
    pub fn count_ranges(&self, ranges: &[Range<usize>]) -> Result<Vec<u64>> {
        let mut counts = vec![0u64; ranges.len() * self.count];
        let part = ranges.len().div_ceil(cores()).max(PER_THREAD);
        in_parts(&mut counts, part * self.count, |number, counts| {
            let mut rows = ranges[number * part..].iter().zip(counts.chunks_mut(self.count));
            rows.try_for_each(|(range, row)| self.add_counts(range.clone(), row))
        })?;
        Ok(counts)
    }

    /// Adds to `into[d]` the suffixes of `range` in domain d.
    pub fn add_counts(&self, range: Range<usize>, into: &mut [u64]) -> Result<()> {
        let (first, last) = (range.start.div_ceil(self.block), range.end / self.block);
        if first >= last {
            return self.scan(range, into);
        }
        for (domain, slot) in into.iter_mut().enumerate() {
            let (low, high) = (self.sum(first, domain), self.sum(last, domain));
            let whole = high.checked_sub(low).filter(|&n| n <= (range.end - range.start) as u64);
            *slot += whole.ok_or_else(|| {
                Error::corrupt(&self.sums.path, (last * self.count + domain) * 8, "cumulative counts are not in order")
            })?;
        }
        self.scan(range.start..first * self.block, into)?;
        self.scan(last * self.block..range.end, into)
    }

    fn prefetch(&self, range: &Range<usize>) {
        let (column, sums) = (self.column.get(), self.sums.get());
        let width = if self.count > 256 { 2 } else { 1 };
        prefetch(column, range.start * width);
        if range.len() >= self.block {
            prefetch(column, (range.end - 1) * width);
            prefetch(sums, self.row_of(range.start + self.block - 1));
            prefetch(sums, self.row_of(range.end));
        }
    }

    fn row_of(&self, rank: usize) -> usize {
        rank / self.block * self.count * 8
    }

    fn sum(&self, row: usize, domain: usize) -> u64 {
        let at = (row * self.count + domain) * 8;
        u64::from_le_bytes(self.sums.get()[at..at + 8].try_into().expect("8 bytes"))
    }

    fn scan(&self, range: Range<usize>, into: &mut [u64]) -> Result<()> {
        let out_of_range = |rank: usize| Error::corrupt(&self.column.path, rank, "a domain that does not exist");
        if self.count > 256 {
            for rank in range {
                let pair = &self.column.get()[rank * 2..rank * 2 + 2];
                let domain = usize::from(u16::from_le_bytes([pair[0], pair[1]]));
                *into.get_mut(domain).ok_or_else(|| out_of_range(rank * 2))? += 1;
            }
        } else {
            for (i, &domain) in self.column.get()[range.clone()].iter().enumerate() {
                *into.get_mut(usize::from(domain)).ok_or_else(|| out_of_range(range.start + i))? += 1;
            }
        }
        Ok(())
    }
}

impl Answer for Domains {
    fn columns(&self) -> usize {
        self.count
    }

    fn answer(&self, _: &Shard, _: &Block, found: &[Range<usize>], numbers: &mut [u64]) -> Result<()> {
        for (i, counts) in numbers.chunks_exact_mut(self.count).enumerate() {
            found.get(i + 8).into_iter().for_each(|ahead| self.prefetch(ahead));
            self.add_counts(found[i].clone(), counts)?;
        }
        Ok(())
    }
}
