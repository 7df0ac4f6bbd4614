//! The text of a token and its header.

use super::bed::{Case, NOW, b64, claims, default_config, keys, token, token_of};
use super::check;
use crate::token::MAX_BYTES;
use serde_json::json;

type Expected = Result<(), (&'static str, &'static str)>;
const OK: Expected = Ok(());
const PARTS: Expected = Err(("malformed", "it does not have three parts"));
const HEADER64: Expected = Err(("malformed", "its header is not base64url without padding"));
const HEADER: Expected = Err((
    "malformed",
    "its header is not a JSON object that names each member once",
));
const SIGNATURE64: Expected = Err(("malformed", "its signature is not base64url without padding"));
const SIGNATURE: Expected = Err(("signature", "Invalid signature."));
const ALGORITHM: Expected = Err(("algorithm", "The token's 'alg' is not accepted"));
const TYPE: Expected = Err(("type", "The token's 'typ' is not accepted"));
const CRITICAL: Expected = Err(("critical", "The token's 'crit' header"));
const UNKNOWN: Expected = Err(("unknown_key", "has no key that the token could be signed with"));
const FORM: Expected = Err(("malformed", "its header is not that of a signed JSON Web Token"));

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, token: String, expected| {
        cases.push(Case {
            name: name.to_owned(),
            config: default_config(),
            token,
            expected,
        });
    };
    let good = token(&claims(json!({})));
    let [header, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    add("a good token", good.clone(), OK);
    add("nothing", String::new(), Err(("missing", "Missing bearer token")));
    add("a space", " ".to_owned(), PARTS);
    add("a word", "token".to_owned(), PARTS);
    add("dots", "..".to_owned(), HEADER);
    add("three dots", "...".to_owned(), PARTS);
    add("two parts", format!("{header}.{body}"), PARTS);
    add("no signature", format!("{header}.{body}."), SIGNATURE);
    add("no header", format!(".{body}.{signature}"), HEADER);
    add("no claims", format!("{header}..{signature}"), SIGNATURE);
    add("four parts", format!("{good}.x"), PARTS);
    add("five parts, encrypted", format!("{good}.x.y"), PARTS);
    add("a dot at the end", format!("{good}."), PARTS);
    add("a dot at the beginning", format!(".{good}"), PARTS);
    add("a line break at the end", format!("{good}\n"), SIGNATURE64);
    add("a space at the end", format!("{good} "), SIGNATURE64);
    add("a space at the beginning", format!(" {good}"), HEADER64);
    add("the scheme again", format!("Bearer {good}"), HEADER64);
    add("quotes around", format!("\"{good}\""), HEADER64);
    add("padding of the signature", format!("{good}=="), SIGNATURE64);
    add(
        "padding of the claims",
        format!("{header}.{body}=.{signature}"),
        SIGNATURE,
    );
    add(
        "padding of the header",
        format!("{header}=.{body}.{signature}"),
        HEADER64,
    );
    add(
        "a space in the header",
        format!("{} {}.{body}.{signature}", &header[..4], &header[4..]),
        HEADER64,
    );
    add(
        "a line break in the claims",
        format!("{header}.{}\n{}.{signature}", &body[..4], &body[4..]),
        SIGNATURE,
    );
    add(
        "a line break in the signature",
        format!("{header}.{body}.{}\n{}", &signature[..4], &signature[4..]),
        SIGNATURE64,
    );
    add(
        "other letters of base64",
        format!("{header}.{body}.{}+/", &signature[..84]),
        SIGNATURE64,
    );
    add("not ASCII", format!("{header}.{body}.\u{e4}{signature}"), SIGNATURE64);
    add("a NUL", format!("{good}\0"), SIGNATURE64);
    add("percent encoding", good.replace('.', "%2E"), PARTS);
    add(
        "swapped parts",
        format!("{body}.{header}.{signature}"),
        Err(("malformed", "its header has no 'alg'")),
    );
    // The last letter of 64 bytes holds four bits that nobody uses.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    let other = &alphabet[place + 1..place + 2];
    add(
        "bits that nobody uses",
        format!("{header}.{body}.{}{other}", &signature[..85]),
        SIGNATURE64,
    );
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    add(
        "another signature",
        format!("{header}.{body}.{flipped}{}", &signature[1..]),
        SIGNATURE,
    );
    add(
        "a short signature",
        format!("{header}.{body}.{}", &signature[..84]),
        SIGNATURE,
    );
    add(
        "a long signature",
        format!("{header}.{body}.{}AAAA", &signature[..84]),
        SIGNATURE,
    );
    add(
        "a signature of zeros",
        format!("{header}.{body}.{}", b64([0; 64])),
        SIGNATURE,
    );
    let admin = b64(claims(json!({"sub": "admin"})).to_string());
    add(
        "other claims under the signature",
        format!("{header}.{admin}.{signature}"),
        SIGNATURE,
    );
    let other_header = b64(r#"{"alg":"EdDSA","kid":"ed"}"#);
    add(
        "another header over the signature",
        format!("{other_header}.{body}.{signature}"),
        SIGNATURE,
    );

    let filler = |length: usize| {
        let short = token(&claims(json!({"x": ""}))).len();
        // Four letters for three bytes; what is missing to the length does not matter here.
        token(&claims(json!({"x": "x".repeat((length - short) * 3 / 4)})))
    };
    let large = filler(MAX_BYTES - 4);
    assert!(large.len() <= MAX_BYTES && large.len() > MAX_BYTES - 16);
    add("a token of nearly 16 KiB", large, OK);
    let larger = filler(MAX_BYTES + 16);
    assert!(larger.len() > MAX_BYTES);
    let long: Expected = Err(("too_long", "longer than 16384 bytes"));
    add("a token of more than 16 KiB", larger, long);
    add("a megabyte of letters", "a".repeat(1 << 20), long);
    add("16 KiB of letters", "a".repeat(MAX_BYTES), PARTS);
    add("16 KiB of dots", ".".repeat(MAX_BYTES), PARTS);
    add("16 KiB of header", format!("{}.e30.AA", "A".repeat(16_000)), HEADER);

    let evil = keys().strange_ed.jwk("ed");
    for (header, expected) in [
        (r#"{"alg":"EdDSA","kid":"ed"}"#.to_owned(), OK),
        (r#"{"alg":"Ed25519","kid":"ed"}"#.to_owned(), OK),
        (r#" { "kid" : "ed" , "alg" : "EdDSA" } "#.to_owned(), OK),
        // typ
        (r#"{"alg":"EdDSA","kid":"ed","typ":"JWT"}"#.to_owned(), OK),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"jwt"}"#.to_owned(), OK),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}"#.to_owned(), OK),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"AT+JWT"}"#.to_owned(), OK),
        (
            r#"{"alg":"EdDSA","kid":"ed","typ":"application/at+jwt"}"#.to_owned(),
            OK,
        ),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"application/jwt"}"#.to_owned(), OK),
        (r#"{"alg":"EdDSA","kid":"ed","typ":""}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":null}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":1}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":["JWT"]}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"dpop+jwt"}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"secevent+jwt"}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"text/jwt"}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"application/"}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"JWT "}"#.to_owned(), TYPE),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"JWE"}"#.to_owned(), TYPE),
        // crit and what would have to be in it
        (r#"{"alg":"EdDSA","kid":"ed","crit":["exp"]}"#.to_owned(), CRITICAL),
        (r#"{"alg":"EdDSA","kid":"ed","crit":[]}"#.to_owned(), CRITICAL),
        (r#"{"alg":"EdDSA","kid":"ed","crit":null}"#.to_owned(), CRITICAL),
        (r#"{"alg":"EdDSA","kid":"ed","crit":["alg"]}"#.to_owned(), CRITICAL),
        (
            r#"{"alg":"EdDSA","kid":"ed","crit":["b64"],"b64":false}"#.to_owned(),
            CRITICAL,
        ),
        (r#"{"alg":"EdDSA","kid":"ed","crit":["x"],"x":1}"#.to_owned(), CRITICAL),
        (r#"{"alg":"EdDSA","kid":"ed","b64":false}"#.to_owned(), FORM),
        (r#"{"alg":"EdDSA","kid":"ed","b64":true}"#.to_owned(), FORM),
        (r#"{"alg":"EdDSA","kid":"ed","zip":"DEF"}"#.to_owned(), FORM),
        (r#"{"alg":"EdDSA","kid":"ed","enc":"A256GCM"}"#.to_owned(), FORM),
        (r#"{"alg":"EdDSA","kid":"ed","x":1,"y":{"z":[]}}"#.to_owned(), OK),
        // kid
        (r#"{"alg":"EdDSA"}"#.to_owned(), OK),
        (r#"{"alg":"EdDSA","kid":""}"#.to_owned(), UNKNOWN),
        (r#"{"alg":"EdDSA","kid":"ED"}"#.to_owned(), UNKNOWN),
        (r#"{"alg":"EdDSA","kid":"ed "}"#.to_owned(), UNKNOWN),
        (r#"{"alg":"EdDSA","kid":"ed\u0000"}"#.to_owned(), UNKNOWN),
        (r#"{"alg":"EdDSA","kid":"\u0065d"}"#.to_owned(), OK),
        (r#"{"alg":"EdDSA","kid":"e%64"}"#.to_owned(), UNKNOWN),
        (r#"{"alg":"EdDSA","kid":"../../../dev/null"}"#.to_owned(), UNKNOWN),
        (r#"{"alg":"EdDSA","kid":"/etc/passwd"}"#.to_owned(), UNKNOWN),
        (r#"{"alg":"EdDSA","kid":"./ed"}"#.to_owned(), UNKNOWN),
        (r#"{"alg":"EdDSA","kid":"ed' OR '1'='1"}"#.to_owned(), UNKNOWN),
        (
            r#"{"alg":"EdDSA","kid":"https://evil.example.com/keys"}"#.to_owned(),
            UNKNOWN,
        ),
        (r#"{"alg":"EdDSA","kid":"0"}"#.to_owned(), UNKNOWN),
        (format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, "k".repeat(5000)), UNKNOWN),
        (
            r#"{"alg":"EdDSA","kid":null}"#.to_owned(),
            Err(("malformed", "its 'kid' is not a text")),
        ),
        (
            r#"{"alg":"EdDSA","kid":1}"#.to_owned(),
            Err(("malformed", "its 'kid' is not a text")),
        ),
        (
            r#"{"alg":"EdDSA","kid":["ed"]}"#.to_owned(),
            Err(("malformed", "its 'kid' is not a text")),
        ),
        // alg
        (
            r#"{"kid":"ed"}"#.to_owned(),
            Err(("malformed", "its header has no 'alg'")),
        ),
        (r#"{"alg":null,"kid":"ed"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":1,"kid":"ed"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":["EdDSA"],"kid":"ed"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"","kid":"ed"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"eddsa","kid":"ed"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"EdDSA ","kid":"ed"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"Ed448","kid":"ed"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"dir","kid":"ed"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"RSA1_5","kid":"rsa"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"RSA-OAEP","kid":"rsa"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"ES256K","kid":"p256"}"#.to_owned(), ALGORITHM),
        (r#"{"alg":"RS1","kid":"rsa"}"#.to_owned(), ALGORITHM),
        // members twice
        (r#"{"alg":"EdDSA","alg":"EdDSA","kid":"ed"}"#.to_owned(), HEADER),
        (r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#.to_owned(), HEADER),
        (r#"{"alg":"EdDSA","\u0061lg":"none","kid":"ed"}"#.to_owned(), HEADER),
        (r#"{"alg":"EdDSA","kid":"ed","kid":"rsa"}"#.to_owned(), HEADER),
        (r#"{"alg":"EdDSA","kid":"ed","x":{"y":1,"y":2}}"#.to_owned(), HEADER),
        // not an object
        ("[]".to_owned(), HEADER),
        ("\"EdDSA\"".to_owned(), HEADER),
        ("null".to_owned(), HEADER),
        ("{".to_owned(), HEADER),
        ("{}{}".to_owned(), HEADER),
        ("alg=EdDSA".to_owned(), HEADER),
        (
            format!("{{\"alg\":\"EdDSA\",\"x\":{}{}}}", "[".repeat(3000), "]".repeat(3000)),
            HEADER,
        ),
        // the provider's own key, with others offered beside it
        (json!({"alg": "EdDSA", "kid": "ed", "jwk": evil}).to_string(), OK),
        (
            json!({"alg": "EdDSA", "kid": "ed", "jku": "https://evil.example.com/keys"}).to_string(),
            OK,
        ),
        (
            json!({"alg": "EdDSA", "kid": "ed", "x5u": "https://evil.example.com/cert"}).to_string(),
            OK,
        ),
        (json!({"alg": "EdDSA", "kid": "ed", "x5c": ["MIIB"]}).to_string(), OK),
    ] {
        let name = format!("header {}", header.chars().take(90).collect::<String>());
        add(
            &name,
            token_of(&keys().ed, &header, &claims(json!({})).to_string()),
            expected,
        );
    }

    // A stranger's key that the header offers.
    let fine = claims(json!({"exp": NOW + 60})).to_string();
    for offer in [
        json!({"alg": "EdDSA", "kid": "ed", "jwk": evil}),
        json!({"alg": "EdDSA", "jwk": evil}),
        json!({"alg": "EdDSA", "kid": "ed", "jku": "http://127.0.0.1/keys"}),
        json!({"alg": "EdDSA", "kid": "ed", "x5u": "http://127.0.0.1/cert"}),
        json!({"alg": "EdDSA", "kid": "ed", "x5c": ["MIIB"]}),
        json!({"alg": "EdDSA", "kid": "ed"}),
    ] {
        add(
            &format!("a stranger's {offer}"),
            token_of(&keys().strange_ed, &offer.to_string(), &fine),
            SIGNATURE,
        );
    }
    let offer = json!({"alg": "EdDSA", "kid": "new", "jwk": keys().strange_ed.jwk("new")}).to_string();
    add(
        "a stranger's key under a new id",
        token_of(&keys().strange_ed, &offer, &fine),
        UNKNOWN,
    );
    cases
}

#[tokio::test]
async fn every_form_case() {
    check(cases()).await;
}

#[test]
fn a_token_is_in_no_error_and_no_debug_output() {
    let secret = token(&claims(json!({"sub": "SECRET-SUBJECT"})));
    let read = crate::token::Token::parse(&secret).unwrap();
    let shown = format!("{read:?}");
    assert!(!shown.contains(&secret[100..120]) && !shown.contains("ed\""), "{shown}");
    let claims = crate::claims::Claims::parse(&read.payload().unwrap()).unwrap();
    assert!(!format!("{claims:?}").contains("SECRET"));
}
