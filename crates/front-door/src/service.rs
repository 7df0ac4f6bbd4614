//! What a service behind the front door is.
//!
//! AgentCore Runtime is one; Identity, Memory, Gateway and Policy will be others. A service names the modelled
//! operations that it answers and the paths of its own below `/_eyot/`. It receives calls whose caller is proven and
//! whose input keeps every constraint of the model.

use crate::body::{Incoming, Outgoing};
use crate::forwarded::Origin;
use crate::route::label;
use async_trait::async_trait;
use domain::{Bearer, Error, Kind, Principal};
use http::{HeaderMap, Method, StatusCode};
use iam::directory::Judged;
use iam::keys::Key;
use iam::policy::Policy;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::time::Instant;
use uuid::Uuid;

/// One service of the API.
#[async_trait]
pub trait Service: Send + Sync + fmt::Debug {
    /// The modelled operations that work. Any other modelled operation is answered with 501 by the front door.
    fn operations(&self) -> &'static [&'static api::Operation];

    /// Answers one of [`Service::operations`]. Dropped when the client goes away; must be cancellation safe.
    async fn call(&self, call: Call) -> Result<Reply, Error>;

    /// Whose bearer tokens a call needs, by the version of the runtime that it is for; none where it must be signed. Asked
    /// before anybody is proven, so it must be quick, and a runtime that does not exist is one that wants a signature.
    fn authorizer(&self, _operation: &'static api::Operation, _head: Head<'_>) -> Option<Arc<oauth::Config>> {
        None
    }

    /// What a call would do to what. The front door asks before it makes the call, and makes it only if policies allow
    /// every action on every resource. Must be quick; a resource that does not exist is named all the same, so that who
    /// may not call learns nothing.
    fn access(&self, operation: &'static api::Operation, input: &serde_json::Map<String, serde_json::Value>) -> Access;

    /// The same for a call of one of [`Service::own_routes`]. An error where the path means nothing.
    fn own_access(&self, call: &OwnCall) -> Result<Access, Error>;

    /// First path segments below `/_eyot/` that this service answers, such as `artifacts`.
    fn own_routes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Answers a signed request below one of [`Service::own_routes`].
    async fn call_own(&self, call: OwnCall) -> Result<OwnReply, Error>;

    /// Whether this service answers the calls of STS, which are not of the model: form-encoded requests for `/`, as AWS's
    /// query protocol has them. At most one service does.
    fn answers_sts(&self) -> bool {
        false
    }

    /// Answers a call of STS, its own errors included, because they are XML with names that only STS has.
    async fn call_sts(&self, _call: StsCall) -> Result<StsReply, Error> {
        Err(Error::new(Kind::Unsupported, "STS is not part of this server."))
    }
}

/// The words of a call's head: its path's labels and its query.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    labels: &'a [(&'static str, String)],
    query: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// Of decoded labels and a raw query.
    pub(crate) fn new(labels: &'a [(&'static str, String)], query: Option<&'a str>) -> Self {
        Self { labels, query }
    }

    /// A label, decoded.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let (_, text) = self.labels.iter().find(|(label, _)| *label == name)?;
        Some(text)
    }

    /// The first query parameter of a name, decoded; none where it cannot be.
    ///
    /// Invariant: it is the one that the operation's input will have, however its name is written: who may call is
    /// decided by this one, and what is called by that one.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<Cow<'a, str>> {
        let is_named = |key: &str| {
            if key.contains('%') {
                label::decode(key).is_ok_and(|key| key == name)
            } else {
                key == name
            }
        };
        let mut pairs = self.query?.split('&');
        let raw = pairs.find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            is_named(key).then_some(value)
        })?;
        if raw.contains('%') {
            label::decode(raw).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(raw))
        }
    }
}

/// What a call would do to what, in the words of policies.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Such as `bedrock-agentcore:InvokeAgentRuntime`. Each must be allowed.
    pub actions: Vec<Cow<'static, str>>,
    /// On each of these.
    pub resources: Vec<Resource>,
    /// ARN of a role that the call would hand to an agent: `iam:PassRole` must be allowed on it.
    pub passes: Option<Arc<str>>,
    /// Tags that the call would set: `aws:RequestTag/…`.
    pub request_tags: Vec<(String, String)>,
    /// Further condition keys and their values, such as `bedrock-agentcore:subnets`.
    pub keys: Vec<(&'static str, Vec<String>)>,
}

/// Something that policies name.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Its ARN.
    pub arn: Arc<str>,
    /// Its tags: `aws:ResourceTag/…`.
    pub tags: Arc<BTreeMap<String, String>>,
    /// The policy that is attached to it.
    pub policy: Option<Arc<Policy>>,
}

