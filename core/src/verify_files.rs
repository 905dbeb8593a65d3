//! Proof of the files that the tokens determine: document offsets, unigram counts, and lines of metadata.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::shard::{Bytes, Shard};

/// `offset.S`, the byte where each document's separator stands.
pub struct Offsets(Bytes);

impl Offsets {
    /// Opens the file beside the tokens, and proves that it lists every separator and nothing else.
    pub fn verified(shard: &Shard) -> Result<Offsets> {
        let offsets = Offsets(open_u64(shard.beside("offset"))?);
        let separators = shard.text().chunks_exact(shard.width).enumerate();
        let mut separators = separators.filter(|(_, id)| id.iter().all(|&byte| byte == 0xff));
        for number in 0..offsets.len() {
            let (listed, stands) = (offsets.get(number), separators.next().map(|(i, _)| i * shard.width));
            if stands != Some(listed) {
                let stands = stands.map_or("there are no more".into(), |at| format!("it stands at {at}"));
                return Err(offsets.damaged(number, format!("byte {listed} is not the next separator: {stands}")));
            }
        }
        match separators.next() {
            Some((i, _)) => {
                Err(offsets.damaged(offsets.len(), format!("the separator at byte {} is missing", i * shard.width)))
            }
            None => Ok(offsets),
        }
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.0.get().len() / 8
    }

    /// Byte offset of the separator of document `number`.
    pub fn get(&self, number: usize) -> usize {
        let bytes = &self.0.get()[number * 8..number * 8 + 8];
        u64::from_le_bytes(bytes.try_into().expect("8 bytes")) as usize
    }

    fn damaged(&self, number: usize, what: String) -> Error {
        Error::corrupt(&self.0.path, number * 8, what)
    }
}

fn open_u64(path: PathBuf) -> Result<Bytes> {
    let file = Bytes::open(path)?;
    match file.get().len() % 8 {
        0 => Ok(file),
        _ => Err(Error::corrupt(&file.path, file.get().len(), "not a whole number of 8-byte offsets")),
    }
}

/// Proves that `unigram.S`, where there is one, counts the tokens.
pub fn verify_unigrams(shard: &Shard) -> Result<()> {
    let path = shard.beside("unigram");
    if !path.exists() {
        return Ok(());
    }
    let file = Bytes::open(path)?;
    let mut counts = count_tokens(shard);
    let mut start = 0;
    for line in file.get().split_inclusive(|&byte| byte == b'\n') {
        let told = parse_line(line).ok_or_else(|| Error::corrupt(&file.path, start, "not a line of id and count"))?;
        let held = counts.remove(&told.0).unwrap_or(0);
        if told.1 != held {
            let what = format!("id {} stands {held} times in the tokens, not {} times", told.0, told.1);
            return Err(Error::corrupt(&file.path, start, what));
        }
        start += line.len();
    }
    match counts.keys().min() {
        Some(id) => Err(Error::corrupt(&file.path, start, format!("id {id} of the tokens is missing"))),
        None => Ok(()),
    }
}

/// An id and its count, at least 1.
fn parse_line(line: &[u8]) -> Option<(u32, u64)> {
    let (id, count) = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?.split_once(' ')?;
    Some((id.parse().ok()?, count.parse().ok().filter(|&count| count > 0)?))
}

fn count_tokens(shard: &Shard) -> HashMap<u32, u64> {
    let ids = |id: &[u8]| id.iter().rev().fold(0u32, |so_far, &byte| so_far << 8 | u32::from(byte));
    let tokens = shard.text().chunks_exact(shard.width).map(ids);
    let mut counts = HashMap::new();
    if shard.width == 4 {
        tokens.for_each(|id| *counts.entry(id).or_insert(0) += 1);
    } else {
        let mut small = vec![0u64; 1 << (8 * shard.width)];
        tokens.for_each(|id| small[id as usize] += 1);
        counts.extend((0..).zip(small).filter(|(_, count)| *count > 0));
    }
    counts
}

/// Proves that `metaoff.S` leads to the `documents` lines of `metadata.S`, each a JSON object, where there are such files.
pub fn verify_metadata(shard: &Shard, documents: usize) -> Result<()> {
    let (lines, offsets) = (shard.beside("metadata"), shard.beside("metaoff"));
    if !lines.exists() && !offsets.exists() {
        return Ok(());
    }
    let (lines, offsets) = (Bytes::open(lines)?, open_u64(offsets)?);
    let mut listed = offsets.get().chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
    let (mut start, mut found) = (0, 0);
    for line in lines.get().split_inclusive(|&byte| byte == b'\n') {
        if listed.next() != Some(start as u64) {
            return Err(Error::corrupt(&offsets.path, found * 8, format!("line {} starts at byte {start}", found + 1)));
        }
        let object = line.starts_with(b"{") && line.ends_with(b"}\n");
        if !object || serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err() {
            return Err(Error::corrupt(&lines.path, start, format!("line {} is not a JSON object", found + 1)));
        }
        start += line.len();
        found += 1;
    }
    match (listed.next(), found == documents) {
        (Some(_), _) => Err(Error::corrupt(&offsets.path, found * 8, format!("there are only {found} lines"))),
        (None, false) => Err(Error::corrupt(&lines.path, start, format!("{found} lines, {documents} documents"))),
        (None, true) => Ok(()),
    }
}
