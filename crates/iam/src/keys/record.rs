//! How an access key is written down: `{"schema": N, "data": {…}}`, as all records are.
//!
//! A change that an older build would misread raises `SCHEMA`, and a record with a newer number is refused. Fields that
//! are not known are refused as well: a key that is half understood must not let anybody in.
//!
//! Invariant: secret and session token are sealed, each bound to its record and its place in it, so that no sealed
//! value means anything elsewhere.

use bytes::Bytes;
use domain::id::AccountId;
use serde::{Deserialize, Serialize};
use storage::Records;
use storage::seal::MasterKey;
use zeroize::Zeroizing;

use super::{AccessKey, Error, ROOT};

pub(super) const KIND: &str = "access-key";
pub(super) const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Versioned<T> {
    schema: u32,
    data: T,
}

/// Only the schema, to tell a newer record from a broken one.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    id: String,
    account: AccountId,
    /// Sealed.
    secret: String,
    /// Sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_token: Option<String>,
    enabled: bool,
}

/// The root key's id and secret, read from the records without a server; nothing before the first start.
pub async fn read_root(
    records: &dyn Records,
    master: &MasterKey,
) -> Result<Option<(String, Zeroizing<String>)>, Error> {
    let Some(stored) = records.get(KIND, ROOT).await? else {
        return Ok(None);
    };
    let access = open(ROOT, &stored.value, master)?;
    Ok(Some((access.id, access.secret)))
}

pub(super) fn seal(record: &str, access: &AccessKey, master: &MasterKey) -> Result<Bytes, Error> {
    let session_token = match &access.session_token {
        Some(token) => Some(master.seal(&context(record, "session-token"), token.as_bytes())?),
        None => None,
    };
    let stored = Stored {
        id: access.id.clone(),
        account: access.account.clone(),
        secret: master.seal(&context(record, "secret"), access.secret.as_bytes())?,
        session_token,
        enabled: access.enabled,
    };
    let versioned = Versioned {
        schema: SCHEMA,
        data: stored,
    };
    let text = serde_json::to_vec(&versioned).map_err(|problem| broken(record, &problem))?;
    Ok(Bytes::from(text))
}

pub(super) fn open(record: &str, value: &[u8], master: &MasterKey) -> Result<AccessKey, Error> {
    let head: Head = serde_json::from_slice(value).map_err(|problem| broken(record, &problem))?;
    if head.schema != SCHEMA {
        let found = head.schema;
        return Err(Error::Schema {
            record: record.to_owned(),
            found,
        });
    }
    let versioned: Versioned<Stored> = serde_json::from_slice(value).map_err(|problem| broken(record, &problem))?;
    let stored = versioned.data;
    let unseal = |part, sealed: &str| -> Result<Zeroizing<String>, Error> {
        let plain = master.open(&context(record, part), sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|problem| broken(record, &problem))?;
        Ok(Zeroizing::new(text.to_owned()))
    };
    Ok(AccessKey {
        secret: unseal("secret", &stored.secret)?,
        session_token: stored
            .session_token
            .map(|sealed| unseal("session-token", &sealed))
            .transpose()?,
        id: stored.id,
        account: stored.account,
        enabled: stored.enabled,
    })
}

fn context(record: &str, part: &str) -> String {
    format!("{KIND}/{record}/{part}")
}

fn broken(record: &str, problem: &dyn std::fmt::Display) -> Error {
    Error::Record {
        record: record.to_owned(),
        problem: problem.to_string(),
    }
}
