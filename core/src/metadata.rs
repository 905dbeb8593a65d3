//! infini-gram's metadata lines, {"path": …, "linenum": …, "metadata": {…}}, as columns.
//!
//! A line that others wrote may lack any of the three: the whole line is its metadata then.

use serde_json::value::RawValue;

use crate::jsonl::{Strings, label, lookup, reason, string};

/// The columns of a block of lines; one row a line.
pub struct Metadata {
    /// Corpus files, UTF-8; empty where the line names none.
    pub paths: Strings,
    /// Labels, UTF-8; empty where `labelled` is 0.
    pub labels: Strings,
    /// 1 where the line has a label (text, number or boolean) at the path asked for.
    pub labelled: Vec<u8>,
    /// The fields below "metadata" as they were written, a JSON object each.
    pub metadata: Strings,
    /// Lines of the corpus file, counted from 1; 0 where the line names none.
    pub lines: Vec<i64>,
}

/// Parses whole lines. `label_path` is looked up below "metadata", then at the top of the line. Fails with the number
/// of the first line, from 0, that is no JSON object, and the reason.
pub fn parse(block: &[u8], label_path: &[&str]) -> std::result::Result<Metadata, (usize, String)> {
    let mut columns = Metadata {
        paths: Strings::new(),
        labels: Strings::new(),
        labelled: Vec::new(),
        metadata: Strings::new(),
        lines: Vec::new(),
    };
    let block = block.strip_suffix(b"\n").unwrap_or(block);
    for (number, line) in block.split(|&byte| byte == b'\n').enumerate() {
        push(&mut columns, line, label_path).map_err(|reason| (number, reason))?;
    }
    Ok(columns)
}

fn push(columns: &mut Metadata, line: &[u8], label_path: &[&str]) -> std::result::Result<(), String> {
    let raw: &RawValue = serde_json::from_slice(line).map_err(|error| reason(&error))?;
    if !raw.get().starts_with('{') {
        return Err("not a JSON object".to_string());
    }
    let path = lookup(raw, &["path"])?.and_then(string);
    let line = lookup(raw, &["linenum"])?.and_then(|number| number.get().parse::<i64>().ok());
    let metadata = lookup(raw, &["metadata"])?.filter(|inner| inner.get().starts_with('{')).unwrap_or(raw);
    let found = match lookup(metadata, label_path)? {
        Some(found) => Some(found),
        None => lookup(raw, label_path)?,
    };
    let label = found.and_then(|found| label(Some(found), label_path).ok());
    columns.paths.push(path.unwrap_or_default().as_bytes());
    columns.labelled.push(u8::from(label.is_some()));
    columns.labels.push(label.unwrap_or_default().as_bytes());
    columns.metadata.push(metadata.get().as_bytes());
    columns.lines.push(line.and_then(|line| line.checked_add(1)).unwrap_or(0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(strings: &Strings, i: usize) -> &str {
        std::str::from_utf8(&strings.values[strings.offsets[i] as usize..strings.offsets[i + 1] as usize]).unwrap()
    }

    #[test]
    fn lines_come_apart_and_labels_are_looked_up_inside_first() {
        let lines = concat!(
            "{\"path\": \"a.jsonl\", \"linenum\": 4, \"metadata\": {\"meta\": {\"set\": \"X\"}, \"n\": 1.50}}\n",
            "{\"path\": \"b\", \"linenum\": 0, \"metadata\": {}, \"meta\": {\"set\": 7}}\n",
            "{\"meta\": {\"set\": null}}\n",
        );
        let m = parse(lines.as_bytes(), &["meta", "set"]).unwrap();
        assert_eq!([row(&m.paths, 0), row(&m.paths, 1), row(&m.paths, 2)], ["a.jsonl", "b", ""]);
        assert_eq!([row(&m.labels, 0), row(&m.labels, 1), row(&m.labels, 2)], ["X", "7", ""]);
        assert_eq!((m.labelled, m.lines), (vec![1, 1, 0], vec![5, 1, 0]));
        assert_eq!(row(&m.metadata, 0), "{\"meta\": {\"set\": \"X\"}, \"n\": 1.50}");
        assert_eq!(row(&m.metadata, 2), "{\"meta\": {\"set\": null}}");
    }

    #[test]
    fn the_first_line_that_is_no_object_is_told() {
        assert_eq!(parse(b"{}\n[]\n5\n", &["a"]).err().map(|(line, _)| line), Some(1));
        assert_eq!(parse(b"{}\n\n{}\n", &["a"]).err().map(|(line, _)| line), Some(1));
    }
}
