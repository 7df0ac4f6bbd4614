//! What each call would do to what, in the words of access policies.
//!
//! Actions are named as the operations (`bedrock-agentcore:CreateAgentRuntime`), ours as `eyot:…`. Rules that AWS's pages
//! state (`AgentCore docs: iam, resource-based-policies`) or that follow from them:
//! - a call through an endpoint needs its action on the runtime and on the endpoint; so does every operation on one;
//! - `InvokeAgentRuntime` with a user's id needs `InvokeAgentRuntimeForUser` as well;
//! - what makes or lists runtimes is about `runtime/*`;
//! - what gives a runtime a role needs `iam:PassRole` on the role, or whoever may make runtimes could act as any role.
//!
//! Invariant: what is said here depends on the call's words alone and on what the catalog knows, never on a resource
//! being there: a call for one that is not there needs the same leave.

use crate::catalog::Catalog;
use crate::observe::Action;
use api::operations as op;
use domain::arn::ResourceArn;
use domain::id::{AccountId, Region, RuntimeId};
use front_door::service::{Access, Resource};
use http::Method;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;

const INVOKE: &str = "bedrock-agentcore:InvokeAgentRuntime";
const INVOKE_FOR_USER: &str = "bedrock-agentcore:InvokeAgentRuntimeForUser";
const POLICY_OPERATIONS: [&api::Operation; 3] = [
    op::PUT_RESOURCE_POLICY,
    op::GET_RESOURCE_POLICY,
    op::DELETE_RESOURCE_POLICY,
];
const STOP: &str = "bedrock-agentcore:StopRuntimeSession";

/// Puts calls into the words of policies.
#[derive(Debug)]
pub(crate) struct Words {
    /// `arn:aws:bedrock-agentcore:REGION:ACCOUNT:runtime/`.
    prefix: String,
    /// `arn:aws:eyot:REGION:ACCOUNT:artifact/`.
    artifacts: String,
    catalog: Catalog,
}

impl Words {
    /// For the resources of this region and account.
    pub(crate) fn new(region: &Region, account: &AccountId, catalog: Catalog) -> Self {
        Self {
            prefix: format!("arn:aws:bedrock-agentcore:{region}:{account}:runtime/"),
            artifacts: format!("arn:aws:eyot:{region}:{account}:artifact/"),
            catalog,
        }
    }

    /// What an operation would do.
    pub(crate) fn of(&self, operation: &'static api::Operation, input: &Map<String, Value>) -> Access {
        if operation == op::INVOKE_AGENT_RUNTIME {
            let mut actions = vec![Cow::Borrowed(INVOKE)];
            if input.contains_key("runtimeUserId") {
                actions.push(Cow::Borrowed(INVOKE_FOR_USER));
            }
            return self.data(actions, input);
        }
        if operation == op::STOP_RUNTIME_SESSION {
            return self.data(vec![Cow::Borrowed(STOP)], input);
        }
        let mut resources = self.resources(input);
        if POLICY_OPERATIONS.contains(&operation) {
            // Whoever may set policies is for identity policies to say, or one bad policy could never be taken back.
            resources.iter_mut().for_each(|resource| resource.policy = None);
        }
        Access {
            actions: vec![Cow::Owned(format!("bedrock-agentcore:{}", operation.name))],
            resources,
            passes: text(input, "roleArn").map(Arc::from),
            request_tags: request_tags(input),
            keys: network_keys(input),
        }
    }

    /// What a request to the artifact store would do, to which object; `object` is the path behind the route's name.
    pub(crate) fn artifact(&self, method: &Method, object: &[String]) -> Access {
        let action = match *method {
            Method::PUT => "eyot:PutArtifact",
            Method::DELETE => "eyot:DeleteArtifact",
            _ => "eyot:GetArtifact",
        };
        Access::of(action, format!("{}{}", self.artifacts, object.join("/")))
    }

