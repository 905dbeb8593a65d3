//! Building a shard's table, domain column and unigram counts from its tokens.
//!
//! Memory, per token: libsais needs the text (2 bytes for u16, and for u32 when at most 65,536 ids occur; else 4) and
//! the suffix array (4 bytes). The text is given back before the key table reads it again from its file (mapped: 2 or 4
//! bytes), and that before the domain of every position is spread out (2 bytes).

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{Output, map, pointer_width, shard_file};
use crate::keys::write_keys;
use crate::lookup::{cores, prefetch_slice};
use crate::suffix_array::Text;

/// Suffixes converted at a time; bounds the buffers to a few megabytes.
const CHUNK: usize = 1 << 18;

/// Suffixes whose domains are looked up at a time, by all processor threads; bounds the buffer to eight megabytes.
const SPREAD_AT_ONCE: usize = 1 << 22;

/// Suffixes whose domains are asked for ahead of their use.
const AHEAD: usize = 32;

/// How the documents of a shard are labelled.
pub struct DomainColumn<'a> {
    /// Domain of each document, in document order.
    pub of_document: &'a [u16],
    /// Number of domains.
    pub domains: usize,
    /// Suffixes between two rows of cumulative counts.
    pub block: usize,
}

/// Sizes and times of one sorted shard.
#[derive(Debug, Clone, Copy)]
pub struct Built {
    /// Tokens, separators included.
    pub tokens: usize,
    /// Seconds of suffix sorting proper.
    pub sort_seconds: f64,
    /// Seconds of writing table, domain column and unigram counts.
    pub write_seconds: f64,
}

/// Sorts `tokenized.S` and writes `table.S`, `unigram.S`, `keys.S` and, when documents are labelled, `domain.S` and
/// `domainsum.S`.
pub fn build_shard(
    directory: &Path,
    shard: usize,
    width: usize,
    labels: Option<DomainColumn>,
    stride: usize,
) -> Result<Built> {
    let text = Text::read(&shard_file(directory, "tokenized", shard), width)?;
    let text_bytes = text.tokens() * width;
    let unigrams = text.unigrams();
    let largest = unigrams.iter().map(|&(id, _)| id).filter(|&id| id < separator_id(width) as u32).max().unwrap_or(0);
    write_unigrams(&shard_file(directory, "unigram", shard), &unigrams)?;
    let start = std::time::Instant::now();
    let order = text.sort()?;
    let sort_seconds = start.elapsed().as_secs_f64();
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        let table = shard_file(directory, "table", shard);
        let order = &order;
        let table = scope.spawn(move || write_table(&table, order, width, text_bytes));
        let tokens = map(&shard_file(directory, "tokenized", shard))?;
        let suffixes = order.iter().step_by(stride).map(|&position| Ok(position as usize * width));
        let text = tokens.as_deref().unwrap_or(&[]);
        write_keys(&shard_file(directory, "keys", shard), text, width, largest, stride, suffixes)?;
        table.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if let Some(labels) = labels {
        let offsets = shard_file(directory, "offset", shard);
        let of_position = spread_domains(&offsets, &labels, order.len(), width)?;
        let of_suffix = order.chunks(SPREAD_AT_ONCE).flat_map(|positions| domains_of(&of_position, positions)).map(Ok);
        write_domains(directory, shard, labels.domains, labels.block, of_suffix)?;
    }
    Ok(Built { tokens: order.len(), sort_seconds, write_seconds: start.elapsed().as_secs_f64() })
}

/// The domains of some positions; each stands at another place, and is asked for while those before it are read.
fn domains_of(of_position: &[u16], positions: &[i32]) -> Vec<u16> {
    let mut domains = vec![0u16; positions.len()];
    let part = positions.len().div_ceil(cores()).max(1);
    std::thread::scope(|scope| {
        for (domains, positions) in domains.chunks_mut(part).zip(positions.chunks(part)) {
            scope.spawn(move || {
                let ahead = positions[AHEAD.min(positions.len())..].iter().map(Some).chain(std::iter::repeat(None));
                for ((domain, &position), ahead) in domains.iter_mut().zip(positions).zip(ahead) {
                    if let Some(&ahead) = ahead {
                        prefetch_slice(&of_position[ahead as usize..]);
                    }
                    *domain = of_position[position as usize];
                }
            });
        }
    });
    domains
}

