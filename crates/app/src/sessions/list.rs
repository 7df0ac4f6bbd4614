//! `eyot sessions list`.

use super::table::{Table, age, short};
use super::{Filter, Output, ROUTE, note, print, print_json, runtime_id, target, text};
use crate::client::{Client, Error};
use domain::Clock;
use http::Method;
use serde_json::{Value, json};

const PAGE: &str = "1000";

/// Arguments of `eyot sessions list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// Also those that ended lately, after the living.
    #[arg(long)]
    ended: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(args: Args, client: &Client) -> anyhow::Result<()> {
    let sessions = all(client, &args).await?;
    if args.output == Output::Json {
        return print_json(&json!({"sessions": sessions}));
    }
    let table = table(&sessions);
    if table.is_empty() {
        note(if args.ended {
            "no sessions; `eyot invoke` starts one"
        } else {
            "no living sessions; --ended shows those that ended lately, and `eyot invoke` starts one"
        });
        return Ok(());
    }
    print(&table.text())
}

/// Every session that fits, page by page.
async fn all(client: &Client, args: &Args) -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
    let mut token = None;
    loop {
        let mut pairs = args.filter.pairs();
        if args.ended {
            pairs.push(("ended", "true".to_owned()));
        }
        pairs.push(("maxResults", PAGE.to_owned()));
        pairs.extend(token.map(|token| ("nextToken", token)));
        let mut page = client.own(Method::GET, &target(ROUTE, &pairs)).await?;
        match page.get_mut("sessions").map(Value::take) {
            Some(Value::Array(sessions)) => all.extend(sessions),
            _ => return Err(Error::Unreadable("the list has no sessions".to_owned())),
        }
        token = page.get("nextToken").and_then(Value::as_str).map(str::to_owned);
        if token.is_none() {
            return Ok(all);
        }
    }
}

pub(super) fn table(sessions: &[Value]) -> Table {
    let head = [
        "SESSION", "RUNTIME", "ENDPOINT", "VERSION", "STATE", "AGE", "ACTIVE", "REASON",
    ];
    let mut table = Table::new(&head, &[3, 5, 6]);
    let now = Clock::system().now();
    for session in sessions {
        table.row(vec![
            text(session, "/sessionId"),
            runtime_id(session),
            text(session, "/endpoint"),
            text(session, "/version"),
            text(session, "/state"),
            age(session, "/createdAt", now),
            age(session, "/lastActiveAt", now),
            short(&text(session, "/reason")),
        ]);
    }
    table
}
