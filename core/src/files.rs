//! Names, sizes and widths of a shard's files (infini-gram v4, and the sidecars of memindex).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};

/// `directory/kind.shard`, as `tokenized.0`.
pub fn shard_file(directory: &Path, kind: &str, shard: usize) -> PathBuf {
    directory.join(format!("{kind}.{shard}"))
}

/// Bytes of one pointer in a table over `text_bytes` bytes: ceil(log2(text_bytes) / 8), and at least one.
pub fn pointer_width(text_bytes: usize) -> usize {
    let mut width = 1;
    while width < 8 && (1u128 << (8 * width)) < text_bytes as u128 {
        width += 1;
    }
    width
}

/// Maps a file into memory; an empty file gives `None`, because nothing can be mapped.
pub fn map(path: &Path) -> Result<Option<Mmap>> {
    map_file(&File::open(path).map_err(Error::io(path))?, path)
}

/// Maps an open file; see `map`.
pub fn map_file(file: &File, path: &Path) -> Result<Option<Mmap>> {
    let facts = file.metadata().map_err(Error::io(path))?;
    if !facts.is_file() {
        return Err(Error::Corrupt(format!("{}: not a regular file", path.display())));
    }
    if facts.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the map is only read. Another process that truncates the file could make a read fail with SIGBUS;
    // callers check the file's size before every batch (Shard::check_sizes).
    let map = unsafe { Mmap::map(file) }.map_err(Error::io(path))?;
    Ok(Some(map))
}

/// Which folder stands under a name: another one when its place was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderIdentity {
    device: u64,
    inode: u64,
}

impl FolderIdentity {
    /// Of the folder that is there now.
    pub fn of(folder: &Path) -> Result<FolderIdentity> {
        use std::os::unix::fs::MetadataExt;
        let facts = std::fs::metadata(folder).map_err(Error::io(folder))?;
        Ok(FolderIdentity { device: facts.dev(), inode: facts.ino() })
    }
}

/// Gives two folders of one file system each other's name in one step, so that each name leads to a whole folder at every
/// moment; fails with ENOSYS or EINVAL where the system has no such step.
pub fn exchange_folders(one: &Path, other: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &Path| {
        std::ffi::CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Error::Io(std::io::Error::from_raw_os_error(libc::EINVAL), path.display().to_string()))
    };
    let (first, second) = (name(one)?, name(other)?);
    // SAFETY: both are texts that end in NUL and live until the call returns.
    #[cfg(target_os = "linux")]
    let failed = unsafe {
        libc::renameat2(libc::AT_FDCWD, first.as_ptr(), libc::AT_FDCWD, second.as_ptr(), libc::RENAME_EXCHANGE)
    };
    // SAFETY: as above.
    #[cfg(target_os = "macos")]
    let failed = unsafe { libc::renamex_np(first.as_ptr(), second.as_ptr(), libc::RENAME_SWAP) };
    match failed {
        0 => Ok(()),
        _ => Err(Error::Io(std::io::Error::last_os_error(), one.display().to_string())),
    }
}

/// A file that is complete on disk once `finish` returns.
pub struct Output<'p> {
    path: &'p Path,
    writer: BufWriter<File>,
}

impl<'p> Output<'p> {
    /// Creates (or empties) `path`.
    pub fn create(path: &'p Path) -> Result<Output<'p>> {
        let file = File::create(path).map_err(Error::io(path))?;
        Ok(Output { path, writer: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(Error::io(self.path))
    }

    /// Flushes and syncs: a full disk shows here at the latest.
    pub fn finish(mut self) -> Result<()> {
        self.writer.flush().map_err(Error::io(self.path))?;
        self.writer.get_ref().sync_all().map_err(Error::io(self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::pointer_width;

    #[test]
    fn pointer_width_follows_infini_gram() {
        for (bytes, width) in
            [(0, 1), (1, 1), (2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 3), (1 << 24, 3), ((1 << 24) + 1, 4)]
        {
            assert_eq!(pointer_width(bytes), width, "{bytes} bytes");
        }
    }
}
