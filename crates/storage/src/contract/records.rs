//! The checks for [`Records`].

use super::model::Model;
use crate::records::{Expect, Record, Records, Write};
use crate::{Error, Result};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::runtime::Handle;
use tokio::task::{self, JoinSet};

const KIND: &str = "thing";
/// Keys that begin one another, and the ends of what a character can be.
const KEYS: [&str; 10] = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a\u{10ffff}",
    "ab",
    "b",
    "~",
    "é",
    "\u{10ffff}",
];

type Store = Arc<dyn Records>;

/// What was written is read, in the size and bytes it was written; what was deleted is not.
pub async fn reads_what_was_written(store: Store) {
    assert_eq!(store.get(KIND, "a").await.unwrap(), None);
    assert_eq!(store.commit(Vec::new()).await.unwrap(), Vec::<u64>::new());
    let large = Bytes::from((0..1 << 20).map(|i: u32| i.to_le_bytes()[1]).collect::<Vec<u8>>());
    for value in [Bytes::new(), Bytes::from_static(b"\0\xff{}"), large] {
        let revision = store
            .commit(vec![put("a", Expect::Anything, value.clone())])
            .await
            .unwrap()[0];
        let expected = Record {
            kind: KIND.to_owned(),
            key: "a".to_owned(),
            revision,
            value,
        };
        assert_eq!(store.get(KIND, "a").await.unwrap(), Some(expected));
        assert_eq!(store.get("other", "a").await.unwrap(), None, "kinds are apart");
    }
    assert_eq!(store.commit(vec![delete("a", Expect::Anything)]).await.unwrap(), [0]);
    assert_eq!(store.get(KIND, "a").await.unwrap(), None);
    assert_eq!(
        store.commit(vec![delete("a", Expect::Anything)]).await.unwrap(),
        [0],
        "deleting nothing is fine"
    );
}

/// All the writes or none, and the conflict names the first that did not hold.
pub async fn a_condition_that_does_not_hold_changes_nothing(store: Store) {
    let revision = store.commit(vec![put("a", Expect::Absent, "1")]).await.unwrap()[0];
    for wrong in [
        put("a", Expect::Absent, "2"),
        put("a", Expect::Revision(revision + 1), "2"),
        put("b", Expect::Revision(revision), "2"),
        delete("a", Expect::Absent),
        delete("a", Expect::Revision(0)),
        delete("b", Expect::Revision(u64::MAX)),
    ] {
        let named = wrong.key.clone();
        let writes = vec![
            put("x", Expect::Absent, "x"),
            wrong.clone(),
            delete("a", Expect::Absent),
        ];
        conflicts_on(store.commit(writes).await, &named);
        assert_eq!(store.get(KIND, "x").await.unwrap(), None, "{wrong:?}");
        assert_eq!(
            store.get(KIND, "a").await.unwrap().map(|r| r.revision),
            Some(revision),
            "{wrong:?}"
        );
    }
    store
        .commit(vec![delete("a", Expect::Revision(revision))])
        .await
        .unwrap();
}

/// Two writes to one key within a commit happen one after the other.
pub async fn a_condition_sees_the_writes_before_it(store: Store) {
    let writes = vec![
        put("a", Expect::Absent, "1"),
        delete("a", Expect::Anything),
        put("a", Expect::Absent, "2"),
    ];
    let revisions = store.commit(writes).await.unwrap();
    let record = store.get(KIND, "a").await.unwrap().unwrap();
    assert_eq!(
        (record.revision, record.value.as_ref()),
        (revisions[2], b"2".as_slice())
    );
    let again = vec![
        put("a", Expect::Revision(record.revision), "3"),
        put("a", Expect::Revision(record.revision), "4"),
    ];
    conflicts_on(store.commit(again).await, "a");
}

/// Not after a deletion, not for another key, not after a conflict.
pub async fn revisions_never_come_back(store: Store) {
    let mut newest = 0;
    for round in 0..5 {
        for key in ["a", "b"] {
            let revision = store.commit(vec![put(key, Expect::Absent, "x")]).await.unwrap()[0];
            assert!(revision > newest, "round {round}");
            newest = revision;
        }
        conflicts_on(
            store
                .commit(vec![put("c", Expect::Anything, "x"), put("a", Expect::Absent, "x")])
                .await,
            "a",
        );
        store
            .commit(vec![delete("a", Expect::Anything), delete("b", Expect::Anything)])
            .await
            .unwrap();
    }
}

/// For kinds and for keys, in every call.
pub async fn names_that_are_none_are_refused(store: Store) {
    let longest = "x".repeat(1024);
    store.commit(vec![put(&longest, Expect::Absent, "x")]).await.unwrap();
    assert!(store.get(KIND, &longest).await.unwrap().is_some());
    for bad in ["", "a\0b", &"x".repeat(1025)] {
        let write = |kind: &str, key: &str| Write {
            kind: kind.to_owned(),
            key: key.to_owned(),
            ..put("", Expect::Anything, "")
        };
        refused(store.get(KIND, bad).await, bad);
        refused(store.get(bad, "a").await, bad);
        refused(store.list(bad, "", None, 1).await, bad);
        refused(store.commit(vec![write("ok", "ok"), write(KIND, bad)]).await, bad);
        refused(store.commit(vec![write("ok", "ok"), write(bad, "a")]).await, bad);
        assert_eq!(store.get("ok", "ok").await.unwrap(), None);
    }
}

