//! Records as the API shows them.

use super::record::{Endpoint, Runtime, Settings, State, VersionRecord, VersionState};
use super::{Inner, authorizer, hooks};
use api::control as wire;
use domain::RuntimeArn;
use domain::id::Version;

impl Inner {
    /// A runtime as `GetAgentRuntime` shows one of its versions.
    pub(super) fn show_runtime(&self, runtime: &Runtime, version: &VersionRecord) -> wire::GetAgentRuntimeResponse {
        let state = state_of_version(runtime, version);
        let settings = &version.settings;
        // The runtime's own times go with its latest version; an older one has been what it is since it was made.
        let is_latest = version.version == runtime.latest;
        wire::GetAgentRuntimeResponse {
            agent_runtime_arn: self.arn(&runtime.id).to_string(),
            agent_runtime_artifact: Some(show_artifact(settings)),
            agent_runtime_id: runtime.id.to_string(),
            agent_runtime_name: runtime.name.to_string(),
            agent_runtime_version: version.version.to_string(),
            allowed_ports: None,
            authorizer_configuration: settings.authorizer.as_deref().map(authorizer::show),
            capacity_provider_configuration: None,
            created_at: runtime.created_at,
            description: settings.description.clone(),
            environment_variables: Some(settings.environment.clone()).filter(|variables| !variables.is_empty()),
            failure_reason: state.reason().map(str::to_owned),
            filesystem_configurations: hooks::show_filesystems(settings),
            hooks_configuration: hooks::show_hooks(settings),
            last_updated_at: if is_latest {
                runtime.updated_at
            } else {
                version.updated_at
            },
            lifecycle_configuration: wire::LifecycleConfiguration {
                idle_runtime_session_timeout: i32::try_from(settings.idle_timeout_seconds).ok(),
                max_lifetime: i32::try_from(settings.max_lifetime_seconds).ok(),
            },
            metadata_configuration: Some(wire::RuntimeMetadataConfiguration { require_mmdsv2: true }),
            network_configuration: Some(wire::NetworkConfiguration {
                network_mode: wire::NetworkMode::Public,
                network_mode_config: None,
            }),
            platform_version: Some("V1".to_owned()),
            protocol_configuration: settings.protocol.as_ref().map(|protocol| wire::ProtocolConfiguration {
                path: protocol.path.clone(),
                port: protocol.port.map(i32::from),
                server_protocol: wire::ServerProtocol::Http,
            }),
            request_header_configuration: Some(settings.header_allowlist.clone())
                .filter(|names| !names.is_empty())
                .map(wire::RequestHeaderConfiguration::RequestHeaderAllowlist),
            resource_configurations: None,
            role_arn: settings.role_arn.clone(),
            status: runtime_status(&state),
            workload_identity_details: None,
        }
    }

    /// A runtime in a list.
    pub(super) fn list_runtime(&self, runtime: &Runtime) -> wire::AgentRuntime {
        wire::AgentRuntime {
            agent_runtime_arn: self.arn(&runtime.id).to_string(),
            agent_runtime_id: runtime.id.to_string(),
            agent_runtime_name: runtime.name.to_string(),
            agent_runtime_version: runtime.latest.to_string(),
            description: runtime.description.clone().unwrap_or_default(),
            last_updated_at: runtime.updated_at,
            status: runtime_status(&runtime.state),
        }
    }

    /// A version in a list.
    pub(super) fn list_version(&self, runtime: &Runtime, version: &VersionRecord) -> wire::AgentRuntime {
        wire::AgentRuntime {
            agent_runtime_version: version.version.to_string(),
            description: version.settings.description.clone().unwrap_or_default(),
            last_updated_at: version.updated_at,
            status: runtime_status(&state_of_version(runtime, version)),
            ..self.list_runtime(runtime)
        }
    }

