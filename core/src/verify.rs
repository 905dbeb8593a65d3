//! Proof of what the tokens of a shard determine: its table, key table, domain column, and the files of `verify_files`.
//!
//! A table is right exactly when it is a permutation of the positions and, for each two neighbours, either the first
//! token of the upper one is smaller, or the tokens are equal and the suffixes one token on stand in the same order.
//! (Burkhardt & Kärkkäinen, CPM 2003, section 8.) That takes time linear in the tokens, and 4 bytes for each.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::lookup::{PER_THREAD, cores, in_parts, prefetch};
use crate::shard::Shard;
use crate::verify_files::{Offsets, verify_metadata, verify_unigrams};

/// Suffixes whose text and rank are asked for before they are compared.
const AHEAD: usize = 16;

/// Fails at the first thing in the files about documents and tokens that does not follow from the tokens.
pub fn verify_documents(shard: &Shard) -> Result<()> {
    shard.check_sizes()?;
    let offsets = Offsets::verified(shard)?;
    verify_unigrams(shard)?;
    verify_metadata(shard, offsets.len())
}

/// Fails at the first thing in the table, key table and domain column that does not follow from the tokens. `labels`: the
/// domain of every document; without them the domain column is compared with its cumulative counts only.
pub fn verify_suffixes(shard: &Shard, labels: Option<&[u16]>) -> Result<()> {
    shard.check_sizes()?;
    let ranks = verify_order(shard)?;
    std::thread::scope(|scope| {
        let keys = scope.spawn(|| verify_keys(shard));
        let domains = match (&shard.domains, labels) {
            (None, _) => Ok(()),
            (Some(domains), None) => domains.verify_sums(shard.token_count()),
            (Some(domains), Some(labels)) => Offsets::verified(shard)
                .and_then(|offsets| verify_domains(shard, &offsets, labels, &ranks))
                .and_then(|()| domains.verify_sums(shard.token_count())),
        };
        keys.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(domains)
    })
}

/// Fails at the first entry of the table that is damaged or out of order; gives the rank of every position.
pub fn verify_order(shard: &Shard) -> Result<Vec<u32>> {
    const NOWHERE: u32 = u32::MAX;
    let len = shard.token_count();
    if len >= NOWHERE as usize {
        return Err(Error::Corpus(format!("shards of 2^32 tokens and more can't be verified: this one has {len}")));
    }
    let ranks = ranks_of_positions(shard, NOWHERE)?;
    let part = len.div_ceil(cores()).max(PER_THREAD);
    let mut found: Vec<Result<()>> = (1..len).step_by(part).map(|_| Ok(())).collect();
    in_parts(&mut found, 1, |number, found| {
        let start = 1 + number * part;
        found[0] = verify_neighbours(shard, &ranks, start..(start + part).min(len));
        Ok(())
    })?;
    found.into_iter().collect::<Result<()>>()?;
    Ok(ranks)
}

/// The rank of every position; fails where a suffix stands twice in the table, or is none.
fn ranks_of_positions(shard: &Shard, nowhere: u32) -> Result<Vec<u32>> {
    let len = shard.token_count();
    let ranks: Vec<AtomicU32> = (0..len).map(|_| AtomicU32::new(nowhere)).collect();
    let part = len.div_ceil(cores()).max(PER_THREAD);
    let mut found: Vec<Result<()>> = (0..len).step_by(part).map(|_| Ok(())).collect();
    in_parts(&mut found, 1, |number, found| {
        let some = number * part..((number + 1) * part).min(len);
        found[0] = some.clone().try_for_each(|rank| {
            if rank + AHEAD < some.end {
                prefetch(&ranks, shard.suffix(rank + AHEAD)? / shard.width);
            }
            ranks[shard.suffix(rank)? / shard.width].store(rank as u32, Relaxed);
            Ok(())
        });
        Ok(())
    })?;
    found.into_iter().collect::<Result<()>>()?;
    // As many suffixes as positions: where none is missing, none stands twice.
    if ranks.iter().any(|rank| rank.load(Relaxed) == nowhere) {
        return Err(first_twice(shard));
    }
    // Collected in place: the two types have the same layout.
    Ok(ranks.into_iter().map(AtomicU32::into_inner).collect())
}

/// The error for the first suffix that stands in the table for a second time.
fn first_twice(shard: &Shard) -> Error {
    let mut seen = vec![false; shard.token_count()];
    for rank in 0..seen.len() {
        match shard.suffix(rank) {
            Ok(offset) if !std::mem::replace(&mut seen[offset / shard.width], true) => (),
            Ok(_) => return shard.damaged(rank, "the same suffix stands twice"),
            Err(error) => return error,
        }
    }
    shard.damaged(0, "the table changed while it was read")
}

/// Fails at the first of some ranks whose suffix is smaller than the one before it.
fn verify_neighbours(shard: &Shard, ranks: &[u32], some: Range<usize>) -> Result<()> {
    let text = shard.text();
    // The rank one token on; the end of the text sorts before everything.
    let next = |offset: usize| ranks.get(offset / shard.width + 1).map_or(-1, |&rank| i64::from(rank));
    let mut upper = shard.suffix(some.start - 1)?;
    for rank in some {
        if rank + AHEAD < shard.token_count() {
            let ahead = shard.suffix(rank + AHEAD)?;
            prefetch(text, ahead);
            prefetch(ranks, ahead / shard.width + 1);
        }
        let lower = shard.suffix(rank)?;
        let (a, b) = (&text[upper..upper + shard.width], &text[lower..lower + shard.width]);
        if a > b || (a == b && next(upper) > next(lower)) {
            return Err(shard.disorder(rank));
        }
        upper = lower;
    }
    Ok(())
}

fn verify_keys(shard: &Shard) -> Result<()> {
    shard.keys.verify_header()?;
    let mut before: &[u8] = &[];
    for (key, rank) in (0..shard.token_count()).step_by(shard.keys.stride()).enumerate() {
        if let Some(ahead) = Some(rank + AHEAD * shard.keys.stride()).filter(|&ahead| ahead < shard.token_count()) {
            prefetch(shard.text(), shard.suffix(ahead)?);
        }
        let suffix = &shard.text()[shard.suffix(rank)?..];
        shard.keys.check(key, suffix)?;
        shard.keys.check_common(key, before, suffix)?;
        before = suffix;
    }
    Ok(())
}

/// Every suffix has the domain of the document it starts in.
fn verify_domains(shard: &Shard, offsets: &Offsets, labels: &[u16], ranks: &[u32]) -> Result<()> {
    let Some(domains) = &shard.domains else { return Ok(()) };
    if labels.len() != offsets.len() {
        return Err(Error::Corpus(format!("{} documents, {} domains of documents", offsets.len(), labels.len())));
    }
    for (document, &label) in labels.iter().enumerate() {
        let end = if document + 1 < offsets.len() { offsets.get(document + 1) / shard.width } else { ranks.len() };
        let ranks = &ranks[offsets.get(document) / shard.width..end];
        for (i, &rank) in ranks.iter().enumerate() {
            ranks.get(i + AHEAD).into_iter().for_each(|&ahead| domains.prefetch_at(ahead as usize));
            if domains.at(rank as usize) != usize::from(label) {
                return Err(domains.wrong(rank as usize, usize::from(label)));
            }
        }
    }
    Ok(())
}
