//! Create, get, update, delete and list runtimes.

use super::idempotency::{Attempt, Begin};
use super::lifecycle;
use super::record::{
    Endpoint, Name, Runtime, State, USAGE_KEY, Usage, VersionRecord, VersionState, endpoint_key, version_key,
};
use super::store::{Change, Outcome, Stored, Tries};
use super::view::runtime_status;
use super::work::Job;
use super::{Inner, settings, tags, typed};
use api::control as wire;
use domain::id::{EndpointName, RuntimeId, RuntimeName, Version, random_tail};
use domain::{Error, Kind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

impl Inner {
    /// Writes down a runtime, its first version and its `DEFAULT` endpoint, all CREATING.
    pub(super) async fn create_runtime(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let attempt = Attempt::new("CreateAgentRuntime", None, &input);
        let mut request: wire::CreateAgentRuntimeRequest = typed(input)?;
        let name = RuntimeName::parse(&request.agent_runtime_name)
            .map_err(|invalid| Error::invalid_field("agentRuntimeName", invalid.to_string()))?;
        let tags = request.tags.take().unwrap_or_default();
        tags::check_runtime(&tags)?;
        let settings = settings::from_create(request, &self.allowed())?;
        let id = RuntimeId::generate(&name);
        let mut tries = Tries::default();
        loop {
            let now = self.clock.now();
            let slot = match attempt.begin(&self.store, now).await? {
                Begin::Replay(answer) => return Ok(answer),
                Begin::Fresh(slot) => slot,
            };
            if let Some(taken) = self.store.get::<Name>(name.as_str()).await? {
                let id = taken.value.runtime;
                return Err(Error::conflict(format!(
                    "An agent runtime named '{name}' exists already ({id}): choose another name, or change it with \
                     UpdateAgentRuntime."
                )));
            }
            let usage = self.store.get::<Usage>(USAGE_KEY).await?;
            let used = usage.as_ref().map_or(0, |usage| usage.value.runtimes);
            if used >= self.quotas.runtimes {
                return Err(quota(
                    "agent runtimes",
                    self.quotas.runtimes,
                    "delete one that is not needed",
                ));
            }

            let runtime = Runtime {
                id: id.clone(),
                name: name.clone(),
                created_at: now,
                updated_at: now,
                state: State::Creating,
                latest: Version::FIRST,
                description: settings.description.clone(),
                next: Version::FIRST.next(),
                pending: Some(Version::FIRST),
                versions: 1,
                endpoints: 1,
                tags: tags.clone(),
                created_by: attempt.key().map(str::to_owned),
                policy: None,
            };
            let default = Endpoint {
                runtime: id.clone(),
                name: EndpointName::default_endpoint(),
                id: format!("DEFAULT-{}", random_tail()),
                created_at: now,
                updated_at: now,
                description: None,
                state: State::Creating,
                live: None,
                target: Some(Version::FIRST),
                tags: BTreeMap::new(),
                policy: None,
            };
            let answer = api::to_output(&wire::CreateAgentRuntimeResponse {
                agent_runtime_arn: self.arn(&id).to_string(),
                agent_runtime_id: id.to_string(),
                agent_runtime_version: Version::FIRST.to_string(),
                created_at: now,
                status: runtime_status(&runtime.state),
                workload_identity_details: None,
            });
            let mut change = Change::default();
            change
                .create(&Name {
                    name: name.clone(),
                    runtime: id.clone(),
                })
                .create(&runtime)
                .create(&VersionRecord {
                    runtime: id.clone(),
                    version: Version::FIRST,
                    created_at: now,
                    updated_at: now,
                    settings: settings.clone(),
                    state: VersionState::Preparing,
                })
                .create(&default)
                .upsert(usage.as_ref(), &Usage { runtimes: used + 1 });
            attempt.keep(&slot, &answer, now, &mut change);
            if self.store.commit(change).await? == Outcome::Done {
                // Before anything settles it, so that a call that comes at once is not told that there is no such runtime,
                // and is held against its tags.
                self.announce(&runtime, &default);
                self.queue.add(Job::Settle(id));
                return Ok(answer);
            }
            tries.again().await?;
        }
    }

    /// Shows a runtime with its latest version, or with the one that is asked for.
    pub(super) async fn get_runtime(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::GetAgentRuntimeRequest = typed(input)?;
        let asked = request
            .agent_runtime_version
            .as_deref()
            .map(version_number)
            .transpose()?;
        let id = runtime_id(&request.agent_runtime_id)?;
        let mut tries = Tries::default();
        loop {
            let runtime = self.runtime(&id).await?.value;
            let version = asked.unwrap_or(runtime.latest);
            match self.store.get::<VersionRecord>(&version_key(&id, version)).await? {
                Some(found) => return Ok(api::to_output(&self.show_runtime(&runtime, &found.value))),
                None if asked.is_some() => return Err(no_version(&id, version)),
                // Deleted between the two reads: the runtime is going, or shows another version now.
                None => tries.again().await?,
            }
        }
    }

    /// Writes down a new version and lets `DEFAULT` wait for it.
    pub(super) async fn update_runtime(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::UpdateAgentRuntimeRequest = typed(input.clone())?;
        let id = runtime_id(&request.agent_runtime_id)?;
        let attempt = Attempt::new("UpdateAgentRuntime", Some(&id), &input);
        let settings = settings::from_update(request, &self.allowed())?;
        let mut tries = Tries::default();
        loop {
            let now = self.clock.now();
            let slot = match attempt.begin(&self.store, now).await? {
                Begin::Replay(answer) => return Ok(answer),
                Begin::Fresh(slot) => slot,
            };
            let read = self.runtime(&id).await?;
            settled(&read.value, "updated")?;
            let most = self.quotas.versions_per_runtime;
            if read.value.versions >= most {
                return Err(quota(
                    "versions of one runtime",
                    most,
                    "delete one with DeleteAgentRuntime and its version",
                ));
            }
            if read.value.next > Version(99_999) {
                return Err(quota(
                    "version numbers of one runtime",
                    99_999,
                    "create another runtime",
                ));
            }
            let key = endpoint_key(&id, &EndpointName::default_endpoint());
            let Some(old_default) = self.store.get::<Endpoint>(&key).await? else {
                // Only a deletion removes it.
                tries.again().await?;
                continue;
            };

            let (mut runtime, mut default) = (read.value.clone(), old_default.value.clone());
            let version = lifecycle::begin_update(&mut runtime, &mut default, now);
            runtime.description.clone_from(&settings.description);
            let answer = api::to_output(&wire::UpdateAgentRuntimeResponse {
                agent_runtime_arn: self.arn(&id).to_string(),
                agent_runtime_id: id.to_string(),
                agent_runtime_version: version.to_string(),
                created_at: runtime.created_at,
                last_updated_at: now,
                status: runtime_status(&runtime.state),
                workload_identity_details: None,
            });
            let mut change = Change::default();
            change
                .replace(&read, &runtime)
                .replace(&old_default, &default)
                .create(&VersionRecord {
                    runtime: id.clone(),
                    version,
                    created_at: now,
                    updated_at: now,
                    settings: settings.clone(),
                    state: VersionState::Preparing,
                });
            attempt.keep(&slot, &answer, now, &mut change);
            if self.store.commit(change).await? == Outcome::Done {
                self.queue.add(Job::Settle(id));
                return Ok(answer);
            }
            tries.again().await?;
        }
    }

    /// Marks a runtime as DELETING; with a version, deletes only that version.
    pub(super) async fn delete_runtime(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::DeleteAgentRuntimeRequest = typed(input.clone())?;
        let id = runtime_id(&request.agent_runtime_id)?;
        let attempt = Attempt::new("DeleteAgentRuntime", Some(&id), &input);
        let version = request
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
            settled(&read.value, "deleted")?;
            let answer = api::to_output(&wire::DeleteAgentRuntimeResponse {
                agent_runtime_id: Some(id.to_string()),
                agent_runtime_version: version.map(|version| version.to_string()),
                status: wire::AgentRuntimeStatus::Deleting,
            });
            let mut change = Change::default();
            match version {
                Some(version) => self.delete_version(&read, version, now, &mut change).await?,
                None => {
                    let runtime = Runtime {
                        state: State::Deleting,
                        updated_at: now,
                        ..read.value.clone()
                    };
                    change.replace(&read, &runtime);
                }
            }
            attempt.keep(&slot, &answer, now, &mut change);
            if self.store.commit(change).await? == Outcome::Done {
                if version.is_none() {
                    self.catalog.remove(&id);
                } else {
                    self.queue.add(Job::Collect);
                }
                self.queue.add(Job::Settle(id));
                return Ok(answer);
            }
            tries.again().await?;
        }
    }

    /// Lists runtimes in order of their ids, which begin with their names.
    pub(super) async fn list_runtimes(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::ListAgentRuntimesRequest = typed(input)?;
        let page = self
            .page::<Runtime>("", request.max_results, request.next_token.as_deref())
            .await?;
        Ok(api::to_output(&wire::ListAgentRuntimesResponse {
            agent_runtimes: page.items.iter().map(|runtime| self.list_runtime(runtime)).collect(),
            next_token: page.next,
        }))
    }

    /// The runtime, or that there is none.
    pub(super) async fn runtime(&self, id: &RuntimeId) -> Result<Stored<Runtime>, Error> {
        let found = self.store.get::<Runtime>(id.as_str()).await?;
        found.ok_or_else(|| no_runtime(id.as_str()))
    }
}

