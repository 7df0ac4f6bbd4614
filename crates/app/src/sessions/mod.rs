//! `eyot sessions`: see what runs on a server, stop it, read what it wrote and what it used.
//!
//! One file for each command. Standard output gets data and nothing else: a table for people, or with `--output json` the
//! server's own JSON as one document (for `logs`: one for each line). What else there is to say goes to standard error.
//!
//! Documents are read as [`Value`]s, not as types of the server: a server may be newer than this program, and what it
//! adds must not be lost.

mod list;
mod logs;
mod show;
mod stop;
#[cfg(test)]
mod tests;
mod usage;

use crate::client::{Client, Connection, Error, encode};
use crate::print::{Output, clean, note, print, print_json, table, target, text};
use clap::Subcommand;
use serde_json::Value;
use std::process::ExitCode;

/// The server's route.
const ROUTE: &str = "/_eyot/sessions";

/// Arguments of `eyot sessions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List living sessions, with --ended also those that ended lately.
    List(list::Args),
    /// Show all there is to know of one session.
    Show(show::Args),
    /// Stop sessions by their ids, or all that fit.
    Stop(stop::Args),
    /// Print what a session's agent wrote.
    Logs(logs::Args),
    /// Show what runtimes used, by days.
    Usage(usage::Args),
}

/// Which session of several that have the same id.
#[derive(Debug, Default, clap::Args)]
struct Whose {
    /// Runtime of the session: its name, id or ARN.
    #[arg(long, value_name = "NAME|ID|ARN")]
    runtime: Option<String>,
    /// Endpoint of the session.
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
}

/// Which sessions.
#[derive(Debug, Default, clap::Args)]
struct Filter {
    #[command(flatten)]
    whose: Whose,
    /// Version that the session runs.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// State: provisioning, active, idle, paused, terminating or terminated.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
}

/// Runs one of the commands.
pub(crate) async fn run(args: Args, connection: Connection) -> anyhow::Result<ExitCode> {
    let client = Client::new(connection);
    match args.command {
        Command::List(args) => list::run(args, &client).await?,
        Command::Show(args) => show::run(args, &client).await?,
        Command::Stop(args) => return stop::run(args, &client).await,
        Command::Logs(args) => logs::run(args, &client).await?,
        Command::Usage(args) => usage::run(args, &client).await?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Whose {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [("runtime", &self.runtime), ("endpoint", &self.endpoint)];
        pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }
}

impl Filter {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = self.whose.pairs();
        pairs.extend(self.version.iter().map(|version| ("version", version.clone())));
        pairs.extend(self.state.iter().map(|state| ("state", state.to_uppercase())));
        pairs
    }
}

/// The path of one session.
fn path_of(id: &str, rest: &str) -> String {
    format!("{ROUTE}/{}{rest}", encode(id))
}

/// An error of a call that names one session, with what to do about an id that several have.
fn explained(error: Error) -> anyhow::Error {
    match &error {
        Error::Refused { kind, .. } if kind == "ConflictException" => {
            anyhow::Error::from(error).context("add --runtime and --endpoint to say which session is meant")
        }
        _ => error.into(),
    }
}

/// A runtime's id from its ARN.
fn runtime_id(document: &Value) -> String {
    let arn = text(document, "/agentRuntimeArn");
    arn.rsplit('/').next().unwrap_or_default().to_owned()
}
