//! Users and their access keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Directory;
use super::draft::Draft;
use super::known::{Attached, User};
use super::record::user_key;
use super::view::{KeyView, Page, UserView};
use crate::Error;
use crate::keys::{AccessKey, Key};
use crate::names::{self, Holder, HolderKind};

/// Access keys of one user: as at AWS two, so that one can replace the other while both work.
pub const MAX_KEYS: usize = 2;
/// Users of one account, as at AWS.
const MAX_USERS: usize = 5000;
/// Characters of a user's name.
const MAX_NAME: usize = 64;

impl Directory {
    /// Makes a user, without keys and without policies.
    pub async fn create_user(&self, holder: Holder) -> Result<UserView, Error> {
        names::check("userName", &holder.name, MAX_NAME)?;
        self.change(move |draft| {
            let of_account = || {
                draft
                    .known
                    .users
                    .values()
                    .filter(|user| user.holder.account == holder.account)
            };
            // Two names that people cannot tell apart would be a trap.
            if let Some(user) = of_account().find(|user| user.holder.name.eq_ignore_ascii_case(&holder.name)) {
                return Err(Error::Exists(format!("There is already the {}.", user.holder)));
            }
            if of_account().count() >= MAX_USERS {
                let account = &holder.account;
                return Err(Error::Quota(format!(
                    "Account {account} has {MAX_USERS} users, the most there may be."
                )));
            }
            let user = User {
                id: names::random_id("AIDA", 17)?,
                created: draft.now,
                policies: Attached::new(BTreeMap::new()),
                life: Arc::default(),
                holder,
            };
            let view = UserView::of(&user, &[]);
            draft.put_user(user);
            Ok(view)
        })
        .await
    }

    /// Deletes a user with its keys and policies. Whatever was signed with them is refused from the return on.
    pub async fn delete_user(&self, holder: Holder) -> Result<(), Error> {
        self.change(move |draft| {
            let user = Arc::clone(draft.known.user(&holder)?);
            let ids: Vec<_> = draft
                .known
                .keys_of(&holder)
                .into_iter()
                .map(|key| key.id().to_owned())
                .collect();
            for id in ids {
                draft.remove_key(&id);
            }
            draft.remove_user(&user);
            Ok(())
        })
        .await
    }

    /// A user.
    pub fn user(&self, holder: &Holder) -> Result<UserView, Error> {
        let known = self.shared.known.load();
        Ok(UserView::of(known.user(holder)?, &known.keys_of(holder)))
    }

    /// Users of an account in the order of their names, `most` of them after the name `after`.
    #[must_use]
    pub fn users(&self, account: &domain::id::AccountId, after: Option<&str>, most: usize) -> Page<UserView> {
        let known = self.shared.known.load();
        let users = known.users.values().filter(|user| user.holder.account == *account);
        Page::of(
            users,
            after,
            most,
            |user| &user.holder.name,
            |user| UserView::of(user, &known.keys_of(&user.holder)),
        )
    }

    /// Makes a key; the only moment at which its secret can be seen.
    pub async fn create_key(&self, holder: Holder) -> Result<(KeyView, AccessKey), Error> {
        self.change(move |draft| {
            let user = Arc::clone(draft.known.user(&holder)?);
            if draft.known.keys_of(&holder).len() >= MAX_KEYS {
                let problem =
                    format!("The {holder} has {MAX_KEYS} access keys, the most there may be: delete one first.");
                return Err(Error::Quota(problem));
            }
            add_key(draft, &user)
        })
        .await
    }

    /// Makes a key in the place of another, which is refused from the return on. For a time in which both work, make a
    /// second key and delete the first when nobody uses it any more.
    pub async fn rotate_key(&self, holder: Holder, id: String) -> Result<(KeyView, AccessKey), Error> {
        self.change(move |draft| {
            let user = Arc::clone(draft.known.user(&holder)?);
            find_key(draft, &holder, &id)?;
            draft.remove_key(&id);
            add_key(draft, &user)
        })
        .await
    }

    /// Disables a key, or enables it again.
    pub async fn set_key_enabled(&self, holder: Holder, id: String, enabled: bool) -> Result<KeyView, Error> {
        self.change(move |draft| {
            let user = Arc::clone(draft.known.user(&holder)?);
            let key = find_key(draft, &holder, &id)?;
            if key.access().enabled == enabled {
                return Ok(KeyView::of(&key));
            }
            let access = AccessKey {
                enabled,
                ..key.access().clone()
            };
            let (created, last_use) = (key.created(), Arc::clone(key.last_use()));
            let key = user_key(access, &user).with_created(created).with_last_use(last_use);
            let view = KeyView::of(&key);
            draft.put_key(key, false)?;
            draft.put_user(User::clone(&user));
            Ok(view)
        })
        .await
    }

    /// Deletes a key.
    pub async fn delete_key(&self, holder: Holder, id: String) -> Result<(), Error> {
        self.change(move |draft| {
            let user = Arc::clone(draft.known.user(&holder)?);
            find_key(draft, &holder, &id)?;
            draft.remove_key(&id);
            draft.put_user(User::clone(&user));
            Ok(())
        })
        .await
    }

    /// Keys of a user, the oldest first.
    pub fn keys(&self, holder: &Holder) -> Result<Vec<KeyView>, Error> {
        let known = self.shared.known.load();
        known.user(holder)?;
        Ok(known.keys_of(holder).into_iter().map(|key| KeyView::of(key)).collect())
    }
}

fn add_key(draft: &mut Draft<'_>, user: &Arc<User>) -> Result<(KeyView, AccessKey), Error> {
    let access = AccessKey::generate(user.holder.account.clone())?;
    let key = user_key(access.clone(), user).with_created(Some(draft.now));
    let view = KeyView::of(&key);
    draft.put_key(key, false)?;
    draft.put_user(User::clone(user));
    Ok((view, access))
}

fn find_key(draft: &Draft<'_>, holder: &Holder, id: &str) -> Result<Arc<Key>, Error> {
    debug_assert!(holder.kind == HolderKind::User, "only users have keys");
    let key = draft.known.keys.get(id).filter(|key| key.holder() == Some(holder));
    let shown: String = id.chars().take(64).collect();
    key.cloned()
        .ok_or_else(|| Error::NotFound(format!("The {holder} has no access key '{shown}'.")))
}
