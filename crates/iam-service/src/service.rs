//! The service: what is asked, done.

use std::sync::Arc;

use async_trait::async_trait;
use domain::{Clock, Error, Kind, Principal};
use front_door::service::{Access, Call, OwnCall, OwnReply, Reply, Service, StsCall, StsReply};
use http::{Method, StatusCode};
use iam::Directory;
use iam::directory::{self, KeyView, Page};
use iam::keys::AccessKey;
use iam::names::{Holder, HolderKind};
use iam::sts::Revoke;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Federation;
use crate::document::{self, Params, told};
use crate::route::{Route, Target};
use crate::sts::Sts;

/// The route of all of it.
const ROUTE: &str = "iam";

/// Users, roles and keys, and STS, behind the front door.
#[derive(Debug)]
pub struct IamService {
    directory: Arc<Directory>,
    sts: Sts,
}

impl IamService {
    /// Over a directory and the identity providers that may vouch for somebody.
    #[must_use]
    pub fn new(directory: Arc<Directory>, federation: Arc<dyn Federation>, clock: Clock) -> Self {
        Self {
            sts: Sts::new(Arc::clone(&directory), federation, clock),
            directory,
        }
    }

    async fn answer(&self, route: Route, call: OwnCall) -> Result<OwnReply, Error> {
        if !matches!(
            (&route.target, &call.method),
            (Target::Users | Target::Roles, &Method::GET)
        ) {
            Route::no_parameters(&call)?;
        }
        match route.target {
            Target::Caller => document::json(StatusCode::OK, &who(&call.caller)),
            Target::Users | Target::Roles if call.method == Method::GET => self.list(&route, &call.query),
            Target::Users => {
                let new: document::NewUser = document::read(call.body).await?;
                let holder = Holder::user(route.account, &new.user_name);
                let user = self.directory.create_user(holder).await.map_err(told)?;
                document::json(StatusCode::CREATED, &user)
            }
            Target::Roles => {
                let new: document::NewRole = document::read(call.body).await?;
                let new = directory::NewRole {
                    holder: Holder::role(route.account, &new.role_name),
                    trust_policy: document::policy(&new.trust_policy),
                    max_session: new.max_session_duration,
                    description: new.description,
                };
                let role = self.directory.create_role(new).await.map_err(told)?;
                document::json(StatusCode::CREATED, &role)
            }
            Target::Holder(holder) => self.holder(holder, call).await,
            Target::Keys(holder) if call.method == Method::GET => {
                let keys = self.directory.keys(&holder).map_err(told)?;
                document::json(StatusCode::OK, &json!({"accessKeys": keys}))
            }
            Target::Keys(holder) => {
                let made = self.directory.create_key(holder.clone()).await.map_err(told)?;
                created(&holder, &made)
            }
            Target::Key(holder, id) => self.key(holder, id, call).await,
            Target::Policies(holder) => {
                let names = match holder.kind {
                    HolderKind::User => self.directory.user(&holder).map_err(told)?.policies,
                    HolderKind::Role => self.directory.role(&holder).map_err(told)?.policies,
                };
                document::json(StatusCode::OK, &json!({"policies": names}))
            }
            Target::Policy(holder, name) => self.policy(holder, name, call).await,
            Target::Revocations => {
                let what: document::Revocation = document::read(call.body).await?;
                let what = match (what.access_key_id, what.role_arn, what.session_name) {
                    (Some(id), None, None) => Revoke::Credential { id, expires: None },
                    (None, Some(role_arn), Some(session_name)) => Revoke::Session { role_arn, session_name },
                    _ => {
                        let message = "must have accessKeyId alone, or roleArn and sessionName";
                        return Err(Error::invalid_field("body", message));
                    }
                };
                self.directory.revoke(what).await.map_err(told)?;
                Ok(document::nothing())
            }
        }
    }

    fn list(&self, route: &Route, query: &[(String, String)]) -> Result<OwnReply, Error> {
        let (most, after) = Params::new(query, &["accountId", "maxResults", "nextToken"]).page()?;
        let (directory, account, after) = (&self.directory, &route.account, after.as_deref());
        match route.target {
            Target::Users => page(HolderKind::User, directory.users(account, after, most)),
            _ => page(HolderKind::Role, directory.roles(account, after, most)),
        }
    }

