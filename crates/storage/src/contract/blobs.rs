//! The checks for [`Blobs`].

use crate::blobs::{Blobs, Stored};
use crate::{Error, Result};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::runtime::Handle;
use tokio::task::{self, JoinSet};

type Store = Arc<dyn Blobs>;

/// Size, bytes and SHA-256, for nothing, a little and several megabytes in uneven pieces.
pub async fn reads_what_was_written(store: Store) {
    assert!(store.open("a").await.unwrap().is_none());
    let empty = put(&store, "a", &[]).await.unwrap();
    assert_eq!(
        empty.sha256,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let abc = put(&store, "bucket/path/of/abc", &[b"a", b"", b"bc"]).await.unwrap();
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
    assert_eq!(abc, Stored { size: 3, sha256 });

    let large: Vec<u8> = (0..5_000_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let pieces: Vec<&[u8]> = large.chunks(77_777).collect();
    let stored = put(&store, "large", &pieces).await.unwrap();
    assert_eq!(stored.size, 5_000_000);
    assert_eq!(read(&store, "large").await, Some(large));
    assert_eq!(read(&store, "a").await, Some(Vec::new()));
}

/// Not while it is written, not when it is dropped half-way.
pub async fn nothing_shows_before_finish(store: Store) {
    put(&store, "a", &[b"old"]).await.unwrap();
    let mut upload = store.upload("a").await.unwrap();
    upload.write(Bytes::from(vec![1; 3_000_000])).await.unwrap();
    let mut other = store.upload("b").await.unwrap();
    other.write(Bytes::from_static(b"never")).await.unwrap();
    assert_eq!(read(&store, "a").await.as_deref(), Some(b"old".as_slice()));
    assert_eq!(store.list("", None, 10).await.unwrap(), ["a"]);
    drop(upload);
    drop(other);
    assert_eq!(read(&store, "a").await.as_deref(), Some(b"old".as_slice()));
    assert!(store.open("b").await.unwrap().is_none());
}

/// Who has opened the old content reads it to its end.
pub async fn replacing_and_deleting_leave_readers_alone(store: Store) {
    put(&store, "a", &[b"one"]).await.unwrap();
    let mut one = store.open("a").await.unwrap().unwrap();
    put(&store, "a", &[b"two!"]).await.unwrap();
    let mut two = store.open("a").await.unwrap().unwrap();
    assert!(store.delete("a").await.unwrap());
    assert!(!store.delete("a").await.unwrap());
    assert!(store.open("a").await.unwrap().is_none());
    let mut text = String::new();
    one.file.read_to_string(&mut text).unwrap();
    two.file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), one.size, two.size), ("onetwo!", 3, 4));
}

/// `a` is no obstacle to `a/b`, whichever comes or goes first; nor are keys that only case tells apart.
pub async fn a_key_may_begin_another(store: Store) {
    let keys = ["a", "a/b", "a/b/c", "A", "a+", "a+/b", "%", "a%2Fb"];
    for round in 0..2 {
        let mut order = keys;
        if round == 1 {
            order.reverse();
        }
        for key in order {
            put(&store, key, &[key.as_bytes()]).await.unwrap();
        }
        for key in order {
            assert_eq!(read(&store, key).await.as_deref(), Some(key.as_bytes()));
            assert!(store.delete(key).await.unwrap(), "{key}");
        }
        assert!(store.list("", None, 10).await.unwrap().is_empty());
    }
}

/// In every call.
pub async fn keys_that_are_none_are_refused(store: Store) {
    let longest = format!("{}/{}", "É".repeat(500), "x".repeat(23));
    put(&store, &longest, &[b"x"]).await.unwrap();
    assert_eq!(store.list("", None, 10).await.unwrap(), [longest]);
    let long = "x".repeat(1025);
    for bad in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/..",
        "a/./b",
        "a\0b",
        long.as_str(),
    ] {
        refused(store.upload(bad).await.map(|_| ()), bad);
        refused(store.open(bad).await.map(|_| ()), bad);
        refused(store.delete(bad).await.map(|_| ()), bad);
    }
}

