//! Upload, create or update, wait until it serves. Quickstart uses this as well, with an archive from memory.
//!
//! An update in AWS's API replaces everything: a block that is left out is reset, the authorizer among them. Deploying
//! new code must not do that silently, so an update repeats what the runtime has and changes only what was asked for.

use crate::client::{Call, Client, Error, Found, Payload, Plane, encode, text};
use anyhow::{Context, bail};
use domain::id::RuntimeName;
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// The server's built-in artifact store.
const STORE: &str = "/_eyot/artifacts";

/// AWS's API asks for a role; nothing here assumes it.
const ROLE: &str = "arn:aws:iam::123456789012:role/eyot-local";

const UPLOAD_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Until READY. AWS's own tools give up after two minutes; unpacking a large package on a slow disk takes longer.
const READY_DEADLINE: Duration = Duration::from_secs(5 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What an update repeats. The artifact is what it changes; the rest of an answer cannot be sent.
const KEPT: &[&str] = &[
    "allowedPorts",
    "authorizerConfiguration",
    "capacityProviderConfiguration",
    "description",
    "environmentVariables",
    "filesystemConfigurations",
    "hooksConfiguration",
    "lifecycleConfiguration",
    "metadataConfiguration",
    "networkConfiguration",
    "platformVersion",
    "protocolConfiguration",
    "requestHeaderConfiguration",
    "resourceConfigurations",
    "roleArn",
];

/// What is to be deployed.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) name: RuntimeName,
    pub(crate) runtime: String,
    pub(crate) entry_point: Vec<String>,
    /// Added to, or put in place of, the variables that an earlier version has.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) description: Option<String>,
    pub(crate) role_arn: Option<String>,
}

/// A runtime whose DEFAULT endpoint serves the release.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    pub(crate) arn: String,
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) change: Change,
}

/// What a deployment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Updated,
}

