//! Access keys: kept sealed in the records, all of them in memory while the server runs.
//!
//! Lookups read an immutable map and never wait. A change is first durable, then visible: it replaces the map, and
//! what was derived from the old key goes with it. A key's record is `access-key/<id>`; the root key's is
//! `access-key/root`, so that of two first starts only one can make it.
//!
//! Every key acts as the root of its account; users and policies come with later services.
//!
//! Invariant: a secret leaves this module only through [`Keys::root`] and [`read_root`], for `eyot env`.

mod record;
mod signing;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use domain::id::AccountId;
use storage::seal::MasterKey;
use storage::{Expect, Records};
use zeroize::Zeroizing;

pub use record::read_root;
pub use signing::{Derived, Key, Scope};

/// Records read at a time.
const PAGE: usize = 500;
/// Key of the root key's record.
const ROOT: &str = "root";

/// The access keys that calls may be signed with.
pub struct Keys {
    known: ArcSwap<Known>,
    decoy: Arc<Key>,
    store: Option<Store>,
}

/// An access key as it is made, with its secret.
#[derive(Clone)]
pub struct AccessKey {
    /// Such as `AKIAIOSFODNN7EXAMPLE`.
    pub id: String,
    /// The account that it belongs to.
    pub account: AccountId,
    /// The secret that signs.
    pub secret: Zeroizing<String>,
    /// For temporary credentials: what the caller must send as `x-amz-security-token`.
    pub session_token: Option<Zeroizing<String>>,
    /// A disabled key is treated as an unknown one.
    pub enabled: bool,
}

/// Why keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Storage failed.
    #[error("access keys: {0}")]
    Storage(#[from] storage::Error),
    /// A record is not what it should be.
    #[error(
        "access key record '{record}': {problem}; restore the data directory, or delete the record if the key is not needed"
    )]
    Record {
        /// The record's key.
        record: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another build wrote a record.
    #[error(
        "access key record '{record}' has schema {found}, this program knows {}: use the Eyot that wrote it",
        record::SCHEMA
    )]
    Schema {
        /// The record's key.
        record: String,
        /// Its schema.
        found: u32,
    },
    /// No randomness to make a key from.
    #[error("the system has no randomness to make an access key from")]
    Random,
}

#[derive(Default, Clone)]
struct Known {
    by_id: HashMap<String, Arc<Key>>,
    /// Id of the root key.
    root: Option<String>,
}

struct Store {
    records: Arc<dyn Records>,
    master: Arc<MasterKey>,
}

impl Keys {
    /// Reads all keys into memory.
    pub async fn open(records: Arc<dyn Records>, master: Arc<MasterKey>) -> Result<Self, Error> {
        let mut known = Known::default();
        let mut after: Option<String> = None;
        loop {
            let page = records.list(record::KIND, "", after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for stored in page {
                let access = record::open(&stored.key, &stored.value, &master)?;
                known.put(&stored.key, Arc::new(Key::new(access, stored.revision)));
            }
        }
        Ok(Self {
            known: ArcSwap::from_pointee(known),
            decoy: decoy()?,
            store: Some(Store { records, master }),
        })
    }

    /// Keys that live in memory only, for tests and benchmarks.
    pub fn in_memory(keys: impl IntoIterator<Item = AccessKey>) -> Result<Self, Error> {
        let mut known = Known::default();
        for access in keys {
            known.put(&access.id.clone(), Arc::new(Key::new(access, 1)));
        }
        Ok(Self {
            known: ArcSwap::from_pointee(known),
            decoy: decoy()?,
            store: None,
        })
    }

    /// Makes the root key at the first start. Later it only sees to it that the key acts for this account, which is
    /// configuration and may have changed.
    pub async fn ensure_root(&self, account: &AccountId) -> Result<(), Error> {
        let (access, expect) = match self.root_key() {
            Some(root) if root.access.account == *account => return Ok(()),
            Some(root) => (
                AccessKey {
                    account: account.clone(),
                    ..root.access.clone()
                },
                Expect::Revision(root.revision),
            ),
            None => (AccessKey::generate(account.clone())?, Expect::Absent),
        };
        self.write(ROOT, access, expect).await
    }

    /// The root key's id and secret, for `eyot env`.
    #[must_use]
    pub fn root(&self) -> Option<(String, Zeroizing<String>)> {
        self.root_key()
            .map(|root| (root.access.id.clone(), root.access.secret.clone()))
    }

    /// Adds a key, or replaces the one of the same id: disables it, or gives it another secret. From the return on,
    /// a signature by what was replaced is refused, also that of a request whose body is still arriving.
    pub async fn put(&self, access: AccessKey) -> Result<(), Error> {
        let is_root = self.root_key().is_some_and(|root| root.access.id == access.id);
        let name = if is_root { ROOT.to_owned() } else { access.id.clone() };
        self.write(&name, access, Expect::Anything).await
    }

    /// An enabled key.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Key>> {
        self.known
            .load()
            .by_id
            .get(id)
            .filter(|key| key.access.enabled)
            .cloned()
    }

