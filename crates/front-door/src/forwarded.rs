//! Where a request came from when proxies stand before the server: `X-Forwarded-For` and `X-Forwarded-Proto`.
//!
//! Anybody can write these headers, so they count only as far as trusted proxies wrote them: the addresses are read from
//! the last to the first, and the first one that is no trusted proxy's is the client's. What stands before it is hearsay.
//!
//! Invariant: with no trusted proxies configured the headers are not looked at.

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// More proxies than stand in any row. Bounds what a hostile header costs.
const MAX_HOPS: usize = 32;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub address: IpAddr,
    /// Whether the client's own connection was encrypted.
    pub is_secure: bool,
}

impl Origin {
    /// From the connection, and from what trusted proxies say about it.
    #[must_use]
    pub fn of(peer: SocketAddr, is_secure: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let direct = Self {
            address: peer.ip().to_canonical(),
            is_secure,
        };
        if !is_trusted(direct.address, trusted) {
            return direct;
        }
        let mut origin = direct;
        let hops = from_last(headers, FORWARDED_FOR).map(address).take(MAX_HOPS);
        for hop in hops {
            // What cannot be read was not written by a proxy of ours, nor is what stands before it.
            let Some(hop) = hop else { break };
            origin.address = hop;
            if !is_trusted(hop, trusted) {
                break;
            }
        }
        // Each proxy that sets this overwrites it, so the last value is that of the proxy that we trust.
        if let Some(scheme) = from_last(headers, FORWARDED_PROTO).next() {
            origin.is_secure = scheme.eq_ignore_ascii_case(b"https");
        }
        origin
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The elements of a list header, over all its lines, the last first.
fn from_last(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let elements = lines
        .into_iter()
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(peer: &str, headers: &[(HeaderName, &str)], trusted: &[&str]) -> Origin {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        Origin::of(SocketAddr::new(peer.parse().unwrap(), 4711), false, &map, &trusted)
    }

    #[test]
    fn addresses_count_as_far_as_trusted_proxies_wrote_them() {
        const OURS: &[&str] = &["10.0.0.0/8", "fd00::/8"];
        let check = |peer: &str, lines: &[&str], trusted: &[&str], expected: &str| {
            let headers: Vec<_> = lines.iter().map(|line| (FORWARDED_FOR, *line)).collect();
            let found = origin(peer, &headers, trusted).address;
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        };
        check("10.0.0.1", &["203.0.113.7"], &[], "10.0.0.1");
        check("192.0.2.1", &["203.0.113.7"], OURS, "192.0.2.1");
        check("10.0.0.1", &[], OURS, "10.0.0.1");
        check("10.0.0.1", &["203.0.113.7"], OURS, "203.0.113.7");
        check("10.0.0.1", &["1.1.1.1, 203.0.113.7"], OURS, "203.0.113.7");
        check("10.0.0.1", &["1.1.1.1, 203.0.113.7, 10.9.9.9"], OURS, "203.0.113.7");
        check("10.0.0.1", &["1.1.1.1", "203.0.113.7 ,10.9.9.9"], OURS, "203.0.113.7");
        check("10.0.0.1", &["10.1.1.1,10.9.9.9"], OURS, "10.1.1.1");
        check("10.0.0.1", &["1.1.1.1, nonsense, 10.9.9.9"], OURS, "10.9.9.9");
        check("10.0.0.1", &["nonsense"], OURS, "10.0.0.1");
        check("10.0.0.1", &["1.1.1.1,"], OURS, "10.0.0.1");
        check("10.0.0.1", &["203.0.113.7:1234"], OURS, "203.0.113.7");
        check("fd00::1", &["[2001:db8::1]:80"], OURS, "2001:db8::1");
        check("fd00::1", &["[2001:db8::1]"], OURS, "2001:db8::1");
        check("fd00::1", &["2001:db8::1"], OURS, "2001:db8::1");
        check("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], OURS, "203.0.113.7");
    }

    #[test]
    fn the_scheme_is_what_the_trusted_proxy_says() {
        let check = |peer: &str, lines: &[&str], expected: bool| {
            let headers: Vec<_> = lines.iter().map(|line| (FORWARDED_PROTO, *line)).collect();
            assert_eq!(
                origin(peer, &headers, &["10.0.0.0/8"]).is_secure,
                expected,
                "{peer} {lines:?}"
            );
        };
        check("10.0.0.1", &["https"], true);
        check("10.0.0.1", &["HTTPS"], true);
        check("10.0.0.1", &["http"], false);
        check("10.0.0.1", &["https, http"], false);
        check("10.0.0.1", &["http", "https"], true);
        check("192.0.2.1", &["https"], false);
        check("10.0.0.1", &[], false);
    }

    proptest! {
        #[test]
        fn what_a_stranger_writes_before_the_proxys_word_changes_nothing(noise in "[ -~]{0,60}") {
            let line = format!("{noise}, 203.0.113.7, 10.2.2.2");
            let found = origin("10.0.0.1", &[(FORWARDED_FOR, &line)], &["10.0.0.0/8"]);
            prop_assert_eq!(found.address, "203.0.113.7".parse::<IpAddr>().unwrap());
        }
    }
}
