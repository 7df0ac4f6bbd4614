//! Takes in a body as far as its signature needs it, and compares the signature.

use super::authenticate::Proof;
use super::{Door, busy, refused};
use crate::auth::{Payload, Pending};
use crate::authorize::Caller;
use crate::body::Incoming;
use crate::body::checked::{Checked, Verdict};
use crate::body::source::{Fault, Limits, Source};
use crate::body::spool::{self, SpoolError, Spooled};
use crate::context::Context;
use crate::error::{Failure, body_failure};
use domain::Error;
use http_body_util::BodyExt;
use std::sync::Arc;

/// A proven caller and its body.
pub(super) struct Proven {
    pub(super) caller: Caller,
    pub(super) body: ProvenBody,
}

pub(super) enum ProvenBody {
    /// Whole, and as signed.
    Whole(Spooled),
    /// Still coming; breaks off if it is not as signed, and says so in the verdict.
    Streaming(Incoming, Verdict),
}

/// What a route allows of a body.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    /// The most bytes.
    pub(super) most: u64,
    /// Up to this size in memory.
    pub(super) in_memory: u64,
    /// What the caller knows the body as.
    pub(super) member: &'static str,
    /// Whether a larger body may go to the service before its end has come.
    pub(super) may_stream: bool,
}

/// Takes in the body as far as the signature needs it, and compares the signature.
pub(super) async fn prove(
    door: &Door,
    context: &mut Context,
    proof: Proof<'_>,
    body: hyper::body::Incoming,
    allowance: Allowance,
) -> Result<Proven, Failure> {
    let limits = Limits {
        bytes: allowance.most,
        stall: door.config.body_stall_timeout,
        total: Some(door.config.body_total_timeout),
    };
    let told = |fault| body_failure(&fault, allowance.member);
    let mut source = Source::new(body, limits).map_err(told)?;
    let pending = match proof {
        Proof::Signed(pending) => pending,
        // Nobody vouches for the body but the token's holder, who is proven.
        Proof::Bearer(caller) => return receive(door, context, caller, source, None, allowance).await,
    };
    if let Payload::Declared(digest) = pending.payload() {
        let caller = compare(door, context, &pending, &digest).await?;
        return receive(door, context, caller, source, Some(digest), allowance).await;
    }
    let spooled = take(door, &mut source, allowance).await?;
    context.unread = false;
    let caller = compare(door, context, &pending, &spooled.digest).await?;
    context.access_key_id = Some(caller.principal.access_key_id.clone());
    Ok(Proven {
        caller,
        body: ProvenBody::Whole(spooled),
    })
}

/// Compares a signature.
pub(super) async fn compare(
    door: &Door,
    context: &Context,
    pending: &Pending<'_>,
    payload: &[u8; 32],
) -> Result<Caller, Failure> {
    match pending.verify(payload) {
        Ok(_) => Ok(Caller::signed(Arc::clone(pending.key()), door.verifier.directory())),
        Err(refusal) => Err(refused(door, context, refusal).await),
    }
}

/// The body of a caller who is proven already: passed on as it comes, or whole where that is asked for.
async fn receive(
    door: &Door,
    context: &mut Context,
    caller: Caller,
    mut source: Source,
    digest: Option<[u8; 32]>,
    allowance: Allowance,
) -> Result<Proven, Failure> {
    context.access_key_id = Some(caller.principal.access_key_id.clone());
    let is_small = source.promised().is_some_and(|size| size <= allowance.in_memory);
    if allowance.may_stream && !is_small {
        let (checked, verdict) = Checked::new(source.without_total(), digest);
        return Ok(Proven {
            caller,
            body: ProvenBody::Streaming(checked.boxed_unsync(), verdict),
        });
    }
    let spooled = take(door, &mut source, allowance).await?;
    context.unread = false;
    if digest.is_some_and(|digest| spooled.digest != digest) {
        return Err(body_failure(&Fault::Digest, allowance.member));
    }
    Ok(Proven {
        caller,
        body: ProvenBody::Whole(spooled),
    })
}

pub(super) async fn take(door: &Door, source: &mut Source, allowance: Allowance) -> Result<Spooled, Failure> {
    let taken = spool::take(source, allowance.in_memory, &door.spool_dir, &door.admission).await;
    let spooled = taken.map_err(|error| match error {
        SpoolError::Client(fault) => body_failure(&fault, allowance.member),
        SpoolError::Busy => busy("request bodies that are being received"),
        SpoolError::Disk(error) => disk(door, &error),
    })?;
    door.metrics.spooled.inc_by(spooled.size);
    Ok(spooled)
}

/// The caller may be nobody that is known yet, so where bodies are kept and what the system said is for the log alone.
fn disk(door: &Door, error: &std::io::Error) -> Failure {
    let dir = door.spool_dir.display();
    tracing::error!(%dir, %error, "cannot spool a request body");
    let text = if error.kind() == std::io::ErrorKind::StorageFull {
        "The server could not write the request body: no space left on its disk. Its log says which; free some there."
    } else {
        "The server could not write the request body to its disk; its log says why."
    };
    Error::internal(text).into()
}

impl ProvenBody {
    pub(super) fn into_incoming(self) -> (Incoming, Option<Verdict>) {
        match self {
            Self::Whole(spooled) => (spooled.into_body(), None),
            Self::Streaming(body, verdict) => (body, Some(verdict)),
        }
    }
}
