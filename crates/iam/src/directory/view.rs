//! What is shown of users, keys and roles: everything but secrets.

use jiff::Timestamp;
use serde::Serialize;

use super::known::{Role, User};
use crate::keys::Key;
use std::sync::Arc;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// The name to go on after, where there is more.
    pub next: Option<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    /// Its name.
    pub user_name: String,
    /// `AIDA…`
    pub user_id: String,
    /// Its ARN.
    pub arn: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Names of its policies.
    pub policies: Vec<String>,
    /// Its access keys.
    pub access_keys: Vec<KeyView>,
}

/// An access key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    /// Its id.
    pub access_key_id: String,
    /// Whether calls may be signed with it.
    pub enabled: bool,
    /// When it was made, where that is known.
    pub created_at: Option<Timestamp>,
    /// When a call was last verified with it; up to a minute is lost when the server is killed.
    pub last_used_at: Option<Timestamp>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleView {
    /// Its name.
    pub role_name: String,
    /// `AROA…`
    pub role_id: String,
    /// Its ARN.
    pub arn: String,
    /// For people.
    pub description: String,
    /// Seconds that its sessions may last.
    pub max_session_duration: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who may take it.
    pub trust_policy: serde_json::Value,
    /// Names of its policies.
    pub policies: Vec<String>,
}

impl<T> Page<T> {
    pub(super) fn of<'a, S: 'a>(
        all: impl Iterator<Item = &'a Arc<S>>,
        after: Option<&str>,
        most: usize,
        name: impl Fn(&S) -> &String,
        view: impl Fn(&S) -> T,
    ) -> Self {
        let mut rest = all
            .filter(|one| after.is_none_or(|after| name(one).as_str() > after))
            .peekable();
        let (mut items, mut last) = (Vec::new(), None);
        while items.len() < most
            && let Some(one) = rest.next()
        {
            items.push(view(one));
            last = Some(name(one).clone());
        }
        Self {
            items,
            next: last.filter(|_| rest.peek().is_some()),
        }
    }
}

impl UserView {
    pub(super) fn of(user: &User, keys: &[&Arc<Key>]) -> Self {
        Self {
            user_name: user.holder.name.clone(),
            user_id: user.id.clone(),
            arn: user.holder.arn(),
            created_at: user.created,
            policies: user.policies.by_name().keys().cloned().collect(),
            access_keys: keys.iter().map(|key| KeyView::of(key)).collect(),
        }
    }
}

impl KeyView {
    pub(super) fn of(key: &Key) -> Self {
        Self {
            access_key_id: key.id().to_owned(),
            enabled: key.access().enabled,
            created_at: key.created(),
            last_used_at: key.last_use().at(),
        }
    }
}

impl RoleView {
    pub(super) fn of(role: &Role) -> Self {
        Self {
            role_name: role.holder.name.clone(),
            role_id: role.id.clone(),
            arn: role.holder.arn(),
            description: role.description.clone(),
            max_session_duration: role.max_session,
            created_at: role.created,
            // It was read as JSON when it came in.
            trust_policy: serde_json::from_str(&role.trust.text).unwrap_or_default(),
            policies: role.policies.by_name().keys().cloned().collect(),
        }
    }
}
