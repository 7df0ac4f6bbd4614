//! Who calls: by a signature, or by a bearer token where the runtime's authorizer asks for one.
//!
//! Which of the two belongs to the version that is called, so it is asked before any credential is looked at. The wrong
//! kind is refused alike for every runtime (`AgentCore docs: oauth`); a runtime that does not exist is taken as one that
//! wants a signature.
//!
//! Invariant: without a token that its provider has signed nobody passes an authorizer, whatever fails.

use super::{Door, check_head, refused};
use crate::auth::shown::Token;
use crate::auth::{Pending, Refusal, Service, Shown};
use crate::authorize::Caller;
use crate::context::Context;
use crate::error::Failure;
use crate::metrics::ReasonLabel;
use crate::resource_metadata;
use crate::service::Head;
use domain::Principal;
use http::request::Parts;
use std::sync::Arc;

/// What is known of a caller once the head has been read.
pub(super) enum Proof<'p> {
    /// The signature is compared when the body's hash is known.
    Signed(Pending<'p>),
    /// Proven.
    Bearer(Caller),
}

/// Checks the credentials of a call whose runtime has this authorizer, or none.
pub(super) async fn check<'p>(
    door: &Door,
    context: &Context,
    parts: &'p Parts,
    shown: &'p Shown<'p>,
    head: Head<'_>,
    authorizer: Option<&oauth::Config>,
) -> Result<Proof<'p>, Failure> {
    let Some(authorizer) = authorizer else {
        return check_head(door, context, parts, shown, Service::AgentCore)
            .await
            .map(Proof::Signed);
    };
    let token = match shown {
        Shown::Nothing => "",
        Shown::Bearer(Token(token)) => token,
        Shown::Header(_) | Shown::Presigned(_) => return Err(refused(door, context, Refusal::MethodMismatch).await),
    };
    match door.tokens.verify(authorizer, token).await {
        Ok(bearer) => {
            let principal = Principal::bearer(door.authority.account.clone(), bearer);
            Ok(Proof::Bearer(Caller::bearer(Arc::new(principal))))
        }
        Err(refusal) => {
            let code = refusal.code();
            door.metrics.refusals.get_or_create(&ReasonLabel { reason: code }).inc();
            door.authority.refused(context, code).await;
            let challenge = resource_metadata::challenge(door, context, parts, head, authorizer, &refusal);
            Err(Failure::Unauthorized(refusal.to_string(), challenge))
        }
    }
}
