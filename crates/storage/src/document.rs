//! The envelope of every record: `{"schema": N, "data": {…}}`.
//!
//! A field that is added later gets a default; a change that an older build would misread raises the schema, and a record
//! with a newer schema than the program knows is refused instead of guessed at.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    schema: u32,
    data: T,
}

/// Only the schema, to tell a newer record from a broken one.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Another build wrote it.
    #[error("schema {found} is newer than {known}: use the Eyot that wrote it")]
    Newer {
        /// Its schema.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// It is not what it should be.
    #[error(transparent)]
    Broken(#[from] serde_json::Error),
}

/// Writes a document down. The data must have string keys and serializers that cannot fail, as all our records have.
pub fn encode<T: Serialize>(schema: u32, data: &T) -> Bytes {
    serde_json::to_vec(&Envelope { schema, data })
        .expect("documents have string keys and serializers that cannot fail")
        .into()
}

/// Reads a document of a schema up to `known`.
pub fn decode<T: DeserializeOwned>(known: u32, value: &[u8]) -> Result<T, Unreadable> {
    let Head { schema: found } = serde_json::from_slice(value)?;
    if found > known {
        return Err(Unreadable::Newer { found, known });
    }
    let envelope: Envelope<T> = serde_json::from_slice(value)?;
    Ok(envelope.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_newer() {
        assert_eq!(&encode(2, &"x")[..], br#"{"schema":2,"data":"x"}"#);
        let read = |known, text: &str| decode::<String>(known, text.as_bytes());
        assert_eq!(read(2, r#"{"schema":1,"data":"x"}"#).unwrap(), "x");
        let newer = read(1, r#"{"schema":2,"data":7,"more":0}"#).unwrap_err();
        assert_eq!(
            newer.to_string(),
            "schema 2 is newer than 1: use the Eyot that wrote it"
        );
        for broken in [
            "",
            "{}",
            r#"{"schema":1}"#,
            r#"{"schema":1,"data":7}"#,
            r#"{"schema":1,"data":"x","more":0}"#,
        ] {
            assert!(matches!(read(1, broken), Err(Unreadable::Broken(_))), "{broken}");
        }
    }
}
