//! BLAKE3 of files, whole and by block, from one reading.
//!
//! BLAKE3 is a tree over the input; the nodes above each 64 KiB are its blocks' checksums. Merging them gives the checksum
//! of the whole file, as `b3sum` prints it, so the manifest's one covers them too. (BLAKE3 specification, section 2.1.)

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};

use crate::error::{Error, Result};
use crate::lookup::cores;

/// Bytes of a block; a power of two, so that every block is a node of the tree.
pub const BLOCK: usize = 1 << 16;

/// Blocks a thread reads at least: below, starting it costs more than it saves.
const PER_THREAD: usize = 64;

/// Blocks read at a time.
const AT_ONCE: usize = 16;

/// The checksum of a file in hex, and of each of its blocks; none of a file that is one block.
pub fn hash_file(path: &Path) -> Result<(String, Vec<ChainingValue>)> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len() as usize;
    if size <= BLOCK {
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, 0).map_err(Error::io(path))?;
        return Ok((blake3::hash(&bytes).to_hex().to_string(), Vec::new()));
    }
    let mut blocks = vec![[0; 32]; size.div_ceil(BLOCK)];
    let part = blocks.len().div_ceil(cores()).max(PER_THREAD);
    std::thread::scope(|scope| {
        let hash = |(i, part_of_blocks)| hash_blocks(&file, size, i * part, part_of_blocks);
        let threads: Vec<_> = blocks.chunks_mut(part).enumerate().map(|each| scope.spawn(move || hash(each))).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
    .map_err(Error::io(path))?;
    Ok((merge_root(&blocks, size), blocks))
}

/// Fills the checksums of the blocks from number `first` on.
fn hash_blocks(file: &File, size: usize, first: usize, blocks: &mut [ChainingValue]) -> std::io::Result<()> {
    // Read, not mapped: mapped pages would count as this process's memory, and fault when the file is cut meanwhile.
    let mut buffer = vec![0; (AT_ONCE * BLOCK).min(size)];
    for (i, group) in blocks.chunks_mut(AT_ONCE).enumerate() {
        let start = (first + i * AT_ONCE) * BLOCK;
        let bytes = &mut buffer[..(group.len() * BLOCK).min(size - start)];
        file.read_exact_at(bytes, start as u64)?;
        for ((slot, block), number) in group.iter_mut().zip(bytes.chunks(BLOCK)).zip(start / BLOCK..) {
            let mut hasher = Hasher::new();
            hasher.set_input_offset((number * BLOCK) as u64);
            *slot = hasher.update(block).finalize_non_root();
        }
    }
    Ok(())
}

/// The checksum, in hex, of `size` bytes in at least two blocks.
fn merge_root(blocks: &[ChainingValue], size: usize) -> String {
    let left = left_subtree_len(size as u64) as usize;
    let halves = (merge(blocks, 0..left), merge(blocks, left..size));
    merge_subtrees_root(&halves.0, &halves.1, Mode::Hash).to_hex().to_string()
}

/// The node above the bytes of `range`, which starts at a block.
fn merge(blocks: &[ChainingValue], range: Range<usize>) -> ChainingValue {
    if range.len() <= BLOCK {
        return blocks[range.start / BLOCK];
    }
    let middle = range.start + left_subtree_len(range.len() as u64) as usize;
    merge_subtrees_non_root(&merge(blocks, range.start..middle), &merge(blocks, middle..range.end), Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_blocks_give_the_checksum_of_the_whole() {
        let path = std::env::temp_dir().join(format!("memindex-blocks-{}", std::process::id()));
        let bytes: Vec<u8> = (0..150 * BLOCK + 1).map(|i| (i % 251) as u8).collect();
        for blocks in [0, 1, 2, 3, 4, 5, 7, 8, 64, 65, 130, 150] {
            for size in [(blocks * BLOCK).saturating_sub(1), blocks * BLOCK, blocks * BLOCK + 1] {
                std::fs::write(&path, &bytes[..size]).unwrap();
                let (whole, parts) = hash_file(&path).unwrap();
                assert_eq!(whole, blake3::hash(&bytes[..size]).to_hex().to_string(), "{size} bytes");
                assert_eq!(parts.len(), if size <= BLOCK { 0 } else { size.div_ceil(BLOCK) });
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