fn write_table(path: &Path, order: &[i32], width: usize, text_bytes: usize) -> Result<()> {
    let pointer = pointer_width(text_bytes);
    let mut out = Output::create(path)?;
    let mut buffer = Vec::with_capacity(CHUNK * pointer);
    for chunk in order.chunks(CHUNK) {
        buffer.clear();
        for &position in chunk {
            let offset = position as u64 * width as u64;
            buffer.extend_from_slice(&offset.to_le_bytes()[..pointer]);
        }
        out.write(&buffer)?;
    }
    out.finish()
}

/// infini-gram's text file of "id count" lines, ascending by id, the separator included.
fn write_unigrams(path: &Path, counts: &[(u32, u64)]) -> Result<()> {
    let mut out = Output::create(path)?;
    for (id, count) in counts {
        out.write(format!("{id} {count}\n").as_bytes())?;
    }
    out.finish()
}

/// The all-ones id that stands before each document.
pub fn separator_id(width: usize) -> usize {
    ((1u64 << (8 * width)) - 1) as usize
}

/// The domain of every token position, separators taking their document's.
fn spread_domains(offsets: &Path, labels: &DomainColumn, tokens: usize, width: usize) -> Result<Vec<u16>> {
    let starts = document_starts(offsets, labels, width)?;
    let mut spread = vec![0u16; tokens];
    for (i, (&start, &domain)) in starts.iter().zip(labels.of_document).enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(tokens);
        let place = spread.get_mut(start..end);
        place.ok_or_else(|| Error::corrupt(offsets, i * 8, "documents are not in order"))?.fill(domain);
    }
    Ok(spread)
}

/// The token position of every document's separator, as `offset.S` has it; one per label.
pub fn document_starts(offsets: &Path, labels: &DomainColumn, width: usize) -> Result<Vec<usize>> {
    let bytes = std::fs::read(offsets).map_err(Error::io(offsets))?;
    let start = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("chunks of 8 bytes")) as usize / width;
    let starts: Vec<usize> = bytes.chunks_exact(8).map(start).collect();
    match starts.len() == labels.of_document.len() {
        true => Ok(starts),
        false => {
            let what = format!("{} documents, {} labels", starts.len(), labels.of_document.len());
            Err(Error::corrupt(offsets, 0, what))
        }
    }
}

/// `domain.S`: the domain of every suffix in table order; `domainsum.S`: before every `block` suffixes, and at the
/// end, the number of suffixes so far in each domain (u64). A range's counts by domain are the difference of two rows
/// plus less than two blocks of single suffixes, however many matches the range holds.
pub fn write_domains(
    directory: &Path,
    shard: usize,
    domains: usize,
    block: usize,
    of_suffix: impl Iterator<Item = Result<u16>>,
) -> Result<()> {
    let (column, sums) = (shard_file(directory, "domain", shard), shard_file(directory, "domainsum", shard));
    let (mut column, mut sums) = (Output::create(&column)?, Output::create(&sums)?);
    let wide = domains > 256;
    let mut so_far = vec![0u64; domains];
    let mut buffer = Vec::with_capacity(block * 2);
    let mut in_block = 0;
    for domain in of_suffix {
        if in_block == 0 {
            write_row(&mut sums, &so_far)?;
        }
        let domain = domain?;
        so_far[usize::from(domain)] += 1;
        match wide {
            true => buffer.extend_from_slice(&domain.to_le_bytes()),
            false => buffer.push(domain as u8),
        }
        in_block += 1;
        if in_block == block {
            column.write(&buffer)?;
            buffer.clear();
            in_block = 0;
        }
    }
    column.write(&buffer)?;
    write_row(&mut sums, &so_far)?;
    column.finish()?;
    sums.finish()
}

fn write_row(sums: &mut Output, row: &[u64]) -> Result<()> {
    row.iter().try_for_each(|count| sums.write(&count.to_le_bytes()))
}
