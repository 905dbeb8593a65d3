//! The documents of a shard: where they start, what stands in them, and what is known about them.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::shard_file;
use crate::lookup::{LANES, PER_THREAD, in_parts};
use crate::shard::{Bytes, Shard};

/// `offset.S`, and `metadata.S` with `metaoff.S` where a shard has them.
pub struct Documents {
    offsets: Bytes,
    metadata: Option<(Bytes, Bytes)>,
}

impl Documents {
    /// Opens the files; layout is checked at use.
    pub fn open(directory: &Path, shard: usize) -> Result<Documents> {
        let offsets = Bytes::open(shard_file(directory, "offset", shard))?;
        let names = (shard_file(directory, "metadata", shard), shard_file(directory, "metaoff", shard));
        let metadata = match names.0.exists() && names.1.exists() {
            true => Some((Bytes::open(names.0)?, Bytes::open(names.1)?)),
            false => None,
        };
        let documents = Documents { offsets, metadata };
        if !documents.offsets.get().len().is_multiple_of(8) {
            let file = &documents.offsets;
            return Err(Error::corrupt(&file.path, file.get().len(), "not a whole number of 8-byte offsets"));
        }
        let lines = documents.metadata.as_ref().filter(|(_, at)| at.get().len() != documents.offsets.get().len());
        match lines {
            None => Ok(documents),
            Some((_, at)) => {
                let what = format!("expected {} bytes, one offset per document", documents.offsets.get().len());
                Err(Error::corrupt(&at.path, at.get().len(), what))
            }
        }
    }

    /// Fails when a file was truncated since it was opened.
    pub fn check_sizes(&self) -> Result<()> {
        self.offsets.check_size()?;
        self.metadata.as_ref().map_or(Ok(()), |(lines, at)| lines.check_size().and_then(|()| at.check_size()))
    }

    /// Fails when a read of a file failed.
    pub fn check_reads(&self) -> Result<()> {
        self.offsets.check_reads()?;
        self.metadata.as_ref().map_or(Ok(()), |(lines, at)| lines.check_reads().and_then(|()| at.check_reads()))
    }

    /// Number of documents.
    pub fn count(&self) -> usize {
        self.offsets.get().len() / 8
    }

    /// The document whose separator or tokens stand at a byte offset of the text.
    fn at(&self, offset: usize) -> Result<usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            match number(&self.offsets, middle) <= offset {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low.checked_sub(1)
            .ok_or_else(|| Error::corrupt(&self.offsets.path, 0, format!("no document holds byte {offset}")))
    }

    /// Token positions of a document, its separator not among them.
    fn tokens(&self, shard: &Shard, document: usize) -> Result<Range<usize>> {
        let text = shard.text().len();
        let start = number(&self.offsets, document);
        let end = if document + 1 < self.count() { number(&self.offsets, document + 1) } else { text };
        // A separator stands before every document, and so after each but the last.
        let separator = |at: usize| shard.text()[at..at + shard.width].iter().all(|&byte| byte == 0xff);
        let inside = start < end && end <= text && start.is_multiple_of(shard.width) && end.is_multiple_of(shard.width);
        match inside && separator(start) && (end == text || separator(end)) {
            true => Ok(start / shard.width + 1..end / shard.width),
            false => Err(Error::corrupt(&self.offsets.path, document * 8, format!("offset {start} leads nowhere"))),
        }
    }

