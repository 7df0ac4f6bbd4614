//! The road of a backend service with the AWS SDK for Rust: create, READY, invoke, stream, converse, a second version, an
//! endpoint, roll back, delete.

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_bedrockagentcore as data;
use aws_sdk_bedrockagentcorecontrol as control;
use control::types::{AgentRuntimeArtifact, AgentRuntimeStatus, NetworkConfiguration, NetworkMode};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const ROLE: &str = "arn:aws:iam::123456789012:role/agent";

/// A running `eyot serve`; taken down when dropped.
struct Server {
    binary: PathBuf,
    process: Child,
    dir: tempfile::TempDir,
    variables: Value,
}

impl Server {
    fn start(binary: PathBuf) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(&binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path().join("data"));
        // Tests call faster than people.
        for rate in ["CREATE", "UPDATE", "DELETE", "LIST", "GET"] {
            command.env(format!("EYOT__RUNTIME__QUOTAS__RATES__{rate}_PER_SECOND"), "0");
        }
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("a pipe")?).read_line(&mut line)?;
        ensure!(line.contains("http://"), "the server did not become ready: {line:?}");
        let mut env = Command::new(&binary);
        env.args(["env", "--format", "json", "--data-dir"])
            .arg(dir.path().join("data"));
        let variables = serde_json::from_slice(&env.output()?.stdout)?;
        Ok(Self {
            binary,
            process,
            dir,
            variables,
        })
    }

    fn variable(&self, name: &str) -> String {
        self.variables[name].as_str().unwrap_or_default().to_owned()
    }

    /// `eyot deploy`; answers the runtime's ARN.
    fn deploy(&self, source: &Path, name: &str) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command
            .arg("deploy")
            .arg(source)
            .args(["--name", name, "--runtime", &python()?, "--data-dir"]);
        let output = command.arg(self.dir.path().join("data")).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "deploy: {text} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let start = text
            .find("arn:aws:bedrock-agentcore:")
            .context("deploy prints the ARN")?;
        Ok(text[start..]
            .split(|c: char| c.is_whitespace() || "'\",".contains(c))
            .next()
            .unwrap_or_default()
            .to_owned())
    }

    fn control(&self) -> control::Client {
        let key = control::config::Credentials::new(
            self.variable("AWS_ACCESS_KEY_ID"),
            self.variable("AWS_SECRET_ACCESS_KEY"),
            None,
            None,
            "eyot env",
        );
        control::Client::from_conf(
            control::Config::builder()
                .behavior_version_latest()
                .region(control::config::Region::new(self.variable("AWS_REGION")))
                .endpoint_url(self.variable("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL"))
                .credentials_provider(key)
                .build(),
        )
    }

    fn data(&self) -> data::Client {
        let key = data::config::Credentials::new(
            self.variable("AWS_ACCESS_KEY_ID"),
            self.variable("AWS_SECRET_ACCESS_KEY"),
            None,
            None,
            "eyot env",
        );
        data::Client::from_conf(
            data::Config::builder()
                .behavior_version_latest()
                .region(data::config::Region::new(self.variable("AWS_REGION")))
                .endpoint_url(self.variable("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"))
                .credentials_provider(key)
                .build(),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// `PYTHON_3_11`, for the host's `python3`.
fn python() -> Result<String> {
    let print = "import sys; print('PYTHON_%d_%d' % sys.version_info[:2])";
    let output = Command::new("python3")
        .args(["-c", print])
        .output()
        .context("python3")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

async fn invoke(data: &data::Client, arn: &str, prompt: &str, session: &str, qualifier: Option<&str>) -> Result<Value> {
    let reply = data
        .invoke_agent_runtime()
        .agent_runtime_arn(arn)
        .runtime_session_id(session)
        .set_qualifier(qualifier.map(str::to_owned))
        .payload(serde_json::to_vec(&json!({ "prompt": prompt }))?.into())
        .send()
        .await?;
    ensure!(
        reply.runtime_session_id() == Some(session),
        "the session's id comes back"
    );
    Ok(serde_json::from_slice(&reply.response.collect().await?.into_bytes())?)
}

/// Polls until `done` answers something, for at most a minute.
async fn wait<T>(what: &str, mut done: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    for _ in 0..1200 {
        if let Some(answer) = done().await? {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{what}: not within a minute")
}

async fn wait_ready(control: &control::Client, id: &str) -> Result<AgentRuntimeArtifact> {
    wait("READY", async || {
        let got = control.get_agent_runtime().agent_runtime_id(id).send().await?;
        match got.status() {
            AgentRuntimeStatus::Ready => Ok(got.agent_runtime_artifact),
            AgentRuntimeStatus::Creating | AgentRuntimeStatus::Updating => Ok(None),
            other => bail!("{other}: {:?}", got.failure_reason()),
        }
    })
    .await
}

async fn wait_endpoint(control: &control::Client, id: &str, name: &str, version: &str) -> Result<()> {
    wait("the endpoint", async || {
        let got = control
            .get_agent_runtime_endpoint()
            .agent_runtime_id(id)
            .endpoint_name(name)
            .send()
            .await?;
        Ok((got.live_version() == Some(version) && got.status().as_str() == "READY").then_some(()))
    })
    .await
}

fn network() -> Result<NetworkConfiguration> {
    Ok(NetworkConfiguration::builder()
        .network_mode(NetworkMode::Public)
        .build()?)
}

fn session() -> String {
    format!("session-{}", uuid::Uuid::new_v4())
}

async fn road(server: &Server) -> Result<()> {
    let (control, data) = (server.control(), server.data());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python-agent");
    let deployed = server.deploy(&example, "from_rust")?;
    let deployed_id = deployed.rsplit('/').next().unwrap_or_default();
    let artifact = wait_ready(&control, deployed_id).await?;

    let made = control
        .create_agent_runtime()
        .agent_runtime_name("rust_road")
        .agent_runtime_artifact(artifact.clone())
        .role_arn(ROLE)
        .network_configuration(network()?)
        .environment_variables("AGENT_VERSION", "1")
        .send()
        .await?;
    ensure!(*made.status() == AgentRuntimeStatus::Creating && made.agent_runtime_version() == "1");
    let (arn, id) = (made.agent_runtime_arn(), made.agent_runtime_id());
    wait_ready(&control, id).await?;

    // A conversation of three turns, beside a session that sees none of it.
    let (mine, other) = (session(), session());
    for (turn, text) in ["one", "two", "three"].into_iter().enumerate() {
        let answer = invoke(&data, arn, &format!("remember {text}"), &mine, None).await?;
        ensure!(answer["told"] == json!(turn + 1), "{answer}");
        ensure!(invoke(&data, arn, "recall", &other, None).await?["memory"] == json!([]));
    }
    ensure!(invoke(&data, arn, "recall", &mine, None).await?["disk"] == json!(["one", "two", "three"]));

    // A stream, event by event.
    let payload = serde_json::to_vec(&json!({ "prompt": "stream a b c" }))?;
    let mut reply = data
        .invoke_agent_runtime()
        .agent_runtime_arn(arn)
        .payload(payload.into())
        .send()
        .await?;
    ensure!(reply.content_type().starts_with("text/event-stream"));
    let mut events = 0;
    while let Some(chunk) = reply.response.try_next().await? {
        events += String::from_utf8_lossy(&chunk).matches("data: ").count();
    }
    ensure!(events == 3, "{events} events");

    // A second version; DEFAULT follows, `prod` does not, and moves forth and back when told.
    control
        .create_agent_runtime_endpoint()
        .agent_runtime_id(id)
        .name("prod")
        .send()
        .await?;
    wait_endpoint(&control, id, "prod", "1").await?;
    let update = control
        .update_agent_runtime()
        .agent_runtime_id(id)
        .agent_runtime_artifact(artifact)
        .role_arn(ROLE);
    let update = update
        .network_configuration(network()?)
        .environment_variables("AGENT_VERSION", "2")
        .send()
        .await?;
    ensure!(update.agent_runtime_version() == "2");
    wait_ready(&control, id).await?;
    wait_endpoint(&control, id, "DEFAULT", "2").await?;
    ensure!(invoke(&data, arn, "hi", &session(), None).await?["version"] == "2");
    for version in ["1", "2", "1"] {
        let moved = control
            .update_agent_runtime_endpoint()
            .agent_runtime_id(id)
            .endpoint_name("prod");
        moved.agent_runtime_version(version).send().await?;
        wait_endpoint(&control, id, "prod", version).await?;
        ensure!(invoke(&data, arn, "hi", &session(), Some("prod")).await?["version"] == version);
    }

    // The agent's fault is an exception of its own.
    let payload = serde_json::to_vec(&json!({ "prompt": "fail" }))?;
    let failed = data
        .invoke_agent_runtime()
        .agent_runtime_arn(arn)
        .payload(payload.into())
        .send()
        .await;
    let error = failed.err().context("a failing agent")?.into_service_error();
    ensure!(error.is_runtime_client_error(), "{error:?}");

    data.stop_runtime_session()
        .agent_runtime_arn(arn)
        .runtime_session_id(&mine)
        .send()
        .await?;
    control.delete_agent_runtime().agent_runtime_id(id).send().await?;
    wait("deletion", async || {
        match control.get_agent_runtime().agent_runtime_id(id).send().await {
            Ok(_) => Ok(None),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_resource_not_found_exception()) =>
            {
                Ok(Some(()))
            }
            Err(error) => Err(error.into()),
        }
    })
    .await
}

#[tokio::test]
async fn the_whole_road_with_the_aws_sdk_for_rust() {
    let Some(binary) = std::env::var_os("EYOT_BIN") else {
        println!("SKIPPED the_whole_road_with_the_aws_sdk_for_rust: EYOT_BIN is not set; `cargo xtask test` sets it");
        return;
    };
    let server = Server::start(binary.into()).unwrap();
    road(&server).await.unwrap();
}
