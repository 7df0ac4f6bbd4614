//! `eyot sessions usage`.

use super::table::{Table, bytes_of, decimal};
use super::{Output, note, print, print_json, runtime_id, target, text};
use crate::client::Client;
use http::Method;
use serde_json::Value;

const ROUTE: &str = "/_eyot/usage";

/// Arguments of `eyot sessions usage`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name, id or ARN of a runtime [default: all].
    #[arg(long, value_name = "NAME|ID|ARN")]
    runtime: Option<String>,
    /// First day, UTC [default: 29 days before the last].
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Last day, UTC [default: today].
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(args: Args, client: &Client) -> anyhow::Result<()> {
    let given = [("runtime", args.runtime), ("from", args.from), ("to", args.to)];
    let pairs: Vec<_> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let usage = client.own(Method::GET, &target(ROUTE, &pairs)).await?;
    if args.output == Output::Json {
        return print_json(&usage);
    }
    let (from, to) = (text(&usage, "/from"), text(&usage, "/to"));
    let table = table(&usage);
    if table.is_empty() {
        note(&format!("no session ended from {from} to {to}"));
        return Ok(());
    }
    note(&format!("sessions that ended from {from} to {to} (UTC)"));
    print(&table.text())
}

pub(super) fn table(usage: &Value) -> Table {
    let head = [
        "DAY",
        "RUNTIME",
        "SESSIONS",
        "REQUESTS",
        "CPU S",
        "MEMORY GB S",
        "IN",
        "OUT",
    ];
    let mut table = Table::new(&head, &[2, 3, 4, 5, 6, 7]);
    let days = usage
        .get("usage")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    for day in days {
        table.row(row(text(day, "/day"), runtime_id(day), day));
    }
    if days.len() > 1
        && let Some(total) = usage.get("total")
    {
        table.row(row("total".to_owned(), String::new(), total));
    }
    table
}

fn row(day: String, runtime: String, sums: &Value) -> Vec<String> {
    vec![
        day,
        runtime,
        text(sums, "/sessions"),
        text(sums, "/requests"),
        decimal(sums, "/cpuSeconds"),
        decimal(sums, "/memoryGbSeconds"),
        bytes_of(sums, "/bytesIn"),
        bytes_of(sums, "/bytesOut"),
    ]
}
