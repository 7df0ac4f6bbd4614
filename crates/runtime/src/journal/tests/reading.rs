//! What the journal answers.

use super::*;
use domain::id::EndpointName;
use storage::{Expect, Write};

fn ended(name: &str, runtime: &str, endpoint: &str) -> Report {
    let mut report = Report::sample(name, runtime);
    report.endpoint = EndpointName::parse(endpoint).unwrap();
    report
}

#[tokio::test(start_paused = true)]
async fn pages_are_newest_first_and_hold_still_while_sessions_end() {
    for written in [true, false] {
        let bed = Bed::new(100).await;
        if !written {
            bed.disk.is(Mood::Full);
        }
        for n in 0..25 {
            bed.journal.ended(living(&format!("s{n}")));
        }
        if written {
            bed.journal.flush().await;
        }
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = bed.journal.list(&|_| true, after.as_deref(), 4).await.unwrap();
            assert!(page.reports.len() <= 4);
            names.extend(page.reports.iter().map(name));
            bed.journal.ended(living("later"));
            after = page.after;
            if after.is_none() {
                break;
            }
            if names.len() == 8 {
                // What was pending is written between two pages.
                bed.disk.is(Mood::Fine);
                bed.journal.flush().await;
            }
        }
        let expected: Vec<String> = (0..25).rev().map(|n| format!("s{n}")).collect();
        assert_eq!(names, expected, "written: {written}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_fits_few_reads_a_long_history_in_parts() {
    let bed = Bed::new(5000).await;
    for n in 0..4500 {
        bed.journal.ended(living(if n % 1000 == 0 { "rare" } else { "common" }));
        if n % 1000 == 0 {
            bed.journal.flush().await;
        }
    }
    bed.journal.flush().await;
    let (mut found, mut pages, mut after) = (0, 0, None);
    loop {
        let page = bed
            .journal
            .list(&|r| name(r) == "rare", after.as_deref(), 100)
            .await
            .unwrap();
        found += page.reports.len();
        pages += 1;
        after = page.after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (5, 3));
}

#[tokio::test(start_paused = true)]
async fn an_id_finds_the_last_end_of_each_session_of_that_name() {
    let bed = Bed::new(1000).await;
    bed.journal.ended(ended("x", A, "DEFAULT").after_calls(1));
    bed.journal.ended(ended("x", A, "prod").after_calls(2));
    bed.journal.ended(ended("x", B, "DEFAULT").after_calls(3));
    for n in 0..450 {
        bed.journal.ended(ended(&format!("other{n}"), A, "DEFAULT"));
    }
    bed.journal.flush().await;
    bed.journal.ended(ended("x", A, "DEFAULT").after_calls(4));
    let id = SessionId::parse(&format!("{:-<33}", "x")).unwrap();
    let find = async |runtime: Option<&str>, endpoint: Option<&str>, only_one| -> Vec<u64> {
        let fits = |report: &Report| {
            runtime.is_none_or(|runtime| runtime == report.runtime_id())
                && endpoint.is_none_or(|endpoint| endpoint == report.endpoint.as_str())
        };
        let found = bed.journal.find(&id, &fits, only_one).await.unwrap();
        found.iter().map(|report| report.usage.requests).collect()
    };
    assert_eq!(find(None, None, false).await, [4, 3, 2]);
    assert_eq!(find(Some(A), None, false).await, [4, 2]);
    assert_eq!(find(None, Some("prod"), false).await, [2]);
    assert_eq!(find(Some(A), Some("DEFAULT"), false).await, [4]);
    assert_eq!(find(Some(B), Some("prod"), false).await, [0; 0]);
    assert_eq!(find(Some(A), None, true).await, [4]);
}

#[tokio::test(start_paused = true)]
async fn usage_is_by_runtime_and_day_and_not_for_ever() {
    let bed = Bed::new(1000).await;
    for (runtime, day, calls) in [
        (A, "2025-01-01", 1000),
        (A, "2026-11-23", 1),
        (B, "2026-11-24", 10),
        (A, "2026-11-24", 100),
        (A, "2026-11-24", 100),
    ] {
        let mut report = ended("x", runtime, "DEFAULT").after_calls(calls);
        report.ended_at = Some(format!("{day}T23:59:59Z").parse().unwrap());
        bed.journal.ended(report);
    }
    let usage = async |runtime: Option<&str>, from: &str, to: &str| -> Vec<(String, u64, u64)> {
        let days = bed
            .journal
            .usage(
                &|id| runtime.is_none_or(|runtime| runtime == id),
                from.parse().unwrap(),
                to.parse().unwrap(),
            )
            .await
            .unwrap();
        let row = |day: &DayUsage| (day.day.to_string(), day.totals.sessions, day.totals.requests);
        days.iter().map(row).collect()
    };
    let day = |day: &str, sessions, requests| (day.to_owned(), sessions, requests);
    assert_eq!(
        usage(None, "2026-11-23", "2026-11-24").await,
        [
            day("2026-11-23", 1, 1),
            day("2026-11-24", 2, 200),
            day("2026-11-24", 1, 10)
        ]
    );
    assert_eq!(
        usage(Some(B), "2026-01-01", "2026-12-31").await,
        [day("2026-11-24", 1, 10)]
    );
    assert_eq!(usage(None, "2026-11-25", "2026-12-31").await, []);
    // The next day's first end takes away what is older than 400 days.
    assert_eq!(usage(Some(A), "2025-01-01", "2025-01-01").await.len(), 1);
    bed.journal.ended(ended("x", A, "DEFAULT"));
    bed.journal.flush().await;
    assert_eq!(usage(Some(A), "2025-01-01", "2025-01-01").await, []);
    assert_eq!(bed.count("usage"), 4);
}

#[tokio::test(start_paused = true)]
async fn broken_documents_are_passed_over_and_newer_ones_refused() {
    let bed = Bed::new(10).await;
    bed.journal.ended(living("x"));
    bed.journal.lives(living("y"));
    bed.journal.flush().await;
    let put = async |kind: &str, key: &str, value: &'static str| {
        let write = Write {
            kind: kind.to_owned(),
            key: key.to_owned(),
            expect: Expect::Anything,
            value: Some(value.into()),
        };
        bed.memory.commit(vec![write]).await.unwrap();
    };
    put("usage", &format!("2026-11-25/{A}"), "rubbish").await;
    put("session", "18446744073709551000", "rubbish").await;
    put("session-lease", "sandbox0", "{}").await;
    assert_eq!(bed.listed().await, ["x"]);
    assert_eq!(bed.journal.left().await.unwrap().len(), 1);
    bed.journal.ended(living("y").after_calls(1));
    bed.journal.flush().await;
    assert_eq!(bed.totals().await.requests, 1, "sums that cannot be read begin again");
    put("session", "18446744073709551000", r#"{"schema":2,"data":{}}"#).await;
    let refused = bed.journal.list(&|_| true, None, 10).await.unwrap_err();
    assert!(refused.message.contains("newer Eyot"), "{refused}");
}

#[tokio::test]
async fn one_that_keeps_nothing_answers_nothing() {
    let none = Journal::none();
    none.lives(living("x"));
    none.ended(living("x"));
    none.flush().await;
    assert!(none.left().await.unwrap().is_empty());
    assert!(none.list(&|_| true, None, 10).await.unwrap().reports.is_empty());
    assert!(none.usage(&|_| true, Date::MIN, Date::MAX).await.unwrap().is_empty());
}
