//! The grammar of a presigned query: `X-Amz-Algorithm`, `X-Amz-Credential`, `X-Amz-Date`, `X-Amz-Expires`,
//! `X-Amz-SignedHeaders`, `X-Amz-Signature` and, for temporary credentials, `X-Amz-Security-Token`.
//!
//! It says what an authorization header says, so that a link can be handed to somebody who has no credentials. Each
//! parameter stands once; their names are compared as they are sent, because every signer sends them like this.
//!
//! Invariant: [`Presigned::parse`] answers for any text without a panic.

use super::authorization::{ALGORITHM, Authorization, Malformed, quote};
use crate::route::label;

/// The parameter that the signature cannot cover.
pub(super) const SIGNATURE: &str = "X-Amz-Signature";
/// Longest life of a presigned request, in seconds; that of the AgentCore SDK. Within it a replay is allowed, as at AWS.
pub const MAX_EXPIRES: u32 = 300;
/// Longest value that is looked at: a session token is the largest.
const MAX_VALUE: usize = 8 * 1024;

/// A well-formed presigned query. Says nothing yet about whether its signature is right.
#[derive(Clone, PartialEq, Eq)]
pub struct Presigned {
    credential: String,
    signed_headers: String,
    signature: String,
    /// `X-Amz-Date`.
    pub date: String,
    /// Seconds after `date` during which it is good.
    pub expires: u32,
    /// `X-Amz-Security-Token`.
    pub token: Option<String>,
}

impl Presigned {
    /// Whether a query has any of the parameters.
    #[must_use]
    pub fn is_in(query: &str) -> bool {
        query
            .split('&')
            .any(|pair| pair.starts_with("X-Amz-Signature=") || pair.starts_with("X-Amz-Algorithm="))
    }

    /// Reads a query that [`Presigned::is_in`].
    pub fn parse(query: &str) -> Result<Self, Malformed> {
        let algorithm = need(query, "X-Amz-Algorithm")?;
        if algorithm != ALGORITHM {
            return Err(Malformed::Query("X-Amz-Algorithm", "must be 'AWS4-HMAC-SHA256'"));
        }
        let expires = need(query, "X-Amz-Expires")?;
        let presigned = Self {
            credential: need(query, "X-Amz-Credential")?,
            date: need(query, "X-Amz-Date")?,
            signed_headers: need(query, "X-Amz-SignedHeaders")?,
            signature: need(query, SIGNATURE)?,
            token: find(query, "X-Amz-Security-Token")?,
            expires: expires
                .parse()
                .ok()
                .filter(|seconds| (1..=MAX_EXPIRES).contains(seconds) && expires.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| Malformed::Expires(quote(&expires)))?,
        };
        presigned.authorization()?;
        Ok(presigned)
    }

    /// What an authorization header would say.
    pub fn authorization(&self) -> Result<Authorization<'_>, Malformed> {
        Authorization::of(&self.credential, &self.signed_headers, &self.signature)
    }
}

/// Without the signature and the token: both are good for a replay.
impl std::fmt::Debug for Presigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presigned")
            .field("credential", &self.credential)
            .field("signed_headers", &self.signed_headers)
            .field("date", &self.date)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

fn need(query: &str, name: &'static str) -> Result<String, Malformed> {
    find(query, name)?.ok_or(Malformed::NotInQuery(name))
}

/// A parameter's value, decoded; an error if it is there twice.
fn find(query: &str, name: &'static str) -> Result<Option<String>, Malformed> {
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let Some(raw) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed::Query(name, "is there more than once"));
    }
    if raw.len() > MAX_VALUE {
        return Err(Malformed::Query(name, "is longer than 8192 bytes"));
    }
    const VISIBLE: &str = "may only contain visible ASCII characters, percent-encoded";
    let value = label::decode(raw).map_err(|_| Malformed::Query(name, VISIBLE))?;
    // White space and what is not ASCII belong into none of them.
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Some(value))
    } else {
        Err(Malformed::Query(name, VISIBLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "qualifier=DEFAULT&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20261122%2Fus-west-2%2Fbedrock-agentcore%2Faws4_request\
        &X-Amz-Date=20261122T100000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host%3Bx-amz-date\
        &X-Amz-Signature=0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn a_presigned_query_says_what_a_header_says() {
        assert!(Presigned::is_in(GOOD));
        assert!(!Presigned::is_in("a=X-Amz-Signature=&b=1"));
        let read = Presigned::parse(GOOD).unwrap();
        let said = read.authorization().unwrap();
        assert_eq!(
            (said.access_key_id, said.day, said.region),
            ("AKIDEXAMPLE", "20261122", "us-west-2")
        );
        assert_eq!(said.signed_headers.as_str(), "host;x-amz-date");
        assert_eq!((read.expires, read.token.as_deref()), (300, None));
        let shown = format!("{read:?}");
        assert!(!shown.contains(&"0".repeat(64)), "{shown}");
    }

    #[test]
    fn each_fault_is_named() {
        let check = |from: &str, to: &str, said: &str| {
            let query = GOOD.replace(from, to);
            assert_ne!(query, GOOD, "{from}");
            let error = Presigned::parse(&query).unwrap_err().to_string();
            assert!(error.contains(said), "{to}: expected '{said}', said '{error}'");
        };
        check(
            "AWS4-HMAC-SHA256",
            "AWS4-ECDSA-P256-SHA256",
            "must be 'AWS4-HMAC-SHA256'",
        );
        check("X-Amz-Date=20261122T100000Z", "x=1", "'X-Amz-Date' is not in the query");
        check("X-Amz-Expires=300", "x=1", "'X-Amz-Expires' is not in the query");
        check(
            "X-Amz-SignedHeaders",
            "X-Amz-Headers",
            "'X-Amz-SignedHeaders' is not in the query",
        );
        check(
            "X-Amz-Credential",
            "X-Amz-Key",
            "'X-Amz-Credential' is not in the query",
        );
        check(
            "X-Amz-Signature",
            "x-amz-signature",
            "'X-Amz-Signature' is not in the query",
        );
        for bad in ["0", "301", "604800", "-1", "+5", "5s", "", "99999999999"] {
            check("Expires=300", &format!("Expires={bad}"), "between 1 and 300 seconds");
        }
        check(
            "qualifier=DEFAULT",
            "X-Amz-Date=1",
            "'X-Amz-Date' is there more than once",
        );
        check("aws4_request", "aws4_requesy", "valid terminator");
        check("host%3Bx-amz-date", "x-amz-date%3Bhost", "ascending order");
        check("=000000", "=00000", "64 lower-case hexadecimal digits");
        check("20261122T100000Z", "2026%20", "visible ASCII");
        check("20261122T100000Z", "2026%zz", "visible ASCII");
        let long = format!("X-Amz-Security-Token={}", "x".repeat(MAX_VALUE + 1));
        check("qualifier=DEFAULT", &long, "longer than 8192 bytes");
    }
}
