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
mod table;
#[cfg(test)]
mod tests;
mod usage;

use crate::client::{Client, Connection, Error, encode};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use std::io::Write;
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

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
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

/// A path of the server with parameters.
fn target(path: &str, pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    if pairs.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", pairs.join("&"))
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

/// Writes to standard output. A reader that has gone away is no error: it has what it wanted.
fn print(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn print_json(document: &Value) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(document)?))
}

#[expect(clippy::print_stderr, reason = "beside the data, for a person")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// A member's text as a person reads it: of a number its digits, of what is not there nothing.
fn text(document: &Value, pointer: &str) -> String {
    match document.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => clean(text),
        Some(other) => other.to_string(),
    }
}

/// Without what would move the cursor or change the colours of a terminal: an agent wrote it.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// A runtime's id from its ARN.
fn runtime_id(document: &Value) -> String {
    let arn = text(document, "/agentRuntimeArn");
    arn.rsplit('/').next().unwrap_or_default().to_owned()
}
