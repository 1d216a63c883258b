//! The manifest that every plugin carries: name, version and description of its crate as JSON, made while it compiles.
//! What a plugin asks for (memory, time, imports) the `sluice-plugin` tool adds.

/// The keys, in the order of the values.
const KEYS: [&str; 3] = ["name", "version", "description"];

/// Length of the manifest of name, version and description.
#[must_use]
pub const fn length(values: [&str; 3]) -> usize {
    write::<0>(values).1
}

/// The manifest of name, version and description; `N` is its [`length`].
#[must_use]
pub const fn json<const N: usize>(values: [&str; 3]) -> [u8; N] {
    write(values).0
}

/// The first `N` bytes, and how many there would be.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated while compiling: an index out of range is an error there"
)]
const fn write<const N: usize>(values: [&str; 3]) -> ([u8; N], usize) {
    let (mut out, mut at, mut index) = ([0; N], 0, 0);
    while index < KEYS.len() {
        at = put(&mut out, at, if index == 0 { b"{\"" } else { b",\"" });
        at = put(&mut out, at, KEYS[index].as_bytes());
        at = put(&mut out, at, b"\":\"");
        at = escape(&mut out, at, values[index].as_bytes());
        at = put(&mut out, at, b"\"");
        index += 1;
    }
    at = put(&mut out, at, b"}");
    (out, at)
}

#[expect(clippy::indexing_slicing, reason = "as above")]
const fn put<const N: usize>(out: &mut [u8; N], mut at: usize, bytes: &[u8]) -> usize {
    let mut index = 0;
    while index < bytes.len() {
        if at < N {
            out[at] = bytes[index];
        }
        (at, index) = (at + 1, index + 1);
    }
    at
}

/// As in a JSON string: quotes and backslashes escaped, control characters become spaces.
#[expect(clippy::indexing_slicing, reason = "as above")]
const fn escape<const N: usize>(out: &mut [u8; N], mut at: usize, bytes: &[u8]) -> usize {
    let mut index = 0;
    while index < bytes.len() {
        let byte = bytes[index];
        if byte == b'"' || byte == b'\\' {
            at = put(out, at, b"\\");
        }
        at = put(out, at, &[if byte < b' ' { b' ' } else { byte }]);
        index += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_description_becomes_json() {
        const VALUES: [&str; 3] = ["a-b", "1.2.3", "says \"hi\" \\ to\nthe ü"];
        const JSON: [u8; length(VALUES)] = json(VALUES);
        let expected = r#"{"name":"a-b","version":"1.2.3","description":"says \"hi\" \\ to the ü"}"#;
        assert_eq!(std::str::from_utf8(&JSON), Ok(expected));
    }
}
