//! Headers found by walking over them.
//!
//! A look-up by text first checks, folds and hashes the text, which costs more than comparing it with the dozen names
//! that a request has. Where there are many it is still a look-up: a hostile head must not cost the square of its size.

use http::header::{HeaderMap, HeaderValue};

/// Up to this many values are walked over.
const FEW: usize = 32;

/// All values of a header, in the order in which they came; `name` is lower case.
pub(crate) fn all<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h HeaderValue> {
    let mut walk = headers.iter();
    let mut found = (headers.len() > FEW).then(|| headers.get_all(name).iter());
    std::iter::from_fn(move || match &mut found {
        Some(values) => values.next(),
        None => walk.find(|(key, _)| key.as_str() == name).map(|(_, value)| value),
    })
}

/// Whether a header is there; `name` is lower case.
pub(crate) fn contains(headers: &HeaderMap, name: &str) -> bool {
    if headers.len() > FEW {
        return headers.contains_key(name);
    }
    headers.keys().any(|key| key.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn finds_what_a_look_up_finds() {
        let mut map = HeaderMap::new();
        for (name, value) in [("x-b", "1"), ("accept", "2"), ("x-a", "3"), ("x-b", "4"), ("x-b", "5")] {
            map.append(name, HeaderValue::from_static(value));
        }
        for filler in 0..=FEW {
            for name in ["x-a", "x-b", "accept", "x", "host", ""] {
                assert!(all(&map, name).eq(map.get_all(name)), "{name}");
                assert_eq!(contains(&map, name), map.contains_key(name), "{name}");
            }
            let name = HeaderName::try_from(format!("filler-{filler}")).unwrap();
            map.insert(name, HeaderValue::from_static("f"));
        }
    }
}
