//! Logs.

use super::*;
use sandbox::Stream;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A log of one living session: what is kept, and a way to write more.
async fn log(bed: &Bed, kept: usize) -> mpsc::Sender<(LogLine, Option<Uuid>)> {
    let (sender, receiver) = mpsc::channel(1000);
    for n in 0..kept {
        sender.send((line(&format!("kept {n}"), -60), None)).await.unwrap();
    }
    bed.lives(session("x", A, "DEFAULT", 0));
    *bed.fake.log.lock().unwrap() = Some(receiver);
    sender
}

fn line(text: &str, seconds: i64) -> LogLine {
    let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
    LogLine {
        at: now + SignedDuration::from_secs(seconds),
        stream: Stream::Stdout,
        text: text.to_owned(),
    }
}

/// The next line, if one comes within a second.
async fn next(reply: &mut OwnReply) -> Option<Value> {
    let frame = timeout(Duration::from_secs(1), reply.body.frame())
        .await
        .expect("a line or the end")?;
    let bytes = frame.unwrap().into_data().unwrap();
    assert_eq!(bytes.last(), Some(&b'\n'));
    Some(serde_json::from_slice(&bytes).unwrap())
}

async fn texts(reply: &mut OwnReply) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(line) = next(reply).await {
        all.push(line["text"].as_str().unwrap().to_owned());
    }
    all
}

async fn open(bed: &Bed, query: &str) -> OwnReply {
    let reply = bed
        .reply(Method::GET, &format!("sessions/{}/logs{query}", id("x")))
        .await
        .unwrap();
    assert_eq!(reply.headers[CONTENT_TYPE], "application/x-ndjson");
    reply
}

#[tokio::test(start_paused = true)]
async fn lines_come_as_they_are_written_until_the_session_ends() {
    let bed = Bed::new().await;
    let sender = log(&bed, 1).await;
    let mut reply = open(&bed, "?follow=true").await;
    assert_eq!(next(&mut reply).await.unwrap()["text"], "kept 0");
    sleep(Duration::from_secs(100)).await;
    let request = Uuid::from_u128(7);
    let mut written = line("é\n\"new\"", 100);
    written.stream = Stream::Stderr;
    sender.send((written, Some(request))).await.unwrap();
    let shown = next(&mut reply).await.unwrap();
    assert_eq!(
        shown,
        serde_json::json!({
            "time": "2026-11-25T12:01:40Z", "stream": "stderr", "requestId": request.to_string(), "text": "é\n\"new\""
        })
    );
    drop(sender);
    assert_eq!(next(&mut reply).await, None);
    assert_eq!(*bed.fake.followed.lock().unwrap(), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_tail_is_the_end_of_what_is_kept_and_then_everything() {
    for (tail, kept) in [
        (0, &[][..]),
        (2, &["kept 8", "kept 9"]),
        (10, &["kept 0"]),
        (99, &["kept 0"]),
    ] {
        let bed = Bed::new().await;
        let sender = log(&bed, 10).await;
        let mut reply = open(&bed, &format!("?follow=true&tail={tail}")).await;
        let mut expected: Vec<String> = kept.iter().map(|text| (*text).to_owned()).collect();
        if tail >= 10 {
            expected = (0..10).map(|n| format!("kept {n}")).collect();
        }
        let writer = tokio::spawn(async move {
            sleep(Duration::from_millis(900)).await;
            for n in 0..50 {
                sender.send((line(&format!("new {n}"), 1), None)).await.unwrap();
            }
        });
        expected.extend((0..50).map(|n| format!("new {n}")));
        assert_eq!(texts(&mut reply).await, expected, "tail={tail}");
        writer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_pauses_does_not_hold_the_tail_back() {
    let bed = Bed::new().await;
    let sender = log(&bed, 10).await;
    let writer = tokio::spawn(async move {
        // Faster than the pause that would say that what is kept has been read.
        for n in 0.. {
            if sender.send((line(&format!("new {n}"), 1), None)).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    let mut reply = open(&bed, "?follow=true&tail=1").await;
    for expected in ["kept 9", "new 0", "new 1"] {
        assert_eq!(next(&mut reply).await.unwrap()["text"], expected);
    }
    drop(reply);
    timeout(Duration::from_secs(1), writer)
        .await
        .expect("a reader that leaves ends the reading")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_follow_it_ends_with_what_is_kept() {
    let bed = Bed::new().await;
    drop(log(&bed, 5).await);
    assert_eq!(texts(&mut open(&bed, "?tail=2").await).await, ["kept 3", "kept 4"]);
    assert_eq!(*bed.fake.followed.lock().unwrap(), [false]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_says_so_and_ends_the_answer() {
    let bed = Bed::new().await;
    let _sender = log(&bed, 1).await;
    let mut reply = open(&bed, "?follow=true&tail=5").await;
    assert_eq!(next(&mut reply).await.unwrap()["text"], "kept 0");
    bed.closing.cancel();
    let last = next(&mut reply).await.unwrap();
    assert_eq!(last["stream"], "eyot");
    assert_eq!(next(&mut reply).await, None);
}

#[tokio::test(start_paused = true)]
async fn of_an_ended_session_there_is_what_it_left() {
    let bed = Bed::new().await;
    let missing = bed.reply(Method::GET, &format!("sessions/{}/logs", id("x"))).await;
    assert_eq!(missing.unwrap_err().kind, Kind::NotFound);
    let mut report = session("x", A, "DEFAULT", 0);
    report.log_tail = Some("one\ntwo\nthree\n".to_owned());
    report.reason = "agent_exited".to_owned();
    bed.journal.ended(report);
    let mut reply = open(&bed, "?follow=true&tail=2").await;
    assert_eq!(next(&mut reply).await.unwrap(), serde_json::json!({"text": "two"}));
    assert_eq!(next(&mut reply).await.unwrap()["text"], "three");
    let last = next(&mut reply).await.unwrap();
    assert_eq!(
        (&last["stream"], &last["text"]),
        (
            &Value::from("eyot"),
            &Value::from("the session has ended: agent_exited")
        )
    );
    assert_eq!(next(&mut reply).await, None);
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_while_it_is_asked_for_is_shown_as_ended() {
    let bed = Bed::new().await;
    // It is among the living, and its log is gone already.
    bed.lives(session("x", A, "DEFAULT", 0));
    bed.journal.ended(session("x", A, "DEFAULT", 0));
    assert_eq!(texts(&mut open(&bed, "?follow=true").await).await.len(), 1);
}
