//! The key table: the first 64 bits of every eighth suffix, its tokens packed so that integers order as suffixes do.
//!
//! It narrows a search to eight neighbours in the suffix array before any page of the text is touched. A suffix that the
//! text ends before 64 bits is filled with zeros; then its key may equal that of a longer one, so equal keys decide nothing
//! and only smaller and larger ones are used.
//!
//! `keys.S`, little-endian: a page of 4,096 bytes that starts with `MAGIC`, u32 stride, u32 bits per token, u64 suffixes;
//! then the keys (u64); then the root: the first key of every page of keys; then, one byte per key, how many tokens its
//! suffix has in common with that of the key before (at most 255). A lookup from disk reads one page of keys, with a root
//! (1/512 of the table) that stays in memory; the common tokens tell how far an n-gram goes on without reading the text.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{Output, shard_file};
use crate::lookup::{LANES, prefetch};
use crate::shard::Bytes;

/// Suffixes per key where nothing else is said: 9 bytes for 8 tokens.
pub const STRIDE: usize = 8;

/// Suffixes per key at most.
pub const MOST_STRIDE: usize = 1 << 16;

const MAGIC: &[u8; 8] = b"memkeys2";
const HEADER: usize = 4096;

/// Keys on one page: one of them is in the root.
const PAGE: usize = 512;

/// Common tokens are counted so far.
const MOST_COMMON: usize = 255;

/// Keys that an n-gram is followed over in each direction; beyond, a search is faster.
const MOST_FOLLOWED: usize = 4096;

/// How tokens become the bits of a key, in the order of the suffix array: byte by byte of the little-endian id.
///
/// u32 ids leave out the bits that no id of the text uses: three and a half tokens of a vocabulary of 100,000 fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    width: usize,
    bits: u32,
}

impl Packing {
    /// For ids of `width` bytes up to `largest`, the separator not counted.
    pub fn new(width: usize, largest: u32) -> Packing {
        let bits = match width {
            1 => 8,
            2 => 16,
            // All ones is the separator's.
            _ => (16..32).find(|bits| u64::from(largest) < (1u64 << bits) - 1).unwrap_or(32),
        };
        Packing { width, bits }
    }

    fn fits(self) -> bool {
        matches!((self.width, self.bits), (1, 8) | (2, 16) | (4, 16..=32))
    }

    /// The bits of an id, or None when no text of this packing holds it.
    fn code(self, id: u32) -> Option<u64> {
        let swapped = id.swap_bytes();
        match self.width {
            1 => Some(u64::from(swapped >> 24)),
            2 => Some(u64::from(swapped >> 16)),
            _ if id == u32::MAX => Some(u64::MAX >> (64 - self.bits)),
            _ if u64::from(id) >= (1u64 << self.bits) - 1 => None,
            _ => {
                // The third byte has `more` bits, or eight of them and the fourth byte has the rest.
                let (high, third, fourth) = (u64::from(swapped >> 16), u64::from(id >> 16 & 0xff), u64::from(id >> 24));
                let more = self.bits - 16;
                let low = if more <= 8 { third } else { third << (more - 8) | fourth };
                Some(high << more | low)
            }
        }
    }

    /// Where the keys of suffixes lie that start with `ids`.
    pub fn bracket(self, ids: &[u32]) -> Bracket {
        let (mut lowest, mut filled, mut whole) = (0u64, 0u32, true);
        for &id in ids {
            if filled == 64 {
                break;
            }
            let Some(code) = self.code(id) else {
                whole = false;
                break;
            };
            let end = filled + self.bits;
            lowest |= if end <= 64 { code << (64 - end) } else { code >> (end - 64) };
            filled = end.min(64);
        }
        let highest = if filled < 64 { lowest | u64::MAX >> filled } else { lowest };
        Bracket { lowest, highest, whole, tokens: ids.len() }
    }

    /// The key of a suffix of the text, filled with zeros where the text ends.
    pub fn key(self, suffix: &[u8]) -> u64 {
        match (self.bits, suffix.first_chunk::<8>()) {
            (8 | 16, Some(first)) if self.width < 4 => u64::from_be_bytes(*first),
            _ => {
                let mut ids = [0u32; 8];
                let tokens = suffix.chunks_exact(self.width).take(8);
                let known = tokens.len();
                ids.iter_mut().zip(tokens).for_each(|(id, bytes)| *id = token(bytes));
                self.bracket(&ids[..known]).lowest
            }
        }
    }
}

