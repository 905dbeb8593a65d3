//! The domain column: exact counts of a range of suffixes in every domain, at any frequency.

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::shard_file;
use crate::lookup::{Answer, Block, PER_THREAD, cores, in_parts, prefetch, zeros};
use crate::shard::{Bytes, Shard};

/// `domain.S` and `domainsum.S` of an open shard; the layout stands at `build::write_domains`.
pub struct Domains {
    column: Bytes,
    sums: Bytes,
    /// Domains that answers have columns for.
    count: usize,
    /// Domains there were when the shard was built: columns of the files.
    stored: usize,
    block: usize,
}

impl Domains {
    /// Opens both files, which have `stored` domains, and checks their sizes against `len` suffixes. Answers have `count`
    /// columns: domains that came to the index after the shard was built have none of its suffixes.
    pub fn open(
        directory: &Path,
        shard: usize,
        stored: usize,
        count: usize,
        block: usize,
        len: usize,
    ) -> Result<Domains> {
        let column = Bytes::open(shard_file(directory, "domain", shard))?;
        let sums = Bytes::open(shard_file(directory, "domainsum", shard))?;
        if block == 0 || count > 1 << 16 || stored > count {
            let what = format!("{stored} of {count} domains in blocks of {block}");
            return Err(Error::Corrupt(format!("{}: {what}", column.path.display())));
        }
        let width = if stored > 256 { 2 } else { 1 };
        let rows = len.div_ceil(block) + 1;
        for (file, expected) in [(&column, len * width), (&sums, rows * stored * 8)] {
            if file.get().len() != expected {
                return Err(Error::corrupt(&file.path, file.get().len(), format!("expected {expected} bytes")));
            }
        }
        Ok(Domains { column, sums, count, stored, block })
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
        let mut counts = zeros(ranges.len(), self.count)?;
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
        for (domain, slot) in into[..self.stored].iter_mut().enumerate() {
            let (low, high) = (self.sum(first, domain), self.sum(last, domain));
            let whole = high.checked_sub(low).filter(|&n| n <= (range.end - range.start) as u64);
            *slot += whole.ok_or_else(|| {
                Error::corrupt(&self.sums.path, (last * self.stored + domain) * 8, "cumulative counts are not in order")
            })?;
        }
        self.scan(range.start..first * self.block, into)?;
        self.scan(last * self.block..range.end, into)
    }

    fn prefetch(&self, range: &Range<usize>) {
        let (column, sums) = (self.column.get(), self.sums.get());
        let width = if self.stored > 256 { 2 } else { 1 };
        prefetch(column, range.start * width);
        if range.len() >= self.block {
            prefetch(column, (range.end - 1) * width);
            prefetch(sums, self.row_of(range.start + self.block - 1));
            prefetch(sums, self.row_of(range.end));
        }
    }

    fn row_of(&self, rank: usize) -> usize {
        rank / self.block * self.stored * 8
    }

    /// Suffixes of the whole shard in every domain, as the last row of cumulative counts says.
    pub fn totals(&self) -> Vec<u64> {
        let last = self.sums.get().len() / (8 * self.stored) - 1;
        (0..self.count).map(|domain| if domain < self.stored { self.sum(last, domain) } else { 0 }).collect()
    }

    /// Asks for the domain of the suffix of rank `rank` ahead of its use.
    pub fn prefetch_at(&self, rank: usize) {
        prefetch(self.column.get(), self.place(rank));
    }

    /// The domain of the suffix of rank `rank`.
    pub fn at(&self, rank: usize) -> usize {
        match self.stored > 256 {
            true => {
                let pair = &self.column.get()[rank * 2..rank * 2 + 2];
                usize::from(u16::from_le_bytes([pair[0], pair[1]]))
            }
            false => usize::from(self.column.get()[rank]),
        }
    }

    /// The domains of suffixes by their ranks; fails where there is no such rank or domain.
    pub fn of_ranks(&self, ranks: &[u64], len: usize) -> Result<Vec<u16>> {
        let of_rank = |&rank: &u64| {
            if rank >= len as u64 {
                return Err(Error::Query(format!("rank {rank} is out of range: the shard has {len} suffixes")));
            }
            let domain = self.at(rank as usize);
            match domain < self.stored {
                true => Ok(domain as u16),
                false => {
                    Err(Error::corrupt(&self.column.path, self.place(rank as usize), "a domain that does not exist"))
                }
            }
        };
        ranks.iter().map(of_rank).collect()
    }

    /// Byte of the column where the domain of a rank stands.
    fn place(&self, rank: usize) -> usize {
        rank * if self.stored > 256 { 2 } else { 1 }
    }

    /// Suffixes between two rows of cumulative counts.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Checks the cumulative counts before and after block number `block` against the column, which has `len` suffixes.
    pub fn check_block(&self, block: usize, len: usize) -> Result<()> {
        let mut counts = vec![0; self.stored];
        self.scan(block * self.block..((block + 1) * self.block).min(len), &mut counts)?;
        for (domain, count) in counts.into_iter().enumerate() {
            let (low, high) = (self.sum(block, domain), self.sum(block + 1, domain));
            if high.checked_sub(low) != Some(count) {
                let at = ((block + 1) * self.stored + domain) * 8;
                return Err(Error::corrupt(&self.sums.path, at, self.unlike_column(low, high, count)));
            }
        }
        Ok(())
    }

    fn unlike_column(&self, low: u64, high: u64, count: u64) -> String {
        let column = self.column.path.file_name().unwrap_or_default().display().to_string();
        format!("cumulative counts go from {low} to {high}, {column} has {count} there")
    }

    /// Checks that the cumulative counts begin with zeros and are those of the column of `len` suffixes.
    pub fn verify_sums(&self, len: usize) -> Result<()> {
        if let Some(domain) = (0..self.stored).find(|&domain| self.sum(0, domain) != 0) {
            return Err(Error::corrupt(&self.sums.path, domain * 8, "cumulative counts do not begin with 0"));
        }
        (0..len.div_ceil(self.block)).try_for_each(|block| self.check_block(block, len))
    }

    /// The error for a suffix whose domain is not its document's.
    pub fn wrong(&self, rank: usize, expected: usize) -> Error {
        let at = self.place(rank);
        let found = self.at(rank);
        Error::corrupt(
            &self.column.path,
            at,
            format!("the suffix is of domain {expected}, its document's, not {found}"),
        )
    }

    fn sum(&self, row: usize, domain: usize) -> u64 {
        let at = (row * self.stored + domain) * 8;
        u64::from_le_bytes(self.sums.get()[at..at + 8].try_into().expect("8 bytes"))
    }

    fn scan(&self, range: Range<usize>, into: &mut [u64]) -> Result<()> {
        let out_of_range = |rank: usize| Error::corrupt(&self.column.path, rank, "a domain that does not exist");
        let into = &mut into[..self.stored];
        if self.stored > 256 {
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
