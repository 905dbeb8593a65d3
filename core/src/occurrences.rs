//! Where the suffixes of given ranks stand: token positions, and the documents around them.

use crate::error::{Error, Result};
use crate::lookup::{PER_THREAD, in_parts};
use crate::shard::Shard;

/// Token positions of the suffixes of these ranks.
pub fn positions(shard: &Shard, ranks: &[u64]) -> Result<Vec<i64>> {
    if let Some(rank) = ranks.iter().find(|&&rank| rank >= shard.token_count() as u64) {
        return Err(Error::Query(format!(
            "rank {rank} is out of range: the shard has {} suffixes",
            shard.token_count()
        )));
    }
    let mut positions = vec![0i64; ranks.len()];
    in_parts(&mut positions, PER_THREAD, |number, positions| {
        let ranks = &ranks[number * PER_THREAD..][..positions.len()];
        for (i, position) in positions.iter_mut().enumerate() {
            if let Some(&ahead) = ranks.get(i + 16) {
                shard.prefetch_table(ahead as usize);
            }
            *position = (shard.suffix(ranks[i] as usize)? / shard.width) as i64;
        }
        Ok(())
    })?;
    Ok(positions)
}
