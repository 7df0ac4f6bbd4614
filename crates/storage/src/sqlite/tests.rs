//! [`Store`] passes the contract; and what only SQLite can get wrong.

use super::*;
use crate::contract::Fresh;
use crate::contract::leases::Nodes;
use crate::leases::RecordLeases;
use crate::records::Expect;
use bytes::Bytes;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

fn fresh() -> Fresh<dyn Records> {
    let dir = tempfile::tempdir().unwrap();
    Fresh::new(Arc::new(Store::open(dir.path().join("eyot.db")).unwrap()), dir)
}

mod contract {
    crate::records_contract!(super::fresh);
}

fn leases() -> Fresh<Nodes> {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Records> = Arc::new(Store::open(dir.path().join("eyot.db")).unwrap());
    let nodes = Nodes::new(move |clock| Arc::new(RecordLeases::new(Arc::clone(&store), clock)));
    Fresh::new(Arc::new(nodes), dir)
}

mod leases_contract {
    crate::leases_contract!(super::leases);
}

fn put(key: &str, value: impl Into<Bytes>) -> Write {
    Write {
        kind: "thing".to_owned(),
        key: key.to_owned(),
        expect: Expect::Anything,
        value: Some(value.into()),
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eyot.db");
    let first = Store::open(&path).unwrap().commit(vec![put("a", "1")]).await.unwrap()[0];
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get("thing", "a").await.unwrap().unwrap().revision, first);
    assert!(store.commit(vec![put("b", "1")]).await.unwrap()[0] > first);
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("eyot.db")).unwrap();
    store.commit(vec![put("a", "1")]).await.unwrap();
    let mut names = Vec::new();
    for file in dir.path().read_dir().unwrap() {
        let file = file.unwrap();
        names.push(file.file_name().into_string().unwrap());
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{names:?}"
        );
    }
    names.sort();
    assert_eq!(names, ["eyot.db", "eyot.db-shm", "eyot.db-wal"]);
}

#[tokio::test]
async fn every_connection_that_writes_syncs_each_commit() {
    let dir = tempfile::tempdir().unwrap();
    let connection = connect(
        &dir.path().join("x.db"),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    );
    let connection = connection.unwrap();
    let pragma = |name| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .unwrap()
    };
    const FULL: i64 = 2;
    assert_eq!(pragma("synchronous"), FULL);
    assert_eq!(pragma("foreign_keys"), 0);
    assert!(pragma("busy_timeout") > 0);
}

#[tokio::test]
async fn reading_only_follows_a_server_and_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eyot.db");
    assert!(
        matches!(Store::open_read_only(&path), Err(Error::Io { .. })),
        "nothing is made"
    );
    assert!(!path.exists());

    let server = Store::open(&path).unwrap();
    let reader = Store::open_read_only(&path).unwrap();
    server.commit(vec![put("a", "1")]).await.unwrap();
    assert_eq!(reader.get("thing", "a").await.unwrap().unwrap().value, "1");
    assert!(matches!(
        reader.commit(vec![put("a", "2")]).await,
        Err(Error::ReadOnly(_))
    ));
    drop((server, reader));
    let reader = Store::open_read_only(&path).unwrap();
    assert_eq!(reader.get("thing", "a").await.unwrap().unwrap().value, "1");
}

#[test]
fn a_file_that_is_no_database_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eyot.db");
    std::fs::write(&path, "dear diary, ".repeat(1000)).unwrap();
    let refused = Store::open(&path).unwrap_err().to_string();
    assert!(
        refused.contains("eyot.db") && refused.contains("not a database"),
        "{refused}"
    );
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("dear diary, dear"));
}

/// Other crates pause the clock in tests of idle timeouts; storage must not make hours pass meanwhile.
#[tokio::test(start_paused = true)]
async fn a_paused_clock_stands_still_while_the_disk_works() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("eyot.db")).unwrap();
    let start = tokio::time::Instant::now();
    let hour = Duration::from_secs(3600);
    for i in 0..20 {
        let key = format!("{i}");
        tokio::time::timeout(hour, store.commit(vec![put(&key, vec![0; 100_000])]))
            .await
            .unwrap()
            .unwrap();
        tokio::time::timeout(hour, store.get("thing", &key))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[test]
fn a_store_survives_the_runtime_that_used_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("eyot.db")).unwrap();
    for i in 0..20 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // Given up at once, so that the runtime goes away with the commit queued, under way or done.
        let _ = runtime.block_on(async {
            tokio::time::timeout(Duration::ZERO, store.commit(vec![put(&format!("{i}"), "x")])).await
        });
        runtime.shutdown_background();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(store.commit(vec![put("last", "x")])).unwrap();
    assert!(runtime.block_on(store.get("thing", "last")).unwrap().is_some());
}

#[tokio::test]
async fn a_commit_too_large_for_the_file_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eyot.db");
    drop(Store::open(&path).unwrap());
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    connection
        .pragma_update_and_check(None, "max_page_count", 100, |_| Ok(()))
        .unwrap();
    let writer = Writer::new(&path, connection);

    // Polled together, so that they wait together and become one group.
    let large = writer.commit(vec![put("large", vec![0; 1 << 20])]);
    let (before, large, after) = tokio::join!(
        writer.commit(vec![put("a", "1")]),
        large,
        writer.commit(vec![put("b", "1")])
    );
    assert!(matches!(&large, Err(Error::Full(said)) if *said == path), "{large:?}");
    assert!(after.unwrap()[0] > before.unwrap()[0]);
    let keys: Vec<String> = Readers::open(&path)
        .unwrap()
        .list("thing".to_owned(), String::new(), None, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|record| record.key)
        .collect();
    assert_eq!(keys, ["a", "b"]);
}
