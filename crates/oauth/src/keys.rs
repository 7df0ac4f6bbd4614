//! The keys that a provider signs with, as it publishes them (RFC 7517), and the check of a signature.
//!
//! A key is parsed when it is fetched, once for each algorithm that it may serve. An elliptic curve fixes the
//! algorithm, and an RSA key has no use as a secret, so a token cannot choose how a key is to be understood.
//!
//! Invariant: asymmetric algorithms only. Invariant: a key that cannot be used is left out, never replaced.

use crate::json;
use crate::refusal::Refusal;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::fmt;

/// Providers publish two or three. With more than this the document is not what it should be.
const MAX_KEYS: usize = 256;
/// Keys of one id that are tried.
const MAX_TRIED: usize = 4;
/// Longest modulus, in bytes; checking a signature costs time with its square.
const MAX_MODULUS: usize = 1024;
const MIN_MODULUS: usize = 256;

/// How a token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// The usable keys of one provider.
pub struct KeySet {
    keys: Vec<Key>,
    left_out: Vec<&'static str>,
}

struct Key {
    id: Option<String>,
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

impl Algorithm {
    const RSA: [Self; 6] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// Reads an `alg`. `Ed25519` is RFC 9864's name for what `EdDSA` has always meant here.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }
}

impl KeySet {
    /// Reads a JWK set. Keys for encryption, for unknown algorithms and faulty ones are left out.
    pub fn parse(document: &[u8]) -> Result<Self, String> {
        let document = json::object(document)
            .ok_or("the keys are not a JSON object that names each member once: check `jwks_uri` of the provider")?;
        let Some(Value::Array(list)) = document.get("keys") else {
            return Err("the keys have no list `keys`: check `jwks_uri` of the provider".to_owned());
        };
        if list.len() > MAX_KEYS {
            return Err(format!(
                "there are {} keys, and at most {MAX_KEYS} are taken",
                list.len()
            ));
        }
        let (mut keys, mut left_out) = (Vec::new(), Vec::new());
        for jwk in list {
            match jwk.as_object().ok_or("not an object").and_then(Key::parse) {
                Ok(key) => keys.push(key),
                Err(why) => left_out.push(why),
            }
        }
        if keys.is_empty() {
            let why = left_out
                .first()
                .map(|why| format!(" (the first: {why})"))
                .unwrap_or_default();
            return Err(format!("none of the {} keys can be used{why}", list.len()));
        }
        Ok(Self { keys, left_out })
    }

    /// How many keys can be used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never; there is no set without a usable key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Why others cannot.
    #[must_use]
    pub fn left_out(&self) -> &[&'static str] {
        &self.left_out
    }

    /// Checks a signature with the key that the token names, or with the only one that fits where it names none.
    pub fn verify(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
        signed: &str,
        signature: &[u8],
    ) -> Result<(), Refusal> {
        let named = || {
            self.keys
                .iter()
                .filter(|key| key_id.is_none() || key.id.as_deref() == key_id)
        };
        let fitting = || named().filter_map(|key| key.verifier(algorithm)).take(MAX_TRIED);
        match (key_id, fitting().count()) {
            (Some(_), 0) if named().next().is_some() => return Err(Refusal::KeyMismatch),
            (_, 0) => return Err(Refusal::UnknownKey),
            (None, 2..) => return Err(Refusal::AmbiguousKey),
            _ => {}
        }
        if fitting().any(|key| key.verify_sig(signed.as_bytes(), signature).is_ok()) {
            return Ok(());
        }
        Err(Refusal::Signature)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Key {
    fn parse(jwk: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err("a member that must be a text is not"),
        };
        if text("use")?.is_some_and(|purpose| purpose != "sig") {
            return Err("not for signatures (`use`)");
        }
        match jwk.get("key_ops") {
            None => {}
            Some(Value::Array(list)) if list.iter().any(|op| op == "verify") => {}
            Some(_) => return Err("not for signatures (`key_ops`)"),
        }
        if ["d", "p", "q", "dp", "dq", "qi", "k"]
            .iter()
            .any(|name| jwk.contains_key(*name))
        {
            return Err("a private key or a secret, which anybody can sign with once it is published");
        }
        let declared = match text("alg")? {
            None => None,
            Some(name) => Some(Algorithm::parse(name).ok_or("an algorithm that is not accepted")?),
        };
        let number = |name: &str| {
            let bytes = text(name)?.and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
            bytes.ok_or("a number that is missing or not base64url without padding")
        };
        let one = |algorithm: Algorithm, how: &'static dyn VerificationAlgorithm, bytes: Vec<u8>| {
            let key = ParsedPublicKey::new(how, bytes).map_err(|_| "not a key of its type")?;
            Ok::<_, &'static str>(vec![(algorithm, key)])
        };
        let mut verifiers = match (text("kty")?, text("crv")?) {
            (Some("RSA"), _) => rsa(&number("n")?, &number("e")?)?,
            (Some("EC"), Some("P-256")) => one(
                Algorithm::Es256,
                &signature::ECDSA_P256_SHA256_FIXED,
                point(&number("x")?, &number("y")?, 32)?,
            )?,
            (Some("EC"), Some("P-384")) => one(
                Algorithm::Es384,
                &signature::ECDSA_P384_SHA384_FIXED,
                point(&number("x")?, &number("y")?, 48)?,
            )?,
            (Some("EC"), Some("P-521")) => one(
                Algorithm::Es512,
                &signature::ECDSA_P521_SHA512_FIXED,
                point(&number("x")?, &number("y")?, 66)?,
            )?,
            (Some("OKP"), Some("Ed25519")) => one(Algorithm::EdDsa, &signature::ED25519, number("x")?)?,
            _ => return Err("a type or curve that is not accepted"),
        };
        if let Some(declared) = declared {
            verifiers.retain(|(algorithm, _)| *algorithm == declared);
            if verifiers.is_empty() {
                return Err("its `alg` does not fit its type");
            }
        }
        Ok(Self {
            id: text("kid")?.map(str::to_owned),
            verifiers,
        })
    }

    fn verifier(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        let mut all = self.verifiers.iter();
        all.find_map(|(serves, key)| (*serves == algorithm).then_some(key))
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Vec<(Algorithm, ParsedPublicKey)>, &'static str> {
    let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
    let is_full = modulus.first().is_some_and(|first| first & 0x80 != 0);
    if !(MIN_MODULUS..=MAX_MODULUS).contains(&modulus.len()) || (modulus.len() == MIN_MODULUS && !is_full) {
        return Err("an RSA key shorter than 2048 or longer than 8192 bits");
    }
    let is_odd = exponent.last().is_some_and(|last| last & 1 == 1);
    if !is_odd || exponent == [1] || exponent.len() > 4 {
        return Err("an RSA key with an exponent that nobody should use");
    }
    let parts = RsaPublicKeyComponents {
        n: modulus,
        e: exponent,
    };
    let all = Algorithm::RSA
        .into_iter()
        .filter_map(|algorithm| Some((algorithm, algorithm.rsa()?)));
    all.map(|(algorithm, how)| match parts.to_parsed_public_key(how) {
        Ok(key) => Ok((algorithm, key)),
        Err(_) => Err("not a key of its type"),
    })
    .collect()
}

/// An uncompressed point; RFC 7518 wants coordinates of full length.
fn point(x: &[u8], y: &[u8], length: usize) -> Result<Vec<u8>, &'static str> {
    if x.len() != length || y.len() != length {
        return Err("a coordinate of the wrong length");
    }
    Ok([&[4], x, y].concat())
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
