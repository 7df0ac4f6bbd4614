//! What checking one bearer token costs: `cargo run --release -p eyot-oauth --example token_cost`.
//!
//! Measures a token of the usual size from its text to its bearer, remembered and new, against the crypto library's own
//! verification of the same signature with a key that is parsed already. A provider on loopback serves the keys. The
//! figures are wall time of one thread; the best round is the one with the least noise.
#![allow(clippy::print_stdout, reason = "a measurement for people")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, VerificationAlgorithm,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use oauth::{Config, Metrics, Providers, Settings};
use serde_json::json;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const CALLS: usize = 2_000;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let key = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let url = serve(&key)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settings = Settings {
        allow_loopback: true,
        ..Settings::default()
    };
    let clock = domain::Clock::system();
    let now = clock.now().as_second();
    let providers = Providers::new(&settings, clock, Metrics::default())?;
    let discovery = format!("{url}/.well-known/openid-configuration");
    let config: Config = serde_json::from_value(json!({
        "discovery_url": discovery, "allowed_audience": ["https://agents.example.com"], "allowed_clients": ["web"],
        "allowed_scopes": ["agents/invoke"],
        "custom_claims": [{"claim": "groups", "expected": {"contains": "staff"}}],
    }))?;
    let mint = |number: usize| {
        let claims = json!({
            "iss": "https://idp.example.com/", "sub": "5be86359-073c-434b-ad2d-a3932222dabe", "aud": "https://agents.example.com",
            "client_id": "web", "exp": now + 3600, "iat": now, "nbf": now, "jti": format!("{number:08}-8f3a-4a8b-9d9c-0d9c1c6a0a11"),
            "scope": "openid profile email agents/invoke", "groups": ["staff", "engineering"], "email": "ada@example.com",
            "email_verified": true, "name": "Ada Lovelace",
        });
        sign(&key, &claims.to_string())
    };
    let tokens = (0..ROUNDS * CALLS).map(mint).collect::<Outcome<Vec<_>>>()?;
    println!("a token has {} bytes", tokens[0].len());

    let check = |token: &str| runtime.block_on(providers.verify(&config, token)).is_ok();
    assert!(check(&mint(usize::MAX / 2)?), "the first fetches the keys");
    let (signed, signature) = tokens[0].rsplit_once('.').ok_or("three parts")?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature)?;
    let how: &'static dyn VerificationAlgorithm = &RSA_PKCS1_2048_8192_SHA256;
    let parsed = ParsedPublicKey::new(how, key.public_key().as_ref())?;

    // In turns, so that whatever else the machine does meets both.
    let (mut own, mut library) = (Vec::new(), Vec::new());
    for round in tokens.chunks(CALLS) {
        let start = Instant::now();
        for token in round {
            assert!(black_box(check(black_box(token))));
        }
        own.push(start.elapsed() / u32::try_from(CALLS)?);
        let start = Instant::now();
        for _ in 0..CALLS {
            assert!(black_box(parsed.verify_sig(black_box(signed.as_bytes()), black_box(&signature))).is_ok());
        }
        library.push(start.elapsed() / u32::try_from(CALLS)?);
    }
    let (fresh, verification) = (
        show("a new RS256 token", own),
        show("the library's verification", library),
    );
    println!(
        "a new token costs {:.2} times the library's verification",
        fresh.as_secs_f64() / verification.as_secs_f64()
    );

    let kept = &tokens[tokens.len() - 1];
    let cached = (0..ROUNDS).map(|_| {
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..CALLS * 10 {
                let _ = black_box(providers.verify(&config, black_box(kept)).await);
            }
            start.elapsed() / u32::try_from(CALLS * 10).unwrap_or(u32::MAX)
        })
    });
    show("a remembered token", cached.collect());
    Ok(())
}

fn show(what: &str, mut rounds: Vec<Duration>) -> Duration {
    rounds.sort_unstable();
    println!(
        "{what:<28} best {:>8.2?}   median {:>8.2?}",
        rounds[0],
        rounds[rounds.len() / 2]
    );
    rounds[0]
}

fn sign(key: &RsaKeyPair, claims: &str) -> Outcome<String> {
    let header =
        BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"9dd0fd13-6e5c-4b3a-a7a4-22ab1b3d3b6b","typ":"at+jwt"}"#);
    let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )?;
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// A provider that answers two requests.
fn serve(key: &RsaKeyPair) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    // PKCS #1: two integers, the first after a header and a zero.
    let der = key.public_key().as_ref();
    let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({
        "kty": "RSA", "n": b64(&der[9..265]), "e": b64(&der[der.len() - 3..]), "use": "sig", "alg": "RS256",
        "kid": "9dd0fd13-6e5c-4b3a-a7a4-22ab1b3d3b6b",
    });
    let document = json!({"issuer": "https://idp.example.com/", "jwks_uri": format!("{url}/keys")}).to_string();
    let bodies = [document, json!({"keys": [jwk]}).to_string()];
    std::thread::spawn(move || {
        for body in bodies {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    Ok(url)
}
