//! The Python face of the core: thin, typed in `memindex/_core.pyi`.

use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::build::{Built, DomainColumn, build_shard};
use crate::documents::{self, Documents};
use crate::error::{Error, Result};
use crate::fault::install;
use crate::files::{FolderIdentity, exchange_folders, shard_file};
use crate::keys::{MOST_STRIDE, STRIDE};
use crate::lookup::{Answer, Count, CountWithPrefix, Ragged, Ranks, answer_batch, check_ids, find_one, in_parts};
use crate::query::Query;
use crate::records::RecordDealer;
use crate::shard::{Shard, Sidecars};
use crate::{blocks, following, jsonl, matching, metadata, occurrences, probe, sidecars, verify, windows};

/// One shard of an index, open for lookups.
#[pyclass(frozen, name = "Shard", module = "memindex._core")]
pub(crate) struct PyShard {
    pub(crate) inner: Shard,
    directory: PathBuf,
    opened: FolderIdentity,
    number: usize,
    documents: std::sync::OnceLock<Documents>,
}

#[pymethods]
impl PyShard {
    #[new]
    #[pyo3(signature = (directory, shard, token_width, domains=0, domain_block=1, keys=false, sidecars=None, columns=0))]
    #[allow(clippy::too_many_arguments)]
    fn open(
        py: Python<'_>,
        directory: PathBuf,
        shard: usize,
        token_width: usize,
        domains: usize,
        domain_block: usize,
        keys: bool,
        sidecars: Option<PathBuf>,
        columns: usize,
    ) -> PyResult<PyShard> {
        let beside = sidecars.unwrap_or_else(|| directory.clone());
        let sidecars = Sidecars { keys, domains, columns, domain_block };
        let opened = FolderIdentity::of(&directory)?;
        let inner = py.detach(|| Shard::open(&directory, &beside, shard, token_width, sidecars))?;
        let documents = std::sync::OnceLock::new();
        // Now, so that they are of the tokens' version, whatever takes the index's place. Counts need none: what is
        // missing or damaged is said when documents are asked for.
        if let Ok(found) = Documents::open(&directory, shard) {
            let _ = documents.set(found);
        }
        Ok(PyShard { inner, directory, opened, number: shard, documents })
    }

    fn __len__(&self) -> usize {
        self.inner.token_count()
    }

