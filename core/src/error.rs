//! What can go wrong, and which Python exception of `memindex.errors` says it.

use std::fmt;
use std::path::Path;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// An error of the core; every message is one line that names the file it is about.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused: missing file, full disk, no permission.
    Io(std::io::Error, String),
    /// An index file is not what it should be.
    Corrupt(String),
    /// The query has no answer: empty, or an id that no index can hold.
    Query(String),
    /// The input can't become an index.
    Corpus(String),
}

/// Result of the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error about `path`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Io(source, path.display().to_string())
    }

    /// Damage found in `path` at byte `offset`.
    pub fn corrupt(path: &Path, offset: usize, what: impl fmt::Display) -> Error {
        Error::Corrupt(format!("{}: byte {offset}: {what}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(source, path) => write!(f, "{path}: {source}"),
            Error::Corrupt(text) | Error::Query(text) | Error::Corpus(text) => f.write_str(text),
        }
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        let class = match &error {
            Error::Io(source, path) => {
                // OSError(errno, text, filename) keeps what Python code expects to find in it.
                let errno = source.raw_os_error().unwrap_or(0);
                return PyOSError::new_err((errno, source.to_string(), path.clone()));
            }
            Error::Corrupt(_) => "CorruptIndexError",
            Error::Query(_) => "QueryError",
            Error::Corpus(_) => "CorpusError",
        };
        Python::attach(|py| {
            let made = py
                .import("memindex.errors")
                .and_then(|module| module.getattr(class))
                .and_then(|class| class.call1((error.to_string(),)));
            match made {
                Ok(exception) => PyErr::from_value(exception),
                Err(failure) => failure,
            }
        })
    }
}
