//! Roles: who may take them, and for how long.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use domain::id::AccountId;

use super::Directory;
use super::known::{Attached, Document, Role};
use super::view::{Page, RoleView};
use crate::Error;
use crate::names::{self, Holder};
use crate::policy::{Kind, Policy};

/// Roles of one account, as at AWS.
const MAX_ROLES: usize = 1000;
/// Characters of a role's name.
const MAX_NAME: usize = 64;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 1000;
/// Seconds.
const SESSION: RangeInclusive<u32> = 900..=43_200;
const DEFAULT_SESSION: u32 = 3600;

/// A role to be made.
#[derive(Debug, Clone)]
pub struct NewRole {
    /// Its account and name.
    pub holder: Holder,
    /// Who may take it: a policy with principals.
    pub trust_policy: String,
    /// The longest life of its sessions, in seconds, 900 to 43200; an hour unless said.
    pub max_session: Option<u32>,
    /// For people.
    pub description: Option<String>,
}

/// What changes of a role.
#[derive(Debug, Clone, Default)]
pub struct RoleChange {
    /// Another trust policy.
    pub trust_policy: Option<String>,
    /// Another longest life of its sessions, in seconds. Sessions that were issued stay as they are.
    pub max_session: Option<u32>,
    /// Another description.
    pub description: Option<String>,
}

impl Directory {
    /// Makes a role, without policies.
    pub async fn create_role(&self, new: NewRole) -> Result<RoleView, Error> {
        names::check("roleName", &new.holder.name, MAX_NAME)?;
        let holder = new.holder;
        let mut role = Role {
            id: names::random_id("AROA", 17)?,
            created: self.shared.clock.now(),
            description: String::new(),
            max_session: DEFAULT_SESSION,
            trust: trust(&new.trust_policy)?,
            policies: Attached::new(BTreeMap::new()),
            life: Arc::default(),
            holder,
        };
        let change = RoleChange {
            max_session: new.max_session,
            description: new.description,
            trust_policy: None,
        };
        change.check()?;
        change.apply(&mut role)?;
        self.change(move |draft| {
            let holder = &role.holder;
            let of_account = || {
                draft
                    .known
                    .roles
                    .values()
                    .filter(|role| role.holder.account == holder.account)
            };
            if let Some(role) = of_account().find(|role| role.holder.name.eq_ignore_ascii_case(&holder.name)) {
                return Err(Error::Exists(format!("There is already the {}.", role.holder)));
            }
            if of_account().count() >= MAX_ROLES {
                let account = &holder.account;
                return Err(Error::Quota(format!(
                    "Account {account} has {MAX_ROLES} roles, the most there may be."
                )));
            }
            let view = RoleView::of(&role);
            draft.put_role(role);
            Ok(view)
        })
        .await
    }

    /// Changes a role.
    pub async fn update_role(&self, holder: Holder, change: RoleChange) -> Result<RoleView, Error> {
        change.check()?;
        self.change(move |draft| {
            let mut role = Role::clone(draft.known.role(&holder)?);
            change.apply(&mut role)?;
            let view = RoleView::of(&role);
            draft.put_role(role);
            Ok(view)
        })
        .await
    }

    /// Deletes a role with its policies. Its sessions' credentials are refused from the return on.
    pub async fn delete_role(&self, holder: Holder) -> Result<(), Error> {
        self.change(move |draft| {
            let role = Arc::clone(draft.known.role(&holder)?);
            draft.remove_role(&role);
            Ok(())
        })
        .await
    }

    /// A role.
    pub fn role(&self, holder: &Holder) -> Result<RoleView, Error> {
        let known = self.shared.known.load();
        known.role(holder).map(|role| RoleView::of(role))
    }

    /// Who may take a role; nothing if there is no such role.
    #[must_use]
    pub fn trust_policy(&self, holder: &Holder) -> Option<Arc<Policy>> {
        let known = self.shared.known.load();
        known.role(holder).ok().map(|role| Arc::clone(&role.trust.policy))
    }

    /// Roles of an account in the order of their names, `most` of them after the name `after`.
    #[must_use]
    pub fn roles(&self, account: &AccountId, after: Option<&str>, most: usize) -> Page<RoleView> {
        let known = self.shared.known.load();
        let roles = known.roles.values().filter(|role| role.holder.account == *account);
        Page::of(roles, after, most, |role| &role.holder.name, RoleView::of)
    }
}

impl RoleChange {
    fn check(&self) -> Result<(), Error> {
        if let Some(seconds) = self.max_session.filter(|seconds| !SESSION.contains(seconds)) {
            let (least, most) = (SESSION.start(), SESSION.end());
            let problem = format!("{seconds} seconds is not from {least} (15 minutes) to {most} (12 hours)");
            return Err(Error::invalid("maxSessionDuration", problem));
        }
        if self
            .description
            .as_ref()
            .is_some_and(|text| text.chars().count() > MAX_DESCRIPTION)
        {
            let problem = format!("has more than {MAX_DESCRIPTION} characters");
            return Err(Error::invalid("description", problem));
        }
        Ok(())
    }

    fn apply(self, role: &mut Role) -> Result<(), Error> {
        if let Some(text) = self.trust_policy {
            role.trust = trust(&text)?;
        }
        role.max_session = self.max_session.unwrap_or(role.max_session);
        if let Some(description) = self.description {
            role.description = description;
        }
        Ok(())
    }
}

fn trust(text: &str) -> Result<Document, Error> {
    Document::parse(Kind::Trust, "role trust policy", text).map_err(|problem| Error::invalid("trustPolicy", problem))
}
