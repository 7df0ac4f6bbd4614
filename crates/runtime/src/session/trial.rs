//! A version is tried before it serves: its warm-up hook is called in a sandbox of its own.
//!
//! The sandbox is started as a session's would be and becomes healthy; then `POST` to the hook's path must answer 2xx.
//! Whatever comes of it, the sandbox is ended. Its labels name no session, so a server that is killed meanwhile leaves
//! what the next one destroys ([`super::adopt`]); the version is still being prepared then, and is tried again.
//!
//! Invariant: the trial ends its sandbox also when nobody waits for its outcome any more.

use super::environment::{self, label};
use super::excerpt::excerpt;
use super::inside::{Inside, unassigned};
use super::router::{Router, Shared};
use super::start::{self, exit_of, log_tail};
use super::wording::{EXCERPT, how_it_ended, tail};
use super::{owner, pool};
use crate::deployment::{Deployment, Warmup};
use crate::upstream::{self, Unsent, Upstream};
use bytes::Bytes;
use domain::Error;
use domain::id::EndpointName;
use front_door::body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, Uri};
use sandbox::{Limits, Sandbox, Storage};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a hook may take, as AWS has it.
const HOOK_DEADLINE: Duration = Duration::from_secs(120);
/// A hook's port may open later than the agent's own.
const DIAL_PAUSE: Duration = Duration::from_millis(100);
/// For the end of a sandbox that never served.
const GRACE: Duration = Duration::from_secs(2);
/// Session storage of trials, beside that of endpoints, whose names never begin so.
const STORAGE: &str = ".trial";

impl Router {
    /// Whether sandboxes here can have session storage.
    pub(crate) fn can_store(&self) -> bool {
        self.shared().driver.abilities().storage
    }

    /// Tries a version: starts a sandbox of it and calls its warm-up hook. An error of the agent's origin is the version's
    /// fault; any other says nothing about it, and the trial can be made again.
    pub(crate) async fn trial(&self, deployment: &Arc<Deployment>, warmup: &Warmup) -> Result<(), Error> {
        let (shared, deployment, warmup) = (Arc::clone(self.shared()), Arc::clone(deployment), warmup.clone());
        // Not tied to the caller: the sandbox must be ended.
        let owners = shared.owners.clone();
        let task = owners.spawn(async move { run(&shared, &deployment, &warmup).await });
        task.await
            .unwrap_or_else(|_| Err(Error::internal("a trial of a version did not end")))
    }
}

async fn run(shared: &Arc<Shared>, deployment: &Deployment, warmup: &Warmup) -> Result<(), Error> {
    let shed = || {
        let warm = shared.pool.shed()?;
        let bytes = warm.memory;
        pool::end(shared, warm);
        Some(bytes)
    };
    let _hold = shared.room.admit(deployment, shed)?;
    let config = &shared.config;
    let mut spec = environment::spec(&EndpointName::default_endpoint(), deployment, config, &shared.node);
    spec.labels.insert(label::TRIAL.to_owned(), String::new());
    let storage = storage(shared, deployment, spec.id.as_str());
    spec.storage = storage.as_ref().map(|(_, storage)| storage.clone());
    let began = Instant::now();
    let deadline = began + config.start_deadline;
    let sandbox = start::sandbox(Arc::clone(&shared.driver), spec, deadline, Arc::clone(&shared.metrics)).await;
    let outcome = match sandbox {
        Err(error) => Err(error),
        Ok(sandbox) => {
            let name = unassigned(sandbox.id());
            let inside = Inside::open(shared, &sandbox, &deployment.arn, &deployment.role, name);
            let agent = start::Agent::new(shared, Arc::clone(&sandbox), deployment, began, deadline);
            let agents_own = Arc::clone(&agent.upstream);
            let tried = async {
                agent.healthy().await?;
                call(shared, &sandbox, deployment, warmup).await
            };
            let outcome = tokio::select! {
                outcome = tried => outcome,
                () = shared.closing.cancelled() => Err(Error::internal("the server is stopping")),
            };
            agents_own.close();
            end(shared, &sandbox).await;
            inside.end().await;
            outcome
        }
    };
    if let Some((dir, _)) = storage {
        let _ = tokio::fs::remove_dir_all(dir).await;
    }
    outcome
}

/// Storage for one trial, as a session's, and the directory to remove afterwards.
fn storage(shared: &Shared, deployment: &Deployment, id: &str) -> Option<(PathBuf, Storage)> {
    let wanted = deployment.storage.as_ref()?;
    let runtime = shared.storage_dir.join(deployment.arn.id.as_str());
    let dir = runtime.join(STORAGE).join(id);
    let storage = Storage {
        dir: dir.join("data"),
        mount_path: wanted.mount_path.clone(),
        bytes: shared.config.storage_size,
    };
    Some((dir, storage))
}

/// Calls the hook of a healthy agent.
async fn call(
    shared: &Arc<Shared>,
    sandbox: &Arc<dyn Sandbox>,
    deployment: &Deployment,
    warmup: &Warmup,
) -> Result<(), Error> {
    let port = warmup.port.unwrap_or(deployment.port);
    let hook = format!("The warm-up hook POST {} on port {port}", warmup.path);
    let path: Uri = warmup
        .path
        .parse()
        .map_err(|_| Error::agent(format!("{hook} has no valid path.")))?;
    let (keep_alive, metrics) = (shared.config.keep_alive, Arc::clone(&shared.metrics));
    let upstream = Upstream::new(Arc::clone(sandbox), port, keep_alive, metrics);
    let mut state = sandbox.state();
    let mut refused = false;
    let outcome = tokio::select! {
        biased;
        exit = exit_of(&mut state) => {
            let how = how_it_ended(&exit, &Limits::from(&shared.config.limits));
            Err(Error::agent(format!("{hook}: the agent {how} before it had answered.")))
        }
        answer = timeout(HOOK_DEADLINE, ask(&upstream, &path, &mut refused)) => match answer {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                let said = excerpt(response).await;
                upstream.close();
                return Err(Error::agent(format!("{hook} answered with status {status} instead of 2xx.")).with_detail(said));
            }
            Ok(Err(error)) => Err(Error::agent(format!("{hook} did not answer: {error}."))),
            Err(_) if refused => Err(Error::agent(format!("{hook}: nothing listens on that port."))),
            Err(_) => Err(Error::agent(format!(
                "{hook} did not answer within {} s.",
                HOOK_DEADLINE.as_secs()
            ))),
        },
    };
    upstream.close();
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(error.with_detail(tail(&log_tail(sandbox).await, EXCERPT))),
    }
}

/// Sends an empty JSON object; again as long as nothing listens.
async fn ask(
    upstream: &Arc<Upstream>,
    path: &Uri,
    refused: &mut bool,
) -> Result<Response<upstream::Body>, upstream::Error> {
    loop {
        let mut request = Request::new(body::full(Bytes::from_static(b"{}")));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        *refused = false;
        match upstream.send(request).await {
            Err(upstream::Error::Unsent(Unsent::Dial(sandbox::Error::Refused(_)), _)) => {
                *refused = true;
                sleep(DIAL_PAUSE).await;
            }
            answered => return answered,
        }
    }
}

async fn end(shared: &Shared, sandbox: &Arc<dyn Sandbox>) {
    if let Err(error) = sandbox.stop(GRACE).await {
        tracing::error!(sandbox = %sandbox.id(), %error, "the sandbox of a trial could not be stopped; destroying it");
        owner::destroy(&shared.driver, sandbox.id()).await;
    }
}
