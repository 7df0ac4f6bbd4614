//! `eyot sessions show`.

use super::table::{Table, bytes_of, decimal, moment};
use super::{Output, Whose, clean, explained, path_of, print, print_json, target, text};
use crate::client::Client;
use domain::Clock;
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

/// Arguments of `eyot sessions show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the session.
    id: String,
    #[command(flatten)]
    whose: Whose,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(args: Args, client: &Client) -> anyhow::Result<()> {
    let target = target(&path_of(&args.id, ""), &args.whose.pairs());
    let session = client.own(Method::GET, &target).await.map_err(explained)?;
    match args.output {
        Output::Json => print_json(&session),
        Output::Table => print(&page(&session, Clock::system().now())),
    }
}

/// All there is to know, a line each; what is not known has none.
pub(super) fn page(session: &Value, now: Timestamp) -> String {
    let mut table = Table::new(&["session", &text(session, "/sessionId")], &[]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.row(vec![name.to_owned(), value]);
        }
    };
    for (name, pointer) in [
        ("runtime", "/agentRuntimeArn"),
        ("endpoint", "/endpoint"),
        ("version", "/version"),
    ] {
        line(name, text(session, pointer));
    }
    line(
        "state",
        format!("{} ({})", text(session, "/state"), text(session, "/reason")),
    );
    for (name, pointer) in [
        ("created", "/createdAt"),
        ("last active", "/lastActiveAt"),
        ("ends when idle", "/idleDeadline"),
        ("ends in any case", "/maxLifetimeDeadline"),
        ("ended", "/endedAt"),
    ] {
        line(name, moment(session, pointer, now));
    }
    line("sandbox", text(session, "/sandbox"));
    line(
        "owner",
        format!(
            "{}, epoch {}",
            text(session, "/lease/owner"),
            text(session, "/lease/epoch")
        ),
    );
    line("start", start(session));
    line("usage", usage(session));
    line("in flight", text(session, "/callsInFlight"));
    line("exit", exit(session));
    if session
        .pointer("/lastFailure")
        .is_some_and(|failure| !failure.is_null())
    {
        line("last failure", moment(session, "/lastFailure/at", now));
        line("", format!("request {}", text(session, "/lastFailure/requestId")));
        line("", text(session, "/lastFailure/message"));
    }
    let mut page = table.text();
    for (name, pointer) in [
        ("what the agent said", "/lastFailure/detail"),
        ("last lines of its log", "/logTail"),
    ] {
        let lines = session.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if !lines.is_empty() {
            page.push_str(&format!("\n{name}:\n"));
            lines
                .lines()
                .for_each(|line| page.push_str(&format!("  {}\n", clean(line))));
        }
    }
    let transitions = session.get("transitions").and_then(Value::as_array);
    if let Some(transitions) = transitions.filter(|all| !all.is_empty()) {
        let mut table = Table::new(&["  TIME", "STATE", "REASON"], &[]);
        for one in transitions {
            table.row(vec![
                format!("  {}", text(one, "/at")),
                text(one, "/to"),
                text(one, "/reason"),
            ]);
        }
        page.push_str(&format!("\ntransitions:\n{}", table.text()));
    }
    page
}

/// The steps of the start that have happened.
fn start(session: &Value) -> String {
    let steps = [
        ("queue", "queueMs"),
        ("prepare", "prepareMs"),
        ("sandbox", "sandboxMs"),
        ("process", "processMs"),
        ("healthy", "healthyMs"),
        ("first byte", "firstByteMs"),
    ];
    let took = |(name, member): (&str, &str)| {
        let ms = session.pointer(&format!("/start/{member}"))?.as_f64()?;
        Some(format!("{name} {ms:.1} ms"))
    };
    let warm = session.pointer("/start/warm").and_then(Value::as_bool);
    let kind = warm.map(|warm| if warm { "warm" } else { "cold" }.to_owned());
    kind.into_iter()
        .chain(steps.into_iter().filter_map(took))
        .collect::<Vec<_>>()
        .join(", ")
}

fn usage(session: &Value) -> String {
    format!(
        "{} calls, {} CPU s, {} memory GB s (peak {}), {} in, {} out",
        text(session, "/usage/requests"),
        decimal(session, "/usage/cpuSeconds"),
        decimal(session, "/usage/memoryGbSeconds"),
        bytes_of(session, "/usage/memoryPeakBytes"),
        bytes_of(session, "/usage/bytesIn"),
        bytes_of(session, "/usage/bytesOut"),
    )
}

fn exit(session: &Value) -> String {
    let mut said = Vec::new();
    for (name, pointer) in [("code", "/exit/code"), ("signal", "/exit/signal")] {
        match text(session, pointer) {
            value if value.is_empty() => {}
            value => said.push(format!("{name} {value}")),
        }
    }
    if session.pointer("/exit/outOfMemory") == Some(&Value::Bool(true)) {
        said.push("out of memory".to_owned());
    }
    said.join(", ")
}
