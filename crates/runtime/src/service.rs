//! AgentCore Runtime as the front door sees it: which operation goes where.
//!
//! Control operations go to [`Control`]. `InvokeAgentRuntime` and `StopRuntimeSession` are located here (whose runtime,
//! which endpoint), looked up in the [`Catalog`] and handed to the [`Invoker`]. `/_eyot/artifacts` goes to
//! [`Artifacts`], `/_eyot/sessions` and `/_eyot/usage` to [`Observer`].
//!
//! Decisions: the path of a data plane call may hold a runtime's ARN, an endpoint's ARN or a runtime's id. An endpoint's
//! ARN does the work of `qualifier`; if both are there they must agree. An id needs `accountId` to be invoked, as AWS
//! demands. Another account is denied, another region is not found; both answers name what this server is.

use crate::access::{self, Words};
use crate::artifacts::Artifacts;
use crate::catalog::Catalog;
use crate::control::{self, Control, own_account, own_arn};
use crate::deployment::MISMATCH;
use crate::invoke::Invoker;
use crate::observe::{self, Observer};
use crate::throttle::Throttle;
use crate::trace::{Recording, Tracer};
use api::operations as op;
use async_trait::async_trait;
use domain::arn::ResourceArn;
use domain::id::{AccountId, EndpointName, Region, RuntimeId, SessionId};
use domain::{Error, Kind, Principal, PrincipalKind};
use front_door::service::{Access, Call, Head, OwnCall, OwnReply, Reply, Service};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The route of the built-in artifact store.
const ARTIFACTS: &str = "artifacts";
const PATH: &str = "agentRuntimeArn";

const DATA_OPERATIONS: [&api::Operation; 2] = [op::INVOKE_AGENT_RUNTIME, op::STOP_RUNTIME_SESSION];
const OPERATIONS: [&api::Operation; control::OPERATIONS.len() + DATA_OPERATIONS.len()] = {
    let mut all = [DATA_OPERATIONS[0]; control::OPERATIONS.len() + DATA_OPERATIONS.len()];
    let mut at = 0;
    while at < control::OPERATIONS.len() {
        all[at] = control::OPERATIONS[at];
        at += 1;
    }
    all[at] = DATA_OPERATIONS[0];
    all[at + 1] = DATA_OPERATIONS[1];
    all
};

/// AgentCore Runtime behind the front door.
#[derive(Debug)]
pub struct RuntimeService {
    region: Region,
    account: AccountId,
    control: Control,
    catalog: Catalog,
    invoker: Invoker,
    artifacts: Arc<Artifacts>,
    observer: Observer,
    tracer: Option<Tracer>,
    throttle: Throttle,
    words: Words,
}

/// What the service is made of: a control plane that has recovered, and the `catalog` and `artifacts` that it was made with.
#[derive(Debug)]
pub struct Parts {
    /// The region that this server plays.
    pub region: Region,
    /// The account that this server plays.
    pub account: AccountId,
    /// Control operations.
    pub control: Control,
    /// What endpoints serve.
    pub catalog: Catalog,
    /// The way to agents.
    pub invoker: Invoker,
    /// The built-in artifact store.
    pub artifacts: Arc<Artifacts>,
    /// What operators ask.
    pub observer: Observer,
    /// Traces of invocations; none if nobody wants them.
    pub tracer: Option<Tracer>,
}

/// Whom a data plane call is for.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    runtime: RuntimeId,
    endpoint: EndpointName,
}

