//! What the front door answers itself: is the process alive, does it want calls, what has it counted.
//!
//! Health and readiness are open, because whoever asks them has no credentials; neither tells more than a word.

use super::answer::Answer;
use super::{Door, check_head, refused, shown};
use crate::auth::{EMPTY_PAYLOAD, Service};
use crate::context::Context;
use crate::error::{Failure, JSON};
use crate::route::Builtin;
use bytes::Bytes;
use domain::Error;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use std::sync::atomic::Ordering;

/// What Prometheus expects of OpenMetrics text.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(super) fn answer(door: &Door, context: &mut Context, builtin: Builtin, parts: &Parts) -> Result<Answer, Failure> {
    match builtin {
        Builtin::Health => Ok(word(StatusCode::OK, "ok")),
        Builtin::Ready if door.draining.load(Ordering::Acquire) => {
            Ok(word(StatusCode::SERVICE_UNAVAILABLE, "draining"))
        }
        Builtin::Ready if !door.readiness.get() => Ok(word(StatusCode::SERVICE_UNAVAILABLE, "starting")),
        Builtin::Ready => Ok(word(StatusCode::OK, "ready")),
        Builtin::Metrics => {
            if !door.config.open_metrics {
                let shown = shown(door, context, parts)?;
                let pending = check_head(door, context, parts, &shown, Service::AgentCore)?;
                pending
                    .verify(&EMPTY_PAYLOAD)
                    .map_err(|refusal| refused(door, context, refusal))?;
            }
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &door.registry)
                .map_err(|_| Error::internal("The metrics could not be written."))?;
            Ok(Answer::document(StatusCode::OK, OPEN_METRICS, Bytes::from(text)))
        }
    }
}

fn word(status: StatusCode, status_word: &'static str) -> Answer {
    Answer::document(status, JSON, Bytes::from(format!("{{\"status\":\"{status_word}\"}}")))
}
