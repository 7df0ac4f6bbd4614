//! kill -9 at any moment: what was answered is there, and no user is without its keys or a key without its user.
//!
//! The test starts this test program again as a child, told by an environment variable to play the other part.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use domain::Clock;
use storage::seal::MasterKey;
use storage::sqlite::Store;

use super::{Directory, POLICY, Parts, own};
use crate::names::Holder;

const CHILD: &str = "EYOT_IAM_TEST_CHILD";
const TEST: &str = "directory::tests::crash::changes_survive_kill_9";
const ROUNDS: u64 = 8;
const TASKS: usize = 3;

#[test]
fn changes_survive_kill_9() {
    if let Some(path) = std::env::var_os(CHILD) {
        return change_until_killed(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let answered = run_and_kill(dir.path(), round);
        check(dir.path(), &answered);
    }
}

/// Each task makes a user with a policy and two keys, and deletes it, over and over; it says what it was answered.
fn change_until_killed(path: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let directory = Arc::new(runtime.block_on(open(path)));
    let tasks: Vec<tokio::task::JoinHandle<()>> = (0..TASKS)
        .map(|task| {
            let directory = Arc::clone(&directory);
            runtime.spawn(async move {
                let user = Holder::user(own(), &format!("task{task}"));
                // What the last round left.
                let _ = directory.delete_user(user.clone()).await;
                loop {
                    directory.create_user(user.clone()).await.unwrap();
                    say(&format!("user {task}"));
                    directory
                        .put_policy(user.clone(), "p".to_owned(), POLICY.to_owned())
                        .await
                        .unwrap();
                    let (first, _) = directory.create_key(user.clone()).await.unwrap();
                    say(&format!("key {task} {}", first.access_key_id));
                    let (second, _) = directory.rotate_key(user.clone(), first.access_key_id).await.unwrap();
                    say(&format!("key {task} {}", second.access_key_id));
                    directory.delete_user(user.clone()).await.unwrap();
                    say(&format!("gone {task}"));
                }
            })
        })
        .collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
}

/// Answers the last thing that each task was answered.
fn run_and_kill(path: &Path, round: u64) -> Vec<Option<String>> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(CHILD, path);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap());
    let first = lines
        .find(|line| line.starts_with("did "))
        .expect("the child does at least one thing");
    std::thread::sleep(Duration::from_micros(round * round * 1731 % 60_000));
    child.kill().unwrap();
    let mut answered = vec![None; TASKS];
    for line in std::iter::once(first).chain(lines) {
        // The last line may be cut off by the kill; the `.` says that it is whole.
        if let Some(did) = line.strip_prefix("did ").and_then(|line| line.strip_suffix('.')) {
            let task: usize = did.split(' ').nth(1).unwrap().parse().unwrap();
            answered[task] = Some(did.to_owned());
        }
    }
    child.wait().unwrap();
    answered
}

fn check(path: &Path, answered: &[Option<String>]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // That it opens says that every key has its user and every record is whole.
        let directory = open(path).await;
        for (task, last) in answered.iter().enumerate() {
            let user = directory.user(&Holder::user(own(), &format!("task{task}")));
            let words: Vec<&str> = last.as_deref().unwrap_or_default().split(' ').collect();
            // One more change may be made and not answered.
            match words[..] {
                ["gone", _] => assert!(user.is_err() || user.unwrap().access_keys.is_empty()),
                ["user", _] => assert!(user.unwrap().access_keys.len() <= 1),
                ["key", _, id] => {
                    if let Ok(user) = user {
                        assert_eq!((user.access_keys.len(), user.policies.len()), (1, 1));
                        let now = user.access_keys[0].access_key_id.as_str();
                        assert!(directory.find(now, None).is_ok());
                        assert!(
                            now == id || directory.find(id, None).is_err(),
                            "one key took the other's place"
                        );
                    } else {
                        assert!(directory.find(id, None).is_err(), "a key without its user");
                    }
                }
                _ => {}
            }
        }
    });
}

async fn open(path: &Path) -> Directory {
    let parts = Parts {
        records: Arc::new(Store::open(path.join("state.db")).unwrap()),
        master: Arc::new(MasterKey::load_or_create(&path.join("master.key")).unwrap()),
        account: own(),
        clock: Clock::system(),
    };
    Directory::open(parts).await.unwrap()
}

fn say(what: &str) {
    // One write, so that the lines of several tasks do not mix; a line break first, because libtest has begun a line.
    let line = format!("\ndid {what}.\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
