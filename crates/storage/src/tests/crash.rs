//! kill -9 at any moment: what was answered is there, and nothing is half there.

use super::{play, put, told};
use crate::Error;
use crate::blobs::Blobs;
use crate::files::FileBlobs;
use crate::lock::DataDir;
use crate::records::Records;
use crate::sqlite::Store;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: u64 = 12;
const TASKS: usize = 4;

#[test]
fn records_survive_kill_9() {
    if let Some(path) = told() {
        return commit_until_killed(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eyot.db");
    for round in 0..ROUNDS {
        let answered = run_and_kill("tests::crash::records_survive_kill_9", &path, round);
        // Reading only comes first: `eyot env` must work on what a crash left, before any server has.
        check_records(&Store::open_read_only(&path).unwrap(), &answered);
        check_records(&Store::open(&path).unwrap(), &answered);
    }
}

#[test]
fn blobs_survive_kill_9() {
    if let Some(path) = told() {
        return upload_until_killed(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let answered = run_and_kill("tests::crash::blobs_survive_kill_9", dir.path(), round);
        let blobs = FileBlobs::open(dir.path()).unwrap();
        assert_eq!(dir.path().join("temporary").read_dir().unwrap().count(), 0);
        check_blobs(&blobs, &answered);
    }
}

/// Not even to the programs that the server started, which may outlive it.
#[test]
fn a_lock_ends_with_its_holder() {
    if let Some(dir) = told() {
        let _guard = DataDir::acquire(Path::new(&dir)).unwrap();
        let mut program = Command::new("sleep").arg("30").stdout(Stdio::null()).spawn().unwrap();
        // libtest has begun a line of its own.
        println!("\npid {}.", program.id());
        program.wait().unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    play(&mut command, "tests::crash::a_lock_ends_with_its_holder", dir.path());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap());
    let program = lines
        .find_map(|line| Some(line.strip_prefix("pid ")?.strip_suffix('.')?.to_owned()))
        .unwrap();

    let refused = DataDir::acquire(dir.path()).unwrap_err();
    assert!(
        matches!(refused, Error::InUse { pid: Some(pid), .. } if pid == child.id()),
        "{refused}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        Path::new("/proc").join(&program).exists(),
        "the program outlives the server"
    );
    let acquired = DataDir::acquire(dir.path());
    assert!(Command::new("kill").arg(&program).status().unwrap().success());
    acquired.unwrap();
}

/// Lets the child work for a moment and kills it; answers the last number that each of its tasks had an answer for.
fn run_and_kill(test: &str, path: &Path, round: u64) -> BTreeMap<usize, u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    play(&mut command, test, path);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap());
    let first = lines
        .find(|line| line.starts_with("done "))
        .expect("the child does at least one thing");
    // Moments differ from round to round; the work has no fixed rhythm either.
    std::thread::sleep(Duration::from_micros(round * round * 731 % 40_000));
    child.kill().unwrap();
    let mut answered = BTreeMap::new();
    for line in std::iter::once(first).chain(lines) {
        // The last line may be cut off by the kill; the `.` says that it is whole.
        let Some(whole) = line.strip_prefix("done ").and_then(|line| line.strip_suffix('.')) else {
            continue;
        };
        let (task, number) = whole.split_once(' ').unwrap();
        answered.insert(task.parse().unwrap(), number.parse().unwrap());
    }
    child.wait().unwrap();
    answered
}

fn say_done(task: usize, number: u64) {
    // One write, so that the lines of several tasks do not mix; a line break first, because libtest has begun a line.
    let line = format!("\ndone {task} {number}.\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

/// Each task counts up two records that must always be equal.
fn commit_until_killed(path: &Path) {
    let store = Arc::new(Store::open(path).unwrap());
    in_tasks(move |task| {
        let store = Arc::clone(&store);
        async move {
            let (left, right) = (format!("l/{task}"), format!("r/{task}"));
            let mut number = read_number(&store, &left).await;
            loop {
                number += 1;
                // Of a size that crosses pages, so that half a commit would show.
                let value = format!("{number} {}", "x".repeat(6000));
                store
                    .commit(vec![put(&left, value.clone()), put(&right, value)])
                    .await
                    .unwrap();
                say_done(task, number);
            }
        }
    });
}

/// Each task uploads blobs that say in their content what they are.
fn upload_until_killed(path: &Path) {
    let blobs = Arc::new(FileBlobs::open(path).unwrap());
    in_tasks(move |task| {
        let blobs = Arc::clone(&blobs);
        async move {
            let mut number = blobs.list(&format!("{task}/"), None, 10_000).await.unwrap().len() as u64;
            loop {
                number += 1;
                let key = blob_key(task, number);
                let mut upload = blobs.upload(&key).await.unwrap();
                for _ in 0..4 {
                    upload.write(blob_piece(&key)).await.unwrap();
                }
                upload.finish().await.unwrap();
                say_done(task, number);
            }
        }
    });
}

fn in_tasks<F: Future<Output = ()> + Send + 'static>(work: impl Fn(usize) -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tasks: Vec<_> = (0..TASKS).map(|task| runtime.spawn(work(task))).collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
}

fn check_records(store: &Store, answered: &BTreeMap<usize, u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for task in 0..TASKS {
        let left = runtime.block_on(read_number(store, &format!("l/{task}")));
        let right = runtime.block_on(read_number(store, &format!("r/{task}")));
        assert_eq!(left, right, "both halves of each commit, or neither");
        // One commit may be made and not yet answered.
        let last = answered.get(&task).copied().unwrap_or(0);
        assert!(
            left >= last && (last == 0 || left <= last + 1),
            "task {task}: {left} stored, {last} answered"
        );
    }
}

fn check_blobs(blobs: &FileBlobs, answered: &BTreeMap<usize, u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for task in 0..TASKS {
        let keys = runtime.block_on(blobs.list(&format!("{task}/"), None, 10_000)).unwrap();
        let expected: Vec<String> = (1..=keys.len() as u64).map(|number| blob_key(task, number)).collect();
        assert_eq!(keys, expected, "no hole and no stranger");
        assert!(keys.len() as u64 >= answered.get(&task).copied().unwrap_or(0));
        for key in keys {
            let mut content = Vec::new();
            runtime
                .block_on(blobs.open(&key))
                .unwrap()
                .unwrap()
                .file
                .read_to_end(&mut content)
                .unwrap();
            assert!(content == blob_piece(&key).repeat(4), "{key} is whole");
        }
    }
}

async fn read_number(store: &Store, key: &str) -> u64 {
    let Some(record) = store.get("thing", key).await.unwrap() else {
        return 0;
    };
    let text = std::str::from_utf8(&record.value).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn blob_key(task: usize, number: u64) -> String {
    format!("{task}/{number:08}")
}

fn blob_piece(key: &str) -> Bytes {
    Bytes::from(key.repeat(5000))
}
