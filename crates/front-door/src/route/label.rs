//! Percent-decoding of path labels and of the query: once, strictly, and never with a panic.

use std::fmt;

/// Why a text cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadText {
    /// `%` without two hexadecimal digits behind it.
    Percent,
    /// The bytes are not UTF-8; overlong forms are not either.
    Utf8,
    /// A control character, such as `%00`.
    Control,
}

impl fmt::Display for BadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Percent => "has a '%' that is not followed by two hexadecimal digits; write a plain '%' as %25",
            Self::Utf8 => "is not UTF-8 once percent-decoded",
            Self::Control => "contains a control character",
        })
    }
}

/// Percent-decodes once. `+` stays `+`: AWS clients write a space as `%20`, and page tokens may contain `+`.
pub(crate) fn decode(raw: &str) -> Result<String, BadText> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some(percent) = rest.iter().position(|&byte| byte == b'%') {
        bytes.extend_from_slice(&rest[..percent]);
        let Some((&[high, low], after)) = rest[percent + 1..].split_first_chunk::<2>() else {
            return Err(BadText::Percent);
        };
        let (Some(high), Some(low)) = (hex(high), hex(low)) else {
            return Err(BadText::Percent);
        };
        bytes.push(high << 4 | low);
        rest = after;
    }
    bytes.extend_from_slice(rest);
    let text = String::from_utf8(bytes).map_err(|_| BadText::Utf8)?;
    // The control characters beyond ASCII all begin with this byte.
    let may_be_control = |byte: u8| byte.is_ascii_control() || byte == 0xc2;
    if text.bytes().any(may_be_control) && text.chars().any(char::is_control) {
        Err(BadText::Control)
    } else {
        Ok(text)
    }
}

/// Decodes a query into pairs; a key that cannot be decoded is reported by its raw text.
pub(crate) fn query(raw: Option<&str>) -> Result<Vec<(String, String)>, (String, BadText)> {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else {
        return Ok(Vec::new());
    };
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(key).map_err(|bad| (key.to_owned(), bad))?;
            let value = decode(value).map_err(|bad| (name.clone(), bad))?;
            Ok((name, value))
        })
        .collect()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, BadText>) {
        assert_eq!(decode(raw).as_deref(), expected.as_ref().copied(), "{raw}");
    }

    #[test]
    fn decodes_once_and_strictly() {
        check("", Ok(""));
        check("plain-._~:", Ok("plain-._~:"));
        check("a%2Fb%2fc", Ok("a/b/c"));
        check("a%252Fb", Ok("a%2Fb"));
        check("%C3%A9", Ok("é"));
        check("a+b", Ok("a+b"));
        check("%", Err(BadText::Percent));
        check("%4", Err(BadText::Percent));
        check("%zz", Err(BadText::Percent));
        check("%+1", Err(BadText::Percent));
        check("%00", Err(BadText::Control));
        check("a%0D%0Ab", Err(BadText::Control));
        check("%FF", Err(BadText::Utf8));
        check("%C0%AF", Err(BadText::Utf8));
        check("%ED%A0%80", Err(BadText::Utf8));
    }

    #[test]
    fn a_query_keeps_order_duplicates_and_empty_values() {
        let pairs = query(Some("a=1&b&a=%32&&c=x=y")).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("a", "2"), ("c", "x=y")]);
        assert_eq!(query(None), Ok(vec![]));
        assert_eq!(
            query(Some("qualifier=%zz")),
            Err(("qualifier".to_owned(), BadText::Percent))
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in "[^\\p{Cc}]{0,60}") {
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(decode(&encoded), Ok(text));
        }

        #[test]
        fn never_panics(raw in ".{0,80}") {
            let _ = decode(&raw);
            let _ = query(Some(&raw));
        }
    }
}
