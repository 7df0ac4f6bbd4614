//! `clientToken`: the same call made twice is done once.
//!
//! The answer of a call is kept for a day together with a digest of its parameters, in the same commit as the change
//! itself. The same token with the same parameters gets that answer again; with other parameters it is a conflict.
//!
//! A token belongs to one operation, and to one runtime where there is one already: keys are
//! `CreateAgentRuntime/DIGEST` and `RUNTIME/OPERATION/DIGEST`. They are deleted with their runtime, but for those of
//! its deletion, so that a repeated deletion is still answered.

use super::record::{ClientToken, children_of};
use super::store::{Change, Store, Stored};
use aws_lc_rs::digest;
use domain::Error;
use domain::id::RuntimeId;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

/// How long an answer is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
const MEMBER: &str = "clientToken";

/// One call that may carry a token.
#[derive(Debug)]
pub(crate) struct Attempt {
    operation: &'static str,
    key: Option<String>,
    parameters: String,
}

/// What is known of the call before it is made.
#[derive(Debug)]
pub(crate) enum Begin {
    /// It was made already and answered so.
    Replay(Map<String, Value>),
    /// It is new; the slot takes its answer.
    Fresh(Slot),
}

/// Where the answer of a new call goes.
#[derive(Debug)]
pub(crate) struct Slot {
    read: Option<Stored<ClientToken>>,
}

impl Attempt {
    /// Reads the token out of a call's input.
    pub(crate) fn new(operation: &'static str, runtime: Option<&RuntimeId>, input: &Map<String, Value>) -> Self {
        let prefix = runtime.map(children_of).unwrap_or_default();
        let token = input.get(MEMBER).and_then(Value::as_str);
        let key = token.map(|token| format!("{prefix}{operation}/{}", sha256(token.as_bytes())));
        let mut text = String::new();
        for (name, value) in sorted(input).filter(|(name, _)| *name != MEMBER) {
            canonical(name, value, &mut text);
        }
        Self {
            operation,
            key,
            parameters: sha256(text.as_bytes()),
        }
    }

    /// Key of the token's document, if the call has a token.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Looks whether the call was made already.
    pub(crate) async fn begin(&self, store: &Store, now: Timestamp) -> Result<Begin, Error> {
        let Some(key) = &self.key else {
            return Ok(Begin::Fresh(Slot { read: None }));
        };
        match store.get::<ClientToken>(key).await? {
            Some(known) if known.value.expires_at > now => {
                if known.value.parameters == self.parameters {
                    return Ok(Begin::Replay(known.value.answer));
                }
                Err(Error::conflict(format!(
                    "This clientToken was used for {} with other parameters: use a new token for a new call.",
                    self.operation
                )))
            }
            read => Ok(Begin::Fresh(Slot { read })),
        }
    }

    /// Adds the answer to the change that the call makes.
    pub(crate) fn keep(&self, slot: &Slot, answer: &Map<String, Value>, now: Timestamp, change: &mut Change) {
        let Some(key) = &self.key else { return };
        let token = ClientToken {
            key: key.clone(),
            parameters: self.parameters.clone(),
            answer: answer.clone(),
            expires_at: now.checked_add(KEPT).unwrap_or(Timestamp::MAX),
        };
        change.upsert(slot.read.as_ref(), &token);
    }
}

/// Whether the tokens under this key outlive their runtime.
pub(crate) fn outlives_runtime(key: &str, runtime: &RuntimeId) -> bool {
    key.strip_prefix(&children_of(runtime))
        .is_some_and(|rest| rest.starts_with("DeleteAgentRuntime/"))
}

/// One text per value, whatever the order of its members.
fn canonical(name: &str, value: &Value, out: &mut String) {
    use std::fmt::Write;
    let _ = write!(out, "{}:{name}", name.len());
    match value {
        Value::Object(map) => {
            out.push('{');
            for (name, value) in sorted(map) {
                canonical(name, value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical("", item, out);
            }
            out.push(']');
        }
        plain => {
            let _ = write!(out, "={plain};");
        }
    }
}

fn sorted(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut members: Vec<_> = map.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    members.into_iter()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parameters(value: Value) -> String {
        let Value::Object(map) = value else { panic!("an object") };
        Attempt::new("Op", None, &map).parameters
    }

    #[test]
    fn the_digest_sees_every_parameter_but_not_their_order_or_the_token() {
        let base = parameters(json!({"a": {"x": 1, "y": [1, 2]}, "b": "t"}));
        assert_eq!(
            base,
            parameters(json!({"b": "t", "clientToken": "c", "a": {"y": [1, 2], "x": 1}}))
        );
        for other in [
            json!({"a": {"x": 1, "y": [2, 1]}, "b": "t"}),
            json!({"a": {"x": "1", "y": [1, 2]}, "b": "t"}),
            json!({"a": {"x": 1}, "y": [1, 2], "b": "t"}),
            json!({"a": {"x": 1, "y": [1, 2]}}),
        ] {
            assert_ne!(base, parameters(other));
        }
    }
}
