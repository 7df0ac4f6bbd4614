//! Where a blob's key lives in the file system.
//!
//! Each segment of a key becomes a folder and the last one a file, with three twists:
//! - a folder's name ends with `+`, so the key `a` is no obstacle to the key `a/b`;
//! - a segment of 80 bytes or more is cut: each 80 bytes become a folder that ends with `~`, so no name is longer
//!   than a file system allows;
//! - all but `a-z 0-9 _ - .` is written as `%XX`, upper case too, so that a file system which ignores case does not
//!   mix two keys up; a leading `.` too, so that no name is special. A file for an empty rest is called `%`.
//!
//! Invariant: two keys never share a file, and reading a folder's entries in the order of [`Name::sort_key`] gives
//! the keys in the order of their bytes. That holds because a cut always comes after exactly 80 bytes: files and
//! `+` folders hold shorter names, so no `~` folder's keys surround another entry's.

use crate::{Error, Result};
use std::fmt::Write as _;

const LONGEST_KEY: usize = 1024;
const CUT: usize = 80;
const EMPTY: &str = "%";

/// One step on the way to a blob, as bytes of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// The file itself: the rest of the last segment.
    File(Vec<u8>),
    /// A folder: the rest of a segment, and the slash after it.
    Segment(Vec<u8>),
    /// A folder: 80 bytes of a segment that may go on.
    Cut(Vec<u8>),
}

impl Name {
    /// Folders and file of a key that has passed [`check`].
    pub(super) fn path_of(key: &str) -> Vec<Self> {
        let mut names = Vec::new();
        let mut segments = key.split('/').map(str::as_bytes).peekable();
        while let Some(mut segment) = segments.next() {
            while let Some((cut, rest)) = segment.split_first_chunk::<CUT>() {
                names.push(Self::Cut(cut.to_vec()));
                segment = rest;
            }
            names.push(if segments.peek().is_some() {
                Self::Segment(segment.to_vec())
            } else {
                Self::File(segment.to_vec())
            });
        }
        names
    }

    /// What the file system calls it.
    pub(super) fn encode(&self) -> String {
        match self {
            Self::File(rest) if rest.is_empty() => EMPTY.to_owned(),
            Self::File(rest) => escape(rest),
            Self::Segment(rest) => escape(rest) + "+",
            Self::Cut(cut) => escape(cut) + "~",
        }
    }

    /// The opposite of [`Name::encode`]; nothing for a name that no key has, such as `lost+found`.
    pub(super) fn decode(name: &str) -> Option<Self> {
        let decoded = if name == EMPTY {
            Self::File(Vec::new())
        } else if let Some(name) = name.strip_suffix('+') {
            Self::Segment(unescape(name)?)
        } else if let Some(name) = name.strip_suffix('~') {
            Self::Cut(unescape(name)?)
        } else {
            Self::File(unescape(name)?)
        };
        (decoded.encode() == name).then_some(decoded)
    }

    /// The bytes that it adds to the key.
    pub(super) fn sort_key(&self) -> Vec<u8> {
        match self {
            Self::File(bytes) | Self::Cut(bytes) => bytes.clone(),
            Self::Segment(bytes) => [bytes, b"/".as_slice()].concat(),
        }
    }
}

/// Refuses what cannot be a key; see [`crate::Blobs`].
pub(super) fn check(key: &str) -> Result<()> {
    let problem = if key.is_empty() {
        "it is empty"
    } else if key.len() > LONGEST_KEY {
        "it is longer than 1024 bytes"
    } else if key.contains('\0') {
        "it has a NUL character"
    } else if key.starts_with('/') {
        "it starts with a slash"
    } else if key.split('/').any(str::is_empty) {
        "it has an empty segment"
    } else if key.split('/').any(|segment| segment == "." || segment == "..") {
        "it has a segment '.' or '..'"
    } else {
        return Ok(());
    };
    Err(Error::BadKey(key.to_owned(), problem))
}

fn escape(bytes: &[u8]) -> String {
    let mut name = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'.' if at == 0 => name.push_str("%2E"),
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' => name.push(char::from(*byte)),
            _ => write!(name, "%{byte:02X}").expect("a string takes all"),
        }
    }
    name
}

fn unescape(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let (digits, tail) = tail.split_first_chunk::<2>()?;
            bytes.push(hex::decode(digits).ok()?.pop()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_of_keys() {
        let check = |key: &str, expected: &str| {
            check(key).unwrap();
            let path: Vec<String> = Name::path_of(key).iter().map(Name::encode).collect();
            assert_eq!(path.join("/"), expected);
        };
        check("code.zip", "code.zip");
        check("agents/demo/code.zip", "agents+/demo+/code.zip");
        check("a/b", "a+/b");
        check("A/.b/c d", "%41+/%2Eb+/c%20d");
        check("...", "%2E..");
        check("é", "%C3%A9");
        let long = "x".repeat(80);
        check(&long, &format!("{long}~/%"));
        check(&format!("{long}/{long}y"), &format!("{long}~/+/{long}~/y"));
        check(&format!("{long}.."), &format!("{long}~/%2E."));
    }

    #[test]
    fn keys_that_are_none() {
        let check = |key: &str, said: &str| {
            let error = check(key).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        };
        check("", "empty");
        check("/a", "starts with a slash");
        check("a/", "empty segment");
        check("a//b", "empty segment");
        check(".", "'.' or '..'");
        check("a/../b", "'.' or '..'");
        check("a\0b", "NUL");
        check(&"x".repeat(1025), "1024");
    }

    #[test]
    fn names_of_no_key_are_ignored() {
        for name in ["lost+found", "A", ".hidden", "a%2", "a%2e", "a%zz", "a%61", "", "a b"] {
            assert_eq!(Name::decode(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_longest_key_fits_any_file_system() {
        let mut path = 0;
        for name in Name::path_of(&"É".repeat(512)).iter().map(Name::encode) {
            assert!(name.len() <= 255);
            path += name.len() + 1;
        }
        assert!(path < 3200, "{path}");
    }

    /// Few characters and lengths about the cut, so that keys often share beginnings.
    fn key() -> impl Strategy<Value = String> {
        let segment = prop_oneof!["[aB.é!-]{1,3}", "a{79,82}", "a{79,80}[!0/][a.]", "a{159,161}"];
        proptest::collection::vec(segment, 1..4)
            .prop_map(|segments| segments.join("/"))
            .prop_filter("is a key", |key| check(key).is_ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn names_sort_as_keys_do_and_come_back(one in key(), two in key()) {
            let order = |key: &str| Name::path_of(key).iter().map(Name::sort_key).collect::<Vec<_>>();
            prop_assert_eq!(order(&one).concat(), one.as_bytes());
            // Sorting entries folder by folder is comparing the paths name by name.
            prop_assert_eq!(order(&one).cmp(&order(&two)), one.as_bytes().cmp(two.as_bytes()), "{} {}", one, two);
            for name in Name::path_of(&one) {
                prop_assert_eq!(Name::decode(&name.encode()), Some(name));
            }
            let path = |key: &str| Name::path_of(key).iter().map(Name::encode).collect::<Vec<_>>();
            prop_assert_eq!(path(&one) == path(&two), one == two);
        }
    }
}
