//! JSON lines: a block of lines becomes text, domain and leftover metadata, with no object per field.
//!
//! The fields that are left over are copied as they were written, so numbers, escapes and order survive. What readers of
//! JSON disagree about is settled here, as Python's `json.loads` has it: of equal keys the last counts and the others are
//! left out; NaN, Infinity and numbers beyond a float64 become null; half a surrogate pair in a key becomes U+FFFD.

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
    /// Texts, UTF-8; no rows where the lines hold token ids.
    pub texts: Strings,
    /// Token ids, one row after the other, where the lines hold those instead.
    pub tokens: Vec<u32>,
    /// Rows + 1 ascending offsets of `tokens`, from 0.
    pub token_offsets: Vec<i64>,
    /// What the lines hold: token ids (true), texts (false), or not known yet.
    pub tokenized: Option<bool>,
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
///
/// `tokenized` is what the lines before held, as in [`Documents`]: lines of the other kind are bad.
pub fn parse(
    block: &[u8],
    text_field: &str,
    domain_field: Option<&str>,
    first_line: i64,
    tokenized: Option<bool>,
) -> Documents {
    let text_path: Vec<&str> = text_field.split('.').collect();
    let domain_path: Option<Vec<&str>> = domain_field.map(|field| field.split('.').collect());
    let mut documents = Documents {
        texts: Strings::new(),
        tokens: Vec::new(),
        token_offsets: vec![0],
        tokenized,
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
        // Where files were put together, it begins a line.
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let mut add = |line: &[u8]| add(line, &text_path, domain_path.as_deref(), &mut leftover, &mut documents);
        let added = add(line).or_else(|refusal| match settled(line) {
            Some(other) => add(&other),
            None => Err(refusal),
        });
        match added {
            Ok(()) => documents.lines.push(number),
            Err(reason) => documents.bad.push((number, reason)),
        }
    }
    documents
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

type Found<T> = std::result::Result<T, String>;

/// Adds the document of a line, but for its number.
fn add(
    line: &[u8],
    text: &[&str],
    domain: Option<&[&str]>,
    leftover: &mut Vec<u8>,
    documents: &mut Documents,
) -> Found<()> {
    let raw: &RawValue = serde_json::from_slice(line).map_err(|error| reason(&error))?;
    if !raw.get().starts_with('{') {
        return Err("not a JSON object: every line must be one".to_string());
    }
    let name = || text.join(".");
    let (found, keys) = find(raw, text)?.ok_or_else(|| lacking(raw, text))?;
    let is_list = found.get().starts_with('[');
    if documents.tokenized.unwrap_or(is_list) != is_list && (is_list || found.get().starts_with('"')) {
        let (this, others) = if is_list { ("a list", "text") } else { ("text", "lists of token ids") };
        return Err(format!("the field {:?} is {this}, but {others} in the lines before", name()));
    }
    let label = match domain {
        None => Cow::Borrowed(""),
        Some(path) => match lookup(raw, path)? {
            None => return Err(lacking(raw, path).replacen("; ", " (domain); ", 1)),
            value => label(value, path)?,
        },
    };
    if is_list {
        let ids: Vec<u32> = serde_json::from_str(found.get())
            .map_err(|_| format!("the field {:?} is a list, but not of token ids: whole numbers from 0", name()))?;
        copy_rest(raw, &keys, leftover)?;
        documents.tokens.extend_from_slice(&ids);
        documents.token_offsets.push(documents.tokens.len() as i64);
    } else {
        let words = string(found).ok_or_else(|| format!("the field {:?} is not a valid string", name()))?;
        copy_rest(raw, &keys, leftover)?;
        documents.texts.push(words.as_bytes());
    }
    documents.tokenized = Some(is_list);
    documents.domains.push(label.as_bytes());
    documents.metadata.push(leftover);
    Ok(())
}

fn copy_rest(line: &RawValue, keys: &[String], leftover: &mut Vec<u8>) -> Found<()> {
    leftover.clear();
    copy_without(line, keys, leftover)
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
    let fields: Fields = serde_json::from_str(value.get()).map_err(|error| reason(&error))?;
    let (first, rest) = match path {
        [first, rest @ ..] => (Some(first.as_str()), rest),
        [] => (None, path),
    };
    out.push(b'{');
    let mut separate = false;
    for (place, (name, inner)) in fields.0.iter().enumerate() {
        let is_first = first == Some(name.as_ref());
        if (is_first && rest.is_empty()) || fields.0[place + 1..].iter().any(|(later, _)| later == name) {
            continue;
        }
        if separate {
            out.extend_from_slice(b", ");
        }
        separate = true;
        out.extend_from_slice(&serde_json::to_vec(name).expect("strings are JSON"));
        out.extend_from_slice(b": ");
        match is_first && inner.get().starts_with('{') {
            true => copy_without(inner, rest, out)?,
            false => copy(inner, out)?,
        }
    }
    out.push(b'}');
    Ok(())
}

/// Copies a value as it was written, or, where readers would disagree about it, what it means.
fn copy(value: &RawValue, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    if is_settled(value)? {
        out.extend_from_slice(value.get().as_bytes());
        return Ok(());
    }
    match value.get().as_bytes()[0] {
        b'{' => copy_without(value, &[], out)?,
        b'[' => {
            let parts: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|error| reason(&error))?;
            out.push(b'[');
            for (place, part) in parts.iter().enumerate() {
                if place > 0 {
                    out.extend_from_slice(b", ");
                }
                copy(part, out)?;
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}

/// Whether all readers understand a value alike: no object in it has a key twice, every number fits a float64.
fn is_settled(value: &RawValue) -> std::result::Result<bool, String> {
    let text = value.get();
    match text.as_bytes()[0] {
        b'{' => {
            let fields: Fields = serde_json::from_str(text).map_err(|error| reason(&error))?;
            for (place, (name, inner)) in fields.0.iter().enumerate() {
                if fields.0[..place].iter().any(|(before, _)| before == name) || !is_settled(inner)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        // Without these letters there is neither an object in a list nor a number that large.
        b'[' if text.contains(['{', 'e', 'E']) || text.len() > LONGEST_NUMBER => {
            let parts: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| reason(&error))?;
            parts.into_iter().try_fold(true, |settled, part| Ok(settled && is_settled(part)?))
        }
        b'-' | b'0'..=b'9' if text.contains(['e', 'E']) || text.len() > LONGEST_NUMBER => {
            Ok(text.parse::<f64>().is_ok_and(f64::is_finite))
        }
        _ => Ok(true),
    }
}

/// Characters of a number that fits a float64 without an exponent, at least.
const LONGEST_NUMBER: usize = 300;

/// A line with null for NaN, Infinity and -Infinity, which Python writes, and U+FFFD for half a surrogate pair in a key;
/// None where there is nothing of the kind.
fn settled(line: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(line.len() + 8);
    let (mut at, mut changed) = (0, false);
    while at < line.len() {
        let rest = &line[at..];
        if rest[0] == b'"' {
            let end = at + string_end(rest);
            let is_key = line[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
            match is_key.then(|| whole_surrogates(&line[at..end])).flatten() {
                Some(key) => {
                    out.extend_from_slice(&key);
                    changed = true;
                }
                None => out.extend_from_slice(&line[at..end]),
            }
            at = end;
        } else if let Some(word) = [&b"-Infinity"[..], b"Infinity", b"NaN"].into_iter().find(|w| rest.starts_with(w)) {
            out.extend_from_slice(b"null");
            at += word.len();
            changed = true;
        } else {
            out.push(rest[0]);
            at += 1;
        }
    }
    changed.then_some(out)
}

/// Bytes of the JSON string that `text` begins with, with both quotes; all of `text` where it does not end.
fn string_end(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// A JSON string with U+FFFD for each half of a surrogate pair; None where it has none.
fn whole_surrogates(text: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut changed) = (0, false);
    while at < text.len() {
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                out.extend_from_slice(b"\\ufffd");
                changed = true;
                at += 6;
                continue;
            }
            (Some(_), _) => 6,
            (None, _) if text[at] == b'\\' => 2.min(text.len() - at),
            (None, _) => 1,
        };
        out.extend_from_slice(&text[at..at + length]);
        at += length;
    }
    changed.then_some(out)
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
        let d = parse(lines.as_bytes(), "text", Some("meta.set"), 1, None);
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
        let d = parse(lines, "text", None, 10, None);
        assert_eq!(d.lines, vec![10]);
        let numbers: Vec<i64> = d.bad.iter().map(|(line, _)| *line).collect();
        assert_eq!(numbers, vec![11, 12, 13, 14, 15, 16, 17]);
        assert!(d.bad[0].1.contains("ends too early"), "{:?}", d.bad);
        assert!(d.bad[3].1.contains("no field \"text\""), "{:?}", d.bad);
    }

    #[test]
    fn a_key_with_dots_comes_before_the_path() {
        let line = br#"{"a.b": "flat", "a": {"b": "deep", "c": {"d.e": "x", "f": 2}}}"#;
        let d = parse(line, "a.b", Some("a.c.d.e"), 1, None);
        assert_eq!((row(&d.texts, 0), row(&d.domains, 0)), ("flat", "x"));
        assert_eq!(row(&d.metadata, 0), r#"{"a": {"b": "deep", "c": {"d.e": "x", "f": 2}}}"#);
        let d = parse(line, "a.c.d.e", None, 1, None);
        assert_eq!(row(&d.metadata, 0), r#"{"a.b": "flat", "a": {"b": "deep", "c": {"f": 2}}}"#);
        let d = parse(br#"{"a.b": {"x": 1}, "a": {"b": {"c": "t"}}}"#, "a.b.c", None, 1, None);
        assert_eq!(row(&d.texts, 0), "t");
        let d = parse(br#"{"a": 1, "b": {}}"#, "a.b", None, 1, None);
        assert_eq!(d.bad[0].1, r#"no field "a.b"; the line has a, b"#);
    }

    #[test]
    fn dotted_text_fields_leave_their_neighbours() {
        let d = parse(b"{\"a\": {\"b\": \"t\", \"c\": 1}, \"d\": 2}", "a.b", None, 1, None);
        assert_eq!(row(&d.texts, 0), "t");
        assert_eq!(row(&d.metadata, 0), "{\"a\": {\"c\": 1}, \"d\": 2}");
    }

    #[test]
    fn what_readers_disagree_about_is_settled() {
        let lines = "{\"text\": \"NaN\", \"a\": [NaN, -Infinity], \"b\": {\"k\": 1, \"\\u006b\": 2}, \"c\": 1e400, \"k\\ud800\": 1}";
        let d = parse(lines.as_bytes(), "text", None, 1, None);
        assert!(d.bad.is_empty(), "{:?}", d.bad);
        assert_eq!(row(&d.texts, 0), "NaN");
        let key = "k\u{fffd}";
        assert_eq!(
            row(&d.metadata, 0),
            format!("{{\"a\": [null, null], \"b\": {{\"k\": 2}}, \"c\": null, \"{key}\": 1}}")
        );
    }

    #[test]
    fn lists_are_token_ids() {
        let lines = b"{\"ids\": [3, 3, 7]}\n{\"ids\": []}\n{\"ids\": \"a\"}\n{\"ids\": [-1]}\n{\"ids\": [1.5]}\n{\"ids\": [4294967296]}\n";
        let d = parse(lines, "ids", None, 1, None);
        assert_eq!((d.tokens, d.token_offsets, d.tokenized), (vec![3, 3, 7], vec![0, 3, 3], Some(true)));
        assert_eq!(d.bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), vec![3, 4, 5, 6]);
    }
}
