//! From the parts of a request to an operation's checked input.

use crate::error::Failure;
use crate::route::label::{self, BadText};
use crate::route::{Endpoint, OWN_PREFIX, RawLabels};
use api::{Invalid, Operation};
use domain::Error;
use domain::error::FieldError;
use http::HeaderValue;
use http::request::Parts;
use serde_json::{Map, Value};

/// Label names and decoded texts.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Decoded path segments and query pairs.
type Decoded = (Vec<String>, Vec<(String, String)>);

/// Percent-decodes the labels of a route.
pub(super) fn labels(endpoint: &Endpoint, raw: RawLabels<'_>) -> Result<Labels, Error> {
    endpoint
        .labels
        .iter()
        .zip(raw.iter())
        .map(|(&name, raw)| {
            label::decode(raw)
                .map(|text| (name, text))
                .map_err(|bad| bad_text(name, bad))
        })
        .collect()
}

/// The operation's input, every constraint checked.
pub(super) fn decode(
    operation: &'static Operation,
    labels: &Labels,
    parts: &Parts,
    document: &[u8],
) -> Result<Map<String, Value>, Failure> {
    let query = label::query(parts.uri.query()).map_err(|(name, bad)| bad_text(&name, bad))?;
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, text)| (*name, text.as_str())).collect();
    // A list to walk over: every member that travels in a header asks for it, and a look-up costs more than the walk.
    let headers: Vec<(&str, &HeaderValue)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    let header = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| value.to_str().ok())
    };
    api::decode(operation, &labels, &query, header, document).map_err(|invalid| invalid_input(invalid).into())
}

/// Decoded path segments after `/_eyot/`, and the decoded query.
pub(super) fn own(parts: &Parts) -> Result<Decoded, Error> {
    let rest = parts.uri.path().strip_prefix(OWN_PREFIX).unwrap_or_default();
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let path = rest
        .split('/')
        .map(|segment| label::decode(segment).map_err(|bad| bad_text("path", bad)));
    let path = path.collect::<Result<_, _>>()?;
    let query = label::query(parts.uri.query()).map_err(|(name, bad)| bad_text(&name, bad))?;
    Ok((path, query))
}

fn bad_text(name: &str, bad: BadText) -> Error {
    Error::invalid_field(name, bad.to_string())
}

fn invalid_input(invalid: Invalid) -> Error {
    match invalid {
        Invalid::CannotParse(text) => Error::cannot_parse(text),
        Invalid::Fields(violations) => Error::invalid_fields(
            violations
                .into_iter()
                .map(|found| FieldError {
                    name: found.path,
                    message: found.message,
                })
                .collect(),
        ),
    }
}
