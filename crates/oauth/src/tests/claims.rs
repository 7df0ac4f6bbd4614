//! Times, issuer, and claims that are not what they should be.

use super::bed::{Case, ISSUER, NOW, claims, default_config, keys, token, token_of};
use super::check;
use serde_json::{Value, json};

const OK: Result<(), (&str, &str)> = Ok(());
const EXPIRED: Result<(), (&str, &str)> = Err(("expired", "Token has expired"));
const EARLY: Result<(), (&str, &str)> = Err(("not_yet_valid", "not yet valid"));
const ISS: Result<(), (&str, &str)> = Err(("mismatch", "Claim 'iss' value mismatch with configuration."));
const NO_EXP: Result<(), (&str, &str)> = Err(("malformed", "it has no 'exp'"));
const BAD_EXP: Result<(), (&str, &str)> = Err(("malformed", "its 'exp' is not a time"));
const BAD_NBF: Result<(), (&str, &str)> = Err(("malformed", "its 'nbf' is not a time"));
const BAD_IAT: Result<(), (&str, &str)> = Err(("malformed", "its 'iat' is not a time"));
const UNREADABLE: Result<(), (&str, &str)> = Err((
    "malformed",
    "its claims are not a JSON object that names each member once",
));

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let changed = [
        (json!({}), OK),
        // exp, with 30 seconds of leeway
        (json!({"exp": NOW + 1}), OK),
        (json!({"exp": NOW}), OK),
        (json!({"exp": NOW - 29}), OK),
        (json!({"exp": NOW - 30}), EXPIRED),
        (json!({"exp": NOW - 31}), EXPIRED),
        (json!({"exp": NOW - 86400}), EXPIRED),
        (json!({"exp": 0}), EXPIRED),
        (json!({"exp": -1}), EXPIRED),
        (json!({"exp": -9007199254740991_i64}), EXPIRED),
        (json!({"exp": 9007199254740991_i64}), OK),
        (json!({"exp": 9007199254740992_i64}), BAD_EXP),
        (json!({"exp": i64::MAX}), BAD_EXP),
        (json!({"exp": i64::MIN}), BAD_EXP),
        (json!({"exp": u64::MAX}), BAD_EXP),
        (json!({"exp": 1e300}), BAD_EXP),
        (json!({"exp": -1e300}), BAD_EXP),
        (json!({"exp": NOW as f64 + 0.5}), OK),
        (json!({"exp": NOW as f64 - 29.5}), EXPIRED),
        (json!({"exp": "1800000600"}), BAD_EXP),
        (json!({"exp": true}), BAD_EXP),
        (json!({"exp": [NOW + 600]}), BAD_EXP),
        (json!({"exp": {"seconds": NOW + 600}}), BAD_EXP),
        (json!({"exp": null}), NO_EXP),
        // nbf
        (json!({"nbf": NOW}), OK),
        (json!({"nbf": NOW - 86400}), OK),
        (json!({"nbf": NOW + 30}), OK),
        (json!({"nbf": NOW + 31}), EARLY),
        (json!({"nbf": NOW + 86400}), EARLY),
        (json!({"nbf": NOW as f64 + 30.9}), OK),
        (json!({"nbf": 0}), OK),
        (json!({"nbf": "0"}), BAD_NBF),
        (json!({"nbf": false}), BAD_NBF),
        (json!({"nbf": u64::MAX}), BAD_NBF),
        (json!({"nbf": 1e300}), BAD_NBF),
        // iat
        (json!({"iat": null}), OK),
        (json!({"iat": NOW + 30}), OK),
        (json!({"iat": NOW + 31}), EARLY),
        (json!({"iat": 0}), OK),
        (json!({"iat": "now"}), BAD_IAT),
        (json!({"iat": {}}), BAD_IAT),
        (json!({"iat": u64::MAX}), BAD_IAT),
        (json!({"exp": NOW - 40, "nbf": NOW + 40}), EXPIRED),
        // iss
        (json!({"iss": null}), ISS),
        (json!({"iss": ""}), ISS),
        (json!({"iss": "https://idp.example.com"}), ISS),
        (json!({"iss": "https://idp.example.com//"}), ISS),
        (json!({"iss": "https://IDP.example.com/"}), ISS),
        (json!({"iss": "http://idp.example.com/"}), ISS),
        (json!({"iss": "https://idp.example.com/ "}), ISS),
        (json!({"iss": "https://idp.example.com/#"}), ISS),
        (json!({"iss": "https://idp.example.com/\u{0}"}), ISS),
        (json!({"iss": "https://evil.example.com/"}), ISS),
        (json!({"iss": [ISSUER]}), ISS),
        (json!({"iss": 1}), ISS),
        (json!({"iss": {"url": ISSUER}}), ISS),
        // what else may be there
        (json!({"sub": null}), OK),
        (json!({"sub": 7}), OK),
        (
            json!({"email_verified": true, "nested": {"a": [1, 2, {"b": null}]}}),
            OK,
        ),
        (json!({"unicode": "\u{1f600}\u{202e}\u{0}"}), OK),
        (json!({"groups": vec!["g"; 1000]}), OK),
        (
            json!({"groups": vec!["g"; 1024]}),
            Err(("malformed", "more than 1024 values")),
        ),
        (
            json!({"groups": vec![""; 2000]}),
            Err(("malformed", "more than 1024 values")),
        ),
        (json!({"numbers": vec![1; 2000]}), OK),
    ];
    for (change, expected) in changed {
        cases.push(Case {
            name: format!("claims with {}", shorten(&change)),
            config: default_config(),
            token: token(&claims(change)),
            expected,
        });
    }
    let good = claims(json!({})).to_string();
    let with = |more: &str| format!("{{{more},{}", &good[1..]);
    let deep = |depth: usize| with(&format!("\"x\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    let texts = [
        ("white space around", format!(" \n{good}\t "), OK),
        ("an escaped name", with(r#""\u0061zp":"x""#), OK),
        ("aud twice", with(r#""aud":"other""#), UNREADABLE),
        ("aud twice, equal", with(r#""aud":"api""#), UNREADABLE),
        ("aud twice, one escaped", with(r#""\u0061ud":"api""#), UNREADABLE),
        ("exp twice", with(r#""exp":1"#), UNREADABLE),
        ("iss twice", with(r#""iss":"https://evil.example.com/""#), UNREADABLE),
        ("sub twice", with(r#""sub":"admin""#), UNREADABLE),
        ("a nested name twice", with(r#""a":{"b":1,"b":2}"#), UNREADABLE),
        ("a name twice in a list", with(r#""a":[{"b":1,"b":2}]"#), UNREADABLE),
        ("a number that overflows", with(r#""n":1e400"#), UNREADABLE),
        (
            "exp that overflows",
            good.replace(&(NOW + 600).to_string(), "1e400"),
            UNREADABLE,
        ),
        (
            "exp of many digits",
            good.replace(&(NOW + 600).to_string(), &"9".repeat(300)),
            BAD_EXP,
        ),
        (
            "exp with a fraction of many digits",
            good.replace(&(NOW + 600).to_string(), &format!("{}.{}", NOW + 600, "9".repeat(300))),
            OK,
        ),
        (
            "exp as hex",
            good.replace(&(NOW + 600).to_string(), "0x7fffffff"),
            UNREADABLE,
        ),
        ("exp as NaN", good.replace(&(NOW + 600).to_string(), "NaN"), UNREADABLE),
        (
            "exp as Infinity",
            good.replace(&(NOW + 600).to_string(), "Infinity"),
            UNREADABLE,
        ),
        ("lists 100 deep", deep(100), OK),
        ("lists 1,000 deep", deep(1000), UNREADABLE),
        ("lists 5,000 deep", deep(5000), UNREADABLE),
        ("a list", "[]".to_owned(), UNREADABLE),
        ("a list of claims", format!("[{good}]"), UNREADABLE),
        ("a text", "\"claims\"".to_owned(), UNREADABLE),
        ("a number", "1".to_owned(), UNREADABLE),
        ("null", "null".to_owned(), UNREADABLE),
        ("true", "true".to_owned(), UNREADABLE),
        ("nothing", String::new(), UNREADABLE),
        ("an empty object", "{}".to_owned(), NO_EXP),
        ("two objects", format!("{good}{good}"), UNREADABLE),
        ("cut short", good[..good.len() - 1].to_owned(), UNREADABLE),
        ("a comma too many", good.replace('}', ",}"), UNREADABLE),
        ("a comment", with("/* */\"a\":1"), UNREADABLE),
        ("single quotes", good.replace('"', "'"), UNREADABLE),
        ("a byte order mark", format!("\u{feff}{good}"), UNREADABLE),
        ("half a surrogate", with(r#""a":"\ud800""#), UNREADABLE),
        ("a whole surrogate pair", with(r#""a":"\ud83d\ude00""#), OK),
    ];
    for (name, text, expected) in texts {
        cases.push(Case {
            name: format!("claims: {name}"),
            config: default_config(),
            token: token_of(&keys().ed, r#"{"alg":"EdDSA","kid":"ed"}"#, &text),
            expected,
        });
    }
    cases
}

fn shorten(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[tokio::test]
async fn every_claim_case() {
    check(cases()).await;
}
