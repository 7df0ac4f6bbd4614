//! The head of an agent's answer: from bytes that nobody vouches for to a status, headers and a framing.
//!
//! Invariant: a head with two readings has none. Whatever names the length of the body twice and differently, or in a
//! transfer coding that we do not speak, is refused; so agent and server never disagree about where an answer ends.

use super::fault::Fault;
use super::framing::Framing;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::mem::MaybeUninit;

/// The most bytes of a head.
pub const MOST: usize = 256 * 1024;
const MOST_HEADERS: usize = 100;
const TOO_LARGE: Fault = Fault::NotHttp("its head is too large");

/// A complete head.
#[derive(Debug)]
pub struct Head {
    /// Any but a provisional one.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    /// How the body's end is found.
    pub framing: Framing,
    /// Whether the agent keeps the connection open afterwards.
    pub keeps: bool,
}

/// Takes a head from the start of `input` once it is there whole. `seen` is how much of `input` was there at the last
/// try, so that a head which comes in drops is not read anew with each of them. Provisional answers are skipped.
pub fn take(input: &mut BytesMut, seen: &mut usize, is_to_head: bool) -> Result<Option<Head>, Fault> {
    loop {
        if *seen == 0 {
            // Empty lines before a head mean nothing; taken at once, they never add up.
            let empty = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            input.advance(empty);
        }
        let may_be_whole = *seen == 0 || has_end(input.get(seen.saturating_sub(3)..).unwrap_or_default());
        *seen = input.len();
        let parsed = if may_be_whole { parse(input, is_to_head)? } else { None };
        let Some((head, length)) = parsed else {
            return if input.len() < MOST { Ok(None) } else { Err(TOO_LARGE) };
        };
        input.advance(length);
        *seen = 0;
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(head));
        }
    }
}

/// Whether an empty line ends here, in either way to end a line.
fn has_end(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| {
        let rest = &bytes[at + 1..];
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    })
}

fn parse(input: &[u8], is_to_head: bool) -> Result<Option<(Head, usize)>, Fault> {
    let mut room = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, &mut room);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::NotHttp("its head has too many headers")),
        Err(_) => return Err(Fault::NotHttp("its head cannot be read")),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Fault::NotHttp("its status is not one"))?;
    // One copy that all values share, so that the buffer they came in can be used again.
    let shared = Bytes::copy_from_slice(input.get(..length).unwrap_or_default());
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for header in response.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(shared_part(&shared, input, header.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Fault::NotHttp("it has a header that is not one"));
        };
        headers.append(name, value);
    }
    let is_new = response.version == Some(1);
    let framing = framing(status, &headers, is_new, is_to_head)?;
    let keeps = keeps(&headers, is_new) && status != StatusCode::SWITCHING_PROTOCOLS;
    let head = Head {
        status,
        headers,
        framing,
        keeps,
    };
    Ok(Some((head, length)))
}

/// The part of `shared`, a copy of the start of `original`, that corresponds to `part` of `original`.
fn shared_part(shared: &Bytes, original: &[u8], part: &[u8]) -> Bytes {
    let start = part.as_ptr().addr().wrapping_sub(original.as_ptr().addr());
    match start.checked_add(part.len()) {
        Some(end) if end <= shared.len() => shared.slice(start..end),
        // An empty value may point anywhere.
        _ => Bytes::copy_from_slice(part),
    }
}

/// RFC 9112, section 6.3.
fn framing(status: StatusCode, headers: &HeaderMap, is_new: bool, is_to_head: bool) -> Result<Framing, Fault> {
    let length = length(headers)?;
    let is_chunked = is_chunked(headers)?;
    if is_chunked && (length.is_some() || !is_new) {
        return Err(Fault::NotHttp("it says in two ways how long it is"));
    }
    let has_none = is_to_head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    Ok(match (has_none, is_chunked, length) {
        (true, _, _) => Framing::length(0),
        (_, true, _) => Framing::chunked(),
        (_, _, Some(length)) => Framing::length(length),
        (_, _, None) => Framing::until_close(),
    })
}

/// Several that agree are one.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(text).ok().filter(|_| is_number);
            let number = number.and_then(|text| text.parse().ok());
            let number = number.ok_or(Fault::NotHttp("its content-length is not a number"))?;
            if *found.get_or_insert(number) != number {
                return Err(Fault::NotHttp("it has two content-lengths"));
            }
        }
    }
    Ok(found)
}

fn is_chunked(headers: &HeaderMap) -> Result<bool, Fault> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Fault::NotHttp("it has a transfer coding other than chunked")),
    }
}

fn keeps(headers: &HeaderMap, is_new: bool) -> bool {
    let says = |wanted: &[u8]| {
        headers.get_all(CONNECTION).iter().any(|value| {
            let mut tokens = value.as_bytes().split(|byte| *byte == b',');
            tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
        })
    };
    if is_new {
        !says(b"close")
    } else {
        says(b"keep-alive") && !says(b"close")
    }
}
