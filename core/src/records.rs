//! Dealing records (the tokens or the metadata of documents) out to files, each with the offsets of its records.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Bytes of buffer a target has; there may be hundreds.
const BUFFER: usize = 1 << 17;

struct Target {
    path: PathBuf,
    data: BufWriter<File>,
    offsets: BufWriter<File>,
    bytes: u64,
}

impl Target {
    fn create(data: &Path, offsets: &Path) -> Result<Target> {
        let open = |path: &Path| {
            let file = File::create(path).map_err(Error::io(path))?;
            Ok::<_, Error>(BufWriter::with_capacity(BUFFER, file))
        };
        Ok(Target { path: data.to_path_buf(), data: open(data)?, offsets: open(offsets)?, bytes: 0 })
    }
}

/// Pairs of files that records are appended to: their bytes, and for each the u64 offset where it starts.
pub struct RecordDealer {
    targets: Vec<Target>,
    record: Vec<u8>,
}

impl RecordDealer {
    /// Creates (or empties) the files: (data, offsets) of each target.
    pub fn create(targets: &[(PathBuf, PathBuf)]) -> Result<RecordDealer> {
        let targets = targets.iter().map(|(data, offsets)| Target::create(data, offsets)).collect::<Result<_>>()?;
        Ok(RecordDealer { targets, record: Vec::new() })
    }

    /// Appends each record of `data` to the target of its number, -1 leaving it out. `offsets` has as many u64 starts.
    pub fn deal(&mut self, data: &Path, offsets: &Path, numbers: &[i32]) -> Result<()> {
        let starts = std::fs::read(offsets).map_err(Error::io(offsets))?;
        let file = File::open(data).map_err(Error::io(data))?;
        let size = file.metadata().map_err(Error::io(data))?.len();
        if starts.len() != numbers.len() * 8 {
            let what = format!("{} bytes, {} records are to be dealt", starts.len(), numbers.len());
            return Err(Error::corrupt(offsets, starts.len(), what));
        }
        let start = |i: usize| starts.get(i * 8..i * 8 + 8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
        let mut reader = BufReader::with_capacity(1 << 20, file);
        for (i, &number) in numbers.iter().enumerate() {
            let (first, end) = (start(i).unwrap_or(size), start(i + 1).unwrap_or(size));
            if first > end || end > size || (i == 0 && first != 0) {
                return Err(Error::corrupt(offsets, i * 8, format!("offset {first} leads nowhere")));
            }
            if number < 0 {
                reader.seek_relative((end - first) as i64).map_err(Error::io(data))?;
                continue;
            }
            let target = self.targets.get_mut(number as usize);
            let target =
                target.ok_or_else(|| Error::Query(format!("record {i} is dealt to {number}: no such file")))?;
            self.record.resize((end - first) as usize, 0);
            reader.read_exact(&mut self.record).map_err(Error::io(data))?;
            target.offsets.write_all(&target.bytes.to_le_bytes()).map_err(Error::io(&target.path))?;
            target.data.write_all(&self.record).map_err(Error::io(&target.path))?;
            target.bytes += end - first;
        }
        Ok(())
    }

    /// Flushes and syncs all files: a full disk shows here at the latest.
    pub fn close(&mut self) -> Result<()> {
        for target in &mut self.targets {
            for writer in [&mut target.data, &mut target.offsets] {
                writer.flush().and_then(|()| writer.get_ref().sync_all()).map_err(Error::io(&target.path))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        (folder.join(name), folder.join(format!("{name}.offsets")))
    }

    #[test]
    fn records_come_to_their_files_in_order_and_bad_offsets_are_told() {
        let folder = std::env::temp_dir().join(format!("memindex-records-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = records(&folder, "source");
        std::fs::write(&source.0, b"aabbbdcccc").unwrap();
        let starts: Vec<u8> = [0u64, 2, 5, 5, 6].iter().flat_map(|start| start.to_le_bytes()).collect();
        std::fs::write(&source.1, &starts).unwrap();
        let targets = [records(&folder, "one"), records(&folder, "two")];
        let mut dealer = RecordDealer::create(&targets).unwrap();
        dealer.deal(&source.0, &source.1, &[1, 0, 1, -1, 1]).unwrap();
        dealer.deal(&source.0, &source.1, &[-1, -1, -1, 0, -1]).unwrap();
        dealer.close().unwrap();
        let read = |path: &Path| std::fs::read(path).unwrap();
        assert_eq!((read(&targets[0].0), read(&targets[1].0)), (b"bbbd".to_vec(), b"aacccc".to_vec()));
        let offsets = |path: &Path| read(path).chunks_exact(8).map(|b| b[0]).collect::<Vec<_>>();
        assert_eq!((offsets(&targets[0].1), offsets(&targets[1].1)), (vec![0, 3], vec![0, 2, 2]));
        assert!(dealer.deal(&source.0, &source.1, &[0]).is_err());
        assert!(dealer.deal(&source.0, &source.1, &[7, 0, 0, 0, 0]).is_err());
        for bad in [[1u64, 2, 5, 5, 6], [0, 6, 5, 5, 6], [0, 2, 5, 5, 99]] {
            std::fs::write(&source.1, bad.iter().flat_map(|start| start.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
            assert!(dealer.deal(&source.0, &source.1, &[0; 5]).is_err(), "{bad:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