/// Every page size gives the same whole.
pub async fn lists_page_through_in_order(store: Store) {
    let mut expected: Vec<String> = (0..57).map(|i| format!("k/{i}")).collect();
    expected.sort();
    let writes = expected.iter().rev().map(|key| put(key, Expect::Absent, "x")).collect();
    store.commit(writes).await.unwrap();
    store
        .commit(vec![put("k", Expect::Absent, "x"), put("k0", Expect::Absent, "x")])
        .await
        .unwrap();
    for size in [1, 2, 10, 57, 58, usize::MAX] {
        assert_eq!(pages(&store, "k/", size).await, expected, "pages of {size}");
    }
    assert!(store.list(KIND, "", None, 0).await.unwrap().is_empty());
}

/// Random commits, reads and lists against a map.
pub async fn behaves_like_the_model(store: Store) {
    let mut runner = TestRunner::new(Config::with_cases(48));
    let cases = AtomicU32::new(0);
    let result = task::block_in_place(|| {
        runner.run(&proptest::collection::vec(step(), 1..24), |steps| {
            // A kind of its own makes each case start empty, also when a failing one is tried again to shrink it.
            let kind = format!("case-{}", cases.fetch_add(1, Ordering::Relaxed));
            Handle::current().block_on(follow(&store, &kind, &steps));
            Ok(())
        })
    });
    result.unwrap();
}

/// Compare-and-swap by many at once: every success counts once.
pub async fn increments_by_many_lose_nothing(store: Store) {
    const TASKS: u64 = 8;
    const EACH: u64 = 20;
    store.commit(vec![put("n", Expect::Absent, "0")]).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for _ in 0..EACH {
                loop {
                    let record = store.get(KIND, "n").await.unwrap().unwrap();
                    let next = (number(&record) + 1).to_string();
                    match store
                        .commit(vec![put("n", Expect::Revision(record.revision), next)])
                        .await
                    {
                        Ok(_) => break,
                        Err(Error::Conflict { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(number(&store.get(KIND, "n").await.unwrap().unwrap()), TASKS * EACH);
}

/// A list never shows half a commit.
pub async fn one_list_is_one_moment(store: Store) {
    let both = |left: u64| {
        vec![
            put("l", Expect::Anything, left.to_string()),
            put("r", Expect::Anything, (100 - left).to_string()),
        ]
    };
    store.commit(both(50)).await.unwrap();
    let mover = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for i in 0..200 {
                store.commit(both(i % 101)).await.unwrap();
            }
        })
    };
    while !mover.is_finished() {
        let sum: u64 = store.list(KIND, "", None, 10).await.unwrap().iter().map(number).sum();
        assert_eq!(sum, 100);
    }
    mover.await.unwrap();
}

/// Of commits that wait together, those in conflict fail and the others are made.
pub async fn a_conflict_fails_alone(store: Store) {
    store.commit(vec![put("taken", Expect::Absent, "x")]).await.unwrap();
    let mut tasks = JoinSet::new();
    for i in 0..100 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mine = put(&format!("own/{i:03}"), Expect::Absent, "x");
            let spoiled = i % 3 == 0;
            let writes = if spoiled {
                vec![mine, put("taken", Expect::Absent, "y")]
            } else {
                vec![mine]
            };
            let answer = store.commit(writes).await;
            if spoiled {
                conflicts_on(answer, "taken")
            } else {
                assert_eq!(answer.unwrap().len(), 1)
            }
        });
    }
    tasks.join_all().await;
    let expected: Vec<String> = (0..100).filter(|i| i % 3 != 0).map(|i| format!("own/{i:03}")).collect();
    assert_eq!(pages(&store, "own/", 1000).await, expected);
}