    /// Counts of every row of a ragged batch of ids, uint64.
    fn count<'py>(&self, py: Python<'py>, values: Ids<'py>, offsets: Offsets<'py>) -> PyResult<Numbers<'py>> {
        self.answer(py, &values, &offsets, &Count)
    }

    /// Counts of the first `tokens` tokens of every row and of the whole row, uint64 of shape (rows * 2).
    fn count_with_prefix<'py>(
        &self,
        py: Python<'py>,
        values: Ids<'py>,
        offsets: Offsets<'py>,
        tokens: usize,
    ) -> PyResult<Numbers<'py>> {
        if tokens == 0 {
            return Err(Error::Query("a prefix needs at least one token".into()).into());
        }
        self.answer(py, &values, &offsets, &CountWithPrefix { tokens })
    }

    /// Counts by domain, uint64 of shape (rows * domains), row by row.
    fn count_by_domain<'py>(&self, py: Python<'py>, values: Ids<'py>, offsets: Offsets<'py>) -> PyResult<Numbers<'py>> {
        self.inner.check_domain_sizes()?;
        self.answer(py, &values, &offsets, self.domain_column()?)
    }

    /// First rank and end of the suffixes that start with each row, uint64 of shape (rows * 2).
    fn find<'py>(&self, py: Python<'py>, values: Ids<'py>, offsets: Offsets<'py>) -> PyResult<Numbers<'py>> {
        self.answer(py, &values, &offsets, &Ranks)
    }

    /// Token positions of the suffixes of these ranks, int64.
    fn positions<'py>(&self, py: Python<'py>, ranks: PyReadonlyArray1<'py, u64>) -> PyResult<Positions<'py>> {
        let ranks = ranks.as_slice()?;
        let positions = self.checked(py, || occurrences::positions(&self.inner, ranks))?;
        Ok(positions.into_pyarray(py))
    }

    /// Counts by domain of ranges of ranks, uint64 of shape (ranges * domains).
    fn count_ranges<'py>(
        &self,
        py: Python<'py>,
        starts: PyReadonlyArray1<'py, u64>,
        ends: PyReadonlyArray1<'py, u64>,
    ) -> PyResult<Numbers<'py>> {
        let ranges = self.ranges(starts.as_slice()?, ends.as_slice()?)?;
        let counts = self.checked(py, || {
            self.inner.check_domain_sizes()?;
            self.domain_column()?.count_ranges(&ranges)
        })?;
        Ok(counts.into_pyarray(py))
    }

    /// Length (uint32) and count (uint64) of the longest match at every position of the values of a ragged batch.
    #[allow(clippy::type_complexity)]
    fn longest_match<'py>(
        &self,
        py: Python<'py>,
        values: Ids<'py>,
        offsets: Offsets<'py>,
    ) -> PyResult<(Bound<'py, PyArray1<u32>>, Numbers<'py>)> {
        let (values, offsets) = (values.as_slice()?, offsets.as_slice()?);
        let (lengths, counts): (Vec<u32>, Vec<u64>) = self.checked(py, || {
            Ragged::new(values, offsets, self.inner.width)?;
            let longest = matching::longest_match(&self.inner, values, offsets)?;
            Ok(longest.iter().map(|longest| (longest.length, longest.count)).unzip())
        })?;
        Ok((lengths.into_pyarray(py), counts.into_pyarray(py)))
    }

    /// All next tokens after the n-grams of `tokens[i]` tokens that start the suffixes of each range of ranks: (offsets
    /// int64, ids uint32, first ranks uint64, ends uint64); all-ones ids where a document or the text ends.
    #[allow(clippy::type_complexity)]
    fn next_tokens<'py>(
        &self,
        py: Python<'py>,
        starts: PyReadonlyArray1<'py, u64>,
        ends: PyReadonlyArray1<'py, u64>,
        tokens: Offsets<'py>,
    ) -> PyResult<(Positions<'py>, Bound<'py, PyArray1<u32>>, Numbers<'py>, Numbers<'py>)> {
        let ranges = self.ranges(starts.as_slice()?, ends.as_slice()?)?;
        let (tokens, most) = (tokens.as_slice()?, self.inner.token_count());
        if tokens.len() != ranges.len() {
            return Err(Error::Query("starts, ends and tokens differ in length".into()).into());
        }
        if tokens.iter().zip(&ranges).any(|(&n, range)| n < 0 || (n as usize > most && !range.is_empty())) {
            return Err(Error::Query(format!("n-grams of the shard have 0 to {most} tokens")).into());
        }
        // Of an n-gram that has no suffixes the length is not asked for.
        let bytes: Vec<usize> = tokens.iter().map(|&tokens| (tokens as usize).min(most) * self.inner.width).collect();
        let found = self.checked(py, || following::next_tokens(&self.inner, &ranges, &bytes))?;
        let (starts, ends): (Vec<u64>, Vec<u64>) =
            found.ranges.iter().map(|range| (range.start as u64, range.end as u64)).unzip();
        Ok((found.offsets.into_pyarray(py), found.ids.into_pyarray(py), starts.into_pyarray(py), ends.into_pyarray(py)))
    }

    /// For token positions: document, position of its first token and of its end; int64 of shape (positions * 3).
    fn locate<'py>(&self, py: Python<'py>, positions: Offsets<'py>) -> PyResult<Positions<'py>> {
        let positions = positions.as_slice()?;
        let found = self.checked(py, || self.documents()?.locate(&self.inner, positions))?;
        Ok(found.into_flattened().into_pyarray(py))
    }

    /// The metadata lines of documents as (bytes, offsets).
    fn metadata<'py>(&self, py: Python<'py>, documents: Offsets<'py>) -> PyResult<Column<'py>> {
        let documents = documents.as_slice()?;
        let (lines, offsets) = self.checked(py, || self.documents()?.metadata(documents))?;
        Ok((lines.into_pyarray(py), offsets.into_pyarray(py)))
    }

    /// The ids at token positions starts[i] to ends[i], as (values uint32, offsets int64).
    #[allow(clippy::type_complexity)]
    fn tokens<'py>(
        &self,
        py: Python<'py>,
        starts: Offsets<'py>,
        ends: Offsets<'py>,
    ) -> PyResult<(Bound<'py, PyArray1<u32>>, Positions<'py>)> {
        let (starts, ends) = (starts.as_slice()?, ends.as_slice()?);
        let (values, offsets) = self.checked(py, || documents::tokens(&self.inner, starts, ends))?;
        Ok((values.into_pyarray(py), offsets.into_pyarray(py)))
    }

    /// Documents that hold the suffixes of each range of ranks, at least and at most: uint64 of shape (ranges * 2).
    fn count_documents<'py>(
        &self,
        py: Python<'py>,
        starts: PyReadonlyArray1<'py, u64>,
        ends: PyReadonlyArray1<'py, u64>,
        most: usize,
    ) -> PyResult<Numbers<'py>> {
        let ranges = self.ranges(starts.as_slice()?, ends.as_slice()?)?;
        let bounds = self.checked(py, || {
            let documents = self.documents()?;
            let mut bounds = vec![0u64; ranges.len() * 2];
            in_parts(&mut bounds, 2 * 64, |part, bounds| {
                for (bounds, range) in bounds.chunks_exact_mut(2).zip(&ranges[part * 64..]) {
                    let (low, high) = documents.count_documents(&self.inner, range.clone(), most)?;
                    bounds.copy_from_slice(&[low, high]);
                }
                Ok(())
            })?;
            Ok(bounds)
        })?;
        Ok(bounds.into_pyarray(py))
    }

    /// The count of one query; takes and gives plain Python numbers, so that a single lookup needs no NumPy.
    fn count_one(&self, py: Python<'_>, query: Query) -> PyResult<u64> {
        Ok(py.detach(|| self.find_one(&query.0).map(|range| range.len() as u64))?)
    }

    /// The counts of one query in every domain, as plain Python numbers.
    fn count_by_domain_one(&self, py: Python<'_>, query: Query) -> PyResult<Vec<u64>> {
        Ok(py.detach(|| {
            let domains = self.domain_column()?;
            self.inner.check_domain_sizes()?;
            let mut counts = vec![0u64; domains.count()];
            domains.add_counts(self.find_one(&query.0)?, &mut counts)?;
            self.inner.check_reads()?;
            Ok::<_, Error>(counts)
        })?)
    }

    /// Domains of the suffixes of these ranks, uint16.
    fn domains_at<'py>(
        &self,
        py: Python<'py>,
        ranks: PyReadonlyArray1<'py, u64>,
    ) -> PyResult<Bound<'py, PyArray1<u16>>> {
        let (ranks, domains) = (ranks.as_slice()?, self.domain_column()?);
        let found = self.checked(py, || {
            self.inner.check_domain_sizes()?;
            domains.of_ranks(ranks, self.inner.token_count())
        })?;
        Ok(found.into_pyarray(py))
    }

    /// Raises CorruptIndexError when a file that a lookup reads was truncated since it was opened, or failed to be read.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        Ok(self.checked(py, || Ok(()))?)
    }

    /// The bytes of the tokens, to be read in place: where the file is truncated meanwhile they read as zeros, and
    /// `check` raises.
    ///
    /// # Safety
    /// As the interpreter calls it: `view` is a valid place for a Py_buffer.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut pyo3::ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let text = slf.get().inner.text();
        let place = text.as_ptr().cast_mut().cast();
        // SAFETY: the map lives as long as the shard, which the view keeps alive, and is said to be read-only.
        let failed =
            unsafe { pyo3::ffi::PyBuffer_FillInfo(view, slf.as_ptr(), place, text.len() as isize, 1, flags) } != 0;
        if failed { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    /// Looks at a few entries of every file; raises CorruptIndexError when the files can't belong together.
    fn probe(&self, py: Python<'_>) -> PyResult<()> {
        Ok(self.checked(py, || probe::probe(&self.inner))?)
    }

    /// Suffixes of the shard in every domain.
    fn domain_totals(&self) -> PyResult<Vec<u64>> {
        Ok(self.domain_column()?.totals())
    }

    /// Proves document offsets, unigram counts and metadata lines; raises CorruptIndexError with file and byte.
    fn verify_documents(&self, py: Python<'_>) -> PyResult<()> {
        Ok(self.checked(py, || verify::verify_documents(&self.inner))?)
    }

    /// Proves table, key table and domain column; raises CorruptIndexError with file and byte.
    /// `domain_of_document`: the little-endian uint16 domain of each document, or None.
    #[pyo3(signature = (domain_of_document=None))]
    fn verify_suffixes(&self, py: Python<'_>, domain_of_document: Option<&[u8]>) -> PyResult<()> {
        let labels = domain_of_document.map(domain_codes);
        Ok(self.checked(py, || verify::verify_suffixes(&self.inner, labels.as_deref()))?)
    }

    /// Proves that the table is the suffix array of the tokens; raises CorruptIndexError where it is not.
    fn verify_order(&self, py: Python<'_>) -> PyResult<()> {
        Ok(self.checked(py, || verify::verify_order(&self.inner).map(drop))?)
    }
}