    /// What a request about sessions would do: to those of the runtime that it names by id or ARN, else to those of any,
    /// and of these to the `living` that it would touch, so that a denial for one runtime holds also where none is named.
    pub(crate) fn sessions(
        &self,
        action: Action,
        query: &[(String, String)],
        living: impl FnOnce() -> BTreeSet<String>,
    ) -> Access {
        let named = query
            .iter()
            .find(|(name, _)| name == "runtime")
            .map(|(_, value)| value.as_str());
        let runtime = named.and_then(|text| match ResourceArn::parse(text) {
            Ok(arn) => Some(arn.runtime().id.clone()),
            Err(_) => RuntimeId::parse(text).ok(),
        });
        Access {
            actions: vec![Cow::Borrowed(action.name())],
            resources: match runtime {
                Some(id) => vec![self.runtime(id.as_str())],
                // Whoever may not do it to any is not told whose they are.
                None => iter::once(self.every())
                    .chain(living().iter().map(|id| self.runtime(id)))
                    .collect(),
            },
            ..Access::default()
        }
    }

    /// Whatever runtime.
    fn every(&self) -> Resource {
        Resource::untagged(format!("{}*", self.prefix))
    }

    /// A call through an endpoint.
    fn data(&self, actions: Vec<Cow<'static, str>>, input: &Map<String, Value>) -> Access {
        let path = text(input, "agentRuntimeArn").unwrap_or_default();
        let resources = match target(path, text(input, "qualifier")) {
            Some((runtime, endpoint)) => self.pair(&runtime, &endpoint),
            None => vec![Resource::untagged(path)],
        };
        Access {
            actions,
            resources,
            ..Access::default()
        }
    }

    /// What a control operation is about, by the members that name something.
    fn resources(&self, input: &Map<String, Value>) -> Vec<Resource> {
        if let Some(arn) = text(input, "resourceArn") {
            return match ResourceArn::parse(arn) {
                Ok(ResourceArn::Runtime(runtime)) => vec![self.runtime(runtime.id.as_str())],
                Ok(ResourceArn::Endpoint(endpoint)) => {
                    vec![self.endpoint(endpoint.runtime.id.as_str(), endpoint.endpoint.as_str())]
                }
                Err(_) => vec![Resource::untagged(arn)],
            };
        }
        let endpoint = text(input, "endpointName").or_else(|| text(input, "name"));
        match (text(input, "agentRuntimeId"), endpoint) {
            (Some(runtime), Some(endpoint)) => self.pair(runtime, endpoint),
            (Some(runtime), None) => vec![self.runtime(runtime)],
            (None, _) => vec![self.every()],
        }
    }

    fn pair(&self, runtime: &str, endpoint: &str) -> Vec<Resource> {
        vec![self.runtime(runtime), self.endpoint(runtime, endpoint)]
    }

    fn runtime(&self, id: &str) -> Resource {
        let known = self.catalog.runtime_resource(id);
        known.unwrap_or_else(|| Resource::untagged(format!("{}{id}", self.prefix)))
    }

    fn endpoint(&self, runtime: &str, name: &str) -> Resource {
        let known = self.catalog.endpoint_resource(runtime, name);
        known.unwrap_or_else(|| Resource::untagged(format!("{}{runtime}/runtime-endpoint/{name}", self.prefix)))
    }
}

/// The runtime and the endpoint that a call through an endpoint names, as texts; nothing where the path is no ARN of
/// theirs and looks like one. Whether they belong together is for the call itself to check.
pub(crate) fn target<'a>(path: &'a str, qualifier: Option<&'a str>) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
    let endpoint = Cow::Borrowed(qualifier.unwrap_or("DEFAULT"));
    if !path.starts_with("arn:") {
        return Some((Cow::Borrowed(path), endpoint));
    }
    match ResourceArn::parse(path).ok()? {
        ResourceArn::Runtime(arn) => Some((Cow::Owned(String::from(arn.id)), endpoint)),
        ResourceArn::Endpoint(arn) => {
            let endpoint = Cow::Owned(String::from(arn.endpoint));
            Some((Cow::Owned(String::from(arn.runtime.id)), endpoint))
        }
    }
}

