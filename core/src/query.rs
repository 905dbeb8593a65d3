//! One query from Python: a sequence of token ids, or a QueryError that says why it is none.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFrozenSet, PySet, PyString};

use crate::error::Error;

/// The ids of a single lookup; from a list, a tuple, an array, or any other sequence of whole numbers.
pub struct Query(pub Vec<u32>);

impl<'py> FromPyObject<'_, 'py> for Query {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Query> {
        // An iterator is refused too (it has no length): several shards are asked, and the first would use it up.
        if is_no_list(&given) || given.len().is_err() {
            return Err(not_ids(&given));
        }
        let ids = given.try_iter().map_err(|_| not_ids(&given))?;
        ids.map(|id| token_id(&id?)).collect::<PyResult<Vec<u32>>>().map(Query)
    }
}

fn is_no_list(given: &Bound<'_, PyAny>) -> bool {
    let text = given.is_instance_of::<PyString>()
        || given.is_instance_of::<PyBytes>()
        || given.is_instance_of::<PyByteArray>();
    text || given.is_instance_of::<PyDict>() || given.is_instance_of::<PySet>() || given.is_instance_of::<PyFrozenSet>()
}

fn not_ids(given: &Bound<'_, PyAny>) -> PyErr {
    let kind = given.get_type().name().map_or_else(|_| "object".into(), |name| name.to_string());
    Error::Query(format!("can't ask with a {kind} here: give a list of token ids")).into()
}

fn token_id(id: &Bound<'_, PyAny>) -> PyResult<u32> {
    if let (Ok(number), false) = (id.extract::<u32>(), id.is_instance_of::<PyBool>()) {
        return Ok(number);
    }
    let shown: String = id.repr().map_or_else(|_| "?".into(), |repr| repr.to_string()).chars().take(40).collect();
    let whole = !id.is_instance_of::<PyBool>() && id.call_method0("__index__").is_ok();
    let what = if whole { "is out of range" } else { "is not a whole number" };
    Err(Error::Query(format!("token id {shown} {what}")).into())
}