impl PyShard {
    fn domain_column(&self) -> Result<&crate::domain::Domains> {
        self.inner
            .domains
            .as_ref()
            .ok_or_else(|| Error::Query(format!("{} has no domain column", self.directory.display())))
    }

    fn find_one(&self, query: &[u32]) -> Result<std::ops::Range<usize>> {
        self.inner.check_sizes()?;
        check_ids(query, 0, self.inner.width)?;
        let found = find_one(&self.inner, query)?;
        self.inner.check_reads()?;
        Ok(found)
    }

    fn answer<'py>(
        &self,
        py: Python<'py>,
        values: &Ids<'py>,
        offsets: &Offsets<'py>,
        answer: &impl Answer,
    ) -> PyResult<Numbers<'py>> {
        let (values, offsets) = (values.as_slice()?, offsets.as_slice()?);
        let numbers =
            self.checked(py, || answer_batch(&self.inner, &Ragged::new(values, offsets, self.inner.width)?, answer))?;
        Ok(numbers.into_pyarray(py))
    }

    /// Runs a lookup without the interpreter, on files that are still whole.
    fn checked<T: Send>(&self, py: Python<'_>, lookup: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        py.detach(|| {
            self.inner.check_sizes()?;
            let answer = lookup();
            // What was read of a file that failed may look like any other damage.
            self.inner.check_sizes()?;
            self.inner.check_reads()?;
            self.documents.get().map_or(Ok(()), Documents::check_reads)?;
            answer
        })
    }

    /// The document files; where they could not be opened with the shard, the error says why.
    fn documents(&self) -> Result<&Documents> {
        if self.documents.get().is_none() {
            let documents = Documents::open(&self.directory, self.number);
            // Whatever was found then belongs to other tokens.
            if self.opened != FolderIdentity::of(&self.directory)? {
                let what = format!("{}: another version took its place: open it again", self.directory.display());
                return Err(Error::Corrupt(what));
            }
            // Another thread may have been faster; then its handle is kept.
            let _ = self.documents.set(documents?);
        }
        let documents = self.documents.get().ok_or_else(|| Error::Query("the shard has no documents".into()))?;
        documents.check_sizes()?;
        Ok(documents)
    }

    fn ranges(&self, starts: &[u64], ends: &[u64]) -> Result<Vec<std::ops::Range<usize>>> {
        let most = self.inner.token_count() as u64;
        if starts.len() != ends.len() || starts.iter().zip(ends).any(|(start, end)| start > end || *end > most) {
            return Err(Error::Query(format!("ranges of ranks must ascend and end by {most}")));
        }
        Ok(starts.iter().zip(ends).map(|(&start, &end)| start as usize..end as usize).collect())
    }
}