impl Access {
    /// One action on one resource.
    #[must_use]
    pub fn of(action: impl Into<Cow<'static, str>>, arn: impl Into<Arc<str>>) -> Self {
        Self {
            actions: vec![action.into()],
            resources: vec![Resource::untagged(arn)],
            ..Self::default()
        }
    }
}

impl Resource {
    /// One without tags and without a policy of its own.
    #[must_use]
    pub fn untagged(arn: impl Into<Arc<str>>) -> Self {
        Self {
            arn: arn.into(),
            tags: Arc::default(),
            policy: None,
        }
    }
}

/// A call of STS. Some of its actions are for callers who have no credentials yet.
#[derive(Debug)]
pub struct StsCall {
    /// The decoded parameters of the query and of the body, `Action` and `Version` among them; no credentials.
    pub parameters: Vec<(String, String)>,
    /// What it was signed with; nothing for an unsigned call.
    pub key: Option<Arc<Key>>,
    /// Where the call comes from.
    pub origin: Origin,
    /// Given back to the client as `x-amzn-RequestId`, and in the document.
    pub request_id: Uuid,
}

/// The answer to an [`StsCall`], and what the audit log is to be told of it.
#[derive(Debug)]
pub struct StsReply {
    /// For the caller.
    pub reply: OwnReply,
    /// For the audit log.
    pub record: StsRecord,
}

/// How an answer of STS came about. Never holds a token.
#[derive(Debug, Default)]
pub struct StsRecord {
    /// The action, such as `sts:AssumeRole`; none where there is no such action.
    pub action: Option<&'static str>,
    /// ARN of the role that was asked for, where it is one.
    pub role: Option<String>,
    /// For whom an identity provider vouched.
    pub federated: Option<Arc<Bearer>>,
    /// What policies decided, in order; nothing for what needs no permission.
    pub judged: Vec<Judged>,
    /// The code of the refusal, whatever refused.
    pub refusal: Option<&'static str>,
    /// The key id of the credentials that were issued.
    pub issued: Option<String>,
}

/// A call of a modelled operation: authenticated, admitted, validated.
#[derive(Debug)]
pub struct Call {
    /// Which operation.
    pub operation: &'static api::Operation,
    /// Every input member except a streamed payload, by its API name, from path, query, headers and body. Keeps every
    /// constraint of the model, so that `api::from_input` into the operation's input type cannot fail.
    pub input: serde_json::Map<String, serde_json::Value>,
    /// The payload of an operation with a raw body (`InvokeAgentRuntime`), else empty. A body whose signed digest is
    /// still to be checked ends in an error instead of its last bytes when it does not match.
    pub body: Incoming,
    /// The request's headers as they came.
    pub headers: HeaderMap,
    /// Who calls.
    pub caller: Arc<Principal>,
    /// Given back to the client as `x-amzn-RequestId`.
    pub request_id: Uuid,
    /// When its head had been read.
    pub received: Instant,
}

/// A successful answer to a [`Call`].
pub enum Reply {
    /// The output structure; the front door places its members in headers and body as the model says.
    Document(serde_json::Map<String, serde_json::Value>),
    /// Output members bound to headers, and a payload that is streamed as it comes.
    Stream {
        /// Exactly the headers to send, `Content-Type` included; the front door adds `x-amzn-RequestId`.
        headers: HeaderMap,
        /// The payload.
        body: Outgoing,
    },
}

/// A signed request to one of our own paths.
#[derive(Debug)]
pub struct OwnCall {
    /// Method.
    pub method: Method,
    /// The decoded path segments after `/_eyot/`; the first is one of [`Service::own_routes`].
    pub path: Vec<String>,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Incoming,
    /// Who calls.
    pub caller: Arc<Principal>,
    /// Request id.
    pub request_id: Uuid,
}

/// An answer to an [`OwnCall`].
pub struct OwnReply {
    /// Status; errors are returned as [`Error`], not as a status here.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Outgoing,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(_) => f.write_str("Reply::Document"),
            Self::Stream { headers, .. } => f
                .debug_struct("Reply::Stream")
                .field("headers", headers)
                .finish_non_exhaustive(),
        }
    }
}

impl fmt::Debug for OwnReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnReply")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The authorizer that is asked and the endpoint that is called are chosen by one and the same parameter.
        #[test]
        fn a_head_reads_what_the_input_will_have(
            pairs in prop::collection::vec(
                "(qualifier|qu%61lifier|%71ualifier|Qualifier|q|qualifier%20|%zz)?(=|=a|=%62|=%6|=b=c)?", 0..5,
            ),
        ) {
            let query = pairs.join("&");
            let head = Head::new(&[], Some(&query));
            if let Ok(pairs) = label::query(Some(&query)) {
                let expected = pairs.iter().find(|(name, _)| name == "qualifier").map(|(_, value)| value.as_str());
                let found = head.query("qualifier");
                prop_assert_eq!(found.as_deref(), expected, "{}", query);
            }
        }
    }
}