/// Deploys an archive as a new runtime, or as a new version of the one of that name.
pub(crate) async fn deploy(
    client: &Client,
    release: &Release,
    archive: Payload,
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Deployed> {
    let existing = client
        .runtimes()
        .await?
        .into_iter()
        .find(|found| found.name == release.name.as_str());
    let (sha256, size) = archive.digest();
    let bucket = bucket_for(client, size).await?;
    progress(&format!("uploading {}", super::human(size)));
    let key = format!("{}/{sha256}.zip", release.name);
    upload(client, &bucket, &key, archive)
        .await
        .context("the upload failed")?;
    let artifact = json!({"codeConfiguration": {
        "code": {"s3": {"bucket": bucket, "prefix": key}},
        "runtime": release.runtime,
        "entryPoint": release.entry_point,
    }});
    let (answer, change) = match existing {
        None => (create(client, release, artifact).await?, Change::Created),
        Some(found) => (update(client, release, artifact, &found).await?, Change::Updated),
    };
    let deployed = Deployed {
        arn: text(&answer, "agentRuntimeArn")?,
        id: text(&answer, "agentRuntimeId")?,
        version: text(&answer, "agentRuntimeVersion")?,
        change,
    };
    progress(&format!(
        "version {} of {} is being prepared",
        deployed.version, deployed.id
    ));
    wait_until_it_serves(client, &deployed).await?;
    Ok(deployed)
}

/// The name of the server's bucket, if it takes an archive of this size.
async fn bucket_for(client: &Client, size: u64) -> anyhow::Result<String> {
    let asked = client.control(Method::GET, STORE, None).await;
    let answer = asked.context("the server cannot be asked where to upload")?;
    let most = answer.get("maxObjectBytes").and_then(Value::as_u64);
    if let Some(most) = most.filter(|&most| size > most) {
        bail!(
            "the package has {size} bytes, and the server takes at most {most}: leave out files, or raise \
             `max_object_bytes` in [runtime.artifacts] of the server's configuration"
        );
    }
    Ok(text(&answer, "bucket")?)
}

async fn upload(client: &Client, bucket: &str, key: &str, archive: Payload) -> anyhow::Result<()> {
    let (sha256, _) = archive.digest();
    let path: Vec<String> = key.split('/').map(encode).collect();
    let call = Call {
        plane: Plane::Control,
        method: Method::PUT,
        target: format!("{STORE}/{}/{}", encode(bucket), path.join("/")),
        headers: HeaderMap::new(),
        payload: archive,
        deadline: UPLOAD_DEADLINE,
    };
    let stored = client.send(call).await?.document().await?;
    if stored.get("sha256").and_then(Value::as_str) != Some(&sha256) {
        bail!("the server stored other bytes than were sent ({stored}); try again");
    }
    Ok(())
}

async fn create(client: &Client, release: &Release, artifact: Value) -> anyhow::Result<Value> {
    let mut body = json!({
        "agentRuntimeName": release.name.as_str(),
        "agentRuntimeArtifact": artifact,
        "roleArn": release.role_arn.as_deref().unwrap_or(ROLE),
        "networkConfiguration": {"networkMode": "PUBLIC"},
        "clientToken": Uuid::new_v4().to_string(),
    });
    overlay(&mut body, release);
    let created = client.control(Method::PUT, "/runtimes/", Some(&body)).await;
    created.with_context(|| format!("the runtime {} could not be created", release.name))
}

async fn update(client: &Client, release: &Release, artifact: Value, found: &Found) -> anyhow::Result<Value> {
    let current = wait_until_settled(client, &found.id).await?;
    let kept = KEPT
        .iter()
        .filter_map(|&name| Some((name.to_owned(), current.get(name)?.clone())));
    let mut body = Value::Object(kept.collect::<Map<_, _>>());
    body["agentRuntimeArtifact"] = artifact;
    body["clientToken"] = Uuid::new_v4().to_string().into();
    if let Some(role) = &release.role_arn {
        body["roleArn"] = role.as_str().into();
    }
    overlay(&mut body, release);
    let target = format!("/runtimes/{}/", encode(&found.id));
    let updated = client.control(Method::PUT, &target, Some(&body)).await;
    updated.with_context(|| format!("the runtime {} could not be updated", found.id))
}

/// Puts what was asked for over what is there.
fn overlay(body: &mut Value, release: &Release) {
    if let Some(description) = &release.description {
        body["description"] = description.as_str().into();
    }
    for (name, value) in &release.environment {
        body["environmentVariables"][name] = value.as_str().into();
    }
}

/// A runtime that is being changed cannot be changed again; that passes.
async fn wait_until_settled(client: &Client, id: &str) -> anyhow::Result<Value> {
    let mut pause = Pause::new();
    loop {
        let current = client.runtime(id).await?;
        let status = text(&current, "status")?;
        match status.as_str() {
            "CREATING" | "UPDATING" => pause.wait(|| format!("{id} is still {status}")).await?,
            "DELETING" => bail!("{id} is being deleted; deploy again when it is gone, or choose another --name"),
            _ => return Ok(current),
        }
    }
}

/// Until the version is READY and DEFAULT serves it.
async fn wait_until_it_serves(client: &Client, deployed: &Deployed) -> anyhow::Result<()> {
    let (id, version) = (&deployed.id, &deployed.version);
    let mut pause = Pause::new();
    loop {
        let runtime = client.runtime(id).await?;
        let status = status_of(&runtime, &format!("version {version} of {id}"))?;
        let endpoint = match client.endpoint(id, "DEFAULT").await {
            Ok(endpoint) => endpoint,
            // It is made with the runtime, and may come a moment later.
            Err(Error::Refused { status, .. }) if status == http::StatusCode::NOT_FOUND => {
                json!({"status": "CREATING"})
            }
            Err(error) => return Err(error.into()),
        };
        let endpoint_status = status_of(&endpoint, &format!("the DEFAULT endpoint of {id}"))?;
        let live = endpoint.get("liveVersion").and_then(Value::as_str);
        if status == "READY" && endpoint_status == "READY" && live == Some(version) {
            return Ok(());
        }
        pause
            .wait(|| {
                format!(
                    "{id} is {status} and its DEFAULT endpoint {endpoint_status}, not yet READY with version {version}"
                )
            })
            .await?;
    }
}

/// The status, or the reason of a failure as an error.
fn status_of(document: &Value, what: &str) -> anyhow::Result<String> {
    let status = text(document, "status")?;
    if status.ends_with("_FAILED") {
        let reason = document
            .get("failureReason")
            .and_then(Value::as_str)
            .unwrap_or("the server gave no reason");
        bail!("{what} is {status}: {reason}");
    }
    Ok(status)
}

/// Growing pauses up to a deadline.
struct Pause {
    next: Duration,
    until: Instant,
}

impl Pause {
    fn new() -> Self {
        Self {
            next: FIRST_PAUSE,
            until: Instant::now() + READY_DEADLINE,
        }
    }

    async fn wait(&mut self, state: impl Fn() -> String) -> anyhow::Result<()> {
        if Instant::now() >= self.until {
            bail!(
                "{} after {} s; the server's log may say why",
                state(),
                READY_DEADLINE.as_secs()
            );
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