    /// A key that nobody has, to do the work of a verification with when there is no key.
    #[must_use]
    pub fn decoy(&self) -> Arc<Key> {
        Arc::clone(&self.decoy)
    }

    fn root_key(&self) -> Option<Arc<Key>> {
        let known = self.known.load();
        known.root.as_ref().and_then(|id| known.by_id.get(id)).cloned()
    }

    async fn write(&self, name: &str, access: AccessKey, expect: Expect) -> Result<(), Error> {
        let revision = match &self.store {
            Some(store) => {
                let value = Some(record::seal(name, &access, &store.master)?);
                let write = storage::Write {
                    kind: record::KIND.to_owned(),
                    key: name.to_owned(),
                    expect,
                    value,
                };
                store
                    .records
                    .commit(vec![write])
                    .await?
                    .first()
                    .copied()
                    .unwrap_or_default()
            }
            None => self
                .known
                .load()
                .by_id
                .get(&access.id)
                .map_or(1, |key| key.revision + 1),
        };
        let key = Arc::new(Key::new(access, revision));
        let before = self.known.rcu(|known| {
            let mut changed = Known::clone(known);
            changed.put(name, Arc::clone(&key));
            changed
        });
        // What this write did not replace, because a later one was quicker, stays; then this key is the outdated one.
        let replaced = before.by_id.get(&key.access.id);
        match replaced {
            Some(other) if other.revision > key.revision => key.retire(),
            Some(other) => other.retire(),
            None => {}
        }
        Ok(())
    }
}

impl Known {
    /// Adds what a record holds, unless a later revision of it is already here.
    fn put(&mut self, record: &str, key: Arc<Key>) {
        let id = key.access.id.clone();
        if record == ROOT {
            self.root = Some(id.clone());
        }
        let is_newest = self.by_id.get(&id).is_none_or(|known| known.revision <= key.revision);
        if is_newest {
            self.by_id.insert(id, key);
        }
    }
}

impl AccessKey {
    /// A new random key: `AKIA` and 16 characters of base32, a secret of 40 characters with 240 random bits.
    pub fn generate(account: AccountId) -> Result<Self, Error> {
        const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut random = Zeroizing::new([0_u8; 16 + 40]);
        rand::fill(random.as_mut()).map_err(|_| Error::Random)?;
        let (for_id, for_secret) = random.split_at(16);
        // Both alphabets divide 256, so no character is likelier than another.
        let pick = |alphabet: &[u8], byte: &u8| char::from(alphabet[usize::from(*byte) % alphabet.len()]);
        let mut id = String::from("AKIA");
        id.extend(for_id.iter().map(|byte| pick(BASE32, byte)));
        let mut secret = Zeroizing::new(String::with_capacity(for_secret.len()));
        secret.extend(for_secret.iter().map(|byte| pick(BASE64, byte)));
        Ok(Self {
            id,
            account,
            secret,
            session_token: None,
            enabled: true,
        })
    }

    /// Whether this is the session token that belongs to the key; none where the key has none.
    pub(super) fn has_token(&self, token: Option<&[u8]>) -> bool {
        match (&self.session_token, token) {
            (None, None) => true,
            (Some(own), Some(token)) => verify_slices_are_equal(own.as_bytes(), token).is_ok(),
            _ => false,
        }
    }
}

fn decoy() -> Result<Arc<Key>, Error> {
    let account = AccountId::parse("000000000000").expect("twelve digits");
    Ok(Arc::new(Key::new(AccessKey::generate(account)?, 0)))
}

/// Without secret and session token.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("secret", &"***")
            .field("session_token", &self.session_token.as_ref().map(|_| "***"))
            .field("enabled", &self.enabled)
            .finish()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("count", &self.known.load().by_id.len())
            .finish_non_exhaustive()
    }
}