type Ids<'py> = PyReadonlyArray1<'py, u32>;
type Offsets<'py> = PyReadonlyArray1<'py, i64>;
type Positions<'py> = Bound<'py, PyArray1<i64>>;
type Numbers<'py> = Bound<'py, PyArray1<u64>>;

/// Appends documents to the tokens of shards; see `DocumentWriter` in `_core.pyi`.
#[pyclass(name = "DocumentWriter", module = "memindex._core")]
struct PyDocumentWriter {
    shards: Vec<ShardTokens>,
    width: usize,
    documents: usize,
}

struct ShardTokens {
    tokens: std::io::BufWriter<std::fs::File>,
    offsets: std::io::BufWriter<std::fs::File>,
    path: PathBuf,
    bytes: u64,
}

#[pymethods]
impl PyDocumentWriter {
    #[new]
    fn create(directory: PathBuf, shards: usize, token_width: usize) -> PyResult<PyDocumentWriter> {
        let open = |path: &PathBuf| {
            let file = std::fs::File::create(path).map_err(Error::io(path))?;
            Ok::<_, Error>(std::io::BufWriter::with_capacity(1 << 20, file))
        };
        let shards = (0..shards)
            .map(|shard| {
                let path = shard_file(&directory, "tokenized", shard);
                let offsets = shard_file(&directory, "offset", shard);
                Ok(ShardTokens { tokens: open(&path)?, offsets: open(&offsets)?, path, bytes: 0 })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(PyDocumentWriter { shards, width: token_width, documents: 0 })
    }

    /// Appends the rows of a ragged batch, document i of the build to shard i modulo shards; returns the token position
    /// of each document's first token in its shard (the separator stands before it), int64.
    fn append<'py>(
        &mut self,
        py: Python<'py>,
        values: PyReadonlyArray1<'py, u32>,
        offsets: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let (values, offsets) = (values.as_slice()?, offsets.as_slice()?);
        let firsts = py.detach(|| self.append_rows(values, offsets))?;
        Ok(firsts.into_pyarray(py))
    }

    /// Flushes and syncs all files; a full disk shows here at the latest.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        use std::io::Write;
        Ok(py.detach(|| {
            for shard in &mut self.shards {
                for writer in [&mut shard.tokens, &mut shard.offsets] {
                    writer.flush().and_then(|()| writer.get_ref().sync_all()).map_err(Error::io(&shard.path))?;
                }
            }
            Ok::<_, Error>(())
        })?)
    }
}

