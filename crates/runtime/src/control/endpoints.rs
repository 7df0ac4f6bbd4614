//! Create, get, update, delete and list endpoints.
//!
//! Decisions where AWS says nothing: an update without a version leaves the version, without a description the
//! description. `DEFAULT` always follows the latest version, so it takes a new description but no version, and it goes
//! away only with its runtime. A version that failed is refused at once; one that is being prepared is waited for.

use super::idempotency::{Attempt, Begin};
use super::lifecycle;
use super::record::{Endpoint, Runtime, State, VersionRecord, VersionState, children_of, endpoint_key, version_key};
use super::runtimes::{no_version, quota, runtime_id, version_number};
use super::store::{Change, Outcome, Stored, Tries};
use super::view::{endpoint_arn, endpoint_status, text};
use super::work::Job;
use super::{Inner, tags, typed};
use api::control as wire;
use domain::Error;
use domain::id::{EndpointName, RuntimeId, Version, random_tail};
use serde_json::{Map, Value};

impl Inner {
    /// Writes down an endpoint as CREATING.
    pub(super) async fn create_endpoint(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::CreateAgentRuntimeEndpointRequest = typed(input.clone())?;
        let id = runtime_id(&request.agent_runtime_id)?;
        let attempt = Attempt::new("CreateAgentRuntimeEndpoint", Some(&id), &input);
        let name =
            EndpointName::parse(&request.name).map_err(|invalid| Error::invalid_field("name", invalid.to_string()))?;
        let asked = request
            .agent_runtime_version
            .as_deref()
            .map(version_number)
            .transpose()?;
        let tags = request.tags.unwrap_or_default();
        tags::check_endpoint(&tags)?;
        let endpoint_id = format!("{name}-{}", random_tail());
        let mut tries = Tries::default();
        loop {
            let now = self.clock.now();
            let slot = match attempt.begin(&self.store, now).await? {
                Begin::Replay(answer) => return Ok(answer),
                Begin::Fresh(slot) => slot,
            };
            let read = self.runtime(&id).await?;
            stays(&read.value)?;
            if self.store.get::<Endpoint>(&endpoint_key(&id, &name)).await?.is_some() {
                return Err(Error::conflict(format!(
                    "Agent runtime '{id}' has an endpoint '{name}' already."
                )));
            }
            let most = self.quotas.endpoints_per_runtime;
            if read.value.endpoints >= most {
                return Err(quota("endpoints of one runtime", most, "delete one that is not needed"));
            }
            let target = asked.unwrap_or(read.value.latest);
            self.may_serve(&id, target).await?;

            let endpoint = Endpoint {
                runtime: id.clone(),
                name: name.clone(),
                id: endpoint_id.clone(),
                created_at: now,
                updated_at: now,
                description: request.description.clone(),
                state: State::Creating,
                live: None,
                target: Some(target),
                tags: tags.clone(),
                policy: None,
            };
            let arn = self.arn(&id);
            let answer = api::to_output(&wire::CreateAgentRuntimeEndpointResponse {
                agent_runtime_arn: arn.to_string(),
                agent_runtime_endpoint_arn: endpoint_arn(&arn, &endpoint),
                agent_runtime_id: Some(id.to_string()),
                created_at: now,
                endpoint_name: Some(name.to_string()),
                status: endpoint_status(&endpoint.state),
                target_version: target.to_string(),
            });
            let mut change = Change::default();
            change.create(&endpoint);
            change.replace(
                &read,
                &Runtime {
                    endpoints: read.value.endpoints + 1,
                    ..read.value.clone()
                },
            );
            attempt.keep(&slot, &answer, now, &mut change);
            if self.store.commit(change).await? == Outcome::Done {
                // Its tags count from the next call on.
                self.in_force(&id).await?;
                return Ok(answer);
            }
            tries.again().await?;
        }
    }

    /// Shows an endpoint.
    pub(super) async fn get_endpoint(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::GetAgentRuntimeEndpointRequest = typed(input)?;
        let id = runtime_id(&request.agent_runtime_id)?;
        self.runtime(&id).await?;
        let endpoint = self.endpoint(&id, &request.endpoint_name).await?;
        Ok(api::to_output(&self.show_endpoint(&endpoint.value)))
    }

    /// Points an endpoint at another version, or describes it anew.
    pub(super) async fn update_endpoint(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::UpdateAgentRuntimeEndpointRequest = typed(input.clone())?;
        let id = runtime_id(&request.agent_runtime_id)?;
        let attempt = Attempt::new("UpdateAgentRuntimeEndpoint", Some(&id), &input);
        let asked = request
            .agent_runtime_version
            .as_deref()
            .map(version_number)
            .transpose()?;
        let mut tries = Tries::default();
        loop {
            let now = self.clock.now();
            let slot = match attempt.begin(&self.store, now).await? {
                Begin::Replay(answer) => return Ok(answer),
                Begin::Fresh(slot) => slot,
            };
            let read = self.runtime(&id).await?;
            stays(&read.value)?;
            let old = self.endpoint(&id, &request.endpoint_name).await?;
            settled(&old.value, "updated")?;
            let mut new = Endpoint {
                updated_at: now,
                ..old.value.clone()
            };
            if let Some(description) = &request.description {
                new.description = Some(description.clone());
            }
            if let Some(target) = asked {
                if new.name.is_default() {
                    return Err(Error::conflict(
                        "Endpoint 'DEFAULT' always follows the latest version: to choose a version, create an endpoint \
                         of your own and invoke with its name as the qualifier.",
                    ));
                }
                self.may_serve(&id, target).await?;
                lifecycle::begin_move(&mut new, target, now);
            }
            let arn = self.arn(&id);
            let answer = api::to_output(&wire::UpdateAgentRuntimeEndpointResponse {
                agent_runtime_arn: arn.to_string(),
                agent_runtime_endpoint_arn: endpoint_arn(&arn, &new),
                created_at: new.created_at,
                last_updated_at: now,
                live_version: text(new.live),
                status: endpoint_status(&new.state),
                target_version: text(new.target),
            });
            let mut change = Change::default();
            change.replace(&old, &new);
            change.replace(&read, &read.value);
            attempt.keep(&slot, &answer, now, &mut change);
            if self.store.commit(change).await? == Outcome::Done {
                self.queue.add(Job::Settle(id));
                return Ok(answer);
            }
            tries.again().await?;
        }
    }

