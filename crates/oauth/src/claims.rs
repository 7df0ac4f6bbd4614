//! What a token claims, after its signature was found good.

use crate::json;
use crate::refusal::Refusal;
use domain::Bearer;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Texts that may be in a token's claims together. A list of 16 KiB of empty texts would otherwise be kept as a
/// megabyte; a token with more is refused, because a claim that is left out could be one that a policy denies.
pub const MAX_VALUES: usize = 1024;

/// No calendar goes so far; beyond it a double is no longer exact.
const LAST_SECOND: i64 = 1 << 53;

/// The claims of one token.
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Reads claims. Every name may be there once.
    pub fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        json::object(payload).map(Self).ok_or(Refusal::Malformed(
            "its claims are not a JSON object that names each member once",
        ))
    }

    /// Checks `exp`, `nbf` and `iat` and answers `exp`. All in seconds since 1970.
    pub(crate) fn check_times(&self, now: i64, leeway: i64) -> Result<i64, Refusal> {
        let bad = |name| match name {
            "exp" => Refusal::Malformed("its 'exp' is not a time in seconds"),
            "nbf" => Refusal::Malformed("its 'nbf' is not a time in seconds"),
            _ => Refusal::Malformed("its 'iat' is not a time in seconds"),
        };
        let time = |name: &'static str| match self.0.get(name) {
            None => Ok(None),
            Some(value) => seconds(value).map(Some).ok_or_else(|| bad(name)),
        };
        let expires = time("exp")?.ok_or(Refusal::Malformed("it has no 'exp'"))?;
        let (not_before, issued) = (time("nbf")?, time("iat")?);
        if now >= expires.saturating_add(leeway) {
            return Err(Refusal::Expired);
        }
        if not_before
            .max(issued)
            .is_some_and(|time| time > now.saturating_add(leeway))
        {
            return Err(Refusal::NotYetValid);
        }
        Ok(expires)
    }

    /// Checks `iss`, character for character.
    pub(crate) fn check_issuer(&self, issuer: &str) -> Result<(), Refusal> {
        match self.0.get("iss") {
            Some(Value::String(iss)) if iss == issuer => Ok(()),
            _ => Err(Refusal::Mismatch(Cow::Borrowed("iss"))),
        }
    }

    /// A claim.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// What is kept of the token that these rules let in: its subject, and the claims that are texts or lists of texts.
    pub fn into_bearer(self, rules: [u8; 32]) -> Result<Bearer, Refusal> {
        let mut claims = BTreeMap::new();
        let mut values = 0;
        for (name, value) in self.0 {
            let texts = match value {
                Value::String(text) => vec![text],
                Value::Array(items) => match items.into_iter().map(text).collect::<Option<Vec<_>>>() {
                    Some(texts) => texts,
                    None => continue,
                },
                _ => continue,
            };
            values += texts.len();
            if values > MAX_VALUES {
                return Err(Refusal::Malformed("its claims have more than 1024 values"));
            }
            claims.insert(name, texts);
        }
        let single = |name: &str| {
            claims
                .get(name)
                .filter(|texts| texts.len() == 1)
                .and_then(|t| t.first())
        };
        Ok(Bearer {
            issuer: single("iss").cloned().unwrap_or_default(),
            subject: single("sub").cloned(),
            claims,
            rules,
        })
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A NumericDate: whole or not, before or after 1970.
fn seconds(value: &Value) -> Option<i64> {
    let number = match value {
        Value::Number(number) => number,
        _ => return None,
    };
    let whole = number.as_i64().or_else(|| {
        let seconds = number.as_f64().map(f64::floor)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "the range is checked"
        )]
        (seconds.abs() < LAST_SECOND as f64).then_some(seconds as i64)
    });
    whole.filter(|seconds| seconds.unsigned_abs() < LAST_SECOND.unsigned_abs())
}
