//! What a sandbox is told: command, environment, labels.
//!
//! The environment is what `agentcore-behaviour` (the wire facts this project was built from) lists in its section 1.6.
//! `DOCKER_CONTAINER=1` makes AWS's Python SDK listen on all addresses, `OTEL_RESOURCE_ATTRIBUTES` tells it its ARN.
//! Decision: the other `OTEL_*` variables and `AGENT_OBSERVABILITY_ENABLED`, which AWS is thought to set, are left out.
//! They switch on exporters and a Python distribution that need a collector and a package, and without these an agent
//! logs errors or does not start. `BEDROCK_AGENTCORE_*` endpoints are left out while no sibling service answers them. Where the
//! metadata service and the API are inside, the driver adds ([`inside::listen`]); credentials are in no variable.
//! Decision: a variable of the version wins over one of ours.

use super::config::Config;
use super::inside;
use super::router::{Key, Node};
use crate::deployment::Deployment;
use crate::switches::Switches;
use domain::id::{EndpointName, SandboxId};
use jiff::Timestamp;
use sandbox::Spec;
use std::collections::BTreeMap;

const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// Labels of a session's sandbox, by which a later server process knows what it was.
pub(crate) mod label {
    /// The runtime's id.
    pub(crate) const RUNTIME: &str = "runtime";
    /// The endpoint's name.
    pub(crate) const ENDPOINT: &str = "endpoint";
    /// The version's number.
    pub(crate) const VERSION: &str = "version";
    /// The session's id.
    pub(crate) const SESSION: &str = "session";
    /// When the session's first call came.
    pub(crate) const CREATED: &str = "created";
    /// What its runtime's owner had switched when it began.
    pub(crate) const SWITCHES: &str = "switches";
    /// When the agent first was healthy, as a session's.
    pub(crate) const HEALTHY: &str = "healthy";
    /// What a later server process must know of the version to serve the session.
    pub(crate) const DEPLOYMENT: &str = "deployment";
    /// There on the sandbox of a version's trial.
    pub(crate) const TRIAL: &str = "trial";
    /// Which node started it.
    pub(crate) const OWNER: &str = "owner";
    /// The epoch of that node's lease.
    pub(crate) const EPOCH: &str = "epoch";
}

pub(super) type Labels = BTreeMap<String, String>;

/// All that the driver needs to start a sandbox of an endpoint. Whose session it will be is not in it.
pub(super) fn spec(endpoint: &EndpointName, deployment: &Deployment, config: &Config, node: &Node) -> Spec {
    let labels = [
        (label::RUNTIME, deployment.arn.id.to_string()),
        (label::ENDPOINT, endpoint.to_string()),
        (label::VERSION, deployment.version.to_string()),
        (label::DEPLOYMENT, serde_json::to_string(deployment).unwrap_or_default()),
        (label::OWNER, node.owner.clone()),
        (label::EPOCH, node.epoch.to_string()),
    ];
    Spec {
        id: SandboxId::generate(),
        labels: owned(labels),
        package: deployment.package.clone(),
        read_only: deployment.read_only.clone(),
        command: deployment.command.clone(),
        env: environment(endpoint, deployment),
        port: deployment.port,
        listen: inside::listen(),
        limits: (&config.limits).into(),
        storage: None,
        orphan_after: config.orphan_after,
    }
}

/// The labels that make a sandbox a session's.
pub(super) fn session_labels(key: &Key, created: Timestamp, switches: &Switches) -> Labels {
    owned([
        (label::SWITCHES, serde_json::to_string(switches).unwrap_or_default()),
        (label::SESSION, key.session.to_string()),
        (label::CREATED, created.to_string()),
    ])
}

/// The label that says that a session's agent has been healthy.
pub(super) fn healthy_label(at: Timestamp) -> Labels {
    owned([(label::HEALTHY, at.to_string())])
}

fn owned<const N: usize>(labels: [(&str, String); N]) -> Labels {
    labels.map(|(name, value)| (name.to_owned(), value)).into()
}

fn environment(endpoint: &EndpointName, deployment: &Deployment) -> Vec<(String, String)> {
    let region = deployment.arn.region.as_str();
    let mut all: BTreeMap<&str, String> = BTreeMap::from([
        ("DOCKER_CONTAINER", "1".to_owned()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
    ]);
    all.extend(
        deployment
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    );
    let arn = deployment.arn.endpoint(endpoint.clone());
    let ours = format!("cloud.resource_id={arn},service.name={}.{endpoint}", deployment.name);
    // AWS's SDK takes the first cloud.resource_id, OpenTelemetry the last service.name: so ours, then theirs.
    let attributes = match all.get(RESOURCE_ATTRIBUTES) {
        Some(theirs) if !theirs.is_empty() => format!("{ours},{theirs}"),
        _ => ours,
    };
    all.insert(RESOURCE_ATTRIBUTES, attributes);
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{deployment, key};

    fn value<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
        let mut found = spec.env.iter().filter(|(n, _)| n == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    #[test]
    fn an_agent_learns_who_it_is() {
        let node = Node {
            owner: "node-1".to_owned(),
            epoch: 7,
        };
        let endpoint = key("a").endpoint;
        let spec = spec(&endpoint, &deployment(), &Config::default(), &node);
        let arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/agent-0123456789/runtime-endpoint/DEFAULT";
        let attributes = format!("cloud.resource_id={arn},service.name=agent.DEFAULT");
        for (name, expected) in [
            ("DOCKER_CONTAINER", "1"),
            ("PYTHONUNBUFFERED", "1"),
            ("AWS_REGION", "us-west-2"),
            ("AWS_DEFAULT_REGION", "us-west-2"),
            ("OTEL_RESOURCE_ATTRIBUTES", attributes.as_str()),
        ] {
            assert_eq!(value(&spec, name), Some(expected), "{name}");
        }
        assert_eq!(spec.labels[label::VERSION], "1");
        assert_eq!(
            (&*spec.labels[label::OWNER], &*spec.labels[label::EPOCH]),
            ("node-1", "7")
        );
        let kept: Deployment = serde_json::from_str(&spec.labels[label::DEPLOYMENT]).unwrap();
        let expected = Deployment {
            command: Vec::new(),
            ..deployment()
        };
        assert_eq!(kept, expected, "what a later process knows of the version");
        let labels = session_labels(&key("a"), Timestamp::UNIX_EPOCH, &Switches::default());
        assert_eq!(labels[label::SESSION], key("a").session.as_str());
    }

    #[test]
    fn the_versions_variables_win() {
        let mut deployment = deployment();
        deployment.environment = vec![
            ("AWS_REGION".into(), "eu-west-1".into()),
            ("OTEL_RESOURCE_ATTRIBUTES".into(), "team=x".into()),
            ("MODEL".into(), "m".into()),
        ];
        let node = Node {
            owner: "n".to_owned(),
            epoch: 1,
        };
        let spec = spec(&key("a").endpoint, &deployment, &Config::default(), &node);
        assert!(
            !spec.labels[label::DEPLOYMENT].contains("eu-west-1"),
            "an environment may hold secrets"
        );
        assert_eq!(value(&spec, "AWS_REGION"), Some("eu-west-1"));
        assert_eq!(value(&spec, "MODEL"), Some("m"));
        let attributes = value(&spec, "OTEL_RESOURCE_ATTRIBUTES").unwrap();
        assert!(
            attributes.starts_with("cloud.resource_id=arn:") && attributes.ends_with(",team=x"),
            "{attributes}"
        );
    }
}
