//! JSON lines: a block of lines becomes text, domain and leftover metadata, with no object per field.
//!
//! The fields that are left over are copied as they were written, so numbers, escapes and order survive.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Byte strings one after the other: row i is `values[offsets[i]..offsets[i + 1]]`.
pub struct Strings {
    /// All bytes.
    pub values: Vec<u8>,
    /// Rows + 1 ascending offsets, from 0.
    pub offsets: Vec<i64>,
}

impl Strings {
    /// No rows.
    pub fn new() -> Strings {
        Strings { values: Vec::new(), offsets: vec![0] }
    }

    /// Appends a row.
    pub fn push(&mut self, bytes: &[u8]) {
        self.values.extend_from_slice(bytes);
        self.offsets.push(self.values.len() as i64);
    }
}

/// The documents of a block of lines, and the lines that are none.
pub struct Documents {
    /// Texts, UTF-8.
    pub texts: Strings,
    /// Domains, UTF-8; empty strings when no domain field was asked for.
    pub domains: Strings,
    /// The leftover fields of each line, one JSON object each.
    pub metadata: Strings,
    /// Line number of each document, counted from 1 at the block's first line plus `first_line` - 1.
    pub lines: Vec<i64>,
    /// Line number and reason of every line that is no document.
    pub bad: Vec<(i64, String)>,
}

/// Parses the lines of `block`; `text_field` and `domain_field` are dotted paths. Blank lines are skipped.
pub fn parse(block: &[u8], text_field: &str, domain_field: Option<&str>, first_line: i64) -> Documents {
    let text_path: Vec<&str> = text_field.split('.').collect();
    let domain_path: Option<Vec<&str>> = domain_field.map(|field| field.split('.').collect());
    let mut documents = Documents {
        texts: Strings::new(),
        domains: Strings::new(),
        metadata: Strings::new(),
        lines: Vec::new(),
        bad: Vec::new(),
    };
    let block = block.strip_suffix(b"\n").unwrap_or(block);
    if block.is_empty() {
        return documents;
    }
    let mut leftover = Vec::new();
    for (line, number) in block.split(|&byte| byte == b'\n').zip(first_line..) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        leftover.clear();
        match document(line, &text_path, domain_path.as_deref(), &mut leftover) {
            Ok((text, domain)) => {
                documents.texts.push(text.as_bytes());
                documents.domains.push(domain.as_bytes());
                documents.metadata.push(&leftover);
                documents.lines.push(number);
            }
            Err(reason) => documents.bad.push((number, reason)),
        }
    }
    documents
}

type Found<'a> = std::result::Result<(Cow<'a, str>, Cow<'a, str>), String>;

fn document<'a>(line: &'a [u8], text: &[&str], domain: Option<&[&str]>, leftover: &mut Vec<u8>) -> Found<'a> {
    let raw: &RawValue = serde_json::from_slice(line).map_err(|error| reason(&error))?;
    if !raw.get().starts_with('{') {
        return Err("not a JSON object: every line must be one".to_string());
    }
    let (found, keys) = find(raw, text)?.ok_or_else(|| lacking(raw, text))?;
    let words = string(found).ok_or_else(|| format!("the field {:?} is not a valid string", text.join(".")))?;
    let domain = match domain {
        None => Cow::Borrowed(""),
        Some(path) => match lookup(raw, path)? {
            None => return Err(lacking(raw, path).replacen("; ", " (domain); ", 1)),
            value => label(value, path)?,
        },
    };
    copy_without(raw, &keys, leftover)?;
    Ok((words, domain))
}

/// A domain is a string, a number or a boolean; anything else would make labels that nobody can type.
pub fn label<'a>(value: Option<&'a RawValue>, path: &[&str]) -> std::result::Result<Cow<'a, str>, String> {
    let name = path.join(".");
    let value = value.ok_or_else(|| format!("no field {name:?} (domain)"))?;
    match value.get().as_bytes()[0] {
        b'"' => string(value).ok_or_else(|| format!("the field {name:?} (domain) is not a valid string")),
        b'{' | b'[' | b'n' => Err(format!("the field {name:?} (domain) is neither text nor a number")),
        _ => Ok(Cow::Borrowed(value.get())),
    }
}

/// The text of a JSON string; None when it is none, or no valid Unicode.
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text>(value.get()).ok().map(|text| text.0)
}

/// The value at a path of field names, or None where there is none.
pub fn lookup<'a>(value: &'a RawValue, path: &[&str]) -> std::result::Result<Option<&'a RawValue>, String> {
    Ok(find(value, path)?.map(|(found, _)| found))
}

/// A value, and the keys that lead to it.
type Place<'a> = (&'a RawValue, Vec<String>);

/// The value at a path. A key may hold dots itself: the longest that fits is taken first, so the exact name wins.
fn find<'a>(value: &'a RawValue, path: &[&str]) -> std::result::Result<Option<Place<'a>>, String> {
    if path.is_empty() {
        return Ok(Some((value, Vec::new())));
    }
    if !value.get().starts_with('{') {
        return Ok(None);
    }
    let fields: Fields = serde_json::from_str(value.get()).map_err(|error| reason(&error))?;
    for length in (1..=path.len()).rev() {
        let (key, rest) = (path[..length].join("."), &path[length..]);
        // As in every JSON library, the last of several equal keys counts.
        let Some((_, inner)) = fields.0.iter().rev().find(|(name, _)| *name == key) else { continue };
        if let Some((found, mut keys)) = find(inner, rest)? {
            keys.insert(0, key);
            return Ok(Some((found, keys)));
        }
    }
    Ok(None)
}