    /// Marks an endpoint as DELETING.
    pub(super) async fn delete_endpoint(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::DeleteAgentRuntimeEndpointRequest = typed(input.clone())?;
        let id = runtime_id(&request.agent_runtime_id)?;
        let attempt = Attempt::new("DeleteAgentRuntimeEndpoint", Some(&id), &input);
        let mut tries = Tries::default();
        loop {
            let now = self.clock.now();
            let slot = match attempt.begin(&self.store, now).await? {
                Begin::Replay(answer) => return Ok(answer),
                Begin::Fresh(slot) => slot,
            };
            let read = self.runtime(&id).await?;
            stays(&read.value)?;
            let old = self.endpoint(&id, &request.endpoint_name).await?;
            if old.value.name.is_default() {
                return Err(Error::conflict(
                    "Endpoint 'DEFAULT' belongs to its agent runtime and is deleted only with it.",
                ));
            }
            settled(&old.value, "deleted")?;
            let answer = api::to_output(&wire::DeleteAgentRuntimeEndpointResponse {
                agent_runtime_id: Some(id.to_string()),
                endpoint_name: Some(old.value.name.to_string()),
                status: wire::AgentRuntimeEndpointStatus::Deleting,
            });
            let mut change = Change::default();
            change.replace(
                &old,
                &Endpoint {
                    state: State::Deleting,
                    updated_at: now,
                    ..old.value.clone()
                },
            );
            change.replace(&read, &read.value);
            attempt.keep(&slot, &answer, now, &mut change);
            if self.store.commit(change).await? == Outcome::Done {
                self.queue.add(Job::Settle(id));
                return Ok(answer);
            }
            tries.again().await?;
        }
    }

    /// Lists a runtime's endpoints in order of their names.
    pub(super) async fn list_endpoints(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::ListAgentRuntimeEndpointsRequest = typed(input)?;
        let id = runtime_id(&request.agent_runtime_id)?;
        self.runtime(&id).await?;
        let prefix = children_of(&id);
        let page = self
            .page::<Endpoint>(&prefix, request.max_results, request.next_token.as_deref())
            .await?;
        Ok(api::to_output(&wire::ListAgentRuntimeEndpointsResponse {
            next_token: page.next,
            runtime_endpoints: page.items.iter().map(|endpoint| self.list_endpoint(endpoint)).collect(),
        }))
    }

    /// The endpoint, or that there is none.
    pub(super) async fn endpoint(&self, id: &RuntimeId, name: &str) -> Result<Stored<Endpoint>, Error> {
        let missing = || Error::not_found(format!("Agent runtime '{id}' has no endpoint '{name}'."));
        let parsed = EndpointName::parse(name).map_err(|_| missing())?;
        self.store
            .get::<Endpoint>(&endpoint_key(id, &parsed))
            .await?
            .ok_or_else(missing)
    }

    /// Whether an endpoint may be pointed at a version.
    async fn may_serve(&self, id: &RuntimeId, version: Version) -> Result<(), Error> {
        match self
            .store
            .get::<VersionRecord>(&version_key(id, version))
            .await?
            .map(|found| found.value.state)
        {
            None => Err(no_version(id, version)),
            Some(VersionState::Failed { reason }) => Err(Error::conflict(format!(
                "Version {version} of agent runtime '{id}' cannot serve: {reason}"
            ))),
            Some(VersionState::Preparing | VersionState::Ready { .. }) => Ok(()),
        }
    }
}

/// Refuses to touch the endpoints of a runtime that is going away.
fn stays(runtime: &Runtime) -> Result<(), Error> {
    match runtime.state {
        State::Deleting => Err(Error::conflict(format!(
            "Agent runtime '{}' is being deleted.",
            runtime.id
        ))),
        _ => Ok(()),
    }
}

/// Refuses to touch an endpoint that is being made, moved or deleted.
fn settled(endpoint: &Endpoint, what: &str) -> Result<(), Error> {
    if endpoint.state.is_settled() {
        return Ok(());
    }
    let (name, status) = (&endpoint.name, endpoint.state.word());
    Err(Error::conflict(format!(
        "Endpoint '{name}' is {status} and cannot be {what} now. Wait until GetAgentRuntimeEndpoint shows READY or a failure."
    )))
}
