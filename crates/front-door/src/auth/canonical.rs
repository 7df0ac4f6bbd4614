//! The canonical request: the one text that client and server must both make of a request.
//!
//! The rules are those of every service but S3: the raw path is percent-encoded once more and its dot segments and
//! empty segments are removed; the query is sorted by encoded name, then value; values of one header are joined with
//! `,`, trimmed, and runs of spaces become one.
//!
//! Clients disagree in corners, so a signature is compared with each [`Form`] that a real client makes of the same
//! bytes. All of them cover the same path, query, headers and payload; they differ in how these are written down:
//! - path: without dot and empty segments (SDKs), as sent (curl, and signers with normalisation off), or
//!   without them and without the slash that RFC 3986 leaves for a final `/.` (botocore);
//! - query: decoded as a form and encoded again (SDK for Rust, Go), decoded with `+` as itself (curl), or only sorted
//!   (botocore, when it is given a whole URL);
//! - host: as sent, or without its port (botocore's presigner and `AgentCoreRuntimeClient`); where a client sends
//!   several `Host` headers (websockets with the SDK's header dictionary), each of them;
//! - header values: tabs kept (SDK for Rust) or folded like spaces (botocore).
//!
//! A request of an SDK matches the usual form at once; others are made only when it does not, at most [`MAX_FORMS`].
//!
//! One reading is left out on purpose: the SDK for Rust replaces escapes that are not UTF-8 before it signs, so its
//! signature would hold for other bytes too.
//!
//! Invariant: works on the raw request, before any router or framework has decoded a byte of it.

use std::borrow::Cow;

use http::header::{HOST, HeaderMap};
use http::request::Parts;
use percent_encoding::percent_decode;

use super::authorization::SignedHeaders;
use super::presigned::SIGNATURE;
use crate::headers;

/// The unreserved characters of RFC 3986.
const IS_UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// Most ways in which one request is read. Bounds what a wrong signature costs.
pub(super) const MAX_FORMS: usize = 24;

/// One way to write a request down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form<'a> {
    /// Not yet encoded.
    path: Cow<'a, str>,
    query: Query,
    host: Cow<'a, [u8]>,
    blanks: Blanks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    /// Percent-decoded with `+` as a space, empty pairs dropped, encoded again.
    Form,
    /// Percent-decoded with `+` as itself, encoded again.
    Plus,
    /// Sorted only.
    AsSent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blanks {
    Spaces,
    SpacesAndTabs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FinalDot {
    LeavesSlash,
    LeavesNothing,
}

impl<'a> Form<'a> {
    /// What SDKs make of a request.
    pub(super) fn usual(parts: &'a Parts) -> Self {
        Self {
            path: normalised(parts.uri.path(), FinalDot::LeavesSlash),
            query: Query::Form,
            host: Cow::Borrowed(hosts(parts).last().unwrap_or_default()),
            blanks: Blanks::Spaces,
        }
    }

    /// The other forms, likely ones first; empty for most requests without a port in `Host`.
    pub(super) fn others(parts: &'a Parts, signed: SignedHeaders<'_>) -> impl Iterator<Item = Self> {
        let usual = Self::usual(parts);
        let mut paths = vec![usual.path.clone()];
        add(&mut paths, Cow::Borrowed(parts.uri.path()));
        add(&mut paths, normalised(parts.uri.path(), FinalDot::LeavesNothing));

        let queries: &[Query] = match parts.uri.query() {
            Some(query) if !is_plain(query) => &[Query::Form, Query::AsSent, Query::Plus],
            _ => &[Query::Form],
        };

        let mut values = vec![usual.host.clone()];
        for host in hosts(parts) {
            add(&mut values, Cow::Borrowed(host));
        }
        for host in hosts(parts) {
            add(&mut values, Cow::Borrowed(without_port(host)));
        }
        let sent: Vec<&[u8]> = parts
            .headers
            .get_all(HOST)
            .iter()
            .map(|value| value.as_bytes())
            .collect();
        if sent.len() > 1 {
            add(&mut values, Cow::Owned(sent.join(&b',')));
        }

        let has_tab = |name| {
            parts
                .headers
                .get_all(name)
                .iter()
                .any(|value| value.as_bytes().contains(&b'\t'))
        };
        let blanks: &[Blanks] = if signed.names().any(has_tab) {
            &[Blanks::Spaces, Blanks::SpacesAndTabs]
        } else {
            &[Blanks::Spaces]
        };

        let mut forms = Vec::new();
        for &blanks in blanks {
            for path in &paths {
                for &query in queries {
                    for host in &values {
                        forms.push(Self {
                            path: path.clone(),
                            query,
                            host: host.clone(),
                            blanks,
                        });
                    }
                }
            }
        }
        forms.into_iter().skip(1).take(MAX_FORMS - 1)
    }

    /// Writes the canonical request. `payload` is the hash of the body in hexadecimal.
    pub(super) fn write(&self, parts: &Parts, signed: SignedHeaders<'_>, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(parts.method.as_str().as_bytes());
        out.push(b'\n');
        push_encoded(out, self.path.as_bytes(), true);
        out.push(b'\n');
        push_query(out, parts.uri.query().unwrap_or(""), self.query);
        out.push(b'\n');
        for name in signed.names() {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            if name == "host" {
                push_folded(out, &self.host, self.blanks);
            } else {
                push_values(out, &parts.headers, name, self.blanks);
            }
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(signed.as_str().as_bytes());
        out.push(b'\n');
        out.extend_from_slice(payload);
    }
}

/// What may stand for `host`: the headers, and the authority that HTTP/2 (or an absolute target) has in their place.
pub(super) fn hosts(parts: &Parts) -> impl DoubleEndedIterator<Item = &[u8]> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let headers = parts.headers.get_all(HOST).iter().map(|value| value.as_bytes());
    // The authority first, so that the last one is a header where there is one.
    authority.into_iter().chain(headers)
}

fn add<'a, T: ?Sized + ToOwned>(choices: &mut Vec<Cow<'a, T>>, choice: Cow<'a, T>)
where
    Cow<'a, T>: PartialEq,
{
    if !choices.contains(&choice) {
        choices.push(choice);
    }
}

/// `name:8780` and `[::1]:8780` without the port.
fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&byte| byte == b':') {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) => &host[..colon],
        _ => host,
    }
}