impl PyDocumentWriter {
    fn append_rows(&mut self, values: &[u32], offsets: &[i64]) -> Result<Vec<i64>> {
        use std::io::Write;
        let separator = crate::build::separator_id(self.width) as u64;
        let mut firsts = Vec::with_capacity(offsets.len().saturating_sub(1));
        let mut bytes = Vec::new();
        for pair in offsets.windows(2) {
            let ids = values
                .get(pair[0] as usize..pair[1] as usize)
                .ok_or_else(|| Error::Query("offsets are not ascending inside the values".into()))?;
            bytes.clear();
            bytes.extend_from_slice(&u32::MAX.to_le_bytes()[..self.width]);
            for &id in ids {
                if u64::from(id) >= separator {
                    return Err(Error::Corpus(format!(
                        "token id {id} is out of range: {}-byte tokens hold ids 0 to {}; choose a larger --token-width",
                        self.width,
                        separator - 1
                    )));
                }
                bytes.extend_from_slice(&id.to_le_bytes()[..self.width]);
            }
            let at = self.documents % self.shards.len();
            let shard = &mut self.shards[at];
            shard.offsets.write_all(&shard.bytes.to_le_bytes()).map_err(Error::io(&shard.path))?;
            shard.tokens.write_all(&bytes).map_err(Error::io(&shard.path))?;
            firsts.push((shard.bytes / self.width as u64) as i64 + 1);
            shard.bytes += bytes.len() as u64;
            self.documents += 1;
        }
        Ok(firsts)
    }
}

/// Deals records (tokens or metadata of documents) out to files; see `RecordDealer` in `_core.pyi`.
#[pyclass(name = "RecordDealer", module = "memindex._core")]
struct PyRecordDealer(RecordDealer);

#[pymethods]
impl PyRecordDealer {
    #[new]
    fn create(targets: Vec<(PathBuf, PathBuf)>) -> PyResult<PyRecordDealer> {
        Ok(PyRecordDealer(RecordDealer::create(&targets)?))
    }

    /// Appends each record of a file to the target of its number; those of number -1 are left out.
    fn deal(
        &mut self,
        py: Python<'_>,
        data: PathBuf,
        offsets: PathBuf,
        targets: PyReadonlyArray1<'_, i32>,
    ) -> PyResult<()> {
        let targets = targets.as_slice()?;
        Ok(py.detach(|| self.0.deal(&data, &offsets, targets))?)
    }

    /// Flushes and syncs all files; a full disk shows here at the latest.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.close())?)
    }
}

/// Takes back SIGBUS from whoever took it over; see `watch_reads` in `_core.pyi`.
#[pyfunction]
fn watch_reads() {
    install();
}

/// Gives two folders each other's name, at once; see `exchange` in `_core.pyi`.
#[pyfunction]
fn exchange(py: Python<'_>, one: PathBuf, other: PathBuf) -> PyResult<()> {
    Ok(py.detach(|| exchange_folders(&one, &other))?)
}

