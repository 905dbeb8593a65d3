//! Looking at a few entries of a shard when it is opened: files of another shard or index, of equal size, are found here.
//!
//! A table that belongs to other tokens is in no order over these: that the suffixes of eight of its ranks ascend by
//! chance happens once in 8! times. They are neighbours by key, so that an index on a cold disk reads a dozen pages; a
//! single damaged entry is for `verify` to find.

use crate::error::Result;
use crate::shard::Shard;

/// Suffixes looked at.
const SUFFIXES: usize = 8;

/// Bytes of two suffixes compared at most; in text that repeats itself for longer, they decide nothing.
const COMPARED: usize = 256;

/// Suffixes of a domain block that are counted at most.
const COUNTED: usize = 1 << 16;

/// Fails when the files of a shard can't belong together.
pub fn probe(shard: &Shard) -> Result<()> {
    let (len, width) = (shard.token_count(), shard.width);
    if len == 0 {
        return Ok(());
    }
    if shard.text()[..width].iter().any(|&byte| byte != 0xff) {
        return Err(shard.damaged_text(0, "the first document has no separator (an all-ones id) before it"));
    }
    let stride = shard.keys.stride();
    let keys = len.div_ceil(stride);
    let first = (keys / 2).saturating_sub(SUFFIXES / 2);
    let mut before: &[u8] = &[];
    for key in first..(first + SUFFIXES).min(keys) {
        let suffix = &shard.text()[shard.suffix(key * stride)?..];
        if head(before) > head(suffix) {
            return Err(shard.disorder(key * stride));
        }
        shard.keys.check(key, suffix)?;
        before = suffix;
    }
    match &shard.domains {
        Some(domains) if domains.block() <= COUNTED => domains.check_block(len / domains.block() / 2, len),
        _ => Ok(()),
    }
}

fn head(suffix: &[u8]) -> &[u8] {
    &suffix[..suffix.len().min(COMPARED)]
}
