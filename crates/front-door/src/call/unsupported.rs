//! A call of an operation that this version does not have: its caller is proven and policies decide as for any other, so
//! that who may not call it learns nothing and a policy is written once; then it is answered with 501.

use super::answer::Answer;
use super::authenticate::Proof;
use super::prove::{Allowance, prove};
use super::{Door, admit};
use crate::context::Context;
use crate::error::Failure;
use crate::headers;
use crate::service::{Access, Head, Resource};
use domain::{Error, Kind};
use http::request::Parts;
use std::borrow::Cow;

const USER_ID: &str = "x-amzn-bedrock-agentcore-runtime-user-id";
/// Operations that need an action more when they name a user, as InvokeAgentRuntime does.
const FOR_USER: &str = "InvokeAgentRuntimeWithWebSocketStream";

/// Proves, decides, and says that there is nothing here.
pub(super) async fn refuse(
    door: &Door,
    context: &mut Context,
    operation: &'static api::Operation,
    head: Head<'_>,
    parts: &Parts,
    proof: Proof<'_>,
    body: hyper::body::Incoming,
) -> Result<Answer, Failure> {
    admit(door, context)?;
    let allowance = Allowance {
        most: door.config.max_upload_bytes,
        in_memory: door.config.spool_memory_bytes,
        member: "body",
        may_stream: true,
    };
    let proven = prove(door, context, proof, body, allowance).await?;
    let access = access(operation, head, parts);
    door.authority
        .decide(context, &proven.caller, &parts.headers, &access)
        .await?;
    let text = format!(
        "{} is part of the AgentCore API, but not of this version of Eyot.",
        operation.name
    );
    Err(Error::new(Kind::Unsupported, text).into())
}

/// The action is the operation's name, on the ARN that the path names and, of a runtime, on the endpoint as well.
fn access(operation: &'static api::Operation, head: Head<'_>, parts: &Parts) -> Access {
    let mut access = Access {
        actions: vec![Cow::Owned(format!("bedrock-agentcore:{}", operation.name))],
        ..Access::default()
    };
    if operation.name == FOR_USER && headers::contains(&parts.headers, USER_ID) {
        access
            .actions
            .push(Cow::Owned(format!("bedrock-agentcore:{FOR_USER}ForUser")));
    }
    match head.label("agentRuntimeArn") {
        Some(arn) if arn.starts_with("arn:") => {
            access.resources.push(Resource::untagged(arn));
            if !arn.contains("endpoint/") {
                let qualifier = head.query("qualifier");
                let endpoint = qualifier.as_deref().unwrap_or("DEFAULT");
                access
                    .resources
                    .push(Resource::untagged(format!("{arn}/runtime-endpoint/{endpoint}")));
            }
        }
        _ => access.resources.push(Resource::untagged("*")),
    }
    access
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::UNMODELLED;

    #[test]
    fn what_is_not_here_yet_needs_its_action_already() {
        let check = |operation: &'static api::Operation, label: &str, query: &str, user: bool, expected: &[&str]| {
            let labels = [("agentRuntimeArn", label.to_owned())];
            let mut request = http::Request::get("/x");
            if user {
                request = request.header(USER_ID, "maria");
            }
            let parts = request.body(()).unwrap().into_parts().0;
            let access = access(operation, Head::new(&labels, Some(query)), &parts);
            let actions = access
                .actions
                .iter()
                .map(|action| action.replace("bedrock-agentcore:", ""));
            let arns = access.resources.iter().map(|resource| resource.arn.to_string());
            assert_eq!(actions.chain(arns).collect::<Vec<_>>(), expected);
        };
        let [socket, shell] = &UNMODELLED;
        let command = api::operation(api::Plane::Data, "InvokeAgentRuntimeCommand").unwrap();
        let (arn, stream) = ("arn:x:runtime/a", "InvokeAgentRuntimeWithWebSocketStream");
        let on_default = "arn:x:runtime/a/runtime-endpoint/DEFAULT";
        check(socket, arn, "", false, &[stream, arn, on_default]);
        check(
            socket,
            arn,
            "",
            true,
            &[stream, &format!("{stream}ForUser"), arn, on_default],
        );
        let on_live = "arn:x:runtime/a/runtime-endpoint/live";
        check(
            shell,
            arn,
            "qualifier=live",
            true,
            &["InvokeAgentRuntimeCommandShell", arn, on_live],
        );
        check(command, on_live, "", false, &["InvokeAgentRuntimeCommand", on_live]);
        check(command, "a-0123456789", "", false, &["InvokeAgentRuntimeCommand", "*"]);
    }
}