    /// For token positions: the document, and the positions of its first token and of its end.
    pub fn locate(&self, shard: &Shard, positions: &[i64]) -> Result<Vec<[i64; 3]>> {
        let mut found = vec![[0i64; 3]; positions.len()];
        in_parts(&mut found, PER_THREAD, |part, found| {
            for (found, &position) in found.iter_mut().zip(&positions[part * PER_THREAD..]) {
                let inside = usize::try_from(position).ok().filter(|&at| at < shard.token_count());
                let position =
                    inside.ok_or_else(|| Error::Query(format!("position {position} is not in the shard")))?;
                let document = self.at(position * shard.width)?;
                let tokens = self.tokens(shard, document)?;
                if position + 1 < tokens.start || position >= tokens.end {
                    let what = format!("documents are not in order: token {position} is in none");
                    return Err(Error::corrupt(&self.offsets.path, document * 8, what));
                }
                *found = [document as i64, tokens.start as i64, tokens.end as i64];
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The metadata lines of documents, without their line feeds, one after the other, and where each starts and ends;
    /// all empty where the shard has none.
    pub fn metadata(&self, documents: &[i64]) -> Result<(Vec<u8>, Vec<i64>)> {
        let (mut lines, mut ends) = (Vec::new(), vec![0i64]);
        for &document in documents {
            let inside = usize::try_from(document).ok().filter(|&d| d < self.count());
            let document = inside.ok_or_else(|| Error::Query(format!("document {document} is not in the shard")))?;
            if let Some((content, at)) = &self.metadata {
                let start = number(at, document);
                let end = if document + 1 < self.count() { number(at, document + 1) } else { content.get().len() };
                // A line starts after a line feed, and ends in one.
                let before = start == 0 || content.get().get(start.wrapping_sub(1)) == Some(&b'\n');
                let line = content.get().get(start..end).filter(|line| before && line.ends_with(b"\n"));
                let line = line
                    .ok_or_else(|| Error::corrupt(&at.path, document * 8, format!("offset {start} leads nowhere")))?;
                lines.extend_from_slice(&line[..line.len() - 1]);
            }
            ends.push(lines.len() as i64);
        }
        Ok((lines, ends))
    }

    /// How many documents hold the suffixes of a range: at least, and at most. Exact up to `most` suffixes; of more, as many
    /// are looked at, evenly spaced.
    pub fn count_documents(&self, shard: &Shard, range: Range<usize>, most: usize) -> Result<(u64, u64)> {
        let looked_at = range.len().min(most);
        let mut documents = HashSet::with_capacity(looked_at.min(self.count()).min(1 << 16));
        for first in (0..looked_at).step_by(LANES) {
            let mut offsets = [0usize; LANES];
            let lanes = LANES.min(looked_at - first);
            for (i, offset) in offsets[..lanes].iter_mut().enumerate() {
                let rank = (first + i) as u128 * range.len() as u128 / looked_at as u128;
                *offset = shard.suffix(range.start + rank as usize)?;
            }
            for &offset in &offsets[..lanes] {
                documents.insert(self.at(offset)?);
            }
        }
        let low = documents.len() as u64;
        Ok((low, (low + (range.len() - looked_at) as u64).min(self.count() as u64)))
    }
}

/// The `i`th u64 of a file, as usize.
fn number(file: &Bytes, i: usize) -> usize {
    file.get().get(i * 8..i * 8 + 8).map_or(usize::MAX, |b| u64::from_le_bytes(b.try_into().expect("8 bytes")) as usize)
}

/// The ids at token positions `starts[i]..ends[i]`, one after the other, and where each run starts and ends; separators are
/// all ones (u32).
pub fn tokens(shard: &Shard, starts: &[i64], ends: &[i64]) -> Result<(Vec<u32>, Vec<i64>)> {
    let (mut values, mut offsets) = (Vec::new(), vec![0i64]);
    for (&start, &end) in starts.iter().zip(ends) {
        let bytes = usize::try_from(start)
            .ok()
            .zip(usize::try_from(end).ok())
            .filter(|&(start, end)| start <= end && end <= shard.token_count())
            .map(|(start, end)| &shard.text()[start * shard.width..end * shard.width]);
        let bytes = bytes.ok_or_else(|| Error::Query(format!("tokens {start} to {end} are not in the shard")))?;
        values.extend(bytes.chunks_exact(shard.width).map(crate::keys::token));
        offsets.push(values.len() as i64);
    }
    Ok((values, offsets))
}