/// Where the keys of the suffixes lie that start with some ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bracket {
    /// None of them has a smaller key.
    pub lowest: u64,
    /// None of them has a greater one.
    pub highest: u64,
    /// Whether keys strictly between belong to such suffixes only: not after an id that no text of the packing holds.
    whole: bool,
    /// Number of ids.
    tokens: usize,
}

/// A little-endian token of 1, 2 or 4 bytes; all ones is the separator at every width.
pub fn token(bytes: &[u8]) -> u32 {
    match *bytes {
        [0xff] | [0xff, 0xff] => u32::MAX,
        [a] => u32::from(a),
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// Writes the key table of the suffixes of `text`; `suffixes` are the byte offsets of every `stride`th, in their order.
pub fn write_keys(
    path: &Path,
    text: &[u8],
    width: usize,
    largest: u32,
    stride: usize,
    mut suffixes: impl Iterator<Item = Result<usize>>,
) -> Result<()> {
    let packing = Packing::new(width, largest);
    let mut out = Output::create(path)?;
    let mut header = [0u8; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&(stride as u32).to_le_bytes());
    header[12..16].copy_from_slice(&packing.bits.to_le_bytes());
    header[16..24].copy_from_slice(&((text.len() / width) as u64).to_le_bytes());
    out.write(&header)?;
    let (mut root, mut common) = (Vec::new(), Vec::new());
    let (mut before, mut written) = (text.len(), 0usize);
    let mut chunk = Vec::with_capacity(LANES);
    loop {
        chunk.clear();
        for offset in suffixes.by_ref().take(LANES) {
            chunk.push(offset?);
        }
        chunk.iter().for_each(|&offset| prefetch(text, offset));
        for &offset in &chunk {
            let key = packing.key(&text[offset..]).to_le_bytes();
            if written.is_multiple_of(PAGE) {
                root.extend_from_slice(&key);
            }
            common.push(common_tokens(&text[before..], &text[offset..], width));
            out.write(&key)?;
            (before, written) = (offset, written + 1);
        }
        if chunk.len() < LANES {
            break;
        }
    }
    out.write(&root)?;
    out.write(&common)?;
    out.finish()
}

/// Tokens that two suffixes have in common, at most `MOST_COMMON`.
pub fn common_tokens(a: &[u8], b: &[u8], width: usize) -> u8 {
    let most = MOST_COMMON * width;
    (common_bytes(&a[..a.len().min(most)], &b[..b.len().min(most)]) / width) as u8
}

/// Bytes that two slices have in common at their beginning.
pub fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8)).take_while(|(a, b)| a == b).count() * 8;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// `keys.S` of an open shard, or none: then searches begin with the whole table.
pub struct Keys {
    file: Option<Bytes>,
    len: usize,
    stride: usize,
    packing: Packing,
}

/// Where the suffixes that start with a query can lie; ranks, `low` and `high` exclusive and possibly outside the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Narrowed {
    /// The suffix of this rank is smaller than the query (-1: before the table).
    pub low: isize,
    /// A suffix that is known to start with the query, and the last such: set only when they differ from one stride.
    pub inside: Option<(isize, isize)>,
    /// The suffix of this rank is larger and does not start with the query (or the table's end).
    pub high: isize,
}

/// Keys whose suffixes start with the same n-gram; see `Keys::run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Rank of the first.
    pub first: usize,
    /// Rank of the last.
    pub last: usize,
    /// Whether the key before `first` starts with something else (or is none).
    pub first_is_known: bool,
    /// Whether the key after `last` does.
    pub last_is_known: bool,
}

impl Keys {
    /// No key table.
    pub fn none(width: usize) -> Keys {
        Keys { file: None, len: 0, stride: STRIDE, packing: Packing::new(width, u32::MAX - 1) }
    }

