//! A signed JSON Web Token as text: three parts of base64url, the first an object that says how the third was made.
//!
//! `jku`, `jwk`, `x5u` and `x5c` offer keys of the sender's choice; they are not looked at. The key is one that the
//! provider publishes, or none.
//!
//! Invariant: nothing of the claims is read here: their signature is checked first.

use crate::json;
use crate::keys::Algorithm;
use crate::refusal::Refusal;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use std::fmt;

/// A longer token is not looked at.
pub const MAX_BYTES: usize = 16 * 1024;

/// A token whose signature is still to be checked.
pub struct Token<'a> {
    /// How it says that it was signed.
    pub algorithm: Algorithm,
    /// The key that it says it was signed with.
    pub key_id: Option<String>,
    /// What is signed: header and claims as they came.
    pub signed: &'a str,
    /// The signature.
    pub signature: Vec<u8>,
    claims: &'a str,
}

impl<'a> Token<'a> {
    /// Reads a token's form and header. Encodings with padding, white space or unused bits are refused, so that one
    /// token has one text.
    pub fn parse(token: &'a str) -> Result<Self, Refusal> {
        if token.is_empty() {
            return Err(Refusal::Missing);
        }
        if token.len() > MAX_BYTES {
            return Err(Refusal::TooLong);
        }
        let three = Refusal::Malformed("it does not have three parts");
        let (signed, signature) = token.rsplit_once('.').ok_or(three.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(three.clone())?;
        if claims.contains('.') {
            // Five parts are an encrypted token.
            return Err(three);
        }
        let header = decode(header).ok_or(Refusal::Malformed("its header is not base64url without padding"))?;
        let header = json::object(&header).ok_or(Refusal::Malformed(
            "its header is not a JSON object that names each member once",
        ))?;
        if header.contains_key("crit") {
            return Err(Refusal::Critical);
        }
        // A payload that is not base64url would have to be announced in `crit`.
        if header.contains_key("b64") || header.contains_key("enc") || header.contains_key("zip") {
            return Err(Refusal::Malformed("its header is not that of a signed JSON Web Token"));
        }
        match header.get("typ") {
            None => {}
            Some(Value::String(kind)) if is_accepted_type(kind) => {}
            Some(_) => return Err(Refusal::Type),
        }
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => Algorithm::parse(name).ok_or(Refusal::Algorithm)?,
            Some(_) => return Err(Refusal::Algorithm),
            None => return Err(Refusal::Malformed("its header has no 'alg'")),
        };
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(Refusal::Malformed("its 'kid' is not a text")),
        };
        let signature =
            decode(signature).ok_or(Refusal::Malformed("its signature is not base64url without padding"))?;
        Ok(Self {
            algorithm,
            key_id,
            signed,
            signature,
            claims,
        })
    }

    /// The bytes that the claims are written in; meaningful once the signature is known to be good.
    pub fn payload(&self) -> Result<Vec<u8>, Refusal> {
        decode(self.claims).ok_or(Refusal::Malformed("its claims are not base64url without padding"))
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// What RFC 7519 and RFC 9068 call a token that stands for its bearer. Others, such as logout tokens, are signed with
/// the same keys and mean something else.
fn is_accepted_type(kind: &str) -> bool {
    let kind = match kind.split_at_checked("application/".len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => kind,
    };
    kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("at+jwt")
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}
