//! Lists, single sessions, usage.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_living_come_first_and_each_part_begins_with_the_newest() {
    let bed = Bed::new().await;
    for (name, seconds) in [("old", 0), ("new", 20), ("middle", 10)] {
        bed.lives(session(name, A, "DEFAULT", seconds));
    }
    for name in ["gone1", "gone2"] {
        bed.journal.ended(session(name, A, "DEFAULT", 100));
    }
    assert_eq!(bed.page("sessions").await, (strings(&["new", "middle", "old"]), None));
    let all = strings(&["new", "middle", "old", "gone2", "gone1"]);
    assert_eq!(bed.page("sessions?ended=true").await, (all.clone(), None));
    for size in 1..=6 {
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let next = token.map(|token| format!("&nextToken={token}")).unwrap_or_default();
            let (names, more) = bed.page(&format!("sessions?ended=true&maxResults={size}{next}")).await;
            assert!(names.len() <= size);
            found.extend(names);
            token = more;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(found, all, "pages of {size}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_hold_still_while_sessions_come_and_go() {
    let bed = Bed::new().await;
    for n in 0..30 {
        bed.lives(session(&format!("stays{n:02}"), A, "DEFAULT", n));
        bed.lives(session(&format!("ends{n:02}"), A, "DEFAULT", n));
    }
    let (mut found, mut token) = (Vec::new(), None);
    for round in 0.. {
        let next = token.map(|token| format!("&nextToken={token}")).unwrap_or_default();
        let (names, more) = bed.page(&format!("sessions?ended=true&maxResults=4{next}")).await;
        found.extend(names);
        bed.lives(session(&format!("new{round}"), A, "DEFAULT", 1000 + round));
        let key = living::key(&session(&format!("ends{:02}", round % 30), A, "DEFAULT", 0)).unwrap();
        let _ = bed.fake.stop(&key).await;
        token = more;
        if token.is_none() {
            break;
        }
    }
    let mut stayed: Vec<String> = found.iter().filter(|name| name.starts_with("stays")).cloned().collect();
    stayed.sort();
    assert_eq!(stayed, (0..30).map(|n| format!("stays{n:02}")).collect::<Vec<_>>());
    for n in 0..30 {
        assert!(found.contains(&format!("ends{n:02}")), "ends{n:02} is missed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_a_page_is_made_is_on_it_once() {
    let bed = Bed::new().await;
    let report = session("x", A, "DEFAULT", 0);
    bed.lives(report.clone());
    bed.journal.ended(report);
    assert_eq!(bed.page("sessions?ended=true").await.0, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn filters_narrow_down() {
    let bed = Bed::new().await;
    bed.lives(session("a", A, "DEFAULT", 3));
    bed.lives(session("b", A, "prod", 2));
    let mut paused = session("c", B, "DEFAULT", 1);
    (paused.state, paused.version) = (State::Paused, Version(2));
    bed.lives(paused);
    bed.journal.ended(session("d", B, "prod", 0));
    let arn = format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/{A}");
    for (filter, expected) in [
        ("runtime=agent".to_owned(), &["a", "b"][..]),
        (format!("runtime={A}"), &["a", "b"]),
        (format!("runtime={arn}"), &["a", "b"]),
        (format!("runtime={arn}/runtime-endpoint/prod"), &["b"]),
        (format!("runtime={arn}/runtime-endpoint/prod&endpoint=prod"), &["b"]),
        ("endpoint=DEFAULT".to_owned(), &["a", "c"]),
        ("endpoint=prod&ended=true".to_owned(), &["b", "d"]),
        ("version=2".to_owned(), &["c"]),
        ("state=PAUSED".to_owned(), &["c"]),
        ("state=IDLE&runtime=agent&endpoint=prod".to_owned(), &["b"]),
        ("state=TERMINATED".to_owned(), &["d"]),
        ("state=TERMINATED&ended=false".to_owned(), &[]),
        ("runtime=no_such_agent".to_owned(), &[]),
    ] {
        assert_eq!(bed.page(&format!("sessions?{filter}")).await.0, expected, "{filter}");
    }
}

#[tokio::test(start_paused = true)]
async fn parameters_are_checked_one_by_one() {
    let bed = Bed::new().await;
    let session = id("x");
    for (target, members) in [
        ("sessions?colour=red", &["colour"][..]),
        ("sessions?state=IDLE&state=IDLE", &["state"]),
        (
            "sessions?runtime=a%20b&endpoint=-&version=0&state=idle&ended=yes&maxResults=0&nextToken=x",
            &[
                "state",
                "version",
                "endpoint",
                "runtime",
                "ended",
                "maxResults",
                "nextToken",
            ],
        ),
        ("sessions?maxResults=1001", &["maxResults"]),
        ("sessions/short", &["sessionId"]),
        (&format!("sessions/{session}?state=IDLE"), &["state"]),
        (
            &format!("sessions/{session}/logs?tail=-1&follow=1"),
            &["follow", "tail"],
        ),
        ("usage?from=yesterday&to=2026-13-01", &["from", "to"]),
        ("usage?from=2026-11-26", &["from"]),
        ("usage?from=2025-01-01&to=2026-11-25", &["from"]),
        ("sessions/stop", &["method"]),
    ] {
        invalid(bed.reply(Method::GET, target).await, members);
    }
    invalid(bed.post("sessions").await, &["method"]);
    let other = format!("arn:aws:bedrock-agentcore:us-west-2:210987654321:runtime/{A}");
    let denied = bed.get(&format!("sessions?runtime={other}")).await.unwrap_err();
    assert_eq!(denied.kind, Kind::Denied);
    let arn = format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/{A}/runtime-endpoint/prod");
    invalid(
        bed.get(&format!("sessions?runtime={arn}&endpoint=test")).await,
        &["endpoint"],
    );
    assert_eq!(bed.get("sessions/a/b/c").await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_token_continues_only_its_own_list() {
    let bed = Bed::new().await;
    for n in 0..3 {
        bed.lives(session(&format!("s{n}"), A, "DEFAULT", n));
    }
    let (_, token) = bed.page("sessions?maxResults=1").await;
    let token = token.unwrap();
    let (names, _) = bed.page(&format!("sessions?maxResults=2&nextToken={token}")).await;
    assert_eq!(names, ["s1", "s0"]);
    for other in ["state=IDLE", "ended=true", "runtime=agent"] {
        invalid(
            bed.get(&format!("sessions?{other}&nextToken={token}")).await,
            &["nextToken"],
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_session_is_shown_whole_living_before_ended() {
    let bed = Bed::new().await;
    let missing = bed.get(&format!("sessions/{}", id("x"))).await.unwrap_err();
    assert_eq!(missing.kind, Kind::NotFound);
    let mut ended = session("x", A, "DEFAULT", 0).after_calls(1);
    ended.log_tail = Some("Traceback".to_owned());
    bed.journal.ended(ended);
    bed.journal.ended(session("x", A, "DEFAULT", 10).after_calls(2));
    let shown = bed.get(&format!("sessions/{}", id("x"))).await.unwrap();
    assert_eq!(
        (&shown["state"], &shown["usage"]["requests"], &shown["agentRuntimeArn"]),
        (
            &Value::from("TERMINATED"),
            &Value::from(2),
            &Value::from(format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/{A}"))
        )
    );
    bed.lives(session("x", A, "DEFAULT", 20));
    let shown = bed.get(&format!("sessions/{}", id("x"))).await.unwrap();
    assert_eq!(shown["state"], "IDLE");
    for member in [
        "sessionId",
        "agentRuntimeArn",
        "endpoint",
        "version",
        "state",
        "reason",
        "createdAt",
        "lastActiveAt",
        "idleDeadline",
        "maxLifetimeDeadline",
    ] {
        assert!(!shown[member].is_null(), "{member}: {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_of_several_sessions_is_a_conflict_that_names_them() {
    let bed = Bed::new().await;
    let target = format!("sessions/{}", id("x"));
    for endpoint in ["DEFAULT", "prod"] {
        bed.journal.ended(session("x", A, endpoint, 0));
    }
    let conflict = bed.get(&target).await.unwrap_err();
    assert_eq!(conflict.kind, Kind::Conflict);
    bed.lives(session("x", A, "DEFAULT", 10));
    assert_eq!(bed.get(&target).await.unwrap()["endpoint"], "DEFAULT", "one lives");
    bed.lives(session("x", B, "DEFAULT", 10));
    let conflict = bed.get(&target).await.unwrap_err();
    assert_eq!(conflict.kind, Kind::Conflict);
    for runtime in [A, B] {
        let candidate = format!("runtime={runtime}&endpoint=DEFAULT");
        assert!(conflict.message.contains(&candidate), "{conflict}");
        let shown = bed.get(&format!("{target}?{candidate}")).await.unwrap();
        assert!(shown["agentRuntimeArn"].as_str().unwrap().ends_with(runtime));
    }
    let shown = bed.get(&format!("{target}?endpoint=prod")).await.unwrap();
    assert_eq!(shown["state"], "TERMINATED");
}

#[tokio::test(start_paused = true)]
async fn usage_has_days_and_their_sum() {
    let bed = Bed::new().await;
    for (runtime, day, calls) in [(A, "2026-11-01", 1), (B, "2026-11-02", 10), (A, "2026-10-26", 100)] {
        let mut report = session("x", runtime, "DEFAULT", 0).after_calls(calls);
        report.ended_at = Some(format!("{day}T00:00:00Z").parse().unwrap());
        (report.usage.cpu_seconds, report.usage.bytes_out) = (0.5, 7);
        bed.journal.ended(report);
    }
    let usage = bed.get("usage").await.unwrap();
    assert_eq!(
        (&usage["from"], &usage["to"]),
        (&Value::from("2026-10-27"), &Value::from("2026-11-25"))
    );
    assert_eq!(usage["usage"].as_array().unwrap().len(), 2, "30 days: {usage}");
    let total = &usage["total"];
    assert_eq!(
        (
            &total["sessions"],
            &total["requests"],
            &total["cpuSeconds"],
            &total["bytesOut"]
        ),
        (&Value::from(2), &Value::from(11), &Value::from(1.0), &Value::from(14))
    );
    let usage = bed
        .get("usage?runtime=agent&from=2026-10-01&to=2026-11-01")
        .await
        .unwrap();
    assert_eq!(usage["total"]["requests"], 101);
    assert_eq!(usage["usage"][0]["day"], "2026-10-26");
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