    async fn holder(&self, holder: Holder, call: OwnCall) -> Result<OwnReply, Error> {
        match (holder.kind, call.method) {
            (HolderKind::User, Method::GET) => {
                document::json(StatusCode::OK, &self.directory.user(&holder).map_err(told)?)
            }
            (HolderKind::Role, Method::GET) => {
                document::json(StatusCode::OK, &self.directory.role(&holder).map_err(told)?)
            }
            (HolderKind::User, _) => {
                self.directory.delete_user(holder).await.map_err(told)?;
                Ok(document::nothing())
            }
            (HolderKind::Role, Method::DELETE) => {
                self.directory.delete_role(holder).await.map_err(told)?;
                Ok(document::nothing())
            }
            (HolderKind::Role, _) => {
                let change: document::RoleChange = document::read(call.body).await?;
                let change = directory::RoleChange {
                    trust_policy: change.trust_policy.as_deref().map(document::policy),
                    max_session: change.max_session_duration,
                    description: change.description,
                };
                let role = self.directory.update_role(holder, change).await.map_err(told)?;
                document::json(StatusCode::OK, &role)
            }
        }
    }

    async fn key(&self, holder: Holder, id: String, call: OwnCall) -> Result<OwnReply, Error> {
        match call.method {
            Method::PATCH => {
                let change: document::KeyChange = document::read(call.body).await?;
                let changed = self.directory.set_key_enabled(holder, id, change.enabled).await;
                document::json(StatusCode::OK, &changed.map_err(told)?)
            }
            Method::DELETE => {
                self.directory.delete_key(holder, id).await.map_err(told)?;
                Ok(document::nothing())
            }
            _ => {
                let made = self.directory.rotate_key(holder.clone(), id).await.map_err(told)?;
                created(&holder, &made)
            }
        }
    }

    async fn policy(&self, holder: Holder, name: String, call: OwnCall) -> Result<OwnReply, Error> {
        match call.method {
            Method::GET => {
                let text = self.directory.policy(&holder, &name).map_err(told)?;
                Ok(document::reply(StatusCode::OK, "application/json", text.into_bytes()))
            }
            Method::PUT => {
                let text = document::text(call.body).await?;
                self.directory.put_policy(holder, name, text).await.map_err(told)?;
                Ok(document::nothing())
            }
            _ => {
                self.directory.delete_policy(holder, name).await.map_err(told)?;
                Ok(document::nothing())
            }
        }
    }
}

#[async_trait]
impl Service for IamService {
    fn operations(&self) -> &'static [&'static api::Operation] {
        &[]
    }

    async fn call(&self, call: Call) -> Result<Reply, Error> {
        let text = format!("{} is no operation of users and keys.", call.operation.name);
        Err(Error::new(Kind::Unsupported, text))
    }

    /// Never asked: there are no operations.
    fn access(&self, operation: &'static api::Operation, _input: &Map<String, Value>) -> Access {
        Access::of(format!("bedrock-agentcore:{}", operation.name), "*")
    }

    fn own_access(&self, call: &OwnCall) -> Result<Access, Error> {
        Ok(Route::of(call, self.directory.account())?.access())
    }

    fn own_routes(&self) -> &'static [&'static str] {
        &[ROUTE]
    }

    async fn call_own(&self, call: OwnCall) -> Result<OwnReply, Error> {
        let route = Route::of(&call, self.directory.account())?;
        self.answer(route, call).await
    }

    fn answers_sts(&self) -> bool {
        true
    }

    async fn call_sts(&self, call: StsCall) -> Result<StsReply, Error> {
        Ok(self.sts.answer(&call).await)
    }
}

/// The one answer that a secret is in.
fn created(holder: &Holder, (view, access): &(KeyView, AccessKey)) -> Result<OwnReply, Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Created<'a> {
        user_name: &'a str,
        #[serde(flatten)]
        key: &'a KeyView,
        secret_access_key: &'a str,
    }
    let document = Created {
        user_name: &holder.name,
        key: view,
        secret_access_key: &access.secret,
    };
    document::json(StatusCode::CREATED, &document)
}

fn page<T: Serialize>(kind: HolderKind, page: Page<T>) -> Result<OwnReply, Error> {
    let mut answer = json!({document::plural(kind): page.items});
    if let (Some(token), Some(answer)) = (document::token(page.next), answer.as_object_mut()) {
        answer.insert("nextToken".to_owned(), Value::String(token));
    }
    document::json(StatusCode::OK, &answer)
}

fn who(caller: &Principal) -> Value {
    json!({
        "arn": caller.arn,
        "userId": caller.id,
        "account": caller.account,
        "accessKeyId": caller.access_key_id,
    })
}
