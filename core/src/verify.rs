//! Proof that a table is the suffix array of its text, in time linear in the tokens.
//!
//! A table is right exactly when it is a permutation of the positions and, for each two neighbours, either the first
//! token of the upper one is smaller, or the tokens are equal and the suffixes one token on stand in the same order.
//! (Burkhardt & Kärkkäinen, CPM 2003, section 8.)

use crate::error::{Error, Result};
use crate::shard::Shard;

/// Fails at the first entry of the table that is damaged or out of order. Needs 4 bytes a token.
pub fn verify_order(shard: &Shard) -> Result<()> {
    const NOWHERE: u32 = u32::MAX;
    let len = shard.token_count();
    if len >= NOWHERE as usize {
        return Err(Error::Corpus(format!("shards of 2^32 tokens and more can't be verified: this one has {len}")));
    }
    let mut ranks = vec![NOWHERE; len];
    for rank in 0..len {
        let slot = &mut ranks[shard.suffix(rank)? / shard.width];
        if *slot != NOWHERE {
            return Err(shard.damaged(rank, "the same suffix stands twice"));
        }
        *slot = rank as u32;
    }
    let text = shard.text();
    // The rank one token on; the end of the text sorts before everything.
    let next = |offset: usize| ranks.get(offset / shard.width + 1).map_or(-1, |&rank| i64::from(rank));
    for rank in 1..len {
        let (upper, lower) = (shard.suffix(rank - 1)?, shard.suffix(rank)?);
        let (a, b) = (&text[upper..upper + shard.width], &text[lower..lower + shard.width]);
        if a > b || (a == b && next(upper) > next(lower)) {
            return Err(shard.disorder(rank));
        }
    }
    Ok(())
}
