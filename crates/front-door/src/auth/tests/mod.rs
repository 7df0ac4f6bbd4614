//! Verification against other people's signers: the signing cases of AWS, the SDK for Rust, botocore.

mod authorization;
mod botocore;
mod keys;
mod property;
mod refusals;
mod suite;

use super::{AccessKey, Directory, EMPTY_PAYLOAD, Payload, Pending, Refusal, Scope, Service, Shown, Verifier};
use aws_lc_rs::digest::{SHA256, digest};
use domain::id::AccountId;
use domain::{Clock, Principal};
use http::request::Parts;
use jiff::Timestamp;
use std::sync::Arc;
use zeroize::Zeroizing;

fn key(id: &str, secret: &str, session_token: Option<&str>) -> AccessKey {
    AccessKey {
        id: id.to_owned(),
        account: AccountId::parse("123456789012").unwrap(),
        secret: Zeroizing::new(secret.to_owned()),
        session_token: session_token.map(|token| Zeroizing::new(token.to_owned())),
        enabled: true,
    }
}

fn verifier(key: AccessKey, region: &str, service: &str, now: &str) -> Verifier {
    let now: Timestamp = now.parse().unwrap();
    let scope = Scope {
        region: region.to_owned(),
        service: service.to_owned(),
    };
    Verifier::for_scope(
        Arc::new(Directory::fixed([key]).unwrap()),
        scope,
        Clock::from_fn(move || now),
    )
}

/// The head's check of a request that is signed for AgentCore, one way or the other.
trait Check {
    fn check<'a>(&self, parts: &'a Parts) -> Result<Pending<'a>, Refusal>;
}

impl Check for Verifier {
    fn check<'a>(&self, parts: &'a Parts) -> Result<Pending<'a>, Refusal> {
        let shown = Box::leak(Box::new(Shown::of(parts)?));
        self.check_head(parts, shown, Service::AgentCore)
    }
}

/// What the front door does with a request, in one step. A body that has not the declared hash is a refusal here.
fn verify(verifier: &Verifier, parts: &Parts, body: &[u8]) -> Result<Arc<Principal>, Refusal> {
    let pending = verifier.check(parts)?;
    let hash: [u8; 32] = digest(&SHA256, body).as_ref().try_into().unwrap();
    if let Payload::Declared(declared) = pending.payload() {
        // The signature is right for the declared hash whatever the body is; the body is compared as it streams.
        assert_eq!(
            pending.verify(&declared).is_ok() && declared == hash,
            pending.verify(&hash).is_ok()
        );
    }
    pending.verify(&hash).map(|key| Arc::clone(key.principal()))
}

fn parts(method: &str, uri: &str, headers: &[(String, String)]) -> Result<Parts, http::Error> {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(name, value.as_bytes());
    }
    Ok(request.body(())?.into_parts().0)
}

#[test]
fn the_empty_payload_is_the_hash_of_nothing() {
    assert_eq!(digest(&SHA256, b"").as_ref(), EMPTY_PAYLOAD);
}
