//! Asking an agent how it is: `GET /ping`.

use super::machine::{Answer, Ping};
use crate::upstream::Upstream;
use bytes::{Bytes, BytesMut};
use domain::Clock;
use front_door::body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A longer answer is cut; what says `HealthyBusy` is short.
const MAX_ANSWER: usize = 16 * 1024;
/// A `time_of_last_update` further in the future is not seconds since 1970.
const MAX_SKEW: i64 = 60;

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 200.
    Good(Answer),
    /// Another status.
    Status(StatusCode),
    /// No connection, or one that broke, or not HTTP.
    Broken(String),
    /// No answer in time.
    Silent,
}

#[derive(Deserialize)]
struct Said {
    status: Option<String>,
    #[serde(default)]
    time_of_last_update: serde_json::Value,
}

/// Asks once. `now` is the time since the session's birth, in which the answer's times are counted.
pub(super) async fn ask(upstream: &Arc<Upstream>, patience: Duration, clock: &Clock, now: Duration) -> Outcome {
    let mut request = Request::new(body::full(Bytes::new()));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = http::Uri::from_static("/ping");
    let exchange = async {
        let response = upstream.send(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let mut text = BytesMut::new();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            if let Ok(data) = frame.into_data() {
                text.extend_from_slice(&data[..data.len().min(MAX_ANSWER - text.len())]);
            }
            if text.len() == MAX_ANSWER {
                break;
            }
        }
        Ok((status, text))
    };
    match timeout(patience, exchange).await {
        Err(_) => Outcome::Silent,
        Ok(Err(said)) => Outcome::Broken(said),
        Ok(Ok((StatusCode::OK, text))) => Outcome::Good(read(&text, clock.now().as_second(), now)),
        Ok(Ok((status, _))) => Outcome::Status(status),
    }
}

/// Reads a 200's body. Whatever is not understood means an agent that is healthy and not busy.
fn read(text: &[u8], unix_now: i64, now: Duration) -> Answer {
    let Ok(said) = serde_json::from_slice::<Said>(text) else {
        return Answer {
            busy: false,
            updated: None,
            odd_time: false,
        };
    };
    let busy = said.status.as_deref() == Some("HealthyBusy");
    // AWS's SDKs send whole seconds; a fraction is cut, text and milliseconds are ignored.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and nonsense is refused below"
    )]
    let whole = |seconds: f64| seconds as i64;
    let updated = said
        .time_of_last_update
        .as_i64()
        .or_else(|| said.time_of_last_update.as_f64().map(whole));
    let usable = updated.filter(|at| (0..=unix_now + MAX_SKEW).contains(at));
    let odd_time = !said.time_of_last_update.is_null() && usable.is_none();
    let updated = usable.and_then(|at| {
        let age = u64::try_from(unix_now.saturating_sub(at)).unwrap_or(0);
        // Before the session's birth it says nothing about this session.
        now.checked_sub(Duration::from_secs(age))
    });
    Answer {
        busy,
        updated,
        odd_time,
    }
}

impl From<Outcome> for Ping {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Good(answer) => Self::Answered(answer),
            Outcome::Status(_) | Outcome::Broken(_) => Self::Bad,
            Outcome::Silent => Self::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, busy: bool, updated: Option<u64>) {
        let answer = read(text.as_bytes(), 1_000_000, Duration::from_secs(500));
        assert_eq!(
            (answer.busy, answer.updated),
            (busy, updated.map(Duration::from_secs)),
            "{text}"
        );
    }

    #[test]
    fn a_time_that_cannot_be_used_is_noticed() {
        for (text, odd) in [
            (r#"{"status":"Healthy"}"#, false),
            (r#"{"time_of_last_update":null}"#, false),
            (r#"{"time_of_last_update":999000}"#, false),
            (r#"{"time_of_last_update":1000000000}"#, true),
            (r#"{"time_of_last_update":"2026-11-01T00:00:00Z"}"#, true),
            (r#"{"time_of_last_update":-1}"#, true),
        ] {
            let answer = read(text.as_bytes(), 1_000_000, Duration::from_secs(500));
            assert_eq!(answer.odd_time, odd, "{text}");
        }
    }

    #[test]
    fn answers() {
        check(r#"{"status":"Healthy"}"#, false, None);
        check(r#"{"status":"HealthyBusy"}"#, true, None);
        check(r#"{"status":"Healthy","time_of_last_update":999990}"#, false, Some(490));
        check(
            r#"{"status":"HealthyBusy","time_of_last_update":999990.7}"#,
            true,
            Some(490),
        );
        check(r#"{"time_of_last_update":1000030}"#, false, Some(500));
    }

    #[test]
    fn nonsense_is_a_healthy_agent_without_a_time() {
        check("", false, None);
        check("OK", false, None);
        check(r#"{"status":7}"#, false, None);
        check(
            r#"{"status":"Healthy","time_of_last_update":"2026-11-01T00:00:00Z"}"#,
            false,
            None,
        );
        check(r#"{"status":"Healthy","time_of_last_update":1000000000}"#, false, None);
        check(r#"{"status":"Healthy","time_of_last_update":999000}"#, false, None);
        check(r#"{"status":"Healthy","time_of_last_update":-9e99}"#, false, None);
    }
}
