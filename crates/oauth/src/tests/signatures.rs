//! Every algorithm with every key, and what is not a signature.

use super::bed::{Bed, Case, Signer, b64, claims, default_config, keys, token_of};
use super::check;
use aws_lc_rs::hmac;
use serde_json::json;

type Expected = Result<(), (&'static str, &'static str)>;
const OK: Expected = Ok(());
const ALGORITHM: Expected = Err(("algorithm", "The token's 'alg' is not accepted"));
const KEY: Expected = Err(("key_mismatch", "not for the token's 'alg'"));
const SIGNATURE: Expected = Err(("signature", "Invalid signature."));
const AMBIGUOUS: Expected = Err(("ambiguous_key", "The token has no 'kid'"));

const RSA: &[&str] = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let claims = claims(json!({})).to_string();
    let mut add = |name: String, token: String, expected| {
        cases.push(Case {
            name,
            config: default_config(),
            token,
            expected,
        });
    };
    let keys = keys();
    let published: [(&str, &Signer, &[&str]); 5] = [
        ("rsa", &keys.rsa, RSA),
        ("p256", &keys.p256, &["ES256"]),
        ("p384", &keys.p384, &["ES384"]),
        ("p521", &keys.p521, &["ES512"]),
        ("ed", &keys.ed, &["EdDSA", "Ed25519"]),
    ];
    let all = ["ES256", "ES384", "ES512", "EdDSA", "Ed25519"];
    for (id, signer, own) in published {
        for alg in RSA.iter().chain(&all) {
            let header = json!({"alg": alg, "kid": id}).to_string();
            let expected = if own.contains(alg) { OK } else { KEY };
            add(format!("{alg} with {id}"), token_of(signer, &header, &claims), expected);
            // The same claim about a stranger's signature.
            let forged = if own.contains(alg) { SIGNATURE } else { KEY };
            add(
                format!("{alg} of a stranger as {id}"),
                token_of(&keys.stranger, &header, &claims),
                forged,
            );
        }
        // The public key, which everybody has, as a secret.
        let der = signer.public();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", b64(&der));
        let jwk = signer.jwk(id).to_string();
        for (form, secret) in [
            ("der", der.as_slice()),
            ("pem", pem.as_bytes()),
            ("jwk", jwk.as_bytes()),
            ("nothing", b""),
        ] {
            let how = [
                ("HS256", hmac::HMAC_SHA256),
                ("HS384", hmac::HMAC_SHA384),
                ("HS512", hmac::HMAC_SHA512),
            ];
            for (alg, algorithm) in how {
                let signed = format!("{}.{}", b64(json!({"alg": alg, "kid": id}).to_string()), b64(&claims));
                let tag = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
                add(
                    format!("{alg} with {id} as {form}"),
                    format!("{signed}.{}", b64(tag)),
                    ALGORITHM,
                );
            }
        }
        for none in ["none", "None", "NONE", "nOnE", "none ", "n\u{43e}ne", "null"] {
            let signed = format!("{}.{}", b64(json!({"alg": none, "kid": id}).to_string()), b64(&claims));
            add(format!("{none} as {id}, unsigned"), format!("{signed}."), ALGORITHM);
            add(
                format!("{none} as {id}, signed"),
                format!("{signed}.{}", b64(signer.sign("", signed.as_bytes()))),
                ALGORITHM,
            );
        }
    }
    // One padding or digest announced, another used.
    for (said, used) in [
        ("RS256", "PS256"),
        ("PS256", "RS256"),
        ("RS256", "RS512"),
        ("PS384", "PS256"),
    ] {
        let signed = format!(
            "{}.{}",
            b64(json!({"alg": said, "kid": "rsa"}).to_string()),
            b64(&claims)
        );
        let signature = keys.rsa.sign(used, signed.as_bytes());
        add(
            format!("{said} signed as {used}"),
            format!("{signed}.{}", b64(signature)),
            SIGNATURE,
        );
    }
    // The form of ECDSA signatures that X.509 uses, and the two numbers that once opened every lock.
    let header = b64(json!({"alg": "ES256", "kid": "p256"}).to_string());
    for (name, signature) in [
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 64]),
        ("nothing", Vec::new()),
        ("an ASN.1 sequence of zeros", vec![0x30, 6, 2, 1, 0, 2, 1, 0]),
        ("an ASN.1 sequence of ones", vec![0x30, 6, 2, 1, 1, 2, 1, 1]),
        ("96 bytes", vec![1; 96]),
    ] {
        add(
            format!("ES256: {name}"),
            format!("{header}.{}.{}", b64(&claims), b64(signature)),
            SIGNATURE,
        );
    }
    // No key named: only where one fits.
    for (alg, signer, expected) in [
        ("RS256", &keys.rsa, OK),
        ("ES256", &keys.p256, OK),
        ("ES384", &keys.p384, OK),
        ("EdDSA", &keys.ed, OK),
        ("EdDSA", &keys.strange_ed, SIGNATURE),
        ("RS256", &keys.stranger, SIGNATURE),
        ("RS256", &keys.ed, SIGNATURE),
    ] {
        let header = json!({"alg": alg}).to_string();
        add(
            format!("{alg} without kid"),
            token_of(signer, &header, &claims),
            expected,
        );
    }
    cases
}

