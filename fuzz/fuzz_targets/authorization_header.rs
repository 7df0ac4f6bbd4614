//! The authorization header is the first thing that a stranger's bytes meet: it must be answered, and what is taken
//! for well-formed must have one reading.

#![no_main]

use front_door::auth::authorization::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &[u8]| {
    if let Ok(read) = parse(header) {
        let written = read.to_string();
        assert_eq!(parse(written.as_bytes()), Ok(read));
        assert!(
            read.signed_headers
                .names()
                .all(|name| read.signed_headers.contains(name))
        );
    }
});
