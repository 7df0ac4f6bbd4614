//! The check itself: the head first, the signature when the payload's hash is known.

use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use domain::Clock;
use http::header::HOST;
use http::request::Parts;
use iam::keys::{Key, Missing};
use jiff::Timestamp;

use super::authorization::{self, ALGORITHM, Authorization, TERMINATOR, lower_hex, quote};
use super::canonical::{Form, hosts};
use super::date::Signed;
use super::{Directory, Refusal, Scope, Shown};
use crate::headers;

/// SHA-256 of nothing: the payload's hash of a request without a body.
pub const EMPTY_PAYLOAD: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

const PAYLOAD_HEADER: &str = "x-amz-content-sha256";
const TOKEN_HEADER: &str = "x-amz-security-token";
/// `x-amz-*` headers that need not be signed; the module doc of `auth` says why.
const MAY_BE_UNSIGNED: [&str; 3] = [TOKEN_HEADER, "x-amz-user-agent", "x-amz-cf-id"];
/// The SDK's WebSocket helper sends two.
const MAX_HOSTS: usize = 4;
/// Enough for the canonical request of an SDK's call without growing.
const USUAL_TEXT: usize = 1024;

/// The region of the one endpoint that older clients know for STS, whatever region they are in.
const GLOBAL_REGION: &str = "us-east-1";

/// Verifies signatures for one region. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier {
    directory: Arc<Directory>,
    agentcore: Arc<Scope>,
    sts: Arc<Scope>,
    sts_global: Arc<Scope>,
    clock: Clock,
}

/// What a request must be signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `bedrock-agentcore`: both planes, and everything of ours.
    AgentCore,
    /// `sts`.
    Sts,
}

/// Where the hash of the payload comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// The client signed this SHA-256. Verify with it at once; then the body must turn out to have it.
    Declared([u8; 32]),
    /// The client did not say. Hash the whole body before anything is done with it.
    Needed,
}

/// A request whose head is in order and whose signature has not been compared yet.
#[must_use = "nothing is proven until `verify` succeeds"]
#[derive(Debug)]
pub struct Pending<'a> {
    parts: &'a Parts,
    authorization: Authorization<'a>,
    signed: Signed,
    payload: Payload,
    key: Arc<Key>,
    scope: Arc<Scope>,
    now: Timestamp,
}

impl Verifier {
    /// A verifier of calls by these keys, signed for this region.
    #[must_use]
    pub fn new(directory: Arc<Directory>, region: &str, clock: Clock) -> Self {
        let scope = |region: &str, service: &str| {
            let (region, service) = (region.to_owned(), service.to_owned());
            Arc::new(Scope { region, service })
        };
        Self {
            directory,
            agentcore: scope(region, "bedrock-agentcore"),
            sts: scope(region, "sts"),
            sts_global: scope(GLOBAL_REGION, "sts"),
            clock,
        }
    }

    /// One whose calls must be signed for this scope, such as that of somebody else's test cases.
    #[cfg(test)]
    pub(super) fn for_scope(directory: Arc<Directory>, scope: Scope, clock: Clock) -> Self {
        Self {
            agentcore: Arc::new(scope),
            ..Self::new(directory, "us-west-2", clock)
        }
    }

    /// Checks all that can be checked before the body: form, date, scope, key. Does not compare the signature.
    pub fn check_head<'a>(
        &self,
        parts: &'a Parts,
        shown: &'a Shown<'a>,
        service: Service,
    ) -> Result<Pending<'a>, Refusal> {
        let (authorization, signed, token) = match shown {
            Shown::Nothing => return Err(Refusal::MissingAuthenticationToken),
            Shown::Bearer(_) => return Err(Refusal::MethodMismatch),
            Shown::Header(header) => {
                let authorization = authorization::parse(header)?;
                check_headers(parts, &authorization)?;
                let signed = Signed::from_headers(&parts.headers)?;
                signed.check_skew(self.clock.now())?;
                let token = headers::all(&parts.headers, TOKEN_HEADER).next();
                (authorization, signed, token.map(http::HeaderValue::as_bytes))
            }
            Shown::Presigned(presigned) => {
                let authorization = presigned.authorization()?;
                check_headers(parts, &authorization)?;
                let signed = Signed::from_query(&presigned.date)?;
                signed.check_presigned(presigned.expires, self.clock.now())?;
                (authorization, signed, presigned.token.as_deref().map(str::as_bytes))
            }
        };
        let scope = self.scope(service, authorization.region);
        check_scope(scope, &authorization, &signed)?;
        let payload = payload(parts)?;

        let found = self.directory.find(authorization.access_key_id, token);
        let missing = found.as_ref().err().copied();
        let key = found.unwrap_or_else(|_| self.directory.decoy());
        let pending = Pending {
            parts,
            authorization,
            signed,
            payload,
            key,
            scope: Arc::clone(scope),
            now: self.clock.now(),
        };
        let Some(missing) = missing else { return Ok(pending) };
        // The same work as for a key that exists, so that the time to this answer says nothing about keys.
        let _ = pending.matches(&Form::usual(parts), &EMPTY_PAYLOAD, &mut Vec::with_capacity(USUAL_TEXT));
        Err(match missing {
            Missing::Unknown => Refusal::UnrecognizedClient,
            Missing::Expired => Refusal::ExpiredToken,
        })
    }

    /// Who there is.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What a request must be signed for that says it is signed for `region`.
    fn scope(&self, service: Service, region: &str) -> &Arc<Scope> {
        match service {
            Service::AgentCore => &self.agentcore,
            Service::Sts if region == GLOBAL_REGION => &self.sts_global,
            Service::Sts => &self.sts,
        }
    }
}

