//! The outermost sections of a component file: found, removed and appended, without a look inside.
//!
//! ```text
//! "\0asm" version(2) layer(2) ( id(1) size(LEB128) size×byte )*
//! custom section: id 0, and within: length of the name (LEB128), name, content
//! ```

use std::ops::Range;

/// Length of the file's head.
const HEAD: usize = 8;
const CUSTOM: u8 = 0;

/// An outermost section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// All of it, with its id and size.
    pub(crate) whole: Range<usize>,
    /// Name and content, if it is a custom one.
    pub(crate) custom: Option<(String, Range<usize>)>,
}

/// The outermost sections in order; `None` if the file is damaged.
pub(crate) fn outermost(bytes: &[u8]) -> Option<Vec<Section>> {
    let mut sections = Vec::new();
    let mut at = HEAD.min(bytes.len());
    while let Some(&id) = bytes.get(at) {
        let (size, content) = leb(bytes, at + 1)?;
        let end = content.checked_add(size)?;
        let body = bytes.get(content..end)?;
        let custom = if id == CUSTOM {
            let (length, name) = leb(body, 0)?;
            let name_end = name.checked_add(length)?;
            let text = std::str::from_utf8(body.get(name..name_end)?).ok()?;
            Some((text.to_owned(), content + name_end..end))
        } else {
            None
        };
        sections.push(Section { whole: at..end, custom });
        at = end;
    }
    Some(sections)
}

/// The file without the outermost custom sections of that name; `None` if it is damaged.
pub(crate) fn without(bytes: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut kept = bytes.get(..HEAD)?.to_vec();
    for section in outermost(bytes)? {
        if section.custom.is_none_or(|(of, _)| of != name) {
            kept.extend_from_slice(bytes.get(section.whole)?);
        }
    }
    Some(kept)
}

/// Appends a custom section.
pub(crate) fn append(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut body = Vec::with_capacity(name.len() + content.len() + 5);
    put_leb(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    bytes.push(CUSTOM);
    put_leb(bytes, body.len());
    bytes.extend_from_slice(&body);
}

/// A number of at most 32 bits, and what comes after it.
fn leb(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().map(|value| (value as usize, at));
        }
    }
    None
}

fn put_leb(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn what_is_appended_is_found_and_removed() {
        let mut bytes = EMPTY.to_vec();
        append(&mut bytes, "a", &[1; 300]);
        append(&mut bytes, "b", b"two");
        append(&mut bytes, "a", b"");
        let sections = outermost(&bytes).unwrap();
        let (name, content) = sections[1].custom.clone().unwrap();
        assert_eq!((name.as_str(), &bytes[content]), ("b", &b"two"[..]));
        assert_eq!(sections.len(), 3);
        let mut only_b = EMPTY.to_vec();
        append(&mut only_b, "b", b"two");
        assert_eq!(without(&bytes, "a"), Some(only_b));
    }

    #[test]
    fn a_cut_file_is_damaged_and_never_a_panic() {
        let mut bytes = EMPTY.to_vec();
        append(&mut bytes, "name", &[1; 300]);
        for length in HEAD + 1..bytes.len() {
            assert_eq!(outermost(&bytes[..length]), None, "{length}");
        }
        assert_eq!(outermost(b""), Some(Vec::new()));
        assert_eq!(
            outermost(&[EMPTY, &[0, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat()),
            None,
            "more than 32 bits"
        );
    }
}