impl RuntimeService {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            region,
            account,
            control,
            catalog,
            invoker,
            artifacts,
            observer,
            tracer,
        } = parts;
        Self {
            words: Words::new(&region, &account, catalog.clone()),
            region,
            account,
            throttle: Throttle::new(control.rates()),
            control,
            catalog,
            invoker,
            artifacts,
            observer,
            tracer,
        }
    }

    async fn invoke(&self, call: Call, trace: &mut Recording) -> Result<Reply, Error> {
        let address = self.locate(&call.input, true)?;
        self.throttle.invoke(&address.runtime)?;
        let target = self.catalog.resolve(&address.runtime, Some(&address.endpoint))?;
        target.deployment.admits(&call.caller)?;
        self.invoker.invoke(call, target, trace).await
    }

    async fn stop_session(&self, input: &Map<String, Value>, caller: &Principal) -> Result<Reply, Error> {
        let address = self.locate(input, false)?;
        self.throttle.stop(&address.runtime)?;
        // An endpoint that cannot serve now may still have sessions; one that does not exist has none.
        match self.catalog.resolve(&address.runtime, Some(&address.endpoint)) {
            Ok(target) => target.deployment.admits(caller)?,
            Err(error) if error.kind == Kind::NotFound => return Err(error),
            // What it asks for is not known.
            Err(_) if matches!(caller.kind, PrincipalKind::Bearer(_)) => return Err(Error::denied(MISMATCH)),
            Err(_) => {}
        }
        let session = text(input, "runtimeSessionId").unwrap_or_default();
        let session = SessionId::parse(session)
            .map_err(|invalid| Error::invalid_field("runtimeSessionId", invalid.to_string()))?;
        self.invoker
            .stop(
                &address.runtime,
                &address.endpoint,
                &session,
                text(input, "clientToken"),
            )
            .await?;
        let mut answer = Map::new();
        answer.insert("runtimeSessionId".to_owned(), Value::from(session.as_str()));
        Ok(Reply::Document(answer))
    }

    /// Reads whom a call is for. `needs_account` is whether an id alone will not do.
    fn locate(&self, input: &Map<String, Value>, needs_account: bool) -> Result<Address, Error> {
        let path = text(input, PATH).unwrap_or_default();
        let account = text(input, "accountId");
        if let Some(account) = account {
            let asked =
                AccountId::parse(account).map_err(|invalid| Error::invalid_field("accountId", invalid.to_string()))?;
            own_account(&asked, &self.account)?;
        }
        let (runtime, from_path) = if path.starts_with("arn:") {
            match own_arn(PATH, path, &self.region, &self.account)? {
                ResourceArn::Runtime(arn) => (arn.id, None),
                ResourceArn::Endpoint(arn) => (arn.runtime.id, Some(arn.endpoint)),
            }
        } else {
            let runtime = RuntimeId::parse(path).map_err(|invalid| {
                let message =
                    format!("{invalid}, and no ARN such as arn:aws:bedrock-agentcore:REGION:ACCOUNT:runtime/ID");
                Error::invalid_field(PATH, message)
            })?;
            if needs_account && account.is_none() {
                let message = "is required when the path names the agent runtime by its id: add it, or use the ARN";
                return Err(Error::invalid_field("accountId", message));
            }
            (runtime, None)
        };
        let qualifier = text(input, "qualifier").map(|qualifier| {
            EndpointName::parse(qualifier)
                .map_err(|_| Error::not_found(format!("Agent runtime '{runtime}' has no endpoint '{qualifier}'.")))
        });
        let endpoint = match (from_path, qualifier.transpose()?) {
            (Some(path), Some(qualifier)) if path != qualifier => {
                let message = format!("names endpoint '{qualifier}', but the ARN in the path names '{path}'");
                return Err(Error::invalid_field("qualifier", message));
            }
            (path, qualifier) => path.or(qualifier).unwrap_or_else(EndpointName::default_endpoint),
        };
        Ok(Address { runtime, endpoint })
    }
}

#[async_trait]
impl Service for RuntimeService {
    fn operations(&self) -> &'static [&'static api::Operation] {
        &OPERATIONS
    }

    async fn call(&self, call: Call) -> Result<Reply, Error> {
        if call.operation == op::INVOKE_AGENT_RUNTIME {
            let mut trace = Recording::begin(self.tracer.as_ref(), &call);
            return self
                .invoke(call, &mut trace)
                .await
                .inspect_err(|error| trace.failed(error));
        }
        if call.operation == op::STOP_RUNTIME_SESSION {
            return self.stop_session(&call.input, &call.caller).await;
        }
        if matches!(call.caller.kind, PrincipalKind::Bearer(_)) {
            // A token is shown to an agent; it says nothing about the account.
            return Err(Error::denied(MISMATCH));
        }
        self.throttle.control(call.operation)?;
        self.control.call(call.operation, call.input).await.map(Reply::Document)
    }

    fn authorizer(&self, operation: &'static api::Operation, head: Head<'_>) -> Option<Arc<oauth::Config>> {
        if !DATA_OPERATIONS.contains(&operation) {
            return None;
        }
        let qualifier = head.query("qualifier");
        let (runtime, endpoint) = access::target(head.label(PATH)?, qualifier.as_deref())?;
        self.catalog.authorizer(&runtime, &endpoint)
    }

    fn access(&self, operation: &'static api::Operation, input: &Map<String, Value>) -> Access {
        self.words.of(operation, input)
    }

    fn own_access(&self, call: &OwnCall) -> Result<Access, Error> {
        match call.path.first().map(String::as_str) {
            Some(ARTIFACTS) => Ok(self.words.artifact(&call.method, &call.path[1..])),
            Some(observe::SESSIONS | observe::USAGE) => {
                let action = observe::action(&call.method, &call.path)?;
                let living = || self.observer.touched(&call.path);
                Ok(self.words.sessions(action, &call.query, living))
            }
            _ => Err(Error::not_found("There is nothing here.")),
        }
    }

    fn own_routes(&self) -> &'static [&'static str] {
        &[ARTIFACTS, observe::SESSIONS, observe::USAGE]
    }

    async fn call_own(&self, call: OwnCall) -> Result<OwnReply, Error> {
        match call.path.first().map(String::as_str) {
            Some(ARTIFACTS) => self.artifacts.call_own(call).await,
            Some(observe::SESSIONS | observe::USAGE) => self.observer.call_own(call).await,
            _ => Err(Error::not_found("There is nothing here.")),
        }
    }
}

fn text<'a>(input: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    input.get(member).and_then(Value::as_str)
}