    /// Opens `keys.S` and checks its header and size against the number of suffixes.
    pub fn open(directory: &Path, shard: usize, width: usize, suffixes: usize) -> Result<Keys> {
        let file = Bytes::open(shard_file(directory, "keys", shard))?;
        let header = file.get().get(..HEADER).filter(|header| header.starts_with(MAGIC));
        let header = header.ok_or_else(|| Error::corrupt(&file.path, 0, "not a key table of this version"))?;
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let (stride, packing) = (number(8) as usize, Packing { width, bits: number(12) });
        let covered = u64::from_le_bytes(header[16..24].try_into().expect("8 bytes"));
        if stride == 0 || !packing.fits() || covered != suffixes as u64 {
            let what = format!("a key table of {covered} suffixes, the shard has {suffixes} of {width}-byte tokens");
            return Err(Error::corrupt(&file.path, 8, what));
        }
        let len = suffixes.div_ceil(stride);
        let expected = HEADER + (len + len.div_ceil(PAGE)) * 8 + len;
        match file.get().len() == expected {
            true => Ok(Keys { file: Some(file), len, stride, packing }),
            false => Err(Error::corrupt(&file.path, file.get().len(), format!("expected {expected} bytes"))),
        }
    }

    /// Checks key number `i`, and its copy in the root, against the suffix it stands for, from its first byte on.
    pub fn check(&self, i: usize, suffix: &[u8]) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let expected = self.packing.key(suffix);
        let in_root = i.is_multiple_of(PAGE).then_some(self.len + i / PAGE);
        match std::iter::once(i).chain(in_root).find(|&i| self.get(i) != expected) {
            Some(i) => Err(Error::corrupt(&file.path, HEADER + i * 8, "the key is not the beginning of its suffix")),
            None => Ok(()),
        }
    }

    /// Checks what key number `i` says it has in common with the one before, by the suffixes of both.
    pub fn check_common(&self, i: usize, before: &[u8], suffix: &[u8]) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let (told, expected) = (self.common()[i], common_tokens(before, suffix, self.packing.width));
        match told == expected {
            true => Ok(()),
            false => {
                let at = file.get().len() - self.len + i;
                let what = format!("{told} tokens in common with the key before, the suffixes have {expected}");
                Err(Error::corrupt(&file.path, at, what))
            }
        }
    }

    /// Checks what the header holds behind the numbers that were checked at open: zeros.
    pub fn verify_header(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        match (24..HEADER).find(|&at| file.get()[at] != 0) {
            Some(at) => Err(Error::corrupt(&file.path, at, "the header does not end in zeros")),
            None => Ok(()),
        }
    }

    /// The file, for size checks.
    pub fn file(&self) -> Option<&Bytes> {
        self.file.as_ref()
    }

    /// How tokens are packed.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Suffixes per key.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Number of keys, the root not counted.
    #[allow(dead_code)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Key `i`; those from `len()` on are the root.
    pub fn get(&self, i: usize) -> u64 {
        let bytes = self.file.as_ref().map_or(&[][..], Bytes::get);
        let at = HEADER + i * 8;
        bytes.get(at..at + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().expect("8 bytes")))
    }

    /// Tokens that the suffix of each key has in common with that of the key before.
    pub fn common(&self) -> &[u8] {
        let bytes = self.file.as_ref().map_or(&[][..], Bytes::get);
        bytes.get(bytes.len() - self.len.min(bytes.len())..).unwrap_or(&[])
    }

    /// Ranks of the first and the last key around that of `rank` whose suffixes start with the same `tokens` tokens, as far
    /// as that is known; None when `rank` has no key.
    pub fn run(&self, rank: usize, tokens: usize) -> Option<Run> {
        if self.len == 0 || !rank.is_multiple_of(self.stride) || tokens > MOST_COMMON {
            return None;
        }
        let (common, key, tokens) = (self.common(), rank / self.stride, tokens as u8);
        let below = &common[key.saturating_sub(MOST_FOLLOWED) + 1..=key];
        let before = below.iter().rev().take_while(|&&common| common >= tokens).count();
        let above = &common[key + 1..self.len.min(key + 1 + MOST_FOLLOWED)];
        let after = above.iter().take_while(|&&common| common >= tokens).count();
        Some(Run {
            first: (key - before) * self.stride,
            last: (key + after) * self.stride,
            first_is_known: before < below.len() || key < MOST_FOLLOWED,
            last_is_known: after < above.len() || key + 1 + MOST_FOLLOWED >= self.len,
        })
    }

    /// Byte of the file where key `i` stands.
    #[allow(dead_code)]
    pub fn offset(i: usize) -> usize {
        HEADER + i * 8
    }

    /// The first key from `start` on that is not below `bound` (or above it, with `above`). Sorted queries land near each
    /// other, so doubling steps come first; farther ones are found through the root.
    fn seek(&self, start: usize, bound: u64, above: bool) -> usize {
        let before = |i: usize| if above { self.get(i) <= bound } else { self.get(i) < bound };
        // Nothing is known before the first query, nor when one comes out of order.
        let far = start == 0 || !before(start - 1);
        let (mut low, mut step) = if far { (0, PAGE) } else { (start, 1) };
        while step < PAGE {
            if low + step > self.len || !before(low + step - 1) {
                return bisect(low, (low + step - 1).min(self.len), before);
            }
            low += step;
            step *= 2;
        }
        let page = bisect(low / PAGE + 1, self.len.div_ceil(PAGE), |page| before(self.len + page));
        bisect(low.max((page - 1) * PAGE), (page * PAGE).min(self.len), before)
    }

    /// Narrows a query to the ranks where it can stand: `bracket` is its packing's. `hint` is the first key of a smaller
    /// query's answer (0 at first) and becomes this one's.
    pub fn narrow(&self, bracket: Bracket, hint: &mut usize, suffixes: usize) -> Narrowed {
        if self.file.is_none() {
            return Narrowed { low: -1, inside: None, high: suffixes as isize };
        }
        let Bracket { lowest, highest, whole, tokens } = bracket;
        let rank = |key: usize| (key * self.stride).min(suffixes) as isize;
        // Keys before `first` are below the query; from `end` on they are above all that starts with it.
        let first = self.seek(*hint, lowest, false);
        *hint = first;
        let low = if first == 0 { -1 } else { rank(first - 1) };
        // Keys strictly between lowest and highest belong to suffixes that start with the query.
        let starts_with = |key: u64| whole && lowest < key && key < highest;
        if first < self.len && starts_with(self.get(first)) {
            // How far they go on is told by the common tokens, in one stretch of memory.
            if let Some(run) = self.run(first * self.stride, tokens).filter(|run| run.last_is_known) {
                let (inside, high) = ((rank(first), run.last as isize), rank(run.last / self.stride + 1));
                return Narrowed { low, inside: Some(inside), high };
            }
        }
        let end = self.seek(first, highest, true);
        let inside = (whole && first < end && lowest < highest).then(|| {
            let (from, to) = (self.seek(first, lowest, true), self.seek(first, highest, false));
            (from < to).then(|| (rank(from), rank(to - 1)))
        });
        Narrowed { low, inside: inside.flatten(), high: rank(end) }
    }
}

