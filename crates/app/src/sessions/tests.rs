//! What people see, and what is asked of the server. The commands against a real server are in `tests/test_sessions.py`.

use super::*;
use clap::Parser;
use serde_json::json;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("sessions").chain(line.split_whitespace());
    Line::try_parse_from(words).map(|line| line.args.command)
}

#[test]
fn filters_become_parameters() {
    let arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a-0123456789";
    let Command::Stop(args) = parse(&format!(
        "stop --all --runtime {arn} --endpoint prod --version 2 --state idle"
    ))
    .unwrap() else {
        panic!("not a stop");
    };
    assert!(format!("{args:?}").contains("all: true"));
    let filter = Filter {
        whose: Whose {
            runtime: Some(arn.to_owned()),
            endpoint: Some("prod".to_owned()),
        },
        version: Some("2".to_owned()),
        state: Some("idle".to_owned()),
    };
    let encoded = arn.replace(':', "%3A").replace('/', "%2F");
    assert_eq!(
        target(ROUTE, &filter.pairs()),
        format!("/_eyot/sessions?runtime={encoded}&endpoint=prod&version=2&state=IDLE")
    );
    assert_eq!(target(ROUTE, &Filter::default().pairs()), "/_eyot/sessions");
    assert_eq!(path_of("a/b?c", "/logs"), "/_eyot/sessions/a%2Fb%3Fc/logs");
}

#[test]
fn stopping_needs_ids_or_all_and_not_both() {
    assert!(parse("stop x y").is_ok());
    assert!(parse("stop --all").is_ok());
    assert!(parse("stop").is_err());
    assert!(parse("stop x --all").is_err());
    assert!(parse("stop --runtime x").is_err());
}

#[test]
fn a_table_is_aligned_and_keeps_ids_whole() {
    let id = "x".repeat(256);
    let session = |id: &str, reason: &str| {
        json!({
            "sessionId": id, "agentRuntimeArn": "arn:a/agent-0123456789", "endpoint": "DEFAULT", "version": 12,
            "state": "IDLE", "createdAt": "2020-01-01T00:00:00Z", "lastActiveAt": "2999-01-01T00:00:00Z", "reason": reason,
        })
    };
    let table = list::table(&[session("short", "healthy"), session(&id, &"why ".repeat(100))]).text();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3);
    let place = lines[0].find("RUNTIME").unwrap();
    assert!(
        lines[1..].iter().all(|line| &line[place..place + 5] == "agent"),
        "{table}"
    );
    assert!(lines[2].starts_with(&id) && lines[2].ends_with('…'), "{table}");
    assert!(lines[1].contains("  0s  "), "a clock that runs ahead is now: {table}");
}

#[test]
fn ages_and_sizes_are_short() {
    for (seconds, text) in [
        (-5, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (7200, "2h"),
        (172_800, "2d"),
    ] {
        assert_eq!(table::duration(seconds), text);
    }
    for (number, text) in [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (100_000_000, "100.0 MB"),
        (u64::MAX, "18446744.1 TB"),
    ] {
        assert_eq!(table::bytes(number), text);
    }
}

#[test]
fn a_session_is_shown_with_what_is_known_of_it_and_nothing_else() {
    let now = "2026-11-25T12:00:00Z".parse().unwrap();
    let page = show::page(
        &json!({"sessionId": "x", "state": "IDLE", "reason": "healthy", "idleDeadline": null}),
        now,
    );
    assert!(page.contains("IDLE (healthy)") && !page.contains("when idle"), "{page}");
    let page = show::page(
        &json!({
            "sessionId": "x",
            "idleDeadline": "2026-11-25T12:14:00Z",
            "start": {"warm": true, "queueMs": 0.25, "prepareMs": null},
            "exit": {"code": null, "signal": 9, "outOfMemory": true},
            "lastFailure": {"at": "2026-11-25T11:00:00Z", "requestId": "r", "message": "m", "detail": "one\ntwo"},
            "transitions": [{"at": "2026-11-25T11:00:00Z", "to": "IDLE", "reason": "healthy"}],
        }),
        now,
    );
    for part in [
        "(in 14m)",
        "warm, queue 0.2 ms",
        "signal 9, out of memory",
        "(1h ago)",
        "  one\n  two\n",
        "IDLE   healthy",
    ] {
        assert!(page.contains(part), "{page}\nlacks {part:?}");
    }
}

#[test]
fn lines_of_a_log_cannot_play_with_the_terminal() {
    let line = json!({"time": "2026-11-25T12:00:00.123456789Z", "stream": "stderr", "text": "\u{1b}[2Jgone\ttab"});
    assert_eq!(
        logs::readable(&line.to_string()),
        "2026-11-25T12:00:00.123Z stderr \u{fffd}[2Jgone\ttab"
    );
    assert_eq!(logs::readable(r#"{"text":"kept"}"#), "kept");
    assert_eq!(logs::readable("no json\r"), "no json\u{fffd}");
}

#[test]
fn usage_has_a_total_where_there_is_more_than_one_row() {
    let day = json!({"day": "2026-11-25", "agentRuntimeArn": "arn:a/agent-0123456789", "sessions": 3, "requests": 10,
                     "cpuSeconds": 1.239, "memoryGbSeconds": 0.5, "bytesIn": 1000, "bytesOut": 0});
    let one = usage::table(&json!({"usage": [day], "total": day})).text();
    assert_eq!(one.lines().count(), 2);
    assert!(one.contains("1.24") && one.contains("1.0 kB"), "{one}");
    let two = usage::table(&json!({"usage": [day, day], "total": day})).text();
    assert!(two.lines().last().unwrap().starts_with("total"), "{two}");
    assert!(usage::table(&json!({"usage": []})).is_empty());
}
