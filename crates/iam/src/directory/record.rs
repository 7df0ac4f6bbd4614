//! How it is all written down: `{"schema": N, "data": {…}}`, as all records are.
//!
//! | kind | key | what |
//! |---|---|---|
//! | `access-key` | the key's id; `root` for the root key, so that of two first starts only one can make it | a key, its secret sealed |
//! | `access-key-used` | the key's id | when it was last used; written behind |
//! | `iam-user`, `iam-role` | `ACCOUNT/NAME` | a user or a role with its policies |
//! | `iam-revoked` | a key's id, or `ROLE-ID:SESSION` | temporary credentials that end before their time |
//!
//! A change that an older build would misread raises the schema, and a record with a newer one is refused. Fields that
//! are not known are refused as well: what is half understood must not let anybody in.
//!
//! Invariant: a secret is sealed, bound to its record and its place in it, so that no sealed value means anything
//! elsewhere.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use domain::Principal;
use domain::id::AccountId;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storage::Records;
use storage::document::{self, Unreadable};
use storage::seal::MasterKey;
use zeroize::Zeroizing;

use super::known::{Attached, Document, Known, Role, User};
use crate::Error;
use crate::keys::{AccessKey, Key, LastUse};
use crate::names::Holder;
use crate::policy::Kind;
use crate::sts::{Revocations, Revoked};

pub(super) const KEY: &str = "access-key";
pub(super) const USED: &str = "access-key-used";
pub(super) const USER: &str = "iam-user";
pub(super) const ROLE: &str = "iam-role";
pub(super) const REVOKED: &str = "iam-revoked";
/// Key of the root key's record.
pub(super) const ROOT: &str = "root";

/// Keys got an owner and a date of birth with the second; those of the first have neither.
const KEY_SCHEMA: u32 = 2;
const SCHEMA: u32 = 1;
/// Records read at a time.
const PAGE: usize = 500;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    account: AccountId,
    /// Sealed.
    secret: String,
    enabled: bool,
    /// Name of the user; none for the root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUser {
    account: AccountId,
    name: String,
    id: String,
    created: Timestamp,
    #[serde(default)]
    policies: BTreeMap<String, Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRole {
    account: AccountId,
    name: String,
    id: String,
    created: Timestamp,
    #[serde(default)]
    description: String,
    max_session: u32,
    trust: Arc<str>,
    #[serde(default)]
    policies: BTreeMap<String, Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUse {
    at: Timestamp,
}

/// The root key's id and secret, read from the records without a server; nothing before the first start.
pub async fn read_root(
    records: &dyn Records,
    master: &MasterKey,
) -> Result<Option<(String, Zeroizing<String>)>, Error> {
    let Some(stored) = records.get(KEY, ROOT).await? else {
        return Ok(None);
    };
    let (stored, secret) = open_key(ROOT, &stored.value, master)?;
    Ok(Some((stored.id, secret)))
}

/// Everything that is written down.
pub(super) async fn read_all(
    records: &dyn Records,
    master: &MasterKey,
    revocations: &Revocations,
) -> Result<Known, Error> {
    let mut known = Known::default();
    for (name, revision, value) in all(records, USER).await? {
        let user = read_user(&name, &value)?;
        let place = (user.holder.account.clone(), user.holder.name.clone());
        known.users.insert(place, Arc::new(user));
        known.was_read(USER, name, revision);
    }
    for (name, revision, value) in all(records, ROLE).await? {
        let role = read_role(&name, &value)?;
        let place = (role.holder.account.clone(), role.holder.name.clone());
        known.roles.insert(place, Arc::new(role));
        known.was_read(ROLE, name, revision);
    }
    let mut uses = BTreeMap::new();
    for (id, _, value) in all(records, USED).await? {
        let used: StoredUse = read("last use", &id, &value, SCHEMA)?;
        uses.insert(id, used.at);
    }
    for (name, revision, value) in all(records, KEY).await? {
        let (stored, secret) = open_key(&name, &value, master)?;
        let last_use = uses.get(&stored.id).copied().map(LastUse::from_record);
        let key = key(&name, stored, secret, &known)?;
        let key = key.with_last_use(Arc::new(last_use.unwrap_or_default()));
        if name == ROOT {
            known.root = Some(key.id().to_owned());
        }
        known.keys.insert(key.id().to_owned(), Arc::new(key));
        known.was_read(KEY, name, revision);
    }
    for (name, _, value) in all(records, REVOKED).await? {
        let revoked = read("revocation", &name, &value, SCHEMA)?;
        revocations.add(name, revoked);
    }
    Ok(known)
}

async fn all(records: &dyn Records, kind: &str) -> Result<Vec<(String, u64, Bytes)>, Error> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = records.list(kind, "", after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.key.clone());
        all.extend(
            page.into_iter()
                .map(|record| (record.key, record.revision, record.value)),
        );
    }
}

/// The key of a user's or a role's record.
pub(super) fn name_of(holder: &Holder) -> String {
    format!("{}/{}", holder.account, holder.name)
}

