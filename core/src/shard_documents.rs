//! Facts about every document of a shard that its tokens tell: where it starts, its domain, its checksum, a sum over its
//! tokens.

use crate::error::{Error, Result};
use crate::lookup::{PER_THREAD, in_parts};
use crate::shard::Shard;
use crate::walk::{separators, starts_document};

/// Documents that a thread works through at a time.
const AT_ONCE: usize = 64;

/// Token positions of the separators, ascending, and the domain of the document behind each (0 without a domain column).
///
/// Both are read from the end of the suffix array, where the suffixes that start with a separator stand: a separator
/// belongs to the domain of the document it precedes.
pub fn documents(shard: &Shard) -> Result<Vec<(i64, u16)>> {
    let ranks = separators(shard)?;
    let mut documents = vec![(0i64, 0u16); ranks.len()];
    in_parts(&mut documents, PER_THREAD, |part, documents| {
        for (rank, document) in (ranks.start + part * PER_THREAD..).zip(documents) {
            let offset = shard.suffix(rank)?;
            if !starts_document(&shard.text()[offset..], shard.width) {
                return Err(shard.disorder(rank));
            }
            let domain = match &shard.domains {
                None => 0,
                Some(column) => column.of_ranks(&[rank as u64], shard.token_count())?[0],
            };
            *document = ((offset / shard.width) as i64, domain);
        }
        Ok(())
    })?;
    documents.sort_unstable();
    let twice = documents.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if twice || documents.first().map_or(shard.token_count() > 0, |&(first, _)| first != 0) {
        return Err(shard.damaged(ranks.start, "the suffixes that start documents are not those of the text"));
    }
    Ok(documents)
}

/// The first 128 bits of BLAKE3 of every document's tokens, as two numbers each.
pub fn checksums(shard: &Shard, bounds: &[i64]) -> Result<Vec<u64>> {
    let mut numbers = crate::lookup::zeros(bounds.len().saturating_sub(1), 2)?;
    each_document(shard, bounds, &mut numbers, 2, |tokens, numbers| {
        let hash = blake3::hash(tokens);
        for (number, bytes) in numbers.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            *number = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        }
        Ok(())
    })?;
    Ok(numbers)
}

/// For every document the sum of `weights` over the ids of its tokens.
pub fn weigh(shard: &Shard, bounds: &[i64], weights: &[u32]) -> Result<Vec<u64>> {
    let mut sums = crate::lookup::zeros(bounds.len().saturating_sub(1), 1)?;
    each_document(shard, bounds, &mut sums, 1, |tokens, sum| {
        for token in tokens.chunks_exact(shard.width) {
            let id = crate::keys::token(token);
            let weight = weights.get(id as usize);
            let weight = weight.ok_or_else(|| {
                let offset = token.as_ptr().addr() - shard.text().as_ptr().addr();
                shard.damaged_text(
                    offset,
                    format!("id {id}, but the largest of the tokenizer is {}", weights.len() as i64 - 1),
                )
            })?;
            sum[0] += u64::from(*weight);
        }
        Ok(())
    })?;
    Ok(sums)
}

/// Fills `columns` numbers for every document from the bytes of its tokens; `bounds` are the positions of the separators,
/// and last the end of the text.
fn each_document(
    shard: &Shard,
    bounds: &[i64],
    numbers: &mut [u64],
    columns: usize,
    fill: impl Fn(&[u8], &mut [u64]) -> Result<()> + Sync,
) -> Result<()> {
    in_parts(numbers, AT_ONCE * columns, |part, numbers| {
        let bounds = bounds[part * AT_ONCE..].windows(2);
        for (pair, numbers) in bounds.zip(numbers.chunks_exact_mut(columns)) {
            if pair[0] < 0 || pair[0] >= pair[1] || pair[1] as usize > shard.token_count() {
                return Err(Error::Query("bounds of documents must be positions of the shard, ascending".into()));
            }
            fill(&shard.text()[(pair[0] as usize + 1) * shard.width..pair[1] as usize * shard.width], numbers)?;
        }
        Ok(())
    })
}
