//! `eyot sessions stop`: standard output gets the ids of the sessions that were stopped, one a line.

use super::{Filter, Output, ROUTE, explained, note, path_of, print, print_json, target, text};
use crate::client::{Client, Error};
use futures_util::{StreamExt, stream};
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Stopped at the same time.
const AT_ONCE: usize = 16;

/// Arguments of `eyot sessions stop`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ids of the sessions.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    ids: Vec<String>,
    /// All that fit; without --runtime, --endpoint, --version and --state all sessions of the server.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Fails when at least one was not stopped; the others are stopped all the same.
pub(super) async fn run(args: Args, client: &Client) -> anyhow::Result<ExitCode> {
    let document = if args.all {
        let mut pairs = args.filter.pairs();
        if pairs.is_empty() {
            pairs.push(("all", "true".to_owned()));
        }
        client
            .own(Method::POST, &target(&format!("{ROUTE}/stop"), &pairs))
            .await?
    } else {
        each(client, &args).await?
    };
    let list = |name: &str| {
        document
            .get(name)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let (stopped, failed) = (list("stopped"), list("failed"));
    if args.output == Output::Json {
        print_json(&document)?;
    } else {
        let ids: String = stopped.iter().map(|one| text(one, "/sessionId") + "\n").collect();
        print(&ids)?;
        if stopped.is_empty() && failed.is_empty() {
            note("no session fits");
        }
    }
    for one in &failed {
        note(&format!("eyot: {}: {}", text(one, "/sessionId"), text(one, "/message")));
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Stops one after the other's id was given, and answers what the server would for all of them.
async fn each(client: &Client, args: &Args) -> anyhow::Result<Value> {
    let filter = &args.filter;
    if filter.version.is_some() || filter.state.is_some() {
        anyhow::bail!("--version and --state go with --all; an id says which session is meant");
    }
    let calls = stream::iter(&args.ids).map(|id| async move {
        let target = target(&path_of(id, "/stop"), &filter.whose.pairs());
        (id, client.own(Method::POST, &target).await)
    });
    let (mut stopped, mut failed) = (Vec::new(), Vec::new());
    let mut calls = calls.buffered(AT_ONCE);
    while let Some((id, answer)) = calls.next().await {
        match answer {
            Ok(report) => stopped.push(json!({
                "sessionId": report["sessionId"],
                "agentRuntimeArn": report["agentRuntimeArn"],
                "endpoint": report["endpoint"],
            })),
            Err(error @ Error::Refused { .. }) => {
                failed.push(json!({"sessionId": id, "message": format!("{:#}", explained(error))}));
            }
            // Nobody there: the others would not do better.
            Err(error) => return Err(error.into()),
        }
    }
    Ok(json!({"stopped": stopped, "failed": failed}))
}
