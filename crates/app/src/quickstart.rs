//! `eyot quickstart`: everything a newcomer wants to see, in one command.
//!
//! It is nothing but the other commands in a row: a server in a temporary data directory, the sample agent deployed,
//! invocations through the public, signed API. What it shows is what the server answered.

use crate::client::Client;
use crate::deploy::{release, sample};
use crate::invoke::Invocation;
use crate::master_key;
use crate::serve::{self, Running, Signals};
use crate::{data_dir, env};
use anyhow::{Context, ensure};
use domain::id::{RuntimeName, SessionId};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;

/// Where the quickstart serves unless the address is taken.
const USUAL: &str = "127.0.0.1:8780";

/// Arguments of `eyot quickstart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after the demonstration instead of serving on.
    #[arg(long)]
    exit: bool,
    /// Address to serve on [default: 127.0.0.1:8780, or a free port if that is taken].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// How agents are isolated: auto, container or process [default: auto].
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
}

/// Shows an agent at work.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let home = tempfile::Builder::new().prefix("eyot-quickstart-").tempdir()?;
    let serve = serve::Args {
        listen: Some(args.listen.map_or_else(free_address, Ok)?),
        data_dir: Some(home.path().join("data")),
        driver: args.driver,
        // The driver's warnings are shown as notes below.
        log: Some("error".to_owned()),
        ..serve::Args::default()
    };
    let config = serve.configuration()?;
    serve::start_logging(&config)?;
    let master_key = config.master_key.clone();

    step("Starting a server in a temporary directory")?;
    let mut signals = Signals::install()?;
    let running = tokio::select! {
        running = Running::start(config) => running?,
        _ = signals.received() => return Ok(()),
    };
    let shown = tokio::select! {
        shown = show(&running, home.path(), &master_key, args.exit) => shown,
        _ = signals.received() => Ok(()),
        lost = running.lost() => return Err(lost),
    };
    signals.leave_at_the_next();
    running.stop(serve::Sessions::End).await?;
    shown
}

async fn show(
    running: &Running,
    home: &std::path::Path,
    master_key: &master_key::Config,
    exit: bool,
) -> anyhow::Result<()> {
    line(&format!("  serving at {}", running.url))?;
    line(&format!(
        "  isolation driver: {} ({})",
        running.driver,
        running.probe.walls.join(", ")
    ))?;
    for warning in &running.probe.warnings {
        line(&format!("  note: {warning}"))?;
    }
    let dir = data_dir::resolve(Some(home.join("data")));
    let connection = env::connection_from_data_dir(&dir, master_key).await?;
    let client = Client::new(connection);

    step("Deploying the sample agent that ships inside this program")?;
    let (release, package) = sample::release(RuntimeName::parse("quickstart")?)?;
    let progress = |text: &str| drop(line(&format!("  {text}")));
    let arn = release::deploy(&client, &release, package, &progress).await?.arn;
    line(&format!("  {arn}"))?;

    step("Talking to it in two sessions; each counts its own turns")?;
    let (first, second) = (SessionId::generate(), SessionId::generate());
    for (session, turn) in [(&first, 1), (&first, 2), (&second, 1), (&first, 3)] {
        let name = if *session == first { "A" } else { "B" };
        let answer = invoke(&client, &arn, session, &json!({ "prompt": "hello" })).await?;
        line(&format!("  session {name} > {answer}"))?;
        ensure!(answer["turn"] == turn, "session {name} should be at turn {turn}");
    }

    step("Streaming an answer as it is written")?;
    let ask = json!({ "prompt": "count", "stream": true, "chunks": 5, "delay_ms": 200 });
    let mut answer = Invocation::json(&arn, &first, &ask).send(&client).await?;
    while let Some(piece) = answer.piece().await? {
        let mut out = std::io::stdout().lock();
        out.write_all(&piece).and_then(|()| out.flush())?;
    }

    step("Your turn")?;
    line(&how_to_go_on(home, &arn))?;
    if !exit {
        line("Serving until you press Ctrl-C.")?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

async fn invoke(client: &Client, arn: &str, session: &SessionId, ask: &Value) -> anyhow::Result<Value> {
    let answer = Invocation::json(arn, session, ask).send(client).await?;
    answer.document().await.context("the sample agent answers in JSON")
}

/// The usual address, so that what is printed can be kept; any free port when another server has it.
fn free_address() -> anyhow::Result<SocketAddr> {
    let usual: SocketAddr = USUAL.parse()?;
    Ok(match std::net::TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::new(usual.ip(), 0),
    })
}

fn how_to_go_on(home: &std::path::Path, arn: &str) -> String {
    let program = std::env::current_exe().map_or_else(|_| "eyot".into(), |path| path.display().to_string());
    let dir = home.join("data");
    let dir = dir.display();
    format!(
        "In another terminal, point any AWS client at this server:

    eval \"$({program} env --data-dir {dir})\"

then, in Python with boto3:

    import boto3, json
    data = boto3.client(\"bedrock-agentcore\")
    reply = data.invoke_agent_runtime(
        agentRuntimeArn=\"{arn}\",
        payload=json.dumps({{\"prompt\": \"hello\"}}),
    )
    print(reply[\"response\"].read())

or deploy an agent of your own:

    {program} deploy ./my-agent
"
    )
}

fn step(title: &str) -> anyhow::Result<()> {
    line(&format!("\n== {title}"))
}

fn line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("standard output")
}