/// The path without `.`, `..` and empty segments.
fn normalised(path: &str, final_dot: FinalDot) -> Cow<'_, str> {
    if path.is_empty() {
        return Cow::Borrowed("/");
    }
    if !path.contains("//") && !path.contains("/.") {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let is_folder =
        path.ends_with('/') || final_dot == FinalDot::LeavesSlash && (path.ends_with("/.") || path.ends_with("/.."));
    let end = if is_folder && !kept.is_empty() { "/" } else { "" };
    Cow::Owned(format!("/{}{end}", kept.join("/")))
}

/// Whether every [`Query`] writes the same: only unreserved characters and upper-case escapes of others, and
/// each pair has one `=`.
fn is_plain(query: &str) -> bool {
    let bytes = query.as_bytes();
    let escape_at = |at: usize| {
        let digits = bytes.get(at + 1..at + 3)?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        (!digits.iter().any(u8::is_ascii_lowercase) && !is_unreserved(byte[0])).then_some(())
    };
    let clean = |(at, &byte): (usize, &u8)| match byte {
        b'=' | b'&' => true,
        b'%' => escape_at(at).is_some(),
        _ => is_unreserved(byte),
    };
    let one_equals = |pair: &str| pair.bytes().filter(|&byte| byte == b'=').count() == 1;
    bytes.iter().enumerate().all(clean) && query.split('&').all(one_equals)
}

fn push_query(out: &mut Vec<u8>, query: &str, how: Query) {
    if query.is_empty() {
        return;
    }
    let plain = how == Query::AsSent || is_plain(query);
    if plain && !query.contains('&') {
        out.extend_from_slice(query.as_bytes());
        if !query.contains('=') {
            out.push(b'=');
        }
        return;
    }
    let split = |pair: &'_ str| -> (Vec<u8>, Vec<u8>) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if plain {
            return (name.into(), value.into());
        }
        let recode = |text: &str| {
            let spaces = if how == Query::Form {
                Cow::Owned(text.replace('+', " "))
            } else {
                Cow::Borrowed(text)
            };
            let mut encoded = Vec::with_capacity(text.len() * 3);
            push_encoded(&mut encoded, &Cow::from(percent_decode(spaces.as_bytes())), false);
            encoded
        };
        (recode(name), recode(value))
    };
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| how == Query::AsSent || !pair.is_empty())
        .filter(|pair| !is_signature(pair))
        .map(split)
        .collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// The one parameter of a presigned query that its own signature cannot cover. In a request that is signed by a header
/// it cannot be, see `Shown`.
fn is_signature(pair: &str) -> bool {
    pair.strip_prefix(SIGNATURE).is_some_and(|rest| rest.starts_with('='))
}

fn push_values(out: &mut Vec<u8>, headers: &HeaderMap, name: &str, blanks: Blanks) {
    for (at, value) in headers::all(headers, name).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_folded(out, value.as_bytes(), blanks);
    }
}