/// The first number in `low..high` that is not `before`, where all before it are.
fn bisect(mut low: usize, mut high: usize, before: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = low + (high - low) / 2;
        match before(middle) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_bracket_everything_that_starts_with_the_ids() {
        let packing = Packing::new(2, 0);
        let ends = |ids: &[u32]| (packing.bracket(ids).lowest, packing.bracket(ids).highest);
        assert_eq!(ends(&[0x0201]), (0x0102_0000_0000_0000, 0x0102_ffff_ffff_ffff));
        assert_eq!(ends(&[]), (0, u64::MAX));
        assert_eq!(ends(&[7; 9]), (0x0700_0700_0700_0700, 0x0700_0700_0700_0700));
    }

    #[test]
    fn packed_ids_order_as_their_bytes() {
        for (width, largest) in
            [(1, 254), (2, 65_534), (4, 9), (4, 65_534), (4, 100_277), (4, 1 << 27), (4, u32::MAX - 1)]
        {
            let packing = Packing::new(width, largest);
            let mut state = 1u64;
            let mut random = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as u32 % (largest.saturating_add(1))
            };
            let mut texts: Vec<Vec<u8>> = (0..2000)
                .map(|i| {
                    let ids = (0..10).map(|_| random()).chain((i % 7 == 0).then_some(u32::MAX));
                    ids.flat_map(|id| id.to_le_bytes()[..width].to_vec()).collect()
                })
                .collect();
            texts.sort();
            let keys: Vec<u64> = texts.iter().map(|text| packing.key(text)).collect();
            assert!(keys.is_sorted(), "width {width}, largest {largest}");
        }
    }

    #[test]
    fn ids_that_no_text_holds_end_a_bracket() {
        let packing = Packing::new(4, 100);
        let (short, long) = (packing.bracket(&[5]), packing.bracket(&[5, 1 << 20, 6]));
        assert_eq!((short.lowest, short.highest), (long.lowest, long.highest));
        assert!(short.whole && !long.whole);
    }
}