/// Sorts one shard's suffixes and writes its table, unigrams and domain column; returns (tokens, seconds of sorting,
/// seconds of writing). `domain_of_document`: the little-endian uint16 domain of each document, or None.
#[pyfunction]
#[pyo3(signature = (directory, shard, token_width, domain_of_document=None, domains=0, domain_block=1, key_stride=STRIDE))]
#[allow(clippy::too_many_arguments)]
fn sort_shard(
    py: Python<'_>,
    directory: PathBuf,
    shard: usize,
    token_width: usize,
    domain_of_document: Option<&[u8]>,
    domains: usize,
    domain_block: usize,
    key_stride: usize,
) -> PyResult<(usize, f64, f64)> {
    let codes = domain_of_document.map(domain_codes);
    let Built { tokens, sort_seconds, write_seconds } = py.detach(|| {
        if !(1..=MOST_STRIDE).contains(&key_stride) {
            return Err(Error::Corpus(format!("one key per {key_stride} suffixes: choose 1 to {MOST_STRIDE}")));
        }
        let labels = domain_column(codes.as_deref(), domains, domain_block)?;
        build_shard(&directory, shard, token_width, labels, key_stride)
    })?;
    Ok((tokens, sort_seconds, write_seconds))
}

fn domain_codes(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

fn domain_column(codes: Option<&[u16]>, domains: usize, block: usize) -> Result<Option<DomainColumn<'_>>> {
    if codes.into_iter().flatten().any(|&domain| usize::from(domain) >= domains) || block == 0 {
        return Err(Error::Corpus(format!("a document's domain is not below {domains}")));
    }
    Ok(codes.map(|of_document| DomainColumn { of_document, domains, block }))
}

/// Writes the key table and, with `domain_of_document` as for `sort_shard`, the domain column of a shard that was built
/// elsewhere into the folder `out`; `directory` is only read. `largest`: the largest id of its text, separators apart.
#[pyfunction]
#[pyo3(signature = (directory, out, shard, token_width, largest, domain_of_document=None, domains=0, domain_block=1))]
#[allow(clippy::too_many_arguments)]
fn write_sidecars(
    py: Python<'_>,
    directory: PathBuf,
    out: PathBuf,
    shard: usize,
    token_width: usize,
    largest: u32,
    domain_of_document: Option<&[u8]>,
    domains: usize,
    domain_block: usize,
) -> PyResult<()> {
    let codes = domain_of_document.map(domain_codes);
    Ok(py.detach(|| {
        let labels = domain_column(codes.as_deref(), domains, domain_block)?;
        let source = sidecars::Source { directory: &directory, shard, width: token_width, largest };
        sidecars::write_sidecars(&source, &out, labels)
    })?)
}

/// BLAKE3 of a file, in hex, as `b3sum` prints it.
#[pyfunction]
fn checksum(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    Ok(py.detach(|| blocks::hash_file(&path))?.0)
}

/// BLAKE3 of bytes, in hex.
#[pyfunction]
fn checksum_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// BLAKE3 of a file, in hex, and 32 bytes for each of its 64 KiB blocks; none when it is one block.
#[pyfunction]
fn block_checksums<'py>(py: Python<'py>, path: PathBuf) -> PyResult<(String, Bound<'py, PyBytes>)> {
    let (whole, parts) = py.detach(|| blocks::hash_file(&path))?;
    Ok((whole, PyBytes::new(py, parts.as_flattened())))
}

type Column<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<i64>>);

/// Parses JSON lines; returns (texts, token ids, whether the lines hold ids, domains, metadata, line numbers, bad lines),
/// strings as (bytes, offsets), ids as (uint32, offsets). `tokenized` says what the lines before held.
#[pyfunction]
#[pyo3(signature = (block, text_field, domain_field=None, first_line=1, tokenized=None))]
fn parse_jsonl<'py>(
    py: Python<'py>,
    block: &Bound<'py, PyBytes>,
    text_field: &str,
    domain_field: Option<&str>,
    first_line: i64,
    tokenized: Option<bool>,
) -> PyResult<Bound<'py, PyTuple>> {
    let bytes = block.as_bytes();
    let documents = py.detach(|| jsonl::parse(bytes, text_field, domain_field, first_line, tokenized));
    let column = |strings: jsonl::Strings| (strings.values.into_pyarray(py), strings.offsets.into_pyarray(py));
    (
        column(documents.texts),
        (documents.tokens.into_pyarray(py), documents.token_offsets.into_pyarray(py)),
        documents.tokenized,
        column(documents.domains),
        column(documents.metadata),
        documents.lines.into_pyarray(py),
        documents.bad,
    )
        .into_pyobject(py)
}

