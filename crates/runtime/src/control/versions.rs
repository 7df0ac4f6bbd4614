//! List and delete versions; and the pages of every list.

use super::lifecycle;
use super::page;
use super::record::{Document, Endpoint, Runtime, State, VersionRecord, VersionState, children_of, version_key};
use super::runtimes::{no_version, runtime_id};
use super::store::{Change, Stored};
use super::{Inner, typed};
use api::control as wire;
use domain::Error;
use domain::id::Version;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Continues the list, when there is more.
    pub(super) next: Option<String>,
}

impl Inner {
    /// Lists a runtime's versions, oldest first.
    pub(super) async fn list_versions(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::ListAgentRuntimeVersionsRequest = typed(input)?;
        let id = runtime_id(&request.agent_runtime_id)?;
        let runtime = self.runtime(&id).await?.value;
        let prefix = children_of(&id);
        let page = self
            .page::<VersionRecord>(&prefix, request.max_results, request.next_token.as_deref())
            .await?;
        Ok(api::to_output(&wire::ListAgentRuntimeVersionsResponse {
            agent_runtimes: page
                .items
                .iter()
                .map(|version| self.list_version(&runtime, version))
                .collect(),
            next_token: page.next,
        }))
    }

    /// Adds the deletion of one version to a change. A version that serves, or that is the only one, stays.
    pub(super) async fn delete_version(
        &self,
        read: &Stored<Runtime>,
        version: Version,
        now: Timestamp,
        change: &mut Change,
    ) -> Result<(), Error> {
        let id = &read.value.id;
        let Some(doomed) = self.store.get::<VersionRecord>(&version_key(id, version)).await? else {
            return Err(no_version(id, version));
        };
        let endpoints = self.store.all::<Endpoint>(&children_of(id)).await?;
        let users: Vec<&str> = endpoints
            .iter()
            .filter(|endpoint| lifecycle::uses(&endpoint.value, version))
            .map(|endpoint| endpoint.value.name.as_str())
            .collect();
        if !users.is_empty() {
            let users = users.join(", ");
            return Err(Error::conflict(format!(
                "Version {version} of agent runtime '{id}' is in use by endpoint {users}: point the endpoint at another \
                 version or delete it first."
            )));
        }
        if read.value.versions <= 1 {
            return Err(Error::conflict(format!(
                "Version {version} is the only one of agent runtime '{id}': delete the runtime, without a version."
            )));
        }
        let mut runtime = Runtime {
            versions: read.value.versions - 1,
            ..read.value.clone()
        };
        change.delete(&doomed);
        if version == runtime.latest {
            self.fall_back(&mut runtime, version, &endpoints, now, change).await?;
        }
        // Written in any case: it puts this deletion and an endpoint that starts to use the version in one order.
        change.replace(read, &runtime);
        Ok(())
    }

    /// The latest version is being deleted, which can only be one that failed: shows the one before it instead.
    async fn fall_back(
        &self,
        runtime: &mut Runtime,
        deleted: Version,
        endpoints: &[Stored<Endpoint>],
        now: Timestamp,
        change: &mut Change,
    ) -> Result<(), Error> {
        let all = self.store.all::<VersionRecord>(&children_of(&runtime.id)).await?;
        let Some(before) = all.into_iter().map(|v| v.value).rfind(|v| v.version != deleted) else {
            return Err(Error::conflict(
                "The versions are being changed by another call: call again in a moment.",
            ));
        };
        runtime.latest = before.version;
        runtime.description = before.settings.description;
        runtime.updated_at = now;
        runtime.state = match before.state {
            VersionState::Failed { reason } if before.version == Version::FIRST => State::CreateFailed { reason },
            VersionState::Failed { reason } => State::UpdateFailed { reason },
            _ => State::Ready,
        };
        for old in endpoints.iter().filter(|endpoint| endpoint.value.name.is_default()) {
            let mut default = old.value.clone();
            default.state = runtime.state.clone();
            default.target = Some(runtime.latest).filter(|latest| default.live != Some(*latest));
            if default.state == State::Ready && default.target.is_some() {
                default.state = State::Updating;
            }
            default.updated_at = now;
            change.replace(old, &default);
        }
        Ok(())
    }

    /// One page of the documents below a prefix.
    pub(super) async fn page<T: Document>(
        &self,
        prefix: &str,
        size: Option<i32>,
        token: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let size = size
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(page::DEFAULT_SIZE)
            .clamp(1, 100);
        let after = token.map(|token| page::after(T::KIND, prefix, token)).transpose()?;
        let mut found = self.store.list::<T>(prefix, after.as_deref(), size + 1).await?;
        let more = found.len() > size;
        found.truncate(size);
        let items: Vec<T> = found.into_iter().map(|stored| stored.value).collect();
        let next = items
            .last()
            .filter(|_| more)
            .map(|last| page::token(T::KIND, prefix, &last.key()));
        Ok(Page { items, next })
    }
}
