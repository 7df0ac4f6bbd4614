//! Resource-based policies of runtimes and endpoints: who may do what with them, from this account or another.
//!
//! A policy is kept with the runtime's or endpoint's record, so that it goes with it, and is in force before the call
//! that sets it is answered. `GetResourcePolicy` answers the text as it was given.
//!
//! Invariant: a policy that cannot be understood is never kept. One that is in the records all the same, from a newer
//! Eyot, denies everybody but the account's root: it must not turn into no policy at all.

use super::record::{Endpoint, Runtime};
use super::store::{Change, Outcome, Tries};
use super::{Inner, own_arn, typed};
use api::control as wire;
use domain::Error;
use domain::arn::ResourceArn;
use domain::id::RuntimeId;
use iam::policy::{Kind, Policy};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Stands for a policy that cannot be read.
const DENY_ALL: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"UnreadablePolicy","Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}]}"#;

impl Inner {
    /// Sets a policy, or replaces the one that is there.
    pub(super) async fn put_policy(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::PutResourcePolicyRequest = typed(input)?;
        let arn = own_arn("resourceArn", &request.resource_arn, &self.region, &self.account)?;
        let invalid = |invalid: iam::policy::Invalid| Error::invalid_field("policy", invalid.to_string());
        let policy = Policy::parse(Kind::Resource, &request.policy).map_err(invalid)?;
        policy.check_is_about(&arn.to_string()).map_err(invalid)?;
        self.change_policy(&arn, Some(&request.policy)).await?;
        Ok(api::to_output(&wire::PutResourcePolicyResponse {
            policy: request.policy,
        }))
    }

    /// Answers a policy's text.
    pub(super) async fn get_policy(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::GetResourcePolicyRequest = typed(input)?;
        let arn = own_arn("resourceArn", &request.resource_arn, &self.region, &self.account)?;
        let runtime = self.runtime(&arn.runtime().id).await?.value;
        let policy = match &arn {
            ResourceArn::Runtime(_) => runtime.policy,
            ResourceArn::Endpoint(arn) => self.endpoint(&runtime.id, arn.endpoint.as_str()).await?.value.policy,
        };
        let policy = policy.ok_or_else(|| missing(&arn))?;
        Ok(api::to_output(&wire::GetResourcePolicyResponse {
            policy: Some(policy),
        }))
    }

    /// Removes a policy.
    pub(super) async fn delete_policy(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::DeleteResourcePolicyRequest = typed(input)?;
        let arn = own_arn("resourceArn", &request.resource_arn, &self.region, &self.account)?;
        self.change_policy(&arn, None).await?;
        Ok(api::to_output(&wire::DeleteResourcePolicyResponse {}))
    }

    async fn change_policy(&self, arn: &ResourceArn, policy: Option<&str>) -> Result<(), Error> {
        let id = &arn.runtime().id;
        let policy = policy.map(str::to_owned);
        let mut tries = Tries::default();
        loop {
            let runtime = self.runtime(id).await?;
            let mut change = Change::default();
            let old = match arn {
                ResourceArn::Runtime(_) => {
                    let new = Runtime {
                        policy: policy.clone(),
                        ..runtime.value.clone()
                    };
                    change.replace(&runtime, &new);
                    runtime.value.policy
                }
                ResourceArn::Endpoint(arn) => {
                    let endpoint = self.endpoint(id, arn.endpoint.as_str()).await?;
                    let new = Endpoint {
                        policy: policy.clone(),
                        ..endpoint.value.clone()
                    };
                    change.replace(&endpoint, &new);
                    endpoint.value.policy
                }
            };
            if policy.is_none() && old.is_none() {
                return Err(missing(arn));
            }
            if self.store.commit(change).await? == Outcome::Done {
                return self.in_force(id).await;
            }
            tries.again().await?;
        }
    }
}

/// A policy from a record.
pub(super) fn recorded(runtime: &RuntimeId, text: Option<&str>) -> Option<Arc<Policy>> {
    let text = text?;
    let policy = Policy::parse(Kind::Resource, text).or_else(|error| {
        tracing::error!(%runtime, %error, "a resource policy in the records is not understood and denies everything");
        Policy::parse(Kind::Resource, DENY_ALL)
    });
    Some(Arc::new(policy.expect("the text above is a policy")))
}

fn missing(arn: &ResourceArn) -> Error {
    Error::not_found(format!("'{arn}' has no resource policy."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_not_understood_is_not_taken_for_none() {
        let id = RuntimeId::parse("a-0123456789").unwrap();
        assert!(recorded(&id, None).is_none());
        for text in ["", "{}", r#"{"Version":"2030-01-01","Statement":[]}"#] {
            let policy = recorded(&id, Some(text)).unwrap();
            assert!(policy.check_is_about("arn:whatever").is_ok());
        }
    }
}