/// Reads a runtime's id. What cannot be one is one that does not exist.
pub(super) fn runtime_id(text: &str) -> Result<RuntimeId, Error> {
    RuntimeId::parse(text).map_err(|_| no_runtime(text))
}

/// Reads a version's number.
pub(super) fn version_number(text: &str) -> Result<Version, Error> {
    Version::parse(text).map_err(|invalid| Error::invalid_field("agentRuntimeVersion", invalid.to_string()))
}

/// Refuses to touch a runtime that is being made, changed or deleted.
fn settled(runtime: &Runtime, what: &str) -> Result<(), Error> {
    if runtime.state.is_settled() {
        return Ok(());
    }
    let status = runtime.state.word();
    let remedy = match runtime.state {
        State::Deleting => "It cannot be called back.",
        _ => "Wait until GetAgentRuntime shows READY or a failure.",
    };
    Err(Error::conflict(format!(
        "Agent runtime '{}' is {status} and cannot be {what} now. {remedy}",
        runtime.id
    )))
}

/// There is no such runtime.
pub(super) fn no_runtime(id: &str) -> Error {
    Error::not_found(format!("There is no agent runtime '{id}'."))
}

/// There is no such version.
pub(super) fn no_version(id: &RuntimeId, version: Version) -> Error {
    Error::not_found(format!("Agent runtime '{id}' has no version {version}."))
}

/// A limit on how much may exist has been reached.
pub(super) fn quota(what: &str, most: u32, remedy: &str) -> Error {
    Error::new(
        Kind::QuotaExceeded,
        format!("There may be at most {most} {what}: {remedy}."),
    )
}
