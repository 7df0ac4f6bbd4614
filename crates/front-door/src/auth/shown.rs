//! What a request shows for itself, before any of it is believed.
//!
//! A request shows one thing: with a signature in its header and another in its query it would have two readings.

use super::Refusal;
use super::presigned::Presigned;
use http::header::AUTHORIZATION;
use http::request::Parts;

/// The credentials in a request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown<'a> {
    /// None.
    Nothing,
    /// An authorization header that is no bearer token; it must be a signature.
    Header(&'a [u8]),
    /// A signature in the query.
    Presigned(Box<Presigned>),
    /// A bearer token, perhaps an empty one.
    Bearer(Token<'a>),
}

/// A bearer token. Never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token<'a>(pub &'a str);

impl<'a> Shown<'a> {
    /// Looks at the header and the query.
    pub fn of(parts: &'a Parts) -> Result<Self, Refusal> {
        let mut values = parts.headers.get_all(AUTHORIZATION).iter();
        let header = values.next().map_or(&b""[..], |value| value.as_bytes());
        if values.next().is_some() {
            return Err(Refusal::SeveralAuthorizations);
        }
        let query = parts.uri.query().filter(|query| Presigned::is_in(query));
        match (header, query) {
            ([], None) => Ok(Self::Nothing),
            ([], Some(query)) => Ok(Self::Presigned(Box::new(Presigned::parse(query)?))),
            (_, Some(_)) => Err(Refusal::SeveralAuthorizations),
            (header, None) => Ok(bearer(header).map_or(Self::Header(header), Self::Bearer)),
        }
    }
}

/// The token of a `Bearer` header. A token that is no visible ASCII is as good as none.
fn bearer(header: &[u8]) -> Option<Token<'_>> {
    let (scheme, rest) = header.split_at_checked(6)?;
    let is_apart = rest.first().is_none_or(|byte| *byte == b' ');
    if !scheme.eq_ignore_ascii_case(b"bearer") || !is_apart {
        return None;
    }
    let token = rest.trim_ascii();
    let token = std::str::from_utf8(token).unwrap_or_default();
    Some(Token(token))
}

impl std::fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_one_thing() {
        let check = |authorization: &[&[u8]], query: &str, expected: Result<Shown<'static>, Refusal>| {
            let mut request = http::Request::get(format!("/x{query}"));
            for value in authorization {
                request = request.header("authorization", *value);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            assert_eq!(Shown::of(&parts), expected, "{authorization:?} {query}");
        };
        let bearer = |token| Ok(Shown::Bearer(Token(token)));
        check(&[], "", Ok(Shown::Nothing));
        check(&[b""], "", Ok(Shown::Nothing));
        check(&[], "?X-Amz-Date=1", Ok(Shown::Nothing));
        check(&[b"AWS4-HMAC-SHA256 x"], "", Ok(Shown::Header(b"AWS4-HMAC-SHA256 x")));
        check(&[b"Basic eDp5"], "", Ok(Shown::Header(b"Basic eDp5")));
        check(&[b"Bearer a.b.c"], "", bearer("a.b.c"));
        check(&[b"bEARER   a.b.c "], "", bearer("a.b.c"));
        check(&[b"Bearer"], "", bearer(""));
        check(&[b"Bearer "], "", bearer(""));
        check(&[b"Bearer \xff"], "", bearer(""));
        check(&[b"Bearerx"], "", Ok(Shown::Header(b"Bearerx")));
        check(&[b"a", b"b"], "", Err(Refusal::SeveralAuthorizations));
        check(
            &[b"Bearer x"],
            "?X-Amz-Signature=1",
            Err(Refusal::SeveralAuthorizations),
        );
    }
}
