//! Opaque tokens that continue a list.
//!
//! A token names the last key that was given out; the next page starts behind it. So a list never shows an item twice
//! and never misses one that existed all along, whatever is written meanwhile.
//!
//! The check in the token guards against tokens that were cut, edited or made for another list. It is no secret: a
//! token gives access to nothing that its caller could not list anyway.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::Error;

/// How many items a page has when the caller does not say.
pub(crate) const DEFAULT_SIZE: usize = 100;

/// First byte of a token. Counted up when the layout changes.
const LAYOUT: u8 = 1;
const CHECK_LEN: usize = 8;

/// The token that continues the list `kind` below `prefix` behind `last`.
pub(crate) fn token(kind: &str, prefix: &str, last: &str) -> String {
    let mut bytes = vec![LAYOUT];
    bytes.extend_from_slice(&check(kind, prefix, last));
    bytes.extend_from_slice(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key behind which the list goes on.
pub(crate) fn after(kind: &str, prefix: &str, token: &str) -> Result<String, Error> {
    read(kind, prefix, token).ok_or_else(|| {
        let message = "is not a token of this list: pass the nextToken of the same operation on the same resource, \
                       unchanged, or leave it out to start again";
        Error::invalid_field("nextToken", message)
    })
}

fn read(kind: &str, prefix: &str, token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (&layout, rest) = bytes.split_first()?;
    let (found, last) = rest.split_at_checked(CHECK_LEN)?;
    let last = std::str::from_utf8(last).ok()?;
    (layout == LAYOUT && found == check(kind, prefix, last)).then(|| last.to_owned())
}

fn check(kind: &str, prefix: &str, last: &str) -> [u8; CHECK_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [kind, prefix, last] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut out = [0; CHECK_LEN];
    out.copy_from_slice(&context.finish().as_ref()[..CHECK_LEN]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_of_another_list_is_refused() {
        let made = token("runtime-version", "a-0123456789/", "a-0123456789/00007");
        assert_eq!(
            after("runtime-version", "a-0123456789/", &made).unwrap(),
            "a-0123456789/00007"
        );
        for (kind, prefix) in [
            ("runtime-version", "b-0123456789/"),
            ("runtime-endpoint", "a-0123456789/"),
        ] {
            let error = after(kind, prefix, &made).unwrap_err();
            assert!(matches!(error.kind, domain::Kind::Invalid { .. }), "{error:?}");
            assert!(error.message.contains("nextToken"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_edit_is_noticed(last in "[a-z0-9/]{0,60}", at in any::<prop::sample::Index>(), other in "[A-Za-z0-9_-]") {
            let made = token("runtime", "", &last);
            let mut edited: Vec<char> = made.chars().collect();
            let at = at.index(edited.len());
            edited[at] = other.chars().next().unwrap();
            let edited: String = edited.into_iter().collect();
            prop_assert_eq!(after("runtime", "", &made).unwrap(), last);
            if edited != made {
                prop_assert!(after("runtime", "", &edited).is_err());
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = after("runtime", "", &text);
        }
    }
}