pub(super) fn seal_key(record: &str, key: &Key, master: &MasterKey) -> Result<Bytes, Error> {
    let access = key.access();
    let stored = StoredKey {
        id: access.id.clone(),
        account: access.account.clone(),
        secret: master.seal(&context(record), access.secret.as_bytes())?,
        enabled: access.enabled,
        user: key.holder().map(|holder| holder.name.clone()),
        created: key.created(),
    };
    Ok(document::encode(KEY_SCHEMA, &stored))
}

fn open_key(record: &str, value: &[u8], master: &MasterKey) -> Result<(StoredKey, Zeroizing<String>), Error> {
    let stored: StoredKey = read("access key", record, value, KEY_SCHEMA)?;
    let plain = master.open(&context(record), &stored.secret)?;
    let secret = std::str::from_utf8(&plain).map_err(|problem| broken("access key", record, &problem))?;
    let secret = Zeroizing::new(secret.to_owned());
    Ok((stored, secret))
}

fn key(record: &str, stored: StoredKey, secret: Zeroizing<String>, known: &Known) -> Result<Key, Error> {
    let access = AccessKey {
        id: stored.id,
        account: stored.account,
        secret,
        session_token: None,
        enabled: stored.enabled,
    };
    let Some(name) = stored.user else {
        return Ok(Key::root(access).with_created(stored.created));
    };
    let holder = Holder::user(access.account.clone(), &name);
    let user = known
        .user(&holder)
        .map_err(|_| broken("access key", record, &format!("its user '{name}' is missing")))?;
    Ok(user_key(access, user).with_created(stored.created))
}

/// A key of a user.
pub(super) fn user_key(access: AccessKey, user: &User) -> Key {
    let holder = user.holder.clone();
    let principal = Principal::user(
        holder.account.clone(),
        holder.name.clone(),
        user.id.clone(),
        access.id.clone(),
    );
    Key::new(access, principal, Some(holder), Arc::clone(&user.life))
}

pub(super) fn write_user(user: &User) -> Bytes {
    let stored = StoredUser {
        account: user.holder.account.clone(),
        name: user.holder.name.clone(),
        id: user.id.clone(),
        created: user.created,
        policies: texts(&user.policies),
    };
    document::encode(SCHEMA, &stored)
}

fn read_user(record: &str, value: &[u8]) -> Result<User, Error> {
    let stored: StoredUser = read("user", record, value, SCHEMA)?;
    Ok(User {
        policies: attached("user", record, stored.policies)?,
        holder: Holder::user(stored.account, &stored.name),
        id: stored.id,
        created: stored.created,
        life: Arc::default(),
    })
}

pub(super) fn write_role(role: &Role) -> Bytes {
    let stored = StoredRole {
        account: role.holder.account.clone(),
        name: role.holder.name.clone(),
        id: role.id.clone(),
        created: role.created,
        description: role.description.clone(),
        max_session: role.max_session,
        trust: Arc::clone(&role.trust.text),
        policies: texts(&role.policies),
    };
    document::encode(SCHEMA, &stored)
}

fn read_role(record: &str, value: &[u8]) -> Result<Role, Error> {
    let stored: StoredRole = read("role", record, value, SCHEMA)?;
    let trust = Document::parse(Kind::Trust, "role trust policy", &stored.trust)
        .map_err(|problem| broken("role", record, &format!("trust policy: {problem}")))?;
    Ok(Role {
        policies: attached("role", record, stored.policies)?,
        holder: Holder::role(stored.account, &stored.name),
        id: stored.id,
        created: stored.created,
        description: stored.description,
        max_session: stored.max_session,
        trust,
        life: Arc::default(),
    })
}

pub(super) fn write_use(at: Timestamp) -> Bytes {
    document::encode(SCHEMA, &StoredUse { at })
}

pub(super) fn write_revoked(revoked: &Revoked) -> Bytes {
    document::encode(SCHEMA, revoked)
}

fn texts(attached: &Attached) -> BTreeMap<String, Arc<str>> {
    let policies = attached.by_name().iter();
    policies
        .map(|(name, document)| (name.clone(), Arc::clone(&document.text)))
        .collect()
}

fn attached(what: &'static str, record: &str, texts: BTreeMap<String, Arc<str>>) -> Result<Attached, Error> {
    let documents = texts.into_iter().map(|(name, text)| {
        let document = Document::parse(Kind::Identity, &name, &text)
            .map_err(|problem| broken(what, record, &format!("policy '{name}': {problem}")))?;
        Ok((name, document))
    });
    Ok(Attached::new(documents.collect::<Result<_, Error>>()?))
}

fn read<T: DeserializeOwned>(what: &'static str, record: &str, value: &[u8], known: u32) -> Result<T, Error> {
    document::decode(known, value).map_err(|unreadable| match unreadable {
        Unreadable::Newer { found, known } => Error::Schema {
            what,
            record: record.to_owned(),
            found,
            known,
        },
        Unreadable::Broken(problem) => broken(what, record, &problem),
    })
}

/// What a secret is sealed for.
fn context(record: &str) -> String {
    format!("{KEY}/{record}/secret")
}

fn broken(what: &'static str, record: &str, problem: &dyn Display) -> Error {
    Error::Record {
        what,
        record: record.to_owned(),
        problem: problem.to_string(),
    }
}
