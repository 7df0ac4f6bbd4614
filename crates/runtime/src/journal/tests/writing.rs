//! When and how often the journal writes, and what it does when it cannot.

use super::super::pending::MOST_ENDED;
use super::*;
use std::time::Duration;
use storage::sqlite::Store;
use tokio::time::{advance, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn what_is_said_of_the_living_is_written_once_a_second_and_only_the_last_of_it() {
    let bed = Bed::new(10).await;
    for round in 0..90 {
        for name in ["x", "y", "z"] {
            bed.journal.lives(living(name).after_calls(round));
        }
        sleep(10 * MS).await;
    }
    assert_eq!(
        (bed.disk.commits(), bed.count("session-lease")),
        (0, 0),
        "within the second"
    );
    sleep(150 * MS).await;
    assert_eq!((bed.disk.commits(), bed.count("session-lease")), (1, 3));
    let left = bed.journal.left().await.unwrap();
    assert!(left.values().all(|report| report.usage.requests == 89), "{left:?}");
    sleep(10_000 * MS).await;
    assert_eq!(bed.disk.commits(), 0, "nothing new, nothing written");
}

#[tokio::test(start_paused = true)]
async fn ends_are_written_within_a_tenth_of_a_second_many_in_one_commit() {
    let bed = Bed::new(100).await;
    for n in 0..20 {
        bed.journal.lives(living(&format!("s{n}")));
    }
    bed.journal.flush().await;
    bed.disk.commits();
    for n in 0..20 {
        bed.journal.ended(living(&format!("s{n}")).after_calls(2));
        sleep(2 * MS).await;
    }
    assert_eq!(bed.disk.commits(), 0);
    sleep(100 * MS).await;
    assert_eq!(bed.disk.commits(), 1);
    assert_eq!((bed.count("session-lease"), bed.count("session")), (0, 20));
    let totals = bed.totals().await;
    assert_eq!((totals.sessions, totals.requests), (20, 40));
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_everything_that_was_said_and_for_nothing_else() {
    let bed = Bed::new(10).await;
    timeout(MS, bed.journal.flush())
        .await
        .expect("there is nothing to wait for");
    assert_eq!(bed.disk.commits(), 0);
    bed.journal.lives(living("x"));
    bed.journal.ended(living("y"));
    timeout(MS, bed.journal.flush())
        .await
        .expect("at once, not when it is due");
    assert_eq!((bed.count("session-lease"), bed.count("session")), (1, 1));
    bed.disk.is(Mood::Full);
    bed.journal.ended(living("z"));
    assert!(
        timeout(1000 * MS, bed.journal.flush()).await.is_err(),
        "not before it is written"
    );
    bed.disk.is(Mood::Fine);
    bed.journal.flush().await;
    assert_eq!(bed.listed().await, ["z", "y"]);
}

#[tokio::test(start_paused = true)]
async fn more_than_fits_in_one_commit_is_written_in_several() {
    let bed = Bed::new(5000).await;
    for n in 0..1200 {
        bed.journal.lives(living(&format!("l{n}")));
        bed.journal.ended(living(&format!("e{n}")));
    }
    bed.journal.flush().await;
    assert_eq!((bed.count("session-lease"), bed.count("session")), (1200, 1200));
    assert_eq!(bed.disk.commits(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_goes_on_while_its_row_is_written_gets_another() {
    let bed = Bed::new(10).await;
    bed.disk.is(Mood::Full);
    bed.journal.lives(living("x").after_calls(1));
    sleep(1050 * MS).await;
    bed.journal.lives(living("x").after_calls(2));
    bed.disk.is(Mood::Fine);
    bed.journal.flush().await;
    let left = bed.journal.left().await.unwrap();
    assert_eq!(left.into_values().next().unwrap().usage.requests, 2);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let bed = Bed::new(10).await;
    bed.journal.lives(living("x"));
    bed.journal.flush().await;
    bed.disk.is(Mood::Liar);
    bed.journal.ended(living("x").after_calls(3));
    bed.journal.ended(living("y").after_calls(4));
    sleep(150 * MS).await;
    // A third one joins the batch that is tried again.
    bed.journal.ended(living("z").after_calls(5));
    bed.disk.is(Mood::Fine);
    bed.journal.flush().await;
    let totals = bed.totals().await;
    assert_eq!((totals.sessions, totals.requests), (3, 12));
    assert_eq!(bed.listed().await, ["z", "y", "x"]);
    assert_eq!(bed.count("session-lease"), 0);
}

#[tokio::test(start_paused = true)]
async fn another_writer_in_the_way_loses_nothing() {
    let bed = Bed::new(10).await;
    let other = Bed::on(Arc::clone(&bed.memory), 10).await;
    other.journal.ended(living("theirs").after_calls(1));
    other.journal.flush().await;
    bed.journal.ended(living("ours").after_calls(1));
    bed.journal.flush().await;
    assert_eq!(bed.listed().await, ["ours", "theirs"]);
    let totals = bed.totals().await;
    assert_eq!((totals.sessions, totals.requests), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn while_storage_fails_memory_is_bounded_and_the_oldest_go_first() {
    let bed = Bed::new(10_000).await;
    bed.journal.lives(living("first"));
    bed.journal.flush().await;
    bed.disk.is(Mood::Full);
    bed.journal.ended(living("first"));
    for n in 0..MOST_ENDED + 9 {
        bed.journal.ended(living(&format!("s{n}")));
    }
    assert_eq!(bed.metrics.used_and_dropped().1, 10);
    advance(Duration::from_secs(60)).await;
    bed.disk.is(Mood::Fine);
    bed.journal.flush().await;
    assert_eq!(bed.count("session"), MOST_ENDED);
    assert_eq!(bed.totals().await.sessions, MOST_ENDED as u64);
    // The one that had a row is found again by the next process.
    let next = Bed::on(Arc::clone(&bed.memory), 10_000).await;
    let left = next.journal.left().await.unwrap();
    assert_eq!(left.values().map(name).collect::<Vec<_>>(), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_holds_up_nobody_who_looks() {
    let bed = Bed::new(10_000).await;
    bed.journal.lives(living("first").after_calls(1));
    bed.journal.ended(living("kept"));
    bed.journal.flush().await;
    bed.disk.is(Mood::Hung);
    for n in 0..MOST_ENDED + 10 {
        bed.journal.ended(living(&format!("s{n}")));
        if n == 0 {
            // The first of them is in a commit that never answers.
            sleep(200 * MS).await;
        }
    }
    assert_eq!(bed.metrics.used_and_dropped().1, 10);
    assert!(timeout(1000 * MS, bed.journal.flush()).await.is_err());
    let listed = timeout(MS, bed.listed())
        .await
        .expect("reading does not wait for the writer");
    assert_eq!(
        (listed.len(), listed.last().unwrap().as_str()),
        (MOST_ENDED + 1, "kept")
    );
    timeout(2000 * MS, bed.totals())
        .await
        .expect("usage waits a moment and no longer");
}

#[tokio::test(start_paused = true)]
async fn numbers_that_were_never_written_leave_no_old_records() {
    let bed = Bed::new(50).await;
    for n in 0..60 {
        bed.journal.ended(living(&format!("old{n}")));
    }
    bed.journal.flush().await;
    bed.disk.is(Mood::Full);
    for n in 0..MOST_ENDED + 60 {
        bed.journal.ended(living(&format!("s{n}")));
    }
    bed.disk.is(Mood::Fine);
    bed.journal.flush().await;
    sleep(10 * MS).await;
    assert_eq!(bed.count("session"), 50);
    assert_eq!(bed.listed().await[0], format!("s{}", MOST_ENDED + 59));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_history_is_cut_at_the_next_start() {
    let bed = Bed::new(1000).await;
    for n in 0..700 {
        bed.journal.ended(living(&format!("s{n}")));
    }
    bed.journal.flush().await;
    for (history, kept) in [(1000, 700), (300, 300), (1, 1), (0, 1)] {
        let next = Bed::on(Arc::clone(&bed.memory), history).await;
        assert_eq!(next.count("session"), kept);
        assert_eq!(next.listed().await[0], "s699");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_does_not_decide_how_large_a_record_is() {
    let bed = Bed::new(1).await;
    let mut report = living("x");
    report.log_tail = Some("é".repeat(1 << 20) + "the end");
    bed.journal.ended(report);
    let kept = bed.journal.list(&|_| true, None, 1).await.unwrap().reports.remove(0);
    let tail = kept.log_tail.unwrap();
    assert!(tail.len() <= MOST_TEXT && tail.ends_with("éthe end"), "{}", tail.len());
}

#[tokio::test(start_paused = true)]
async fn metrics_grow_while_a_session_lives_and_count_nothing_twice() {
    let bed = Bed::new(10).await;
    bed.journal.lives(living("x").after_calls(3));
    assert_eq!(bed.metrics.used_and_dropped().0, 3);
    bed.journal.lives(living("x").after_calls(5));
    bed.journal.ended(living("y").after_calls(1));
    assert_eq!(bed.metrics.used_and_dropped().0, 6);
    bed.journal.flush().await;
    // The next process counts what comes after the row that it found.
    let next = Bed::on(Arc::clone(&bed.memory), 10).await;
    next.journal.left().await.unwrap();
    next.journal.ended(living("x").after_calls(7));
    assert_eq!(next.metrics.used_and_dropped().0, 2);
    assert_eq!(next.totals().await.requests, 8, "usage has all of it");
}

/// Ten thousand sessions leave the files as large as they were when the history was full.
#[tokio::test]
async fn the_database_does_not_grow_once_the_history_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path().join("state.db")).unwrap());
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let journal = open(store, metrics, 200).await;
    let size = || -> u64 {
        let files = dir.path().read_dir().unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let mut full = 0;
    for round in 0..100 {
        for n in 0..100 {
            let mut report = living(&format!("s{n}"));
            report.log_tail = Some("x".repeat(1000));
            journal.lives(report.clone());
            if n % 10 == 0 {
                journal.flush().await;
            }
            journal.ended(report);
        }
        journal.flush().await;
        if round == 20 {
            full = size();
        }
    }
    let end = size();
    assert!(
        end <= full + full / 10,
        "{full} bytes after 2,100 sessions, {end} after 10,000"
    );
    assert_eq!(
        journal.list(&|_| true, None, usize::MAX).await.unwrap().reports.len(),
        200
    );
}
