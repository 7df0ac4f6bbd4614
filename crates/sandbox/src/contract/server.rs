//! The death of the server, at any moment: real processes that start sandboxes and are killed.

use super::bench::{Bench, PATIENCE, Which, exited, listening, run, spec};
use crate::{Driver, State};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Set in the process that plays the server.
const ROLE: &str = "EYOT_TEST_SERVER";

/// Not a test of its own: what the process runs that a test starts and kills. Starts one agent after the other, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plays_the_server() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let mut words = role.split('\n');
    let mut next = || words.next().unwrap().to_owned();
    let (which, mode, state, package) = (next(), next(), PathBuf::from(next()), PathBuf::from(next()));
    let which = if which == "process" {
        Which::Process
    } else {
        Which::Container
    };
    let driver: Arc<dyn Driver> = super::bench::driver(which, &state).unwrap();
    let python = super::bench::python();
    loop {
        let mut spec = spec(&package, &[&python.program, "-u", "agent.py", "8080"]);
        spec.read_only.clone_from(&python.read_only);
        if mode == "many" {
            spec.command = vec!["/bin/sleep".into(), "1000".into()];
        }
        let sandbox = driver.start(spec).await.unwrap();
        if mode == "one" {
            listening(&*sandbox).await;
            println!("\nstarted {}", sandbox.id());
            std::future::pending::<()>().await;
        }
        std::mem::forget(sandbox);
    }
}

fn server(bench: &Bench, mode: &str) -> std::process::Child {
    let which = if bench.which == Which::Process {
        "process"
    } else {
        "container"
    };
    let role = [
        which,
        mode,
        bench.state_dir().to_str().unwrap(),
        bench.package().to_str().unwrap(),
    ]
    .join("\n");
    Command::new("/proc/self/exe")
        .args(["--exact", "--nocapture", "contract::server::plays_the_server"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(super) async fn a_sandbox_outlives_its_server(bench: &Bench) {
    let mut server = server(bench, "one");
    let id = BufReader::new(server.stdout.take().unwrap())
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("started ").map(str::to_owned))
        .unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let found = bench.driver.list().await.unwrap();
    assert_eq!(
        (found.len(), found[0].id.as_str(), found[0].alive),
        (1, id.as_str(), true)
    );
    let sandbox = bench.driver.adopt(&found[0].id).await.unwrap();
    listening(&*sandbox).await;
    assert_eq!(run(&*sandbox, "r = 1 + 1").await.unwrap(), 2);
    assert!(sandbox.log_tail(100).await.unwrap().is_empty());
    assert_eq!(sandbox.stop(Duration::from_secs(5)).await.unwrap().signal, Some(15));
    assert!(matches!(*sandbox.state().borrow(), State::Exited(_)));
}

pub(super) async fn a_server_killed_at_any_moment_leaves_only_what_can_be_found(bench: &Bench) {
    for round in 0..12 {
        let mut server = server(bench, "many");
        // Spread over the whole of a start, a little later each time.
        tokio::time::sleep(Duration::from_millis(40) + Duration::from_micros(3500 * round)).await;
        server.kill().unwrap();
        server.wait().unwrap();
        let restarted = bench.restarted();
        for found in restarted.list().await.unwrap() {
            if found.alive {
                match restarted.adopt(&found.id).await {
                    Ok(sandbox) => {
                        assert_eq!(*sandbox.state().borrow(), State::Started);
                        sandbox.stop(Duration::from_secs(5)).await.unwrap();
                        exited(&*sandbox).await;
                        continue;
                    }
                    // It was on its way out: started, but never told to run.
                    Err(error) => println!("{error}"),
                }
            }
            restarted.destroy(&found.id).await.unwrap();
        }
        bench.assert_nothing_left().await;
    }
    assert!(
        tokio::time::timeout(PATIENCE, bench.driver.list())
            .await
            .unwrap()
            .unwrap()
            .is_empty()
    );
}
