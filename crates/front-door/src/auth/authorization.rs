//! The grammar of `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
//!
//! As AWS does, white space around the commas is optional and the three parameters come in any order. Anything else
//! is strict, so that one request has one reading: no parameter twice, none unknown, names in `SignedHeaders` in
//! ascending order, digits of the signature in lower case.
//!
//! Invariant: [`parse`] answers for any bytes without a panic and without an allocation, unless it refuses.

use super::presigned::MAX_EXPIRES;
use std::fmt;

/// Longest header that is looked at. Real ones have 200 to 600 bytes.
pub const MAX_LENGTH: usize = 8 * 1024;
/// Most names in `SignedHeaders`; hyper takes at most 100 headers.
pub const MAX_SIGNED_HEADERS: usize = 100;
/// The only algorithm; also the scheme of the header.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The last element of every credential scope.
pub const TERMINATOR: &str = "aws4_request";

const MAX_ACCESS_KEY_ID: usize = 128;
const BLANK: [char; 2] = [' ', '\t'];
/// Which bytes a lower-case header name may have (RFC 9110, `token`).
const IS_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut at = 0;
    while at < allowed.len() {
        table[allowed[at] as usize] = true;
        at += 1;
    }
    table
};
/// What is not a digit in [`DIGIT`].
const NO_DIGIT: u8 = 0x80;
/// The value of each lower-case hexadecimal digit.
const DIGIT: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < 16 {
        table[digits[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// A well-formed header. Says nothing yet about whether its signature is right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// Letters, digits and `_`, 1 to 128.
    pub access_key_id: &'a str,
    /// The scope's day, eight digits.
    pub day: &'a str,
    /// The scope's region; not empty.
    pub region: &'a str,
    /// The scope's service; not empty.
    pub service: &'a str,
    /// Which headers the signature covers.
    pub signed_headers: SignedHeaders<'a>,
    /// The signature that the client made.
    pub signature: [u8; 32],
}

/// Names of headers: lower case, ascending, none twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedHeaders<'a>(&'a str);

/// Why a header is not well-formed. Wordings are AWS's where AWS has one, plus what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`MAX_LENGTH`].
    #[error("Authorization header is longer than {MAX_LENGTH} bytes.")]
    TooLong,
    /// Has other bytes than visible ASCII, spaces and tabs.
    #[error("Authorization header may only contain visible ASCII characters and spaces.")]
    Characters,
    /// Another scheme.
    #[error("Authorization header must start with '{ALGORITHM}', not '{0}'.")]
    Scheme(String),
    /// A parameter is not there.
    #[error("Authorization header requires '{0}' parameter.")]
    Missing(&'static str),
    /// A parameter is there twice.
    #[error("Authorization header has the parameter '{0}' more than once.")]
    Repeated(&'static str),
    /// A parameter that does not exist.
    #[error("Authorization header has the unknown parameter '{0}'; it takes Credential, SignedHeaders and Signature.")]
    Unknown(String),
    /// Text between commas that is no parameter.
    #[error("'{0}' not a valid key=value pair (missing equal-sign) in Authorization header.")]
    NoPair(String),
    /// The credential has not five elements.
    #[error("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{0}'.")]
    Elements(String),
    /// An element of the credential is not what it should be.
    #[error("Credential must have {expected}, not '{value}'.")]
    Credential {
        /// The element in words.
        expected: &'static str,
        /// What was given.
        value: String,
    },
    /// Another terminator.
    #[error("Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{0}'.")]
    Terminator(String),
    /// `SignedHeaders` is not a list of names.
    #[error(
        "SignedHeaders must be up to {MAX_SIGNED_HEADERS} lower-case header names in ascending order, each once, joined by ';', got '{0}'."
    )]
    SignedHeaders(String),
    /// A presigned query lacks a parameter.
    #[error("The request is presigned, but '{0}' is not in the query. Presign it again, and do not cut its URL.")]
    NotInQuery(&'static str),
    /// A parameter of a presigned query is not what it should be.
    #[error("The presigned query's '{0}' {1}.")]
    Query(&'static str, &'static str),
    /// A presigned query is good for no time, or for too long.
    #[error("X-Amz-Expires must be between 1 and {MAX_EXPIRES} seconds, not '{0}'.")]
    Expires(String),
    /// The signature is not 64 digits.
    #[error("Signature must be 64 lower-case hexadecimal digits, got '{0}'.")]
    Signature(String),
}

/// Reads a header's value.
pub fn parse(header: &[u8]) -> Result<Authorization<'_>, Malformed> {
    if header.len() > MAX_LENGTH {
        return Err(Malformed::TooLong);
    }
    // Looks at every byte instead of stopping at the first bad one: the compiler makes vector code of that.
    let is_clean = header.iter().fold(true, |clean, byte| {
        clean & (matches!(byte, b' '..=b'~') | (*byte == b'\t'))
    });
    let text = match std::str::from_utf8(header) {
        Ok(text) if is_clean => text.trim_matches(BLANK),
        _ => return Err(Malformed::Characters),
    };
    let (scheme, parameters) = match memchr::memchr2(b' ', b'\t', text.as_bytes()) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    if scheme != ALGORITHM {
        return Err(Malformed::Scheme(quote(scheme)));
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for parameter in split(parameters, b',').map(|part| part.trim_matches(BLANK)) {
        if parameter.is_empty() && parameters.trim_matches(BLANK).is_empty() {
            break;
        }
        let (name, value) = cut(parameter, b'=').ok_or_else(|| Malformed::NoPair(quote(parameter)))?;
        let (slot, name) = match name {
            "Credential" => (&mut credential, "Credential"),
            "SignedHeaders" => (&mut signed_headers, "SignedHeaders"),
            "Signature" => (&mut signature, "Signature"),
            _ => return Err(Malformed::Unknown(quote(name))),
        };
        if slot.replace(value).is_some() {
            return Err(Malformed::Repeated(name));
        }
    }
    let credential = credential.ok_or(Malformed::Missing("Credential"))?;
    let signed_headers = signed_headers.ok_or(Malformed::Missing("SignedHeaders"))?;
    let signature = signature.ok_or(Malformed::Missing("Signature"))?;
    Authorization::of(credential, signed_headers, signature)
}

impl<'a> Authorization<'a> {
    /// Reads the three parameters, which a presigned query has too.
    pub(super) fn of(credential: &'a str, signed_headers: &'a str, signature: &'a str) -> Result<Self, Malformed> {
        let mut elements = split(credential, b'/');
        let (Some(access_key_id), Some(day), Some(region), Some(service), Some(terminator), None) = (
            elements.next(),
            elements.next(),
            elements.next(),
            elements.next(),
            elements.next(),
            elements.next(),
        ) else {
            return Err(Malformed::Elements(quote(credential)));
        };
        let is_id = |v: &str| v.len() <= MAX_ACCESS_KEY_ID && v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let wrong = |expected, value| {
            Err(Malformed::Credential {
                expected,
                value: quote(value),
            })
        };
        if access_key_id.is_empty() || !is_id(access_key_id) {
            return wrong("an access key id of letters and digits", access_key_id);
        }
        if day.len() != 8 || !day.bytes().all(|b| b.is_ascii_digit()) {
            return wrong("a date of the form YYYYMMDD", day);
        }
        if region.is_empty() {
            return wrong("a region", region);
        }
        if service.is_empty() {
            return wrong("a service", service);
        }
        if terminator != TERMINATOR {
            return Err(Malformed::Terminator(quote(terminator)));
        }
        Ok(Authorization {
            access_key_id,
            day,
            region,
            service,
            signed_headers: SignedHeaders::parse(signed_headers)?,
            signature: lower_hex(signature.as_bytes()).ok_or_else(|| Malformed::Signature(quote(signature)))?,
        })
    }
}

impl<'a> SignedHeaders<'a> {
    fn parse(list: &'a str) -> Result<Self, Malformed> {
        let mut before = "";
        let mut count = 0;
        for name in split(list, b';') {
            count += 1;
            // Also refuses an empty name: nothing sorts before the first one.
            if name <= before || !name.bytes().all(|b| IS_NAME[usize::from(b)]) || count > MAX_SIGNED_HEADERS {
                return Err(Malformed::SignedHeaders(quote(list)));
            }
            before = name;
        }
        Ok(Self(list))
    }

    /// The list as it was sent, which is also its canonical form.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The names in order.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        split(self.0, b';')
    }

    /// Whether a header of this lower-case name is covered.
    #[must_use]
    pub fn contains(self, name: &str) -> bool {
        self.names().any(|signed| signed == name)
    }
}

impl fmt::Display for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            access_key_id,
            day,
            region,
            service,
            signed_headers,
            signature,
        } = self;
        write!(
            f,
            "{ALGORITHM} Credential={access_key_id}/{day}/{region}/{service}/{TERMINATOR}, "
        )?;
        write!(
            f,
            "SignedHeaders={}, Signature={}",
            signed_headers.as_str(),
            hex::encode(signature)
        )
    }
}

