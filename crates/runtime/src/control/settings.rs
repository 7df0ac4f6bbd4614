//! From a create or update request to the [`Settings`] of a version.
//!
//! The front door has checked every single member. Here come the rules between members, AWS's defaults, and what the
//! API models but this version of Eyot does not do: that is refused by name, because an agent's safety may depend on
//! a setting that is silently not there.
//!
//! Decisions: `platformVersion` may be `V1`, which is what Eyot does; `V2` promises a memory snapshot. Lifecycle times
//! may be as long as the model allows (14 days), not only as long as AWS's micro-VMs (8 hours). `requireMMDSV2` may be
//! true: there is no metadata service that could be weaker.

use super::config::Quotas;
use super::record::{Code, Protocol, Settings};
use super::{authorizer, headers, hooks};
use api::control::{
    AgentRuntimeArtifact, Code as CodeSource, CreateAgentRuntimeRequest, LifecycleConfiguration, NetworkConfiguration,
    NetworkMode, ProtocolConfiguration, RequestHeaderConfiguration, ServerProtocol, UpdateAgentRuntimeRequest,
};
use domain::Error;
use domain::error::FieldError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where an agent listens unless the request says otherwise.
pub(crate) const DEFAULT_PORT: u16 = 8080;
/// Where an agent takes invocations unless the request says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/invocations";
/// AWS keeps this port of its range for itself.
pub(super) const REFUSED_PORT: u16 = 8443;
const DEFAULT_IDLE_SECONDS: u32 = 900;
const DEFAULT_LIFETIME_SECONDS: u32 = 28_800;
/// AWS's own words; tools look for them.
const IDLE_TOO_LONG: &str = "idleRuntimeSessionTimeout must be less than or equal to maxLifetime";

/// What this server lets a version have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed<'a> {
    pub(crate) quotas: &'a Quotas,
    /// Where identity providers may be.
    pub(crate) reach: oauth::Reach,
    /// Whether sandboxes here can have session storage.
    pub(crate) can_store: bool,
}

/// The version that a creation asks for.
pub(crate) fn from_create(request: CreateAgentRuntimeRequest, allowed: &Allowed<'_>) -> Result<Settings, Error> {
    let mut wrong = Vec::new();
    let settings = check(request, allowed, &mut wrong);
    match settings {
        Some(settings) if wrong.is_empty() => Ok(settings),
        _ => Err(Error::invalid_fields(wrong)),
    }
}

/// The version that an update asks for: a full replacement, so what it leaves out is reset.
pub(crate) fn from_update(request: UpdateAgentRuntimeRequest, allowed: &Allowed<'_>) -> Result<Settings, Error> {
    let mut wrong = Vec::new();
    if request
        .metadata_configuration
        .as_ref()
        .is_some_and(|metadata| !metadata.require_mmdsv2)
    {
        let message = "cannot be false: there is no metadata service without session tokens here";
        wrong.push(field("metadataConfiguration.requireMMDSV2", message));
    }
    let as_create = CreateAgentRuntimeRequest {
        agent_runtime_artifact: request.agent_runtime_artifact,
        agent_runtime_name: String::new(),
        allowed_ports: request.allowed_ports,
        authorizer_configuration: request.authorizer_configuration,
        capacity_provider_configuration: request.capacity_provider_configuration,
        client_token: None,
        description: request.description,
        environment_variables: request.environment_variables,
        filesystem_configurations: request.filesystem_configurations,
        hooks_configuration: request.hooks_configuration,
        lifecycle_configuration: request.lifecycle_configuration,
        network_configuration: request.network_configuration,
        platform_version: request.platform_version,
        protocol_configuration: request.protocol_configuration,
        request_header_configuration: request.request_header_configuration,
        resource_configurations: request.resource_configurations,
        role_arn: request.role_arn,
        tags: None,
    };
    let settings = check(as_create, allowed, &mut wrong);
    match settings {
        Some(settings) if wrong.is_empty() => Ok(settings),
        _ => Err(Error::invalid_fields(wrong)),
    }
}

