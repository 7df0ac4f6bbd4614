//! What the front door answers itself: is the process alive, does it want calls, what has it counted.
//!
//! Health and readiness are open, because whoever asks them has no credentials; neither tells more than a word.

use super::answer::Answer;
use super::prove::compare;
use super::{Door, check_head, shown};
use crate::auth::{EMPTY_PAYLOAD, Service};
use crate::context::Context;
use crate::error::{Failure, JSON};
use crate::resource_metadata::Metadata;
use crate::route::{Builtin, Endpoint};
use crate::service::{Access, Head};
use bytes::Bytes;
use domain::{Error, Kind};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use std::sync::atomic::Ordering;

/// What Prometheus expects of OpenMetrics text.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(super) async fn answer(door: &Door, context: &Context, builtin: Builtin, parts: &Parts) -> Result<Answer, Failure> {
    match builtin {
        Builtin::Health => Ok(word(StatusCode::OK, "ok")),
        Builtin::Ready if door.draining.load(Ordering::Acquire) => {
            Ok(word(StatusCode::SERVICE_UNAVAILABLE, "draining"))
        }
        Builtin::Ready if !door.readiness.get() => Ok(word(StatusCode::SERVICE_UNAVAILABLE, "starting")),
        Builtin::Ready => Ok(word(StatusCode::OK, "ready")),
        Builtin::Metrics => {
            if !door.config.open_metrics || context.inside {
                let shown = shown(door, context, parts).await?;
                let pending = check_head(door, context, parts, &shown, Service::AgentCore).await?;
                let caller = compare(door, context, &pending, &EMPTY_PAYLOAD).await?;
                let access = Access::of("eyot:GetMetrics", "*");
                door.authority.decide(context, &caller, &parts.headers, &access).await?;
            }
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &door.registry)
                .map_err(|_| Error::internal("The metrics could not be written."))?;
            Ok(Answer::document(StatusCode::OK, OPEN_METRICS, Bytes::from(text)))
        }
    }
}

/// Where clients get the tokens that a runtime asks for; nothing for one that asks for signatures.
pub(super) async fn metadata(
    door: &Door,
    context: &Context,
    endpoint: &Endpoint,
    head: Head<'_>,
    parts: &Parts,
) -> Result<Answer, Failure> {
    let service = endpoint.service.as_ref();
    let authorizer = service.and_then(|service| service.authorizer(endpoint.operation, head));
    let Some(authorizer) = authorizer else {
        let text = "There is no agent runtime here that takes bearer tokens.";
        return Err(Error::not_found(text).into());
    };
    let issuer = door.tokens.issuer(&authorizer).await.map_err(|refusal| {
        tracing::debug!(request_id = %context.request_id, %refusal, "an issuer is not known");
        Error::new(
            Kind::Draining,
            "The identity provider cannot be reached now. Try again later.",
        )
    })?;
    let metadata = Metadata::new(door, context, parts, head, &issuer, &authorizer);
    let document = serde_json::to_vec(&metadata).map_err(|_| Error::internal("The metadata cannot be written."))?;
    Ok(Answer::document(StatusCode::OK, JSON, Bytes::from(document)))
}

fn word(status: StatusCode, status_word: &'static str) -> Answer {
    Answer::document(status, JSON, Bytes::from(format!("{{\"status\":\"{status_word}\"}}")))
}
