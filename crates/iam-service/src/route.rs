//! Which request is which action, on what.

use domain::Error;
use domain::id::AccountId;
use front_door::service::{Access, OwnCall};
use http::Method;
use iam::names::{Holder, HolderKind};

use crate::Action;
use crate::document::Params;

/// A request that means something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// None for what everybody may know: who they are.
    pub(crate) action: Option<Action>,
    pub(crate) account: AccountId,
    pub(crate) target: Target,
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Caller,
    Users,
    Roles,
    Holder(Holder),
    Keys(Holder),
    Key(Holder, String),
    Policies(Holder),
    Policy(Holder, String),
    Revocations,
}

impl Route {
    /// Reads method, path and `accountId`.
    pub(crate) fn of(call: &OwnCall, own: &AccountId) -> Result<Self, Error> {
        let account = match call.query.iter().find(|(name, _)| name == "accountId") {
            Some((_, text)) => {
                AccountId::parse(text).map_err(|invalid| Error::invalid_field("accountId", invalid.to_string()))?
            }
            None => own.clone(),
        };
        let path: Vec<&str> = call.path.iter().skip(1).map(String::as_str).collect();
        let holder = |kind: &str, name: &str| match kind {
            "users" => Holder::user(account.clone(), name),
            _ => Holder::role(account.clone(), name),
        };
        use Action as A;
        let (target, actions): (Target, &[(Method, Action)]) = match path[..] {
            ["whoami"] => (Target::Caller, &[]),
            ["users"] => (
                Target::Users,
                &[(Method::GET, A::ListUsers), (Method::POST, A::CreateUser)],
            ),
            ["roles"] => (
                Target::Roles,
                &[(Method::GET, A::ListRoles), (Method::POST, A::CreateRole)],
            ),
            ["users", name] => (
                Target::Holder(holder("users", name)),
                &[(Method::GET, A::GetUser), (Method::DELETE, A::DeleteUser)],
            ),
            ["roles", name] => (
                Target::Holder(holder("roles", name)),
                &[
                    (Method::GET, A::GetRole),
                    (Method::PATCH, A::UpdateRole),
                    (Method::DELETE, A::DeleteRole),
                ],
            ),
            ["users", name, "keys"] => (
                Target::Keys(holder("users", name)),
                &[(Method::GET, A::ListAccessKeys), (Method::POST, A::CreateAccessKey)],
            ),
            ["users", name, "keys", id] => (
                Target::Key(holder("users", name), id.to_owned()),
                &[
                    (Method::PATCH, A::UpdateAccessKey),
                    (Method::DELETE, A::DeleteAccessKey),
                ],
            ),
            ["users", name, "keys", id, "rotate"] => (
                Target::Key(holder("users", name), id.to_owned()),
                &[(Method::POST, A::RotateAccessKey)],
            ),
            ["users", name, "policies"] => (
                Target::Policies(holder("users", name)),
                &[(Method::GET, A::ListUserPolicies)],
            ),
            ["roles", name, "policies"] => (
                Target::Policies(holder("roles", name)),
                &[(Method::GET, A::ListRolePolicies)],
            ),
            ["users", name, "policies", policy] => (
                Target::Policy(holder("users", name), policy.to_owned()),
                &[
                    (Method::GET, A::GetUserPolicy),
                    (Method::PUT, A::PutUserPolicy),
                    (Method::DELETE, A::DeleteUserPolicy),
                ],
            ),
            ["roles", name, "policies", policy] => (
                Target::Policy(holder("roles", name), policy.to_owned()),
                &[
                    (Method::GET, A::GetRolePolicy),
                    (Method::PUT, A::PutRolePolicy),
                    (Method::DELETE, A::DeleteRolePolicy),
                ],
            ),
            ["revocations"] => (Target::Revocations, &[(Method::POST, A::RevokeCredentials)]),
            _ => return Err(Error::not_found("There is nothing here.")),
        };
        let action = match actions.iter().find(|(method, _)| *method == call.method) {
            Some((_, action)) => Some(*action),
            None if target == Target::Caller && call.method == Method::GET => None,
            None => {
                let mut methods: Vec<_> = actions.iter().map(|(method, _)| method.as_str()).collect();
                if methods.is_empty() {
                    methods.push("GET");
                }
                let message = format!("{} does nothing here: use {}", call.method, methods.join(" or "));
                return Err(Error::invalid_field("method", message));
            }
        };
        Ok(Self {
            action,
            account,
            target,
        })
    }

    /// The query of a request that takes no further parameters.
    pub(crate) fn no_parameters(call: &OwnCall) -> Result<(), Error> {
        Params::new(&call.query, &["accountId"]).finish()
    }

    /// In the words of policies.
    pub(crate) fn access(&self) -> Access {
        let Some(action) = self.action else {
            return Access::default();
        };
        let every = |kind: HolderKind| format!("arn:aws:iam::{}:{}/*", self.account, kind.word());
        let arn = match &self.target {
            Target::Caller | Target::Revocations => "*".to_owned(),
            Target::Users => every(HolderKind::User),
            Target::Roles => every(HolderKind::Role),
            Target::Holder(holder)
            | Target::Keys(holder)
            | Target::Key(holder, _)
            | Target::Policies(holder)
            | Target::Policy(holder, _) => holder.arn(),
        };
        Access::of(action.name(), arn)
    }
}