#[tokio::test]
async fn every_signature_case() {
    check(cases()).await;
}

/// What a published key says about itself decides what it may be used for.
#[tokio::test]
async fn what_a_key_is_for() {
    let keys = keys();
    let claims = claims(json!({})).to_string();
    let changed = |signer: &Signer, changes: serde_json::Value| {
        let mut jwk = signer.jwk("k");
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
            if value.is_null() {
                jwk.as_object_mut().unwrap().remove(name);
            }
        }
        jwk
    };
    let rsa = |changes| changed(&keys.rsa, changes);
    let ed = |changes| changed(&keys.ed, changes);
    let short = b64([0xff; 128]);
    for (name, published, alg, signer, expected) in [
        ("plain", vec![rsa(json!({}))], "RS256", &keys.rsa, "ok"),
        (
            "for this algorithm",
            vec![rsa(json!({"alg": "RS256"}))],
            "RS256",
            &keys.rsa,
            "ok",
        ),
        (
            "for another algorithm",
            vec![rsa(json!({"alg": "RS256"}))],
            "PS256",
            &keys.rsa,
            "key_mismatch",
        ),
        (
            "for an unknown algorithm",
            vec![rsa(json!({"alg": "X"})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "for another type",
            vec![rsa(json!({"alg": "ES256"})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "for HS256",
            vec![rsa(json!({"alg": "HS256"})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "for encryption",
            vec![rsa(json!({"use": "enc"})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        ("without use", vec![rsa(json!({"use": null}))], "RS256", &keys.rsa, "ok"),
        (
            "key_ops verify",
            vec![rsa(json!({"key_ops": ["verify"]}))],
            "RS256",
            &keys.rsa,
            "ok",
        ),
        (
            "key_ops encrypt",
            vec![rsa(json!({"key_ops": ["encrypt"]})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "key_ops of another form",
            vec![rsa(json!({"key_ops": "verify"})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "with its private part",
            vec![rsa(json!({"d": "AQAB"})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "a short modulus",
            vec![rsa(json!({"n": short})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "an exponent of one",
            vec![rsa(json!({"e": "AQ"})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "an even exponent",
            vec![rsa(json!({"e": "Ag"})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "a secret",
            vec![
                json!({"kty": "oct", "k": b64(keys.rsa.public()), "kid": "k"}),
                ed(json!({"kid": "e"})),
            ],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "a zero before the modulus",
            vec![rsa(json!({"n": leading_zero(&keys.rsa)}))],
            "RS256",
            &keys.rsa,
            "ok",
        ),
        (
            "kid that is a number",
            vec![rsa(json!({"kid": 1})), ed(json!({"kid": "e"}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "without kid",
            vec![rsa(json!({"kid": null}))],
            "RS256",
            &keys.rsa,
            "unknown_key",
        ),
        (
            "a point off the curve",
            vec![changed(&keys.p256, json!({"x": b64([1; 32])})), ed(json!({"kid": "e"}))],
            "ES256",
            &keys.p256,
            "unknown_key",
        ),
        (
            "a short coordinate",
            vec![changed(&keys.p256, json!({"x": b64([1; 31])})), ed(json!({"kid": "e"}))],
            "ES256",
            &keys.p256,
            "unknown_key",
        ),
        (
            "the wrong curve's name",
            vec![changed(&keys.p256, json!({"crv": "P-384"})), ed(json!({"kid": "e"}))],
            "ES384",
            &keys.p256,
            "unknown_key",
        ),
        (
            "two keys of one id, the second fits",
            vec![changed(&keys.stranger, json!({})), rsa(json!({}))],
            "RS256",
            &keys.rsa,
            "ok",
        ),
        (
            "two keys of one id, two types",
            vec![ed(json!({})), rsa(json!({}))],
            "RS256",
            &keys.rsa,
            "ok",
        ),
        (
            "two keys of one id, neither fits",
            vec![rsa(json!({})), rsa(json!({}))],
            "RS256",
            &keys.stranger,
            "signature",
        ),
    ] {
        let bed = Bed::start().await;
        bed.provider.publish(super::bed::ISSUER, &json!(published));
        let header = json!({"alg": alg, "kid": "k"}).to_string();
        assert_eq!(bed.code(&token_of(signer, &header, &claims)).await, expected, "{name}");
    }
}

#[tokio::test]
async fn without_kid_a_key_must_be_the_only_one() {
    let bed = Bed::start().await;
    bed.provider.publish(
        super::bed::ISSUER,
        &json!([keys().ed.jwk("a"), keys().strange_ed.jwk("b"), keys().rsa.jwk("c")]),
    );
    let claims = claims(json!({})).to_string();
    for (alg, signer, expected) in [
        ("EdDSA", &keys().ed, AMBIGUOUS.unwrap_err().0),
        ("EdDSA", &keys().strange_ed, AMBIGUOUS.unwrap_err().0),
        ("RS256", &keys().rsa, "ok"),
    ] {
        assert_eq!(
            bed.code(&token_of(signer, &json!({"alg": alg}).to_string(), &claims))
                .await,
            expected
        );
    }
}

fn leading_zero(signer: &Signer) -> String {
    // PKCS #1 has the zero that makes the number positive.
    b64(&signer.public()[8..265])
}