/// Parses infini-gram's metadata lines; returns (paths, labels, whether there is a label as 0 or 1, metadata, lines from
/// 1), strings as (bytes, offsets). Raises CorruptIndexError with the first line that is no JSON object, from 0.
#[pyfunction]
#[allow(clippy::type_complexity)]
fn parse_metadata<'py>(
    py: Python<'py>,
    block: &Bound<'py, PyBytes>,
    label_path: &str,
) -> PyResult<(Column<'py>, Column<'py>, Bound<'py, PyArray1<u8>>, Column<'py>, Bound<'py, PyArray1<i64>>)> {
    let (bytes, path) = (block.as_bytes(), label_path.split('.').collect::<Vec<_>>());
    let parsed = py.detach(|| metadata::parse(bytes, &path));
    let rows = parsed.map_err(|(line, reason)| Error::Corrupt(format!("line {line}: {reason}")))?;
    let column = |strings: jsonl::Strings| (strings.values.into_pyarray(py), strings.offsets.into_pyarray(py));
    Ok((
        column(rows.paths),
        column(rows.labels),
        rows.labelled.into_pyarray(py),
        column(rows.metadata),
        rows.lines.into_pyarray(py),
    ))
}

/// Samples distinct windows per frequency bucket; returns (bucket, count, shard, position) arrays of the sample and,
/// for each bucket that is not empty, (bucket, distinct windows, windows).
#[pyfunction]
#[allow(clippy::type_complexity)]
fn sample_windows<'py>(
    py: Python<'py>,
    shards: Vec<PyRef<'py, PyShard>>,
    length: usize,
    per_bucket: usize,
    seed: u64,
) -> PyResult<(
    (Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i64>>),
    Vec<(usize, u64, u64)>,
)> {
    let open: Vec<&Shard> = shards.iter().map(|shard| &shard.inner).collect();
    if open.iter().any(|shard| shard.width != open[0].width) {
        return Err(Error::Query("all shards must have the same token width".into()).into());
    }
    let buckets = py.detach(|| {
        open.iter().try_for_each(|shard| shard.check_sizes())?;
        let buckets = windows::sample_windows(&open, length, per_bucket, seed)?;
        open.iter().try_for_each(|shard| shard.check_reads())?;
        Ok::<_, Error>(buckets)
    })?;
    let drawn = || buckets.iter().enumerate().flat_map(|(b, bucket)| bucket.sample.iter().map(move |w| (b, w)));
    let columns = (
        drawn().map(|(b, _)| b as i32).collect::<Vec<_>>().into_pyarray(py),
        drawn().map(|(_, w)| w.count).collect::<Vec<_>>().into_pyarray(py),
        drawn().map(|(_, w)| w.shard as i32).collect::<Vec<_>>().into_pyarray(py),
        drawn().map(|(_, w)| w.position as i64).collect::<Vec<_>>().into_pyarray(py),
    );
    let totals = buckets
        .iter()
        .enumerate()
        .filter(|(_, bucket)| bucket.distinct > 0)
        .map(|(b, bucket)| (b, bucket.distinct, bucket.windows))
        .collect();
    Ok((columns, totals))
}

/// The compiled core of memindex.
#[pymodule]
pub fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyShard>()?;
    module.add_class::<PyDocumentWriter>()?;
    module.add_class::<PyRecordDealer>()?;
    module.add_function(wrap_pyfunction!(exchange, module)?)?;
    module.add_function(wrap_pyfunction!(watch_reads, module)?)?;
    module.add_function(wrap_pyfunction!(sort_shard, module)?)?;
    module.add_function(wrap_pyfunction!(write_sidecars, module)?)?;
    module.add_function(wrap_pyfunction!(parse_metadata, module)?)?;
    module.add("BLOCK", blocks::BLOCK)?;
    module.add_function(wrap_pyfunction!(block_checksums, module)?)?;
    module.add_function(wrap_pyfunction!(checksum, module)?)?;
    module.add_function(wrap_pyfunction!(checksum_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(parse_jsonl, module)?)?;
    module.add_function(wrap_pyfunction!(sample_windows, module)?)?;
    crate::python_statistics::add_to(module)?;
    Ok(())
}
