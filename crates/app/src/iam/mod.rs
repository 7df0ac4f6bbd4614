//! `eyot iam`: users, access keys, roles and policies of a server, over its signed routes.
//!
//! One file for each command. Standard output gets data and nothing else: a table for people, or with `--output json` the
//! server's own JSON. What else there is to say goes to standard error.
//!
//! Invariant: a secret is printed once, by the command that had it made.

mod federation;
mod keys;
mod policies;
mod roles;
#[cfg(test)]
mod tests;
mod users;

pub(crate) use federation::{Federated, WebIdentity};

use crate::client::{Client, Connection, Error, encode};
use crate::print::{Output, note, print, print_json, table, target, text};
use anyhow::Context;
use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;

/// The server's route.
const ROUTE: &str = "/_eyot/iam";
/// Items asked for at a time.
const PAGE: &str = "1000";

/// Arguments of `eyot iam`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// What all commands take.
#[derive(Debug, Default, clap::Args)]
struct Common {
    /// Account that is meant [default: the server's own].
    #[arg(long, value_name = "ACCOUNT", global = true)]
    account: Option<String>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show as whom this computer calls the server.
    Whoami,
    /// Users: who may be given access keys.
    #[command(subcommand)]
    Users(users::Command),
    /// Access keys of a user.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Roles: what runtimes and others take for a time.
    #[command(subcommand)]
    Roles(roles::Command),
    /// Policies of a user or a role: what they may do.
    #[command(subcommand)]
    Policies(policies::Command),
    /// End temporary credentials before their time.
    Revoke(Revoke),
}

/// Arguments of `eyot iam revoke`.
#[derive(Debug, clap::Args)]
struct Revoke {
    /// Id of the temporary credentials, ASIA….
    #[arg(value_name = "ID", required_unless_present = "role", conflicts_with_all = ["role", "session"])]
    id: Option<String>,
    /// ARN of a role: ends all credentials of one of its sessions.
    #[arg(long, value_name = "ARN", requires = "session")]
    role: Option<String>,
    /// Name of the role's session.
    #[arg(long, value_name = "NAME", requires = "role")]
    session: Option<String>,
}

/// Calls one server about one account.
#[derive(Debug)]
struct Iam {
    client: Client,
    account: Option<String>,
    output: Output,
}

/// Runs one of the commands.
pub(crate) async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let Common { account, output } = args.common;
    let iam = Iam {
        client: Client::new(connection),
        account,
        output,
    };
    match args.command {
        Command::Whoami => iam.show(&iam.get(&["whoami"]).await?, &WHOAMI),
        Command::Users(command) => users::run(command, &iam).await,
        Command::Keys(command) => keys::run(command, &iam).await,
        Command::Roles(command) => roles::run(command, &iam).await,
        Command::Policies(command) => policies::run(command, &iam).await,
        Command::Revoke(what) => {
            let document = match what.id {
                Some(id) => json!({"accessKeyId": id}),
                None => json!({"roleArn": what.role, "sessionName": what.session}),
            };
            iam.send(Method::POST, &["revocations"], document.to_string()).await?;
            note("revoked");
            Ok(())
        }
    }
}

const WHOAMI: [(&str, &str); 4] = [
    ("arn", "/arn"),
    ("user id", "/userId"),
    ("account", "/account"),
    ("access key", "/accessKeyId"),
];

impl Iam {
    /// The target of a path below the route.
    fn target(&self, path: &[&str], more: &[(&str, String)]) -> String {
        let path: Vec<String> = path.iter().map(|part| encode(part)).collect();
        let mut pairs = more.to_vec();
        pairs.extend(self.account.iter().map(|account| ("accountId", account.clone())));
        target(&format!("{ROUTE}/{}", path.join("/")), &pairs)
    }

    async fn get(&self, path: &[&str]) -> Result<Value, Error> {
        self.client.own(Method::GET, &self.target(path, &[])).await
    }

    async fn delete(&self, path: &[&str]) -> Result<(), Error> {
        self.client.own(Method::DELETE, &self.target(path, &[])).await.map(drop)
    }

    async fn send(&self, method: Method, path: &[&str], body: String) -> Result<Value, Error> {
        self.client.own_with(method, &self.target(path, &[]), body).await
    }

    /// Every item of a list, page by page.
    async fn all(&self, list: &str) -> Result<Vec<Value>, Error> {
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            let mut pairs = vec![("maxResults", PAGE.to_owned())];
            pairs.extend(token.map(|token| ("nextToken", token)));
            let mut page = self.client.own(Method::GET, &self.target(&[list], &pairs)).await?;
            match page.get_mut(list).map(Value::take) {
                Some(Value::Array(items)) => all.extend(items),
                _ => return Err(Error::Unreadable(format!("the list has no {list}"))),
            }
            token = page.get("nextToken").and_then(Value::as_str).map(str::to_owned);
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    /// Prints one thing: a line for each member that is there.
    fn show(&self, document: &Value, members: &[(&str, &str)]) -> anyhow::Result<()> {
        if self.output == Output::Json {
            return print_json(document);
        }
        let width = members.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = members.iter().filter_map(|(name, pointer)| {
            let value = joined(document, pointer);
            (!value.is_empty()).then(|| format!("{name:<width$}  {value}\n"))
        });
        print(&lines.collect::<String>())
    }

    /// Prints a list; `none` is said when it is empty.
    fn list(&self, name: &str, items: &[Value], columns: &[(&str, &str)], none: &str) -> anyhow::Result<()> {
        if self.output == Output::Json {
            return print_json(&json!({name: items}));
        }
        if items.is_empty() {
            note(none);
            return Ok(());
        }
        let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
        let mut table = table::Table::new(&heads, &[]);
        for item in items {
            table.row(columns.iter().map(|(_, pointer)| joined(item, pointer)).collect());
        }
        print(&table.text())
    }

    /// Says that something was done, to people only.
    fn done(&self, what: &str) {
        if self.output == Output::Table {
            note(what);
        }
    }
}

/// A member as a person reads it; a list as its items with commas between them.
fn joined(document: &Value, pointer: &str) -> String {
    match document.pointer(pointer) {
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| text(item, "")).collect();
            items.join(", ")
        }
        _ => text(document, pointer),
    }
}

/// A document from a file, or from standard input if that is `-`.
fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The same, which must be JSON.
fn read_json(path: &Path) -> anyhow::Result<Value> {
    let text = read(path)?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}
