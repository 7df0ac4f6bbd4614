//! A change that is being decided: a copy of the snapshot, the records that make it durable, and what it withdraws.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use storage::seal::MasterKey;
use storage::{Expect, Write};

use super::known::{Known, Role, User};
use super::record;
use crate::Error;
use crate::keys::{Key, Life};

/// A change that is being decided.
pub(super) struct Draft<'a> {
    /// As it will be.
    pub(super) known: Known,
    pub(super) writes: Vec<Pending>,
    pub(super) withdrawn: Withdrawn,
    pub(super) now: Timestamp,
    master: &'a MasterKey,
}

/// A record that will be written, or deleted.
pub(super) struct Pending {
    pub(super) kind: &'static str,
    pub(super) key: String,
    pub(super) value: Option<Bytes>,
}

/// What ends when the change is visible.
#[derive(Default)]
pub(super) struct Withdrawn {
    keys: Vec<Arc<Key>>,
    lives: Vec<Arc<Life>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(known: &Known, master: &'a MasterKey, now: Timestamp) -> Self {
        Self {
            known: known.clone(),
            writes: Vec::new(),
            withdrawn: Withdrawn::default(),
            now,
            master,
        }
    }

    /// Adds a key, or replaces the one of the same id.
    pub(super) fn put_key(&mut self, key: Key, is_root: bool) -> Result<(), Error> {
        let name = if is_root { record::ROOT } else { key.id() }.to_owned();
        self.write(record::KEY, &name, Some(record::seal_key(&name, &key, self.master)?));
        let id = key.id().to_owned();
        if is_root {
            self.known.root = Some(id.clone());
        }
        let before = self.known.keys.insert(id, Arc::new(key));
        self.withdrawn.keys.extend(before);
        Ok(())
    }

    pub(super) fn remove_key(&mut self, id: &str) {
        self.write(record::KEY, id, None);
        if let Some(key) = self.known.keys.remove(id) {
            if key.last_use().at().is_some() {
                self.write(record::USED, id, None);
            }
            self.withdrawn.keys.push(key);
        }
    }

    /// Adds a user or replaces it; also a change of its keys does that, so that no two such changes can meet.
    pub(super) fn put_user(&mut self, user: User) {
        let name = record::name_of(&user.holder);
        self.write(record::USER, &name, Some(record::write_user(&user)));
        let place = (user.holder.account.clone(), user.holder.name.clone());
        self.known.users.insert(place, Arc::new(user));
    }

    pub(super) fn remove_user(&mut self, user: &User) {
        self.write(record::USER, &record::name_of(&user.holder), None);
        let place = (user.holder.account.clone(), user.holder.name.clone());
        self.known.users.remove(&place);
        self.withdrawn.lives.push(Arc::clone(&user.life));
    }

    pub(super) fn put_role(&mut self, role: Role) {
        let name = record::name_of(&role.holder);
        self.write(record::ROLE, &name, Some(record::write_role(&role)));
        let place = (role.holder.account.clone(), role.holder.name.clone());
        self.known.roles.insert(place, Arc::new(role));
    }

    pub(super) fn remove_role(&mut self, role: &Role) {
        self.write(record::ROLE, &record::name_of(&role.holder), None);
        let place = (role.holder.account.clone(), role.holder.name.clone());
        self.known.roles.remove(&place);
        self.withdrawn.lives.push(Arc::clone(&role.life));
    }

    pub(super) fn write(&mut self, kind: &'static str, key: &str, value: Option<Bytes>) {
        // A record that a change touches twice is written once, as it is in the end.
        self.writes
            .retain(|write| (write.kind, write.key.as_str()) != (kind, key));
        let key = key.to_owned();
        self.writes.push(Pending { kind, key, value });
    }
}

impl Pending {
    /// The write, on condition that the record is what it was when it was last read or written here.
    pub(super) fn to_record(&self, known: &Known) -> Write {
        let expect = match known.revision(self.kind, &self.key) {
            // Written beside the changes, and nothing depends on them.
            _ if self.kind == record::USED || self.kind == record::REVOKED => Expect::Anything,
            Some(revision) => Expect::Revision(revision),
            None => Expect::Absent,
        };
        Write {
            kind: self.kind.to_owned(),
            key: self.key.clone(),
            expect,
            value: self.value.clone(),
        }
    }
}

impl Withdrawn {
    /// Makes what is under way with it fail.
    pub(super) fn end(self) {
        for life in self.lives {
            life.end();
        }
        for key in self.keys {
            key.retire();
        }
    }
}
