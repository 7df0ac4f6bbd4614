//! What an agent said, as the value of a header.
//!
//! Visible ASCII and spaces stay as they are; every other byte of its UTF-8, and `%`, is percent-encoded, so that
//! `urllib.parse.unquote` and its like give back what was said. Of what is too long the middle is left out: the cause is
//! at the end of a traceback and at the beginning of an answer.

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Clients and proxies take headers of some kilobytes at most.
const MOST: usize = 2048;
/// Stands for what was left out.
const GAP: &str = " ... ";
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The value, or nothing if nothing was said.
pub(super) fn header(said: &str) -> Option<HeaderValue> {
    let said = said.trim();
    let whole = encode(said);
    let value = if whole.len() <= MOST {
        whole
    } else {
        let half = (MOST - GAP.len()) / 2;
        let head = cut(said.chars(), half);
        let tail: String = cut(said.chars().rev(), half).chars().rev().collect();
        format!("{}{GAP}{}", encode(head.trim_end()), encode(tail.trim_start()))
    };
    HeaderValue::try_from(value).ok().filter(|value| !value.is_empty())
}

/// As many characters as have at most so many bytes once they are encoded.
fn cut(characters: impl Iterator<Item = char>, most: usize) -> String {
    let mut left = most;
    let fits = |character: &char| {
        let size = encode(character.encode_utf8(&mut [0; 4])).len();
        left.checked_sub(size).map(|rest| left = rest).is_some()
    };
    characters.take_while(fits).collect()
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::percent_decode_str;

    fn check(said: &str, expected: &str) {
        let value = header(said).unwrap();
        assert_eq!(value.to_str().unwrap(), expected);
        assert_eq!(percent_decode_str(expected).decode_utf8().unwrap(), said.trim());
    }

    #[test]
    fn what_was_said_can_be_read_and_read_back() {
        check("KeyError: 'prompt'", "KeyError: 'prompt'");
        check(" 100 %\r\nx: y\t", "100 %25%0D%0Ax: y");
        check("Gr\u{fc}\u{df}e \u{1f600}", "Gr%C3%BC%C3%9Fe %F0%9F%98%80");
        assert_eq!(header(" \n"), None);
    }

    #[test]
    fn of_what_is_too_long_the_ends_stay() {
        for filling in ["x", "\u{e4}", "\u{1f600}", "\n", "a b\u{e4}"] {
            let said = format!("first {} last", filling.repeat(3000));
            let value = header(&said).unwrap();
            let value = value.to_str().unwrap();
            assert!(value.len() <= MOST && value.len() > MOST - 40, "{}", value.len());
            assert!(value.starts_with("first ") && value.ends_with(" last") && value.contains(GAP));
            assert!(percent_decode_str(value).decode_utf8().is_ok(), "no character is split");
        }
    }
}
