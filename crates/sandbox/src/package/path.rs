//! Stored names to paths that stay inside the package.
//!
//! Invariant: what [`clean`] returns is relative, has no `.`, `..`, empty or overlong component, and no character that
//! another tool would read as a separator.

use super::refused;
use crate::Error;

/// Bytes of a whole path; leaves room for the store's own path below the kernel's 4096.
pub(super) const MAX_PATH: usize = 1024;

/// Bytes of one component on every Linux file system.
const MAX_COMPONENT: usize = 255;

/// The path that an entry's stored name means, its components joined by single slashes, without a trailing one.
///
/// Names are read as UTF-8 whether or not the archive's UTF-8 flag is set: tools that leave the flag out write UTF-8
/// all the same. `None` for the package's root itself (`./`).
pub(super) fn clean(raw: &[u8]) -> Result<Option<String>, Error> {
    let shown = String::from_utf8_lossy(raw);
    let Ok(name) = std::str::from_utf8(raw) else {
        return Err(refused(
            &shown,
            "has a name that is not UTF-8; rename the file and pack again",
        ));
    };
    if name.is_empty() {
        return Err(refused(name, "has an empty name; pack again"));
    }
    if name.starts_with('/') {
        return Err(refused(
            name,
            "has an absolute name; pack again from inside the directory, with relative names",
        ));
    }
    if name.contains('\\') {
        return Err(refused(
            name,
            "has a backslash in its name; pack again with '/' between directories",
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(refused(
            name,
            "has a control character in its name; rename the file and pack again",
        ));
    }
    let bytes = name.as_bytes();
    if bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' {
        return Err(refused(
            name,
            "begins with a drive letter; pack again with relative names",
        ));
    }
    let mut path = String::with_capacity(name.len());
    for component in name.split('/') {
        match component {
            "" | "." => continue,
            ".." => {
                return Err(refused(
                    name,
                    "climbs out of the package with '..'; pack again without '..' in names",
                ));
            }
            long if long.len() > MAX_COMPONENT => {
                let cut: String = long.chars().take(40).collect();
                return Err(refused(
                    &format!("{cut}…"),
                    format!(
                        "has a name part of {} bytes; at most {MAX_COMPONENT} are possible",
                        long.len()
                    ),
                ));
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(component);
    }
    Ok((!path.is_empty()).then_some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_stay_inside_are_normalised() {
        for (raw, want) in [
            ("main.py", Some("main.py")),
            ("./a//b/./c", Some("a/b/c")),
            ("dir/", Some("dir")),
            ("./", None),
            ("...", Some("...")),
            ("a..b/..c", Some("a..b/..c")),
            ("ünï/cødé", Some("ünï/cødé")),
        ] {
            assert_eq!(clean(raw.as_bytes()).unwrap().as_deref(), want, "{raw}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_with_the_reason() {
        let long = "x".repeat(256);
        for (raw, reason) in [
            ("../x", "climbs out"),
            ("a/../../x", "climbs out"),
            ("a/..", "climbs out"),
            ("/etc/passwd", "absolute"),
            ("//x", "absolute"),
            ("a\\..\\x", "backslash"),
            ("C:/x", "drive letter"),
            ("c:x", "drive letter"),
            ("a\0b", "control character"),
            ("a\nb", "control character"),
            ("", "empty name"),
            (long.as_str(), "256 bytes"),
        ] {
            let error = clean(raw.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{raw:?}: {error}");
        }
        assert!(clean(b"\xff\xfe").unwrap_err().to_string().contains("not UTF-8"));
    }

    proptest! {
        #[test]
        fn a_clean_path_never_leaves(raw in proptest::collection::vec(
            prop_oneof![Just(b'.'), Just(b'/'), Just(b'a'), Just(b'\\'), any::<u8>()], 0..40)) {
            if let Ok(Some(path)) = clean(&raw) {
                prop_assert!(path.split('/').all(|c| !matches!(c, "" | "." | "..") && c.len() <= MAX_COMPONENT));
                prop_assert_eq!(clean(path.as_bytes()).unwrap(), Some(path));
            }
        }
    }
}
