//! Between an operation's input or output as a JSON map and its generated type.

use crate::shape::Shape;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A generated structure; implemented by generated code only.
pub trait Structure: Serialize + DeserializeOwned {
    /// Its row in the table of shapes.
    fn shape() -> &'static Shape;
}

/// An input that kept every constraint does not fit its type. The fault is ours: the table and the types disagree.
#[derive(Debug, thiserror::Error)]
#[error("the input does not fit {shape}, although it is valid: {reason}; run `cargo xtask codegen`")]
pub struct Mismatch {
    /// The structure's name.
    pub shape: &'static str,
    /// What serde said, without any value.
    pub reason: String,
}

/// An operation's input as its type. Never fails for what [`crate::decode`] returned for the same structure.
pub fn from_input<T: Structure>(input: Map<String, Value>) -> Result<T, Mismatch> {
    serde_json::from_value(Value::Object(input)).map_err(|error| Mismatch {
        shape: T::shape().name,
        // serde's own text may quote the value, which may be a secret.
        reason: format!("{:?} error", error.classify()),
    })
}

/// An operation's output as [`crate::encode`] wants it.
#[must_use]
pub fn to_output<T: Structure>(output: &T) -> Map<String, Value> {
    serde_json::to_value(output)
        .ok()
        .and_then(|mut value| value.as_object_mut().map(std::mem::take))
        .expect("a generated structure has named fields, string keys and no serializer that fails")
}