fn text<'a>(input: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    input.get(member).and_then(Value::as_str)
}

fn request_tags(input: &Map<String, Value>) -> Vec<(String, String)> {
    let tags = input.get("tags").and_then(Value::as_object);
    let texts = tags.into_iter().flatten();
    texts
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// `bedrock-agentcore:subnets` and `:securityGroups`, of the network that a runtime shall have.
fn network_keys(input: &Map<String, Value>) -> Vec<(&'static str, Vec<String>)> {
    let network = input
        .get("networkConfiguration")
        .and_then(|network| network.get("networkModeConfig"));
    let Some(network) = network else { return Vec::new() };
    let texts = |member: &str| -> Vec<String> {
        let values = network.get(member).and_then(Value::as_array);
        values
            .into_iter()
            .flatten()
            .filter_map(|value| Some(value.as_str()?.to_owned()))
            .collect()
    };
    vec![
        ("bedrock-agentcore:subnets", texts("subnets")),
        ("bedrock-agentcore:securityGroups", texts("securityGroups")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PREFIX: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/";

    fn said(operation: &'static api::Operation, input: Value) -> (Vec<String>, Vec<String>) {
        let region = Region::parse("us-west-2").unwrap();
        let account = AccountId::parse("123456789012").unwrap();
        let words = Words::new(&region, &account, Catalog::default());
        let access = words.of(operation, input.as_object().unwrap());
        let actions = access
            .actions
            .iter()
            .map(|action| action.replace("bedrock-agentcore:", ""));
        let resources = access
            .resources
            .iter()
            .map(|resource| resource.arn.replace(PREFIX, "~"));
        (actions.collect(), resources.collect())
    }

    #[test]
    fn calls_in_the_words_of_policies() {
        let check = |operation, input: Value, actions: &[&str], resources: &[&str]| {
            let (got_actions, got_resources) = said(operation, input.clone());
            assert_eq!(got_actions, actions, "{operation:?} {input}");
            assert_eq!(got_resources, resources, "{operation:?} {input}");
        };
        let arn = format!("{PREFIX}a-0123456789");
        let endpoint = format!("{arn}/runtime-endpoint/prod");
        let invoke = op::INVOKE_AGENT_RUNTIME;
        let both = &["~a-0123456789", "~a-0123456789/runtime-endpoint/DEFAULT"];
        let prod = &["~a-0123456789", "~a-0123456789/runtime-endpoint/prod"];
        check(invoke, json!({"agentRuntimeArn": arn}), &["InvokeAgentRuntime"], both);
        check(
            invoke,
            json!({"agentRuntimeArn": "a-0123456789"}),
            &["InvokeAgentRuntime"],
            both,
        );
        check(
            invoke,
            json!({"agentRuntimeArn": arn, "qualifier": "prod", "runtimeUserId": "u"}),
            &["InvokeAgentRuntime", "InvokeAgentRuntimeForUser"],
            prod,
        );
        check(
            invoke,
            json!({"agentRuntimeArn": endpoint}),
            &["InvokeAgentRuntime"],
            prod,
        );
        check(
            op::STOP_RUNTIME_SESSION,
            json!({"agentRuntimeArn": endpoint}),
            &["StopRuntimeSession"],
            prod,
        );
        check(
            op::CREATE_AGENT_RUNTIME,
            json!({"agentRuntimeName": "a"}),
            &["CreateAgentRuntime"],
            &["~*"],
        );
        check(op::LIST_AGENT_RUNTIMES, json!({}), &["ListAgentRuntimes"], &["~*"]);
        let id = "a-0123456789";
        check(
            op::GET_AGENT_RUNTIME,
            json!({"agentRuntimeId": id}),
            &["GetAgentRuntime"],
            &["~a-0123456789"],
        );
        check(
            op::CREATE_AGENT_RUNTIME_ENDPOINT,
            json!({"agentRuntimeId": id, "name": "prod"}),
            &["CreateAgentRuntimeEndpoint"],
            prod,
        );
        check(
            op::DELETE_AGENT_RUNTIME_ENDPOINT,
            json!({"agentRuntimeId": id, "endpointName": "prod"}),
            &["DeleteAgentRuntimeEndpoint"],
            prod,
        );
        check(
            op::TAG_RESOURCE,
            json!({"resourceArn": arn, "tags": {}}),
            &["TagResource"],
            &["~a-0123456789"],
        );
        check(
            op::LIST_TAGS_FOR_RESOURCE,
            json!({"resourceArn": endpoint}),
            &["ListTagsForResource"],
            &["~a-0123456789/runtime-endpoint/prod"],
        );
        check(
            op::TAG_RESOURCE,
            json!({"resourceArn": "arn:x"}),
            &["TagResource"],
            &["arn:x"],
        );
    }

    #[test]
    fn our_own_calls_in_the_words_of_policies() {
        let words = Words::new(
            &Region::parse("us-west-2").unwrap(),
            &AccountId::parse("123456789012").unwrap(),
            Catalog::default(),
        );
        let object = ["eyot".to_owned(), "a/b.zip".to_owned()];
        let put = words.artifact(&Method::PUT, &object);
        assert_eq!(put.actions, ["eyot:PutArtifact"]);
        assert_eq!(
            &*put.resources[0].arn,
            "arn:aws:eyot:us-west-2:123456789012:artifact/eyot/a/b.zip"
        );

        let check = |runtime: Option<&str>, expected: &str| {
            let query: Vec<_> = runtime
                .iter()
                .map(|text| ("runtime".to_owned(), (*text).to_owned()))
                .collect();
            let access = words.sessions(Action::ListSessions, &query, BTreeSet::new);
            assert_eq!(access.actions, ["eyot:ListSessions"]);
            assert_eq!(access.resources[0].arn.replace(PREFIX, "~"), expected, "{runtime:?}");
        };
        check(None, "~*");
        check(Some("a-0123456789"), "~a-0123456789");
        check(
            Some(&format!("{PREFIX}a-0123456789/runtime-endpoint/prod")),
            "~a-0123456789",
        );
        // A name may be that of several runtimes, one after the other.
        check(Some("a"), "~*");

        let living = || BTreeSet::from(["a-0123456789".to_owned(), "b-0123456789".to_owned()]);
        let about = |query: &[(String, String)]| -> Vec<String> {
            let access = words.sessions(Action::StopSession, query, living);
            let arns = access.resources.iter();
            arns.map(|resource| resource.arn.replace(PREFIX, "~")).collect()
        };
        assert_eq!(about(&[]), ["~*", "~a-0123456789", "~b-0123456789"]);
        let named = ("runtime".to_owned(), "c-0123456789".to_owned());
        assert_eq!(about(&[named]), ["~c-0123456789"]);
    }

    #[test]
    fn tags_roles_and_networks_are_told() {
        let words = Words::new(
            &Region::parse("us-west-2").unwrap(),
            &AccountId::parse("123456789012").unwrap(),
            Catalog::default(),
        );
        let input = json!({
            "tags": {"team": "red"},
            "roleArn": "arn:aws:iam::123456789012:role/agent",
            "networkConfiguration": {"networkMode": "VPC", "networkModeConfig": {"subnets": ["subnet-1"], "securityGroups": []}},
        });
        let access = words.of(op::CREATE_AGENT_RUNTIME, input.as_object().unwrap());
        assert_eq!(access.passes.as_deref(), Some("arn:aws:iam::123456789012:role/agent"));
        assert_eq!(access.request_tags, [("team".to_owned(), "red".to_owned())]);
        assert_eq!(
            access.keys[0],
            ("bedrock-agentcore:subnets", vec!["subnet-1".to_owned()])
        );
        assert_eq!(access.keys[1], ("bedrock-agentcore:securityGroups", vec![]));
    }
}
