//! A presigned query is a stranger's text that stands in for an authorization header: it must be answered, and what is
//! taken for well-formed must say what a header could say.

#![no_main]

use front_door::auth::authorization::parse;
use front_door::auth::presigned::{MAX_EXPIRES, Presigned};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    let is_there = Presigned::is_in(query);
    if let Ok(read) = Presigned::parse(query) {
        assert!(is_there);
        assert!((1..=MAX_EXPIRES).contains(&read.expires));
        let said = read.authorization().expect("it was checked when it was read");
        assert_eq!(parse(said.to_string().as_bytes()), Ok(said));
    }
});
