//! The grammar of the authorization header.

use crate::auth::authorization::{MAX_LENGTH, parse};
use proptest::prelude::*;

const CREDENTIAL: &str = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
const SIGNED: &str = "SignedHeaders=host;x-amz-date";
const SIGNATURE: &str = "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

#[test]
fn blanks_and_order_are_free() {
    let plain = format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}, {SIGNATURE}");
    let expected = parse(plain.as_bytes()).unwrap();
    assert_eq!(expected.access_key_id, "AKIDEXAMPLE");
    assert_eq!(
        (expected.day, expected.region, expected.service),
        ("20150830", "us-east-1", "service")
    );
    assert_eq!(
        expected.signed_headers.names().collect::<Vec<_>>(),
        ["host", "x-amz-date"]
    );
    assert_eq!(expected.signature[..2], [0x5f, 0xa0]);
    for same in [
        format!("AWS4-HMAC-SHA256 {CREDENTIAL},{SIGNED},{SIGNATURE}"),
        format!("  AWS4-HMAC-SHA256\t {CREDENTIAL} ,\t{SIGNED}  , {SIGNATURE}\t"),
        format!("AWS4-HMAC-SHA256 {SIGNATURE}, {SIGNED}, {CREDENTIAL}"),
        expected.to_string(),
    ] {
        assert_eq!(parse(same.as_bytes()), Ok(expected), "{same}");
    }
}

#[test]
fn everything_else_is_refused_with_a_reason() {
    let check = |header: &str, said: &str| {
        let refusal = parse(header.as_bytes()).expect_err(header).to_string();
        assert!(refusal.contains(said), "{header}\nsaid: {refusal}");
        assert!(refusal.len() < 400, "{refusal}");
    };
    let with = |credential: &str, signed: &str, signature: &str| {
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}")
    };
    let good = "AKID/20150830/us-east-1/service/aws4_request";
    let hash = "0".repeat(64);

    check("", "must start with 'AWS4-HMAC-SHA256'");
    check("Basic dXNlcjpwYXNz", "must start with 'AWS4-HMAC-SHA256', not 'Basic'");
    check("AWS4-HMAC-SHA512 a=b", "must start with");
    check("aws4-hmac-sha256 a=b", "must start with");
    check(
        &format!("AWS4-HMAC-SHA256{CREDENTIAL}, {SIGNED}, {SIGNATURE}"),
        "must start with",
    );
    check("AWS4-HMAC-SHA256", "requires 'Credential' parameter");
    check("AWS4-HMAC-SHA256   ", "requires 'Credential' parameter");
    check(
        &format!("AWS4-HMAC-SHA256 {SIGNED}, {SIGNATURE}"),
        "requires 'Credential' parameter",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNATURE}"),
        "requires 'SignedHeaders' parameter",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}"),
        "requires 'Signature' parameter",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}, {SIGNATURE},"),
        "missing equal-sign",
    );
    check(
        &format!("AWS4-HMAC-SHA256 ,{CREDENTIAL}, {SIGNED}, {SIGNATURE}"),
        "missing equal-sign",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}, {SIGNATURE}, x"),
        "'x' not a valid key=value pair",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}, {SIGNATURE}, x=y"),
        "unknown parameter 'x'",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}, {SIGNATURE}, {SIGNATURE}"),
        "'Signature' more than once",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL} {SIGNED} {SIGNATURE}"),
        "requires 'SignedHeaders' parameter",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL} x, {SIGNED}, {SIGNATURE}"),
        "valid terminator",
    );
    check(
        &format!("AWS4-HMAC-SHA256 credential=x, {SIGNED}, {SIGNATURE}"),
        "unknown parameter 'credential'",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}, {SIGNATURE}é"),
        "visible ASCII",
    );
    check(
        &format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}, {SIGNATURE}\u{0}"),
        "visible ASCII",
    );

    check(&with("AKID", "host", &hash), "exactly 5 slash-delimited elements");
    check(
        &with(&format!("{good}/x"), "host", &hash),
        "exactly 5 slash-delimited elements",
    );
    check(
        &with("/20150830/us-east-1/service/aws4_request", "host", &hash),
        "an access key id",
    );
    check(
        &with("A-K/20150830/us-east-1/service/aws4_request", "host", &hash),
        "an access key id",
    );
    check(
        &with(&format!("{}/{}", "A".repeat(129), &good[5..]), "host", &hash),
        "an access key id",
    );
    check(
        &with("AKID/2015083/us-east-1/service/aws4_request", "host", &hash),
        "YYYYMMDD",
    );
    check(
        &with("AKID/2015083x/us-east-1/service/aws4_request", "host", &hash),
        "YYYYMMDD",
    );
    check(&with("AKID/20150830//service/aws4_request", "host", &hash), "a region");
    check(
        &with("AKID/20150830/us-east-1//aws4_request", "host", &hash),
        "a service",
    );
    check(
        &with("AKID/20150830/us-east-1/service/aws5_request", "host", &hash),
        "valid terminator: 'aws4_request'",
    );

    for signed in [
        "",
        ";",
        "host;",
        ";host",
        "host;;x",
        "Host",
        "x-b;host",
        "host;host",
        "ho st",
        "host,x",
        "h:x",
    ] {
        check(
            &with(good, signed, &hash),
            if signed == "host,x" {
                "missing equal-sign"
            } else {
                "SignedHeaders must"
            },
        );
    }
    let many = (100..201).map(|n| format!("x{n}")).collect::<Vec<_>>().join(";");
    check(&with(good, &many, &hash), "SignedHeaders must be up to 100");
    assert!(
        parse(with(good, &many[5..], &hash).as_bytes()).is_ok(),
        "100 names are allowed"
    );

    for signature in [
        "",
        "0",
        &hash[1..],
        &format!("{hash}0"),
        &"A".repeat(64),
        &"g".repeat(64),
    ] {
        check(&with(good, "host", signature), "64 lower-case hexadecimal digits");
    }
    check(&with(good, "host", &"0".repeat(MAX_LENGTH)), "longer than 8192 bytes");
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    /// Near misses reach further into the parser than noise does.
    #[test]
    fn a_changed_header_is_refused_or_reads_as_what_it_says(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut header = format!("AWS4-HMAC-SHA256 {CREDENTIAL}, {SIGNED}, {SIGNATURE}").into_bytes();
        let at = at.index(header.len());
        header[at] = byte;
        if let Ok(read) = parse(&header) {
            let written = read.to_string();
            prop_assert_eq!(parse(written.as_bytes()), Ok(read));
            let blanks = |text: &[u8]| text.iter().copied().filter(|b| !b" \t".contains(b)).collect::<Vec<_>>();
            prop_assert_eq!(blanks(written.as_bytes()), blanks(&header));
        }
    }

    #[test]
    fn what_is_written_reads_the_same(
        id in "[A-Z0-9_]{1,128}", day in "[0-9]{8}", region in "[a-z0-9-]{1,32}", service in "[a-z-]{1,20}",
        names in proptest::collection::btree_set("[a-z0-9-]{1,20}", 1..20), signature in "[0-9a-f]{64}",
    ) {
        let names = names.into_iter().collect::<Vec<_>>().join(";");
        let header = format!("AWS4-HMAC-SHA256 Credential={id}/{day}/{region}/{service}/aws4_request, \
            SignedHeaders={names}, Signature={signature}");
        let read = parse(header.as_bytes()).unwrap();
        prop_assert_eq!(read.signed_headers.as_str(), names.as_str());
        prop_assert_eq!(read.to_string(), header);
    }
}
