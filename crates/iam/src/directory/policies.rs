//! Policies of users and roles, by names that are unique within their holder.

use super::Directory;
use super::known::{Attached, Document, Role, User};
use crate::Error;
use crate::names::{self, Holder, HolderKind};
use crate::policy::Kind;

/// Policies of one user or role.
pub const MAX_POLICIES: usize = 10;
/// Characters of all policies of one user or role, white space not counted.
pub const MAX_POLICY_CHARACTERS: usize = 20_480;
/// Characters of a policy's name.
const MAX_NAME: usize = 128;

impl Directory {
    /// Gives a user or a role a policy, or replaces the one of this name. In force from the return on.
    pub async fn put_policy(&self, holder: Holder, name: String, text: String) -> Result<(), Error> {
        names::check("policyName", &name, MAX_NAME)?;
        let document =
            Document::parse(Kind::Identity, &name, &text).map_err(|problem| Error::invalid("policy", problem))?;
        self.change_policies(holder.clone(), move |attached| {
            let mut policies = attached.by_name().clone();
            policies.insert(name, document);
            if policies.len() > MAX_POLICIES {
                let problem = format!("The {holder} has {MAX_POLICIES} policies, the most there may be: delete one first.");
                return Err(Error::Quota(problem));
            }
            let size: usize = policies.values().map(|document| Document::size(&document.text)).sum();
            if size > MAX_POLICY_CHARACTERS {
                let problem = format!(
                    "The policies of {holder} would have {size} characters together; at most {MAX_POLICY_CHARACTERS} may be, white \
                     space not counted: shorten or delete one."
                );
                return Err(Error::Quota(problem));
            }
            Ok(Attached::new(policies))
        })
        .await
    }

    /// Takes a policy away.
    pub async fn delete_policy(&self, holder: Holder, name: String) -> Result<(), Error> {
        self.change_policies(holder.clone(), move |attached| {
            let mut policies = attached.by_name().clone();
            policies.remove(&name).ok_or_else(|| no_policy(&holder, &name))?;
            Ok(Attached::new(policies))
        })
        .await
    }

    /// A policy's text, as it was given.
    pub fn policy(&self, holder: &Holder, name: &str) -> Result<String, Error> {
        let known = self.shared.known.load();
        let document = known.attached(holder)?.by_name().get(name);
        document
            .map(|document| document.text.to_string())
            .ok_or_else(|| no_policy(holder, name))
    }

    async fn change_policies(
        &self,
        holder: Holder,
        change: impl FnOnce(&Attached) -> Result<Attached, Error> + Send + 'static,
    ) -> Result<(), Error> {
        self.change(move |draft| match holder.kind {
            HolderKind::User => {
                let mut user = User::clone(draft.known.user(&holder)?);
                user.policies = change(&user.policies)?;
                draft.put_user(user);
                Ok(())
            }
            HolderKind::Role => {
                let mut role = Role::clone(draft.known.role(&holder)?);
                role.policies = change(&role.policies)?;
                draft.put_role(role);
                Ok(())
            }
        })
        .await
    }
}

fn no_policy(holder: &Holder, name: &str) -> Error {
    let shown: String = name.chars().take(128).collect();
    Error::NotFound(format!("The {holder} has no policy '{shown}'."))
}