/// Fields that a message names, at most.
const MOST_NAMES: usize = 20;

/// The message for a path that leads nowhere, with the fields that there are.
fn lacking(value: &RawValue, path: &[&str]) -> String {
    let fields = serde_json::from_str::<Fields>(value.get()).map_or(Vec::new(), |fields| fields.0);
    let names: Vec<&str> = fields.iter().take(MOST_NAMES).map(|(name, _)| name.as_ref()).collect();
    let more = if fields.len() > MOST_NAMES { ", …" } else { "" };
    let has = if names.is_empty() { "no fields".to_string() } else { names.join(", ") + more };
    format!("no field {:?}; the line has {has}", path.join("."))
}

fn copy_without(value: &RawValue, path: &[String], out: &mut Vec<u8>) -> std::result::Result<(), String> {
    let [first, rest @ ..] = path else { return Ok(()) };
    let fields: Fields = serde_json::from_str(value.get()).map_err(|error| reason(&error))?;
    out.push(b'{');
    let mut separate = false;
    for (name, inner) in fields.0 {
        if name == *first && rest.is_empty() {
            continue;
        }
        if separate {
            out.extend_from_slice(b", ");
        }
        separate = true;
        out.extend_from_slice(&serde_json::to_vec(&name).expect("strings are JSON"));
        out.extend_from_slice(b": ");
        match name == *first && inner.get().starts_with('{') {
            true => copy_without(inner, rest, out)?,
            false => out.extend_from_slice(inner.get().as_bytes()),
        }
    }
    out.push(b'}');
    Ok(())
}

/// Why a line is no JSON object, without serde's line number.
pub fn reason(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => "the JSON ends too early".to_string(),
        _ => {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or(&text);
            format!("not a JSON object: {text} (column {})", error.column())
        }
    }
}

/// A JSON string that borrows when it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields of an object in their order, values unparsed.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object with fields")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some((Text(name), value)) = map.next_entry::<Text, &RawValue>()? {
                    fields.push((name, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Collect).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(strings: &Strings, i: usize) -> &str {
        std::str::from_utf8(&strings.values[strings.offsets[i] as usize..strings.offsets[i + 1] as usize]).unwrap()
    }

    #[test]
    fn text_domain_and_leftover_fields_come_apart() {
        let lines = "{\"text\": \"a\\u00e9\\n\", \"meta\": {\"set\": \"X\", \"n\": 1.50}}\n\n{\"id\":3,\"text\":\"\",\"meta\":{\"set\":7}}\n";
        let d = parse(lines.as_bytes(), "text", Some("meta.set"), 1);
        assert!(d.bad.is_empty(), "{:?}", d.bad);
        assert_eq!((row(&d.texts, 0), row(&d.texts, 1)), ("aé\n", ""));
        assert_eq!((row(&d.domains, 0), row(&d.domains, 1)), ("X", "7"));
        assert_eq!(row(&d.metadata, 0), "{\"meta\": {\"set\": \"X\", \"n\": 1.50}}");
        assert_eq!(row(&d.metadata, 1), "{\"id\": 3, \"meta\": {\"set\":7}}");
        assert_eq!(d.lines, vec![1, 3]);
    }

    #[test]
    fn bad_lines_are_told_with_their_number_and_reason() {
        let lines = b"{\"text\": \"a\"}\n{\"text\": \n[1]\n{\"text\": 5}\n{\"t\": \"a\"}\n{\"text\": \"\\ud800\"}\n{\"text\": \"\xff\"}\n{\"text\": \"z\"} x\n";
        let d = parse(lines, "text", None, 10);
        assert_eq!(d.lines, vec![10]);
        let numbers: Vec<i64> = d.bad.iter().map(|(line, _)| *line).collect();
        assert_eq!(numbers, vec![11, 12, 13, 14, 15, 16, 17]);
        assert!(d.bad[0].1.contains("ends too early"), "{:?}", d.bad);
        assert!(d.bad[3].1.contains("no field \"text\""), "{:?}", d.bad);
    }

    #[test]
    fn a_key_with_dots_comes_before_the_path() {
        let line = br#"{"a.b": "flat", "a": {"b": "deep", "c": {"d.e": "x", "f": 2}}}"#;
        let d = parse(line, "a.b", Some("a.c.d.e"), 1);
        assert_eq!((row(&d.texts, 0), row(&d.domains, 0)), ("flat", "x"));
        assert_eq!(row(&d.metadata, 0), r#"{"a": {"b": "deep", "c": {"d.e": "x", "f": 2}}}"#);
        let d = parse(line, "a.c.d.e", None, 1);
        assert_eq!(row(&d.metadata, 0), r#"{"a.b": "flat", "a": {"b": "deep", "c": {"f": 2}}}"#);
        let d = parse(br#"{"a.b": {"x": 1}, "a": {"b": {"c": "t"}}}"#, "a.b.c", None, 1);
        assert_eq!(row(&d.texts, 0), "t");
        let d = parse(br#"{"a": 1, "b": {}}"#, "a.b", None, 1);
        assert_eq!(d.bad[0].1, r#"no field "a.b"; the line has a, b"#);
    }

    #[test]
    fn dotted_text_fields_leave_their_neighbours() {
        let d = parse(b"{\"a\": {\"b\": \"t\", \"c\": 1}, \"d\": 2}", "a.b", None, 1);
        assert_eq!(row(&d.texts, 0), "t");
        assert_eq!(row(&d.metadata, 0), "{\"a\": {\"c\": 1}, \"d\": 2}");
    }
}
