//! A service model in botocore's own terms, without its documentation: what the reduced models in `crates/api/model`
//! hold.
//!
//! Reading drops every key that is not named here; keys that are named are written back. Maps are sorted, so that a
//! reduced model's text does not depend on the order of botocore's.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use std::collections::BTreeMap;

/// A service's operations and shapes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Model {
    /// Version of botocore that the model was taken from.
    #[serde(default)]
    pub(crate) botocore: String,
    pub(crate) metadata: Metadata,
    pub(crate) operations: BTreeMap<String, Operation>,
    pub(crate) shapes: BTreeMap<String, Shape>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) api_version: String,
    pub(crate) protocol: String,
    pub(crate) service_id: String,
    pub(crate) signing_name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) http: Http,
    /// Absent in a reduced model when the operation is not switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Reference>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<Reference>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) idempotent: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) readonly: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Http {
    pub(crate) method: String,
    pub(crate) request_uri: String,
    #[serde(default = "ok")]
    pub(crate) response_code: u16,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) shape: String,
}

/// One shape; which fields are set depends on `kind`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Shape {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pattern: Option<String>,
    #[serde(rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) sensitive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp_format: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) members: BTreeMap<String, Member>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) required: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) union: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) document: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) eventstream: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) streaming: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) member: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Reference>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) exception: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) fault: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Error>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retryable: Option<Retryable>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Error {
    pub(crate) http_status_code: u16,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Retryable {
    #[serde(default)]
    pub(crate) throttling: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    pub(crate) shape: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) location_name: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) idempotency_token: bool,
}

impl Model {
    pub(crate) fn from_json(text: &str) -> anyhow::Result<Self> {
        Ok(serde_json::from_str(text)?)
    }

    pub(crate) fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    pub(crate) fn shape(&self, name: &str) -> anyhow::Result<&Shape> {
        self.shapes
            .get(name)
            .with_context(|| format!("the model has no shape {name}"))
    }

    /// Exceptions, by name.
    pub(crate) fn exceptions(&self) -> impl Iterator<Item = (&String, &Shape)> {
        self.shapes.iter().filter(|(_, shape)| shape.exception)
    }
}

impl Shape {
    /// Whether values become a Rust struct or enum of their own.
    pub(crate) fn has_type(&self) -> bool {
        (self.kind == "structure" && !self.document && !self.eventstream) || !self.values.is_empty()
    }

    /// Whether a member is a body that is streamed beside the rest, and not part of the Rust type.
    pub(crate) fn is_raw_payload(&self, member: &str, model: &Model) -> anyhow::Result<bool> {
        let Some(payload) = self.payload.as_deref().filter(|payload| *payload == member) else {
            return Ok(false);
        };
        let member = self
            .members
            .get(payload)
            .with_context(|| format!("no payload member {payload}"))?;
        let shape = model.shape(&member.shape)?;
        Ok(shape.kind == "blob" || shape.eventstream)
    }

    /// The shapes that this one refers to.
    pub(crate) fn references(&self) -> impl Iterator<Item = &str> {
        let members = self.members.values().map(|member| member.shape.as_str());
        let others = [&self.member, &self.key, &self.value]
            .into_iter()
            .flatten()
            .map(|one| one.shape.as_str());
        members.chain(others)
    }
}

fn ok() -> u16 {
    200
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}
