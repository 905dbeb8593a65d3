//! The Python face of what statistics of an index ask; typed in `memindex/_core.pyi`.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::error::Result;
use crate::frequent::{Ngrams, frequent_ngrams as count_ngrams};
use crate::python::PyShard;
use crate::repeats::{Documents, NUMBERS, Question};
use crate::shard::Shard;
use crate::shard_documents;

type Column<'py, T> = Bound<'py, PyArray1<T>>;

/// Adds the functions to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("WINDOW_NUMBERS", NUMBERS)?;
    module.add_function(wrap_pyfunction!(documents_of_shard, module)?)?;
    module.add_function(wrap_pyfunction!(document_checksums, module)?)?;
    module.add_function(wrap_pyfunction!(weigh_documents, module)?)?;
    module.add_function(wrap_pyfunction!(frequent_ngrams, module)?)?;
    module.add_function(wrap_pyfunction!(repeated_windows, module)?)
}

/// Token positions of the separators of a shard, int64, and the domains of the documents behind them, uint16.
#[pyfunction]
fn documents_of_shard<'py>(
    py: Python<'py>,
    shard: PyRef<'py, PyShard>,
) -> PyResult<(Column<'py, i64>, Column<'py, u16>)> {
    let documents = walking(py, &[&shard.inner], shard_documents::documents)?;
    let (starts, domains): (Vec<i64>, Vec<u16>) = documents.into_iter().unzip();
    Ok((starts.into_pyarray(py), domains.into_pyarray(py)))
}

/// 128 bits of BLAKE3 of the tokens of every document, uint64 of shape (documents * 2).
#[pyfunction]
fn document_checksums<'py>(
    py: Python<'py>,
    shard: PyRef<'py, PyShard>,
    bounds: PyReadonlyArray1<'py, i64>,
) -> PyResult<Column<'py, u64>> {
    let bounds = bounds.as_slice()?;
    let numbers = walking(py, &[&shard.inner], |shard| shard_documents::checksums(shard, bounds))?;
    Ok(numbers.into_pyarray(py))
}

/// The sum of `weights` over the ids of every document, uint64.
#[pyfunction]
fn weigh_documents<'py>(
    py: Python<'py>,
    shard: PyRef<'py, PyShard>,
    bounds: PyReadonlyArray1<'py, i64>,
    weights: PyReadonlyArray1<'py, u32>,
) -> PyResult<Column<'py, u64>> {
    let (bounds, weights) = (bounds.as_slice()?, weights.as_slice()?);
    let sums = walking(py, &[&shard.inner], |shard| shard_documents::weigh(shard, bounds, weights))?;
    Ok(sums.into_pyarray(py))
}

/// For every n from 1 to `longest`: (distinct n-grams, those that occur once, counts of the most frequent ones, their
/// ids one after the other).
#[pyfunction]
#[allow(clippy::type_complexity)]
fn frequent_ngrams<'py>(
    py: Python<'py>,
    shards: Vec<PyRef<'py, PyShard>>,
    longest: usize,
    most: usize,
) -> PyResult<Vec<(u64, u64, Column<'py, u64>, Column<'py, u32>)>> {
    let open: Vec<&Shard> = shards.iter().map(|shard| &shard.inner).collect();
    let lengths = checked(py, &open, |shards| count_ngrams(shards, longest, most))?;
    let columns = |Ngrams { distinct, once, most }: Ngrams| {
        let (counts, ids): (Vec<u64>, Vec<Vec<u32>>) = most.into_iter().unzip();
        (distinct, once, counts.into_pyarray(py), ids.concat().into_pyarray(py))
    };
    Ok(lengths.into_iter().map(columns).collect())
}

/// Tokens of some documents of each shard that lie in repeated windows: uint64 of shape (lengths * domains *
/// WINDOW_NUMBERS); see `repeats::Question`.
#[pyfunction]
fn repeated_windows<'py>(
    py: Python<'py>,
    shards: Vec<PyRef<'py, PyShard>>,
    bounds: Vec<PyReadonlyArray1<'py, i64>>,
    domain_of_document: Vec<PyReadonlyArray1<'py, u16>>,
    lengths: Vec<usize>,
    domains: usize,
    first_domain: usize,
) -> PyResult<Column<'py, u64>> {
    let open: Vec<&Shard> = shards.iter().map(|shard| &shard.inner).collect();
    let pairs = bounds.iter().zip(&domain_of_document);
    let documents =
        pairs.map(|(bounds, domains)| Ok(Documents { bounds: bounds.as_slice()?, domains: domains.as_slice()? }));
    let documents: Vec<Documents> = documents.collect::<PyResult<_>>()?;
    let (documents, lengths) = (&documents[..], &lengths[..]);
    let counts =
        checked(py, &open, |shards| Question { shards, documents, lengths, domains, first: first_domain }.answer())?;
    Ok(counts.into_pyarray(py))
}

fn walking<T: Send>(py: Python<'_>, shards: &[&Shard], walk: impl Fn(&Shard) -> Result<T> + Sync + Send) -> Result<T> {
    checked(py, shards, |shards| walk(shards[0]))
}

/// Runs a walk over whole shards without the interpreter, on files that are still whole.
fn checked<T: Send>(py: Python<'_>, shards: &[&Shard], walk: impl FnOnce(&[&Shard]) -> Result<T> + Send) -> Result<T> {
    let check = || {
        shards.iter().try_for_each(|shard| {
            shard.check_sizes()?;
            shard.check_domain_sizes()?;
            shard.check_reads()
        })
    };
    py.detach(|| {
        check()?;
        for shard in shards {
            shard.walk_table();
            if shard.is_cold() {
                shard.fetch_all();
            }
        }
        let answer = walk(shards);
        shards.iter().for_each(|shard| shard.search_table());
        // What was read of a file that failed may look like any other damage.
        check()?;
        answer
    })
}