/// Random uploads, deletions and lists against a map.
pub async fn behaves_like_the_model(store: Store) {
    let mut runner = TestRunner::new(Config::with_cases(32));
    let cases = AtomicU32::new(0);
    let result = task::block_in_place(|| {
        runner.run(&proptest::collection::vec(step(), 1..20), |steps| {
            // A first segment of its own makes each case start empty, also when a failing one is tried again.
            let base = format!("case-{}/", cases.fetch_add(1, Ordering::Relaxed));
            Handle::current().block_on(follow(&store, &base, &steps));
            Ok(())
        })
    });
    result.unwrap();
}

/// Writers to one key do not mix.
pub async fn of_uploads_to_one_key_one_wins_whole(store: Store) {
    let mut tasks = JoinSet::new();
    for i in 0..8_u8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { put(&store, "a/b", &[[i; 50_000].as_slice(); 4]).await.unwrap() });
    }
    let stored = tasks.join_all().await;
    let content = read(&store, "a/b").await.unwrap();
    assert_eq!(content.len(), 200_000);
    assert!(content.iter().all(|byte| *byte == content[0]));
    assert!(stored.iter().all(|stored| stored.size == 200_000));
    assert_eq!(store.list("", None, 10).await.unwrap(), ["a/b"]);
}

/// Tidying up after a deletion never takes the ground from under an upload.
pub async fn deleting_beside_uploading_disturbs_nothing(store: Store) {
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let key = format!("deep/er/folder/{task}");
            for _ in 0..25 {
                put(&store, &key, &[b"x"]).await.unwrap();
                assert!(store.delete(&key).await.unwrap());
            }
            put(&store, &key, &[b"last"]).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(store.list("deep/", None, 10).await.unwrap().len(), 4);
}

#[derive(Debug, Clone)]
enum Step {
    Put(String, u8),
    Delete(String),
    List {
        prefix: String,
        after: Option<String>,
        limit: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    // Few characters, so that keys begin one another; about the slash in the order of bytes.
    let key = || {
        "[aB.!é]{1,2}(/[a!0]{1,2}){0,2}".prop_filter("is a key", |key| {
            key.split('/').all(|segment| segment != "." && segment != "..")
        })
    };
    let prefix = || prop_oneof![Just(String::new()), key(), key().prop_map(|key| key + "/")];
    prop_oneof![
        3 => (key(), any::<u8>()).prop_map(|(key, byte)| Step::Put(key, byte)),
        1 => key().prop_map(Step::Delete),
        2 => (prefix(), proptest::option::of(prefix()), 0..5_usize)
            .prop_map(|(prefix, after, limit)| Step::List { prefix, after, limit }),
    ]
}

async fn follow(store: &Store, base: &str, steps: &[Step]) {
    let mut model: BTreeMap<String, u8> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Put(key, byte) => {
                let key = format!("{base}{key}");
                put(store, &key, &[&[*byte]]).await.unwrap();
                model.insert(key, *byte);
            }
            Step::Delete(key) => {
                let key = format!("{base}{key}");
                assert_eq!(store.delete(&key).await.unwrap(), model.remove(&key).is_some());
                assert!(store.open(&key).await.unwrap().is_none());
            }
            Step::List { prefix, after, limit } => {
                let prefix = format!("{base}{prefix}");
                let after = after.as_ref().map(|after| format!("{base}{after}"));
                let wanted =
                    |key: &&String| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after);
                let expected: Vec<&String> = model.keys().filter(wanted).take(*limit).collect();
                let listed = store.list(&prefix, after.as_deref(), *limit).await.unwrap();
                assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{step:?}");
            }
        }
    }
    for (key, byte) in &model {
        assert_eq!(read(store, key).await, Some(vec![*byte]));
    }
    assert_eq!(
        store.list(base, None, 1000).await.unwrap(),
        model.into_keys().collect::<Vec<_>>()
    );
}

async fn put(store: &Store, key: &str, pieces: &[&[u8]]) -> Result<Stored> {
    let mut upload = store.upload(key).await?;
    for piece in pieces {
        upload.write(Bytes::copy_from_slice(piece)).await?;
    }
    upload.finish().await
}

async fn read(store: &Store, key: &str) -> Option<Vec<u8>> {
    let mut blob = store.open(key).await.unwrap()?;
    let mut content = Vec::new();
    blob.file.read_to_end(&mut content).unwrap();
    assert_eq!(blob.size, content.len() as u64);
    Some(content)
}

#[track_caller]
fn refused(answer: Result<()>, key: &str) {
    assert!(
        matches!(&answer, Err(Error::BadKey(said, _)) if said == key),
        "{key:?}: {answer:?}"
    );
}
