//! The session token: what temporary credentials are and may, sealed.
//!
//! Base64 of `version (1 byte) | nonce (12) | ciphertext | tag (16)`, AES-256-GCM under a key that is derived from the
//! master key for this purpose only. The id of the credentials is authenticated with it. A build opens the versions
//! that it knows; another is an unknown token.
//!
//! Invariant: a token is opened before anything in it is believed, and its length is looked at before it is opened.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::id::AccountId;
use serde::{Deserialize, Serialize};
use storage::seal::MasterKey;
use zeroize::Zeroizing;

use crate::Error;

const VERSION: u8 = 1;
const TAG_LEN: usize = 16;
/// What the key is derived for.
const PURPOSE: &str = "eyot session token v1";
/// Bytes of what is sealed. With base64 it leaves room for the rest of a request's head.
pub(crate) const MAX_CLAIMS: usize = 6144;
/// Characters of a token.
const MAX_TOKEN: usize = (1 + NONCE_LEN + MAX_CLAIMS + TAG_LEN).div_ceil(3) * 4;

/// Seals and opens tokens.
pub(crate) struct Sealer(LessSafeKey);

/// What a token says. Field names are short because every request carries them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    #[serde(rename = "k")]
    pub(crate) secret: Zeroizing<String>,
    #[serde(rename = "a")]
    pub(crate) account: AccountId,
    #[serde(rename = "o")]
    pub(crate) of: Of,
    /// Milliseconds since 1970.
    #[serde(rename = "i")]
    pub(crate) issued_ms: i64,
    /// Seconds since 1970.
    #[serde(rename = "e")]
    pub(crate) expires: i64,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) session_policy: Option<String>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_identity: Option<String>,
    #[serde(rename = "t", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
}

/// Whom credentials act for. With the unique id: a role that is deleted and made again is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Of {
    #[serde(rename = "r")]
    Role { name: String, id: String, session: String },
    #[serde(rename = "u")]
    User { name: String, id: String },
    #[serde(rename = "root")]
    Root,
}

impl Sealer {
    pub(crate) fn new(master: &MasterKey) -> Self {
        let key = master.derive(PURPOSE);
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("the key has the cipher's length");
        Self(LessSafeKey::new(key))
    }

    /// The token, and how full it is in percent.
    pub(crate) fn seal(&self, id: &str, claims: &Claims) -> Result<(Zeroizing<String>, u8), Error> {
        // Sized for the largest, so that growing leaves no copy of the secret behind.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_CLAIMS + TAG_LEN));
        serde_json::to_writer(Bounded(&mut body), claims).map_err(|_| {
            let problem = format!("session policy and tags together take more than the {MAX_CLAIMS} bytes of a token");
            Error::invalid("Policy", problem)
        })?;
        let percent = u8::try_from(body.len() * 100 / MAX_CLAIMS).unwrap_or(100);
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| Error::Random)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len() + TAG_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        let tag = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(id.as_bytes()),
            body.as_mut_slice(),
        );
        let tag = tag.map_err(|_| Error::Random)?;
        sealed.extend_from_slice(&body);
        sealed.extend_from_slice(tag.as_ref());
        Ok((Zeroizing::new(URL_SAFE_NO_PAD.encode(sealed)), percent))
    }

    /// What a token says that was sealed for this id; nothing if it was not.
    pub(crate) fn open(&self, id: &str, token: &[u8]) -> Option<Claims> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = sealed.split_first()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *version != VERSION {
            return None;
        }
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.0.open_in_place(nonce, Aad::from(id.as_bytes()), &mut body).ok()?;
        serde_json::from_slice(plain).ok()
    }
}

/// Takes no more than the buffer was made for.
struct Bounded<'a>(&'a mut Vec<u8>);

impl std::io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_CLAIMS {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