    /// An endpoint as `GetAgentRuntimeEndpoint` shows it.
    pub(super) fn show_endpoint(&self, endpoint: &Endpoint) -> wire::GetAgentRuntimeEndpointResponse {
        let arn = self.arn(&endpoint.runtime);
        wire::GetAgentRuntimeEndpointResponse {
            agent_runtime_endpoint_arn: endpoint_arn(&arn, endpoint),
            agent_runtime_arn: arn.to_string(),
            created_at: endpoint.created_at,
            description: endpoint.description.clone(),
            failure_reason: endpoint.state.reason().map(str::to_owned),
            id: endpoint.id.clone(),
            last_updated_at: endpoint.updated_at,
            live_version: text(endpoint.live),
            name: endpoint.name.to_string(),
            status: endpoint_status(&endpoint.state),
            target_version: text(endpoint.target),
        }
    }

    /// An endpoint in a list.
    pub(super) fn list_endpoint(&self, endpoint: &Endpoint) -> wire::AgentRuntimeEndpoint {
        let shown = self.show_endpoint(endpoint);
        wire::AgentRuntimeEndpoint {
            agent_runtime_arn: shown.agent_runtime_arn,
            agent_runtime_endpoint_arn: shown.agent_runtime_endpoint_arn,
            created_at: shown.created_at,
            description: shown.description,
            id: shown.id,
            last_updated_at: shown.last_updated_at,
            live_version: shown.live_version,
            name: shown.name,
            status: shown.status,
            target_version: shown.target_version,
        }
    }
}

/// An endpoint's ARN.
pub(super) fn endpoint_arn(runtime: &RuntimeArn, endpoint: &Endpoint) -> String {
    runtime.endpoint(endpoint.name.clone()).to_string()
}

/// A version number, if there is one.
pub(super) fn text(version: Option<Version>) -> Option<String> {
    version.map(|version| version.to_string())
}

/// A runtime's status on the wire.
pub(super) fn runtime_status(state: &State) -> wire::AgentRuntimeStatus {
    match state {
        State::Creating => wire::AgentRuntimeStatus::Creating,
        State::CreateFailed { .. } => wire::AgentRuntimeStatus::CreateFailed,
        State::Updating => wire::AgentRuntimeStatus::Updating,
        State::UpdateFailed { .. } => wire::AgentRuntimeStatus::UpdateFailed,
        State::Ready => wire::AgentRuntimeStatus::Ready,
        State::Deleting => wire::AgentRuntimeStatus::Deleting,
    }
}

/// An endpoint's status on the wire.
pub(super) fn endpoint_status(state: &State) -> wire::AgentRuntimeEndpointStatus {
    match state {
        State::Creating => wire::AgentRuntimeEndpointStatus::Creating,
        State::CreateFailed { .. } => wire::AgentRuntimeEndpointStatus::CreateFailed,
        State::Updating => wire::AgentRuntimeEndpointStatus::Updating,
        State::UpdateFailed { .. } => wire::AgentRuntimeEndpointStatus::UpdateFailed,
        State::Ready => wire::AgentRuntimeEndpointStatus::Ready,
        State::Deleting => wire::AgentRuntimeEndpointStatus::Deleting,
    }
}

/// The latest version shows the runtime's state, which also says whether `DEFAULT` has followed; an older one its own.
pub(super) fn state_of_version(runtime: &Runtime, version: &VersionRecord) -> State {
    if version.version == runtime.latest || runtime.state == State::Deleting {
        return runtime.state.clone();
    }
    let first = version.version == Version::FIRST;
    match &version.state {
        VersionState::Preparing if first => State::Creating,
        VersionState::Preparing => State::Updating,
        VersionState::Ready { .. } => State::Ready,
        VersionState::Failed { reason } if first => State::CreateFailed { reason: reason.clone() },
        VersionState::Failed { reason } => State::UpdateFailed { reason: reason.clone() },
    }
}

fn show_artifact(settings: &Settings) -> wire::AgentRuntimeArtifact {
    let code = &settings.code;
    wire::AgentRuntimeArtifact::CodeConfiguration(wire::CodeConfiguration {
        code: wire::Code::S3(wire::S3Location {
            bucket: code.bucket.clone(),
            prefix: code.key.clone(),
            version_id: code.version_id.clone(),
        }),
        entry_point: code.entry_point.clone(),
        runtime: code.runtime,
    })
}