fn check_scope(scope: &Scope, authorization: &Authorization<'_>, signed: &Signed) -> Result<(), Refusal> {
    if authorization.day.as_bytes() != signed.day().as_slice() {
        let date = String::from_utf8_lossy(signed.day()).into_owned();
        return Err(Refusal::ScopeDate {
            scope: authorization.day.to_owned(),
            date,
        });
    }
    if authorization.region != scope.region {
        return Err(Refusal::ScopeRegion {
            got: quote(authorization.region),
            expected: scope.region.clone(),
        });
    }
    if authorization.service != scope.service {
        let expected = scope.service.clone();
        return Err(Refusal::ScopeService {
            got: quote(authorization.service),
            expected,
        });
    }
    Ok(())
}

impl Pending<'_> {
    /// Which hash [`Pending::verify`] needs.
    #[must_use]
    pub fn payload(&self) -> Payload {
        self.payload
    }

    /// What the request says it is signed with. Believed only once [`Pending::verify`] has succeeded.
    #[must_use]
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Compares the signature, given the SHA-256 of the payload: the declared one, or that of the body as it came.
    ///
    /// With a declared hash this proves the caller, not the body: whoever reads the body must still compare it.
    pub fn verify(&self, payload: &[u8; 32]) -> Result<Arc<Key>, Refusal> {
        if let Payload::Declared(declared) = self.payload
            && declared != *payload
        {
            return Err(Refusal::SignatureDoesNotMatch);
        }
        let mut text = Vec::with_capacity(USUAL_TEXT);
        let matches = self.matches(&Form::usual(self.parts), payload, &mut text)
            || Form::others(self.parts, self.authorization.signed_headers)
                .any(|form| self.matches(&form, payload, &mut text));
        // A body can take long to arrive; a key that was withdrawn meanwhile counts no more.
        if self.key.is_retired() {
            return Err(Refusal::UnrecognizedClient);
        }
        if matches {
            self.key.used(self.now);
            Ok(Arc::clone(&self.key))
        } else {
            Err(Refusal::SignatureDoesNotMatch)
        }
    }

    /// Whether the signature is that of the request in this form. `text` is scratch space.
    fn matches(&self, form: &Form<'_>, payload: &[u8; 32], text: &mut Vec<u8>) -> bool {
        text.clear();
        form.write(
            self.parts,
            self.authorization.signed_headers,
            &hex_digits(payload),
            text,
        );
        let digest = digest::digest(&digest::SHA256, text);

        // The string to sign.
        text.clear();
        text.extend_from_slice(ALGORITHM.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(self.signed.iso());
        text.push(b'\n');
        text.extend_from_slice(self.signed.day());
        for part in [&*self.scope.region, &*self.scope.service, TERMINATOR] {
            text.push(b'/');
            text.extend_from_slice(part.as_bytes());
        }
        text.push(b'\n');
        text.extend_from_slice(&hex_digits(digest.as_ref()));

        let derived = self
            .key
            .signing_key(self.signed.day(), self.signed.day_number(), &self.scope);
        // Compares in constant time.
        derived
            .as_ref()
            .is_some_and(|derived| hmac::verify(&derived.key, text, &self.authorization.signature).is_ok())
    }
}

/// Whether what must be signed is signed, and what is signed is there.
fn check_headers(parts: &Parts, authorization: &Authorization<'_>) -> Result<(), Refusal> {
    let signed = authorization.signed_headers;
    if !signed.contains(HOST.as_str()) {
        return Err(Refusal::HostNotSigned);
    }
    let host_count = hosts(parts).count();
    if host_count > MAX_HOSTS {
        return Err(Refusal::SeveralHosts(MAX_HOSTS));
    }
    for name in signed.names() {
        let present = if name == HOST {
            host_count > 0
        } else {
            headers::contains(&parts.headers, name)
        };
        if !present {
            return Err(Refusal::SignedHeaderMissing(quote(name)));
        }
    }
    for name in parts.headers.keys().map(http::HeaderName::as_str) {
        if name.starts_with("x-amz-") && !signed.contains(name) && !MAY_BE_UNSIGNED.contains(&name) {
            return Err(Refusal::UnsignedHeader(quote(name)));
        }
    }
    Ok(())
}

/// What the head says about the payload. [`check_headers`] has made sure that the header is signed.
fn payload(parts: &Parts) -> Result<Payload, Refusal> {
    let mut values = headers::all(&parts.headers, PAYLOAD_HEADER).map(http::HeaderValue::as_bytes);
    let Some(value) = values.next() else {
        return Ok(Payload::Needed);
    };
    match lower_hex(value) {
        Some(hash) if values.next().is_none() => Ok(Payload::Declared(hash)),
        _ => Err(Refusal::PayloadKind(quote(&String::from_utf8_lossy(value)))),
    }
}

/// A SHA-256 in lower-case hexadecimal.
fn hex_digits(hash: &[u8]) -> [u8; 64] {
    let mut digits = [0; 64];
    hex::encode_to_slice(hash, &mut digits).expect("SHA-256 has 32 bytes");
    digits
}