/// Without the signature, which is good for a replay as long as the clock allows.
impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            access_key_id,
            day,
            region,
            service,
            signed_headers,
            signature: _,
        } = self;
        let scope = format_args!("{access_key_id}/{day}/{region}/{service}");
        f.debug_struct("Authorization")
            .field("credential", &scope)
            .field("signed", signed_headers)
            .finish_non_exhaustive()
    }
}

/// Before and behind the first such byte, which must be ASCII.
fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    // `str::split_once` costs several times as much on texts as short as these.
    let found = memchr::memchr(at, text.as_bytes())?;
    Some((&text[..found], &text[found + 1..]))
}

/// The pieces between such bytes, as `str::split` makes them, and for the same reason not by it.
fn split(text: &str, at: u8) -> impl Iterator<Item = &str> {
    let mut left = Some(text);
    std::iter::from_fn(move || {
        let text = left?;
        let (piece, rest) = cut(text, at).map_or((text, None), |(piece, rest)| (piece, Some(rest)));
        left = rest;
        Some(piece)
    })
}

/// 64 lower-case hexadecimal digits as 32 bytes.
pub(super) fn lower_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = digits.try_into().ok()?;
    let mut bytes = [0; 32];
    // Looks at the wrong digits once, at the end: `DIGIT` has a high bit where there is none.
    let mut all = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        let (high, low) = (DIGIT[usize::from(pair[0])], DIGIT[usize::from(pair[1])]);
        all |= high | low;
        *byte = high << 4 | (low & 15);
    }
    (all & NO_DIGIT == 0).then_some(bytes)
}

/// Text of the client for a message: at most 64 characters of it.
pub(super) fn quote(text: &str) -> String {
    text.chars().take(64).collect()
}