/// Whenever the caller gives up, both halves are there or neither, and the store works on.
pub async fn a_dropped_commit_happens_wholly_or_not(store: Store) {
    let mut tasks = Vec::new();
    for i in 0..100_u32 {
        let store = Arc::clone(&store);
        let halves = vec![
            put(&format!("l/{i:03}"), Expect::Absent, "x"),
            put(&format!("r/{i:03}"), Expect::Absent, "x"),
        ];
        tasks.push(tokio::spawn(async move { store.commit(halves).await }));
        if i % 2 == 0 {
            task::yield_now().await;
        }
        if i % 7 == 0 {
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
    for task in tasks {
        match task.await {
            Ok(answer) => assert_eq!(answer.unwrap().len(), 2),
            Err(cancelled) => assert!(cancelled.is_cancelled()),
        }
    }
    // Commits are made in the order of their calls: after this one, none of those above is still under way.
    store.commit(vec![put("last", Expect::Absent, "x")]).await.unwrap();
    let tails = |keys: Vec<String>| keys.into_iter().map(|key| key[2..].to_owned()).collect::<Vec<_>>();
    assert_eq!(
        tails(pages(&store, "l/", 1000).await),
        tails(pages(&store, "r/", 1000).await)
    );
}

/// What is there all the time is on exactly one page, whatever comes and goes around it.
pub async fn pages_hold_still_under_writes(store: Store) {
    let lasting: Vec<String> = (0..40).map(|i| format!("k/{i:02}")).collect();
    store
        .commit(lasting.iter().map(|key| put(key, Expect::Absent, "x")).collect())
        .await
        .unwrap();
    let churn = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for i in 0..150_u32 {
                let key = format!("k/{:02}-passing", i * 7 % 40);
                store.commit(vec![put(&key, Expect::Anything, "x")]).await.unwrap();
                store.commit(vec![delete(&key, Expect::Anything)]).await.unwrap();
            }
        })
    };
    while !churn.is_finished() {
        let mut seen = pages(&store, "k/", 3).await;
        seen.retain(|key| !key.ends_with("passing"));
        assert_eq!(seen, lasting);
    }
    churn.await.unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(&'static str, Condition, Option<u8>)>),
    Get(&'static str),
    List {
        prefix: &'static str,
        after: Option<&'static str>,
        limit: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    Absent,
    Present,
    Stale,
    Anything,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || proptest::sample::select(&KEYS);
    let prefix = prop_oneof![Just(""), key()];
    let condition = prop_oneof![
        Just(Condition::Absent),
        Just(Condition::Present),
        Just(Condition::Stale),
        Just(Condition::Anything)
    ];
    let write = (key(), condition, proptest::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        3 => proptest::collection::vec(write, 0..4).prop_map(Step::Commit),
        1 => key().prop_map(Step::Get),
        2 => (prefix, proptest::option::of(key()), 0..5_usize)
            .prop_map(|(prefix, after, limit)| Step::List { prefix, after, limit }),
    ]
}

async fn follow(store: &Store, kind: &str, steps: &[Step]) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Commit(changes) => commit_both(store, &mut model, kind, changes).await,
            Step::Get(key) => {
                let expected = model.list(kind, key, None, 1).into_iter().find(|r| r.key == *key);
                assert_eq!(store.get(kind, key).await.unwrap(), expected);
            }
            Step::List { prefix, after, limit } => {
                let listed = store.list(kind, prefix, *after, *limit).await.unwrap();
                assert_eq!(listed, model.list(kind, prefix, *after, *limit), "{step:?}");
            }
        }
    }
    assert_eq!(
        store.list(kind, "", None, 100).await.unwrap(),
        model.list(kind, "", None, 100)
    );
}

async fn commit_both(store: &Store, model: &mut Model, kind: &str, changes: &[(&str, Condition, Option<u8>)]) {
    let write = |(key, condition, value): &(&str, Condition, Option<u8>)| Write {
        kind: kind.to_owned(),
        key: (*key).to_owned(),
        expect: match condition {
            Condition::Absent => Expect::Absent,
            Condition::Present => Expect::Revision(model.revision(key).unwrap_or(u64::MAX)),
            Condition::Stale => Expect::Revision(model.revision(key).unwrap_or(u64::MAX) - 1),
            Condition::Anything => Expect::Anything,
        },
        value: value.map(|byte| Bytes::from(vec![byte])),
    };
    let writes: Vec<Write> = changes.iter().map(write).collect();
    let answer = store.commit(writes.clone()).await;
    match model.refuses(&writes) {
        Some(refused) => conflicts_on(answer, &refused.key),
        None => model.committed(&writes, &answer.unwrap()),
    }
}

/// All the keys with the prefix, page by page.
async fn pages(store: &Store, prefix: &str, size: usize) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let page = store
            .list(KIND, prefix, keys.last().map(String::as_str), size)
            .await
            .unwrap();
        assert!(page.len() <= size);
        if page.is_empty() {
            return keys;
        }
        keys.extend(page.into_iter().map(|record| record.key));
    }
}

fn put(key: &str, expect: Expect, value: impl Into<Bytes>) -> Write {
    Write {
        kind: KIND.to_owned(),
        key: key.to_owned(),
        expect,
        value: Some(value.into()),
    }
}

fn delete(key: &str, expect: Expect) -> Write {
    Write {
        kind: KIND.to_owned(),
        key: key.to_owned(),
        expect,
        value: None,
    }
}

fn number(record: &Record) -> u64 {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

#[track_caller]
fn conflicts_on<T: std::fmt::Debug>(answer: Result<T>, expected: &str) {
    assert!(
        matches!(&answer, Err(Error::Conflict { key, .. }) if key == expected),
        "{answer:?}, not on {expected:?}"
    );
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T>, name: &str) {
    assert!(
        matches!(&answer, Err(Error::BadKey(said, _)) if said == name),
        "{answer:?}"
    );
}