/// Looks at everything, so that one answer names every fault. Nothing only if there is a fault.
fn check(request: CreateAgentRuntimeRequest, allowed: &Allowed<'_>, wrong: &mut Vec<FieldError>) -> Option<Settings> {
    let refused = [
        (
            "capacityProviderConfiguration",
            request.capacity_provider_configuration.is_some(),
        ),
        ("allowedPorts", request.allowed_ports.is_some()),
        (
            "resourceConfigurations",
            request.resource_configurations.is_some_and(|list| !list.is_empty()),
        ),
    ];
    wrong.extend(
        refused
            .into_iter()
            .filter(|(_, present)| *present)
            .map(|(name, _)| unsupported(name, "leave it out")),
    );
    if let Some(version) = request.platform_version.filter(|version| version != "V1") {
        wrong.push(unsupported(
            "platformVersion",
            &format!("'{version}' is not; use V1 or leave it out"),
        ));
    }
    check_network(request.network_configuration.as_ref(), wrong);
    let code = code(request.agent_runtime_artifact, wrong);
    let protocol = request
        .protocol_configuration
        .map(|protocol| protocol_of(protocol, wrong));
    let environment = request.environment_variables.unwrap_or_default();
    check_environment(&environment, allowed.quotas, wrong);
    let (idle_timeout_seconds, max_lifetime_seconds) = lifecycle(request.lifecycle_configuration.as_ref(), wrong);
    let header_allowlist = match request.request_header_configuration {
        Some(RequestHeaderConfiguration::RequestHeaderAllowlist(names)) => names,
        None => Vec::new(),
    };
    wrong.extend(headers::check(&header_allowlist));
    let warmup = hooks::warmup(request.hooks_configuration, wrong);
    let storage = hooks::storage(request.filesystem_configurations, allowed.can_store, wrong);
    let authorizer = request
        .authorizer_configuration
        .and_then(|given| authorizer::read(given, allowed.reach, wrong));
    Some(Settings {
        description: request.description,
        role_arn: request.role_arn,
        code: code?,
        environment,
        protocol,
        idle_timeout_seconds,
        max_lifetime_seconds,
        header_allowlist,
        warmup,
        storage,
        authorizer: authorizer.map(Arc::new),
    })
}

fn check_network(network: Option<&NetworkConfiguration>, wrong: &mut Vec<FieldError>) {
    let Some(network) = network else { return };
    if network.network_mode != NetworkMode::Public {
        wrong.push(unsupported("networkConfiguration.networkMode", "use PUBLIC"));
    } else if network.network_mode_config.is_some() {
        let message = "belongs to networkMode VPC: leave it out";
        wrong.push(field("networkConfiguration.networkModeConfig", message));
    }
}

fn code(artifact: AgentRuntimeArtifact, wrong: &mut Vec<FieldError>) -> Option<Code> {
    match artifact {
        AgentRuntimeArtifact::ContainerConfiguration(_) => {
            let name = "agentRuntimeArtifact.containerConfiguration";
            wrong.push(unsupported(name, "use codeConfiguration with a code package"));
            None
        }
        AgentRuntimeArtifact::CodeConfiguration(code) => {
            let CodeSource::S3(s3) = code.code;
            Some(Code {
                bucket: s3.bucket,
                key: s3.prefix,
                version_id: s3.version_id,
                runtime: code.runtime,
                entry_point: code.entry_point,
            })
        }
    }
}

fn protocol_of(protocol: ProtocolConfiguration, wrong: &mut Vec<FieldError>) -> Protocol {
    if protocol.server_protocol != ServerProtocol::Http {
        let remedy = format!("{} is not; use HTTP", protocol.server_protocol.as_str());
        wrong.push(unsupported("protocolConfiguration.serverProtocol", &remedy));
    }
    let port = protocol.port.and_then(|port| u16::try_from(port).ok());
    if port == Some(REFUSED_PORT) {
        let message = format!("cannot be {REFUSED_PORT}: use another port from 8000 to 12000");
        wrong.push(field("protocolConfiguration.port", message));
    }
    Protocol {
        port,
        path: protocol.path,
    }
}

fn check_environment(environment: &BTreeMap<String, String>, quotas: &Quotas, wrong: &mut Vec<FieldError>) {
    const MEMBER: &str = "environmentVariables";
    for (index, (name, value)) in environment.iter().enumerate() {
        if name.contains(['=', '\0']) {
            wrong.push(field(
                MEMBER,
                format!("name number {} holds '=' or a NUL character", index + 1),
            ));
        }
        if value.contains('\0') {
            wrong.push(field(MEMBER, format!("the value of '{name}' holds a NUL character")));
        }
    }
    let total: usize = environment.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > quotas.environment_bytes {
        let most = quotas.environment_bytes;
        wrong.push(field(
            MEMBER,
            format!("names and values have {total} bytes together, and may have at most {most}"),
        ));
    }
}