/// Trimmed, runs of blanks as one space.
fn push_folded(out: &mut Vec<u8>, value: &[u8], blanks: Blanks) {
    if memchr::memchr2(b' ', b'\t', value).is_none() {
        out.extend_from_slice(value);
        return;
    }
    let is_blank = |byte: &u8| *byte == b' ' || (*byte == b'\t' && blanks == Blanks::SpacesAndTabs);
    let words = value.split(is_blank).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// Percent-encodes every byte that is not unreserved (RFC 3986), with or without `/`.
fn push_encoded(out: &mut Vec<u8>, mut bytes: &[u8], keep_slash: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let keeps = |byte: u8| is_unreserved(byte) || (keep_slash && byte == b'/');
    loop {
        let clean = bytes.iter().position(|&byte| !keeps(byte)).unwrap_or(bytes.len());
        out.extend_from_slice(&bytes[..clean]);
        let Some(&byte) = bytes.get(clean) else { return };
        out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        bytes = &bytes[clean + 1..];
    }
}

fn is_unreserved(byte: u8) -> bool {
    IS_UNRESERVED[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, final_dot: FinalDot) -> String {
        let mut out = Vec::new();
        push_encoded(&mut out, normalised(path, final_dot).as_bytes(), true);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn paths_are_encoded_once_more_and_lose_their_dots() {
        let check = |sent: &str, sdk: &str, botocore: &str| {
            assert_eq!(path(sent, FinalDot::LeavesSlash), sdk, "{sent}");
            assert_eq!(path(sent, FinalDot::LeavesNothing), botocore, "{sent}");
        };
        check("", "/", "/");
        check("/", "/", "/");
        check("/a%3Ab", "/a%253Ab", "/a%253Ab");
        check("/example space/", "/example%20space/", "/example%20space/");
        check(
            "/a:b@c!$&'()*+,;=",
            "/a%3Ab%40c%21%24%26%27%28%29%2A%2B%2C%3B%3D",
            "/a%3Ab%40c%21%24%26%27%28%29%2A%2B%2C%3B%3D",
        );
        check("/ሴ", "/%E1%88%B4", "/%E1%88%B4");
        check("//a//b//", "/a/b/", "/a/b/");
        check("/a/./b", "/a/b", "/a/b");
        check("/a/../../b", "/b", "/b");
        check("/a/b/.", "/a/b/", "/a/b");
        check("/a/b/..", "/a/", "/a");
        check("/a/..", "/", "/");
        check("/.hidden/..also", "/.hidden/..also", "/.hidden/..also");
        check("/..", "/", "/");
    }

    #[test]
    fn queries_are_sorted_and_encoded_alike_whatever_the_client_sent() {
        let check = |sent: &str, form: &str, plus: &str, as_sent: &str| {
            for (how, expected) in [(Query::Form, form), (Query::Plus, plus), (Query::AsSent, as_sent)] {
                let mut out = Vec::new();
                push_query(&mut out, sent, how);
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{sent} as {how:?}");
            }
            if is_plain(sent) {
                assert!(form == plus && plus == as_sent, "{sent}");
            }
        };
        let same = |sent: &str, expected: &str| check(sent, expected, expected, expected);
        same("", "");
        same("qualifier=DEFAULT", "qualifier=DEFAULT");
        same("a", "a=");
        same("b=2&a=1", "a=1&b=2");
        same("a=2&a=1&a", "a=&a=1&a=2");
        same("a-b=1&a=2", "a=2&a-b=1");
        same("a%3A=1&a=2", "a=2&a%3A=1");
        check("a=%3a", "a=%3A", "a=%3A", "a=%3a");
        check("a=%41", "a=A", "a=A", "a=%41");
        check("a=b+c", "a=b%20c", "a=b%2Bc", "a=b+c");
        check("a=b=c", "a=b%3Dc", "a=b%3Dc", "a=b=c");
        check("a=%zz%4", "a=%25zz%254", "a=%25zz%254", "a=%zz%4");
        check("a=1&&b=2", "a=1&b=2", "a=1&b=2", "=&a=1&b=2");
        check("a=/:", "a=%2F%3A", "a=%2F%3A", "a=/:");
    }

    #[test]
    fn ports_are_cut_from_names_and_addresses() {
        let check = |host: &str, cut: &str| assert_eq!(without_port(host.as_bytes()), cut.as_bytes());
        check("localhost:8780", "localhost");
        check("localhost", "localhost");
        check("[::1]:8780", "[::1]");
        check("[::1]", "[::1]");
        check("", "");
    }

    #[test]
    fn values_are_trimmed_and_folded() {
        let check = |value: &str, spaces: &str, tabs: &str| {
            for (blanks, expected) in [(Blanks::Spaces, spaces), (Blanks::SpacesAndTabs, tabs)] {
                let mut out = Vec::new();
                push_folded(&mut out, value.as_bytes(), blanks);
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        };
        check("", "", "");
        check("  a   b ", "a b", "a b");
        check("a\t \tb", "a\t \tb", "a b");
        check("\"a   b\"", "\"a b\"", "\"a b\"");
    }
}
