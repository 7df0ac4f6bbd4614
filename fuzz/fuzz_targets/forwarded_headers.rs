//! Anybody can write forwarding headers. They must be answered, and what stands before the last word of a trusted proxy
//! must change nothing.

#![no_main]

use front_door::forwarded::Origin;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, SocketAddr};

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (addresses, scheme) = input;
    let proxy = SocketAddr::from(([10, 0, 0, 1], 443));
    let stranger = SocketAddr::from(([192, 0, 2, 1], 443));
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let (Ok(said), Ok(scheme)) = (HeaderValue::from_bytes(&addresses), HeaderValue::from_bytes(&scheme)) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.append("x-forwarded-for", said);
    headers.append("x-forwarded-proto", scheme);
    let _ = Origin::of(proxy, false, &headers, &trusted);
    let found = Origin::of(stranger, false, &headers, &trusted);
    assert_eq!((found.address, found.is_secure), (stranger.ip(), false));
    headers.append("x-forwarded-for", HeaderValue::from_static("203.0.113.7"));
    let found = Origin::of(proxy, false, &headers, &trusted);
    assert_eq!(found.address, IpAddr::from([203, 0, 113, 7]));
});