/// Idle timeout and maximal lifetime in seconds, with AWS's defaults.
fn lifecycle(given: Option<&LifecycleConfiguration>, wrong: &mut Vec<FieldError>) -> (u32, u32) {
    let seconds = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
    let idle = seconds(given.and_then(|given| given.idle_runtime_session_timeout));
    let lifetime = seconds(given.and_then(|given| given.max_lifetime));
    let max = lifetime.unwrap_or(DEFAULT_LIFETIME_SECONDS);
    let idle = idle.unwrap_or(DEFAULT_IDLE_SECONDS.min(max));
    if idle > max {
        wrong.push(field("lifecycleConfiguration.idleRuntimeSessionTimeout", IDLE_TOO_LONG));
    }
    (idle, max)
}

pub(super) fn field(name: &str, message: impl Into<String>) -> FieldError {
    FieldError {
        name: name.to_owned(),
        message: message.into(),
    }
}

pub(super) fn unsupported(name: &str, remedy: &str) -> FieldError {
    field(name, format!("is not supported by this version of Eyot yet: {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn request(more: Value) -> CreateAgentRuntimeRequest {
        let mut request = json!({
            "agentRuntimeName": "a",
            "roleArn": "arn:aws:iam::123456789012:role/agent",
            "agentRuntimeArtifact": {"codeConfiguration": {
                "code": {"s3": {"bucket": "eyot-artifacts", "prefix": "a.zip"}},
                "runtime": "PYTHON_3_11",
                "entryPoint": ["main.py"],
            }},
        });
        let (Value::Object(all), Value::Object(more)) = (&mut request, more) else {
            panic!("objects")
        };
        all.extend(more);
        let Value::Object(all) = request else { unreachable!() };
        api::from_input(all).unwrap()
    }

    fn allowed(quotas: &Quotas, can_store: bool) -> Allowed<'_> {
        Allowed {
            quotas,
            reach: oauth::Reach::default(),
            can_store,
        }
    }

    fn names(more: Value) -> Vec<String> {
        match from_create(request(more), &allowed(&Quotas::default(), true)) {
            Ok(_) => Vec::new(),
            Err(Error {
                kind: domain::Kind::Invalid { fields, .. },
                ..
            }) => fields.into_iter().map(|field| field.name).collect(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_does_not_work_yet_is_refused_by_name() {
        let container = json!({"containerConfiguration": {"containerUri": "public.ecr.aws/x/y:1"}});
        let efs = json!({"accessPointArn": "arn:aws:elasticfilesystem:us-west-2:123456789012:access-point/fsap-01234567", "mountPath": "/mnt/a"});
        let vpc = json!({"networkMode": "VPC", "networkModeConfig": {"securityGroups": ["sg-12345678"], "subnets": ["subnet-12345678"]}});
        let provider = "arn:aws:bedrock-agentcore:us-west-2:123456789012:capacity-provider/p-0123456789";
        for (more, name) in [
            (
                json!({"agentRuntimeArtifact": container}),
                "agentRuntimeArtifact.containerConfiguration",
            ),
            (json!({"networkConfiguration": vpc}), "networkConfiguration.networkMode"),
            (
                json!({"capacityProviderConfiguration": {"capacityProviderArn": provider}}),
                "capacityProviderConfiguration",
            ),
            (
                json!({"filesystemConfigurations": [{"efsAccessPoint": efs}]}),
                "filesystemConfigurations[0].efsAccessPoint",
            ),
            (json!({"allowedPorts": [{"port": 9000}]}), "allowedPorts"),
            (
                json!({"resourceConfigurations": [{"minimumMemoryInMiB": 512}]}),
                "resourceConfigurations",
            ),
            (json!({"platformVersion": "V2"}), "platformVersion"),
            (
                json!({"protocolConfiguration": {"serverProtocol": "MCP"}}),
                "protocolConfiguration.serverProtocol",
            ),
        ] {
            assert_eq!(names(more), [name]);
        }
        let harmless = json!({
            "filesystemConfigurations": [], "resourceConfigurations": [], "hooksConfiguration": {}, "platformVersion": "V1",
            "networkConfiguration": {"networkMode": "PUBLIC"},
        });
        assert_eq!(names(harmless), Vec::<String>::new());
    }

    #[test]
    fn rules_between_members() {
        let variable = |size: usize| json!({"environmentVariables": {"K": "v".repeat(size)}});
        let allow = |name: &str| json!({"requestHeaderConfiguration": {"requestHeaderAllowlist": [name]}});
        for (more, wrong) in [
            (variable(4095), None),
            (variable(4096), Some("environmentVariables")),
            (
                json!({"environmentVariables": {"A=B": ""}}),
                Some("environmentVariables"),
            ),
            (
                json!({"environmentVariables": {"A": "\0"}}),
                Some("environmentVariables"),
            ),
            (
                json!({"protocolConfiguration": {"serverProtocol": "HTTP", "port": 8443}}),
                Some("protocolConfiguration.port"),
            ),
            (
                json!({"protocolConfiguration": {"serverProtocol": "HTTP", "port": 8444, "path": "/x"}}),
                None,
            ),
            (allow("X-Tenant"), None),
            (
                allow("Cookie"),
                Some("requestHeaderConfiguration.requestHeaderAllowlist[0]"),
            ),
        ] {
            assert_eq!(names(more.clone()), wrong.into_iter().collect::<Vec<_>>(), "{more}");
        }
    }

    #[test]
    fn hooks_and_session_storage() {
        let hook = |post: Value| json!({"hooksConfiguration": {"build": {"warmup": {"action": {"httpPost": post}}}}});
        let mounts = |paths: &[&str]| {
            let all = paths.iter().map(|path| json!({"sessionStorage": {"mountPath": path}}));
            json!({"filesystemConfigurations": all.collect::<Vec<_>>()})
        };
        let port = "hooksConfiguration.build.warmup.action.httpPost.port";
        for (more, wrong) in [
            (hook(json!({"path": "/warm"})), None),
            (hook(json!({"path": "/warm", "port": 9000})), None),
            (hook(json!({"path": "/warm", "port": 8443})), Some(port)),
            (mounts(&["/mnt/data"]), None),
            (
                mounts(&["/mnt/a", "/mnt/b"]),
                Some("filesystemConfigurations[1].sessionStorage"),
            ),
            (
                mounts(&["/mnt/../"]),
                Some("filesystemConfigurations[0].sessionStorage.mountPath"),
            ),
        ] {
            assert_eq!(names(more.clone()), wrong.into_iter().collect::<Vec<_>>(), "{more}");
        }
        let error = from_create(request(mounts(&["/mnt/data"])), &allowed(&Quotas::default(), false)).unwrap_err();
        assert!(error.message.contains("driver"), "{error}");
        assert_eq!(hooks::mount_path("/mnt/data/"), "/mnt/data");
    }

    #[test]
    fn an_authorizer() {
        let with = |members: Value| json!({"authorizerConfiguration": {"customJWTAuthorizer": members}});
        let url = "https://idp.example.com/.well-known/openid-configuration";
        let member = "authorizerConfiguration.customJWTAuthorizer";
        assert_eq!(
            names(with(json!({"discoveryUrl": url, "allowedClients": ["web"]}))),
            Vec::<String>::new()
        );
        assert_eq!(names(with(json!({"discoveryUrl": url}))), [member]);
    }

    #[test]
    fn one_answer_names_every_fault() {
        let more =
            json!({"platformVersion": "V2", "allowedPorts": [{"port": 9000}], "environmentVariables": {"=": ""}});
        assert_eq!(names(more), ["allowedPorts", "platformVersion", "environmentVariables"]);
    }

    #[test]
    fn lifecycle_defaults_and_rule() {
        for (given, outcome) in [
            (json!({}), Some((900, 28_800))),
            (json!({"idleRuntimeSessionTimeout": 60}), Some((60, 28_800))),
            (json!({"maxLifetime": 600}), Some((600, 600))),
            (json!({"maxLifetime": 3600}), Some((900, 3600))),
            (
                json!({"idleRuntimeSessionTimeout": 600, "maxLifetime": 600}),
                Some((600, 600)),
            ),
            (json!({"idleRuntimeSessionTimeout": 601, "maxLifetime": 600}), None),
            (json!({"idleRuntimeSessionTimeout": 28_801}), None),
        ] {
            let result = from_create(
                request(json!({"lifecycleConfiguration": given})),
                &allowed(&Quotas::default(), true),
            );
            match (result, outcome) {
                (Ok(settings), Some(times)) => {
                    assert_eq!(
                        (settings.idle_timeout_seconds, settings.max_lifetime_seconds),
                        times,
                        "{given}"
                    );
                }
                (Err(error), None) => assert!(error.message.contains(IDLE_TOO_LONG), "{error}"),
                (result, _) => panic!("{given}: {result:?}"),
            }
        }
    }
}
