//! What callers of any driver may rely on.

use super::bench::{Bench, PATIENCE, PORT, Which, executable, exited, listening, run};
use crate::{Error, Exit, State};
use domain::id::SandboxId;
use std::fs;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

const NO_GRACE: Duration = Duration::ZERO;

fn code(code: i32) -> Exit {
    Exit {
        code: Some(code),
        signal: None,
        out_of_memory: false,
    }
}

fn killed(signal: i32) -> Exit {
    Exit {
        code: None,
        signal: Some(signal),
        out_of_memory: false,
    }
}

pub(super) async fn listens_and_answers(bench: &Bench) {
    let sandbox = bench.listening(bench.agent()).await;
    assert_eq!(run(&*sandbox, "r = 6 * 7").await.unwrap(), 42);
    assert_eq!(sandbox.labels().get("session").map(String::as_str), Some("s1"));
    run(&*sandbox, "x = bytearray(30 << 20); r = sum(range(3_000_000))")
        .await
        .unwrap();
    let usage = sandbox.usage().await.unwrap();
    assert!(
        usage.cpu > Duration::from_millis(5) && usage.memory > 1 << 20 && usage.memory_peak >= usage.memory,
        "{usage:?}"
    );
    sandbox.stop(Duration::from_secs(5)).await.unwrap();
    assert!(matches!(sandbox.dial(PORT).await, Err(Error::Gone)));
}

pub(super) async fn dials_are_concurrent(bench: &Bench) {
    let echo = "
import os, socket, threading
def serve(c):
    while data := c.recv(65536): c.sendall(data)
    c.close()
s = socket.create_server(('', int(os.environ.get('PORT') or 8080)), backlog=256)
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
";
    let sandbox = bench.listening(bench.python(echo)).await;
    let mut tasks = Vec::new();
    for number in 0u8..32 {
        let sandbox = std::sync::Arc::clone(&sandbox);
        tasks.push(tokio::spawn(async move {
            let mut stream = sandbox.dial(PORT).await.unwrap();
            let bytes = vec![number; 200_000];
            let (mut reading, mut writing) = stream.split();
            let mut back = Vec::new();
            let write = async {
                writing.write_all(&bytes).await.unwrap();
                writing.shutdown().await.unwrap();
            };
            let read = async {
                tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut back)
                    .await
                    .unwrap()
            };
            tokio::join!(write, read);
            assert_eq!(back, bytes);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn reports_how_it_ended(bench: &Bench) {
    for (script, wanted) in [
        ("exit 0", code(0)),
        ("exit 77", code(77)),
        ("kill -9 $$", killed(9)),
        ("kill -6 $$", killed(6)),
    ] {
        let (sandbox, exit) = bench.ended(bench.shell(script)).await;
        assert_eq!(exit, wanted, "{script}");
        assert_eq!(*sandbox.state().borrow(), State::Exited(wanted.clone()));
        assert!(matches!(sandbox.dial(PORT).await, Err(Error::Gone)));
        assert_eq!(sandbox.stop(NO_GRACE).await.unwrap(), wanted);
    }
    // What it wrote is there to say why.
    let (sandbox, exit) = bench.ended(bench.shell("echo out; echo trouble >&2; exit 3")).await;
    assert_eq!(exit, code(3));
    let log = sandbox.log_tail(1000).await.unwrap();
    assert!(log.contains("out\n") && log.contains("trouble\n"), "{log}");
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn a_wrong_port_is_refused_and_the_right_one_named(bench: &Bench) {
    let listen = "
import socket, time
s = socket.create_server(('127.0.0.1', 0))
print('port', s.getsockname()[1], flush=True)
time.sleep(1000)
";
    let sandbox = bench.driver.start(bench.python(listen)).await.unwrap();
    let until = Instant::now() + PATIENCE;
    let ports = loop {
        let ports = sandbox.ports().await.unwrap();
        if !ports.is_empty() {
            break ports;
        }
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    wait_for_log(&*sandbox, "port ").await;
    assert_eq!(format!("port {}\n", ports[0]), sandbox.log_tail(100).await.unwrap());
    assert_eq!(ports.len(), 1);
    assert!(matches!(sandbox.dial(PORT).await, Err(Error::Refused(PORT))));
    assert_eq!(*sandbox.state().borrow(), State::Started);
    drop(sandbox.dial(ports[0]).await.unwrap());
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn keeps_the_end_of_the_log_within_its_bound(bench: &Bench) {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let mut spec = bench.shell(script);
    spec.limits.log = 16 << 10;
    let dir = bench.state_dir().join(spec.id.as_str());
    let (sandbox, exit) = bench.ended(spec).await;
    assert_eq!(exit, code(0));
    let size: u64 = ["agent.log", "agent.log.1"]
        .map(|name| fs::metadata(dir.join(name)).unwrap().len())
        .iter()
        .sum();
    assert!((8 << 10..=16 << 10).contains(&size), "{size}");
    let tail = sandbox.log_tail(1000).await.unwrap();
    assert!(
        tail.len() <= 1000 && tail.starts_with("line ") && tail.ends_with("line 19999\n"),
        "{tail}"
    );
    assert!(sandbox.log_tail(1 << 20).await.unwrap().len() as u64 <= size);
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn a_deaf_agent_is_killed_after_its_grace(bench: &Bench) {
    let script = "trap '' TERM; echo deaf; while :; do sleep 0.05; done";
    let sandbox = bench.driver.start(bench.shell(script)).await.unwrap();
    wait_for_log(&*sandbox, "deaf").await;
    let before = Instant::now();
    let exit = sandbox.stop(Duration::from_millis(300)).await.unwrap();
    let took = before.elapsed();
    assert_eq!(exit, killed(9));
    assert!(took >= Duration::from_millis(300) && took < PATIENCE, "{took:?}");

    let polite = bench
        .driver
        .start(bench.shell("trap 'exit 5' TERM; echo polite; while :; do sleep 0.05; done"));
    let sandbox = polite.await.unwrap();
    wait_for_log(&*sandbox, "polite").await;
    let before = Instant::now();
    assert_eq!(sandbox.stop(PATIENCE).await.unwrap(), code(5));
    assert!(before.elapsed() < PATIENCE, "the whole grace passed");
}

pub(super) async fn descendants_die_with_the_agent(bench: &Bench) {
    let fork = "
import os, signal, time
def daemon():
    if os.fork(): os.wait(); return
    os.setsid()
    if os.fork(): os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for fd in range(3): os.close(fd)
    time.sleep(1000)
for _ in range(5): daemon()
print('forked', flush=True)
";
    // Whether the agent ends by itself or is stopped: `check` finds the orphans by what they have of the sandbox.
    let (sandbox, exit) = bench.ended(bench.python(fork)).await;
    assert_eq!(exit, code(0));
    sandbox.stop(NO_GRACE).await.unwrap();
    bench.assert_nothing_left().await;
    let sandbox = bench
        .driver
        .start(bench.python(&format!("{fork}\ntime.sleep(1000)")))
        .await
        .unwrap();
    wait_for_log(&*sandbox, "forked").await;
    assert_eq!(sandbox.stop(PATIENCE).await.unwrap(), killed(15));
}

pub(super) async fn stop_is_idempotent_and_concurrent(bench: &Bench) {
    let sandbox = bench.driver.start(bench.shell("sleep 1000")).await.unwrap();
    let stops = (0..8).map(|_| {
        let sandbox = std::sync::Arc::clone(&sandbox);
        tokio::spawn(async move { sandbox.stop(Duration::from_secs(5)).await.unwrap() })
    });
    for stop in stops.collect::<Vec<_>>() {
        assert_eq!(stop.await.unwrap(), killed(15));
    }
    assert_eq!(sandbox.stop(NO_GRACE).await.unwrap(), killed(15));
    bench.driver.destroy(sandbox.id()).await.unwrap();
    // A stop whose caller goes away is done all the same.
    let sandbox = bench.driver.start(bench.shell("sleep 1000")).await.unwrap();
    let stop = sandbox.stop(Duration::from_secs(5));
    assert!(tokio::time::timeout(Duration::from_micros(100), stop).await.is_err());
    bench.assert_nothing_left().await;
}

pub(super) async fn a_dropped_start_leaves_nothing(bench: &Bench) {
    for micros in [0, 50, 500, 1000, 2000, 4000, 8000, 12_000, 20_000] {
        let start = bench.driver.start(bench.shell("sleep 1000"));
        if let Ok(started) = tokio::time::timeout(Duration::from_micros(micros), start).await {
            started.unwrap().stop(NO_GRACE).await.unwrap();
        }
        bench.assert_nothing_left().await;
    }
}

pub(super) async fn a_killed_guest_takes_all_with_it(bench: &Bench) {
    let sandbox = bench
        .driver
        .start(bench.shell("sleep 1000 & sleep 1000"))
        .await
        .unwrap();
    let pid = guest_pid(bench, sandbox.id());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(exited(&*sandbox).await, killed(9));
    assert!(matches!(sandbox.dial(PORT).await, Err(Error::Gone)));
    assert_eq!(sandbox.stop(Duration::from_secs(5)).await.unwrap(), killed(9));
}

pub(super) async fn the_environment_is_as_given(bench: &Bench) {
    let mut spec = bench.shell("env; echo HOME is $HOME; test -w \"$HOME\" && test -w \"$TMPDIR\" && pwd");
    spec.env.push(("ODD".into(), "two\nlines = \u{e9}".into()));
    spec.env.push(("EMPTY".into(), String::new()));
    let (sandbox, exit) = bench.ended(spec).await;
    assert_eq!(exit, code(0));
    let log = sandbox.log_tail(4096).await.unwrap();
    for line in ["PATH=/usr/bin:/bin\n", "ODD=two\nlines = \u{e9}\n", "EMPTY=\n"] {
        assert!(log.contains(line), "{log}");
    }
    let mut names: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    names.retain(|name| !matches!(*name, "lines " | "PWD" | "_" | "SHLVL" | "OLDPWD"));
    names.sort_unstable();
    let mut wanted = vec!["EMPTY", "HOME", "ODD", "PATH", "TMPDIR"];
    if bench.which == Which::Process {
        wanted.insert(4, "PORT");
    }
    assert_eq!(names, wanted, "{log}");
    sandbox.stop(NO_GRACE).await.unwrap();
    // A home that was given stays.
    let mut spec = bench.shell("echo $HOME");
    spec.env.push(("HOME".into(), "/given".into()));
    let (sandbox, _) = bench.ended(spec).await;
    assert_eq!(sandbox.log_tail(100).await.unwrap(), "/given\n");
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn the_package_stays_as_it_is(bench: &Bench) {
    let one = bench.listening(bench.agent()).await;
    let two = bench.listening(bench.agent()).await;
    let write = "
open('new.txt', 'w').write('mine')
open('data.txt', 'w').write('changed')
open('/tmp/x' if False else __import__('os').environ['TMPDIR'] + '/x', 'w').write('t')
r = sorted(__import__('os').listdir('.'))
";
    let listing = run(&*one, write).await.unwrap();
    assert_eq!(listing, serde_json::json!(["agent.py", "data.txt", "new.txt"]));
    assert_eq!(run(&*one, "r = open('data.txt').read()").await.unwrap(), "changed");
    // Neither the other sandbox nor the package sees any of it.
    assert_eq!(run(&*two, "r = open('data.txt').read()").await.unwrap(), "as packed");
    assert_eq!(
        run(&*two, "import os; r = os.path.exists('new.txt')").await.unwrap(),
        false
    );
    assert_eq!(
        run(&*two, "import os; r = os.listdir(os.environ['TMPDIR'])")
            .await
            .unwrap(),
        serde_json::json!([])
    );
    assert_eq!(
        fs::read_to_string(bench.package().join("data.txt")).unwrap(),
        "as packed"
    );
    assert!(!bench.package().join("new.txt").exists());
    for sandbox in [one, two] {
        sandbox.stop(NO_GRACE).await.unwrap();
    }
}

pub(super) async fn what_cannot_be_run_is_the_artifacts_fault(bench: &Bench) {
    executable(&bench.package().join("no-interpreter"), "#!/nowhere/python\n");
    executable(&bench.package().join("run"), "#!/bin/sh\necho ran with $1\n");
    fs::write(bench.package().join("plain"), "text").unwrap();
    for (command, said) in [
        ("missing-program", "no such program"),
        ("./missing", "no such program"),
        ("./no-interpreter", "interpreter"),
        ("./plain", "not executable"),
        ("/", "not executable"),
    ] {
        match bench.driver.start(bench.spec(&[command])).await {
            Err(Error::Artifact(text)) => assert!(text.contains(said) && text.contains(command), "{text}"),
            other => panic!("{command}: {other:?}"),
        }
        bench.assert_nothing_left().await;
    }
    assert!(matches!(
        bench.driver.start(bench.spec(&[])).await,
        Err(Error::Artifact(_))
    ));
    // An unpacked package that is not there is not.
    let mut spec = bench.shell("true");
    spec.package = bench.package().join("nowhere");
    assert!(matches!(bench.driver.start(spec.clone()).await, Err(Error::Io { .. })));
    spec.package = bench.package().join("plain");
    assert!(matches!(bench.driver.start(spec).await, Err(Error::Host(_))));
    // A relative program is the package's.
    let (sandbox, exit) = bench.ended(bench.spec(&["./run", "this"])).await;
    assert_eq!(
        (exit, sandbox.log_tail(100).await.unwrap().as_str()),
        (code(0), "ran with this\n")
    );
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn a_leftover_is_found_adopted_and_destroyed(bench: &Bench) {
    let sandbox = bench.listening(bench.agent()).await;
    run(&*sandbox, "import builtins; builtins.kept = 'in memory'")
        .await
        .unwrap();
    assert!(
        bench.driver.list().await.unwrap().is_empty(),
        "one's own is no leftover"
    );
    let id = sandbox.id().clone();
    drop(sandbox);
    let next = bench.restarted();
    let found = next.list().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].id, found[0].alive), (&id, true));
    assert_eq!(found[0].labels.get("session").map(String::as_str), Some("s1"));
    let sandbox = next.adopt(&id).await.unwrap();
    listening(&*sandbox).await;
    assert_eq!(run(&*sandbox, "r = kept").await.unwrap(), "in memory");
    assert!(next.list().await.unwrap().is_empty());
    drop(sandbox);
    let last = bench.restarted();
    last.destroy(&id).await.unwrap();
    last.destroy(&id).await.unwrap();
    assert!(last.list().await.unwrap().is_empty());
    assert!(matches!(last.adopt(&id).await, Err(Error::Gone)));
    // A directory without a record is one of a server that died very early.
    let torn = SandboxId::generate();
    fs::create_dir(bench.state_dir().join(torn.as_str())).unwrap();
    let found = last.list().await.unwrap();
    assert_eq!((found[0].id.as_str(), found[0].alive), (torn.as_str(), false));
    last.destroy(&torn).await.unwrap();
    // A newer server's record names what this one could not find: all of it stays until it can be read again.
    let newer = SandboxId::generate();
    let dir = bench.state_dir().join(newer.as_str());
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("spec.json"), r#"{"version":2}"#).unwrap();
    let found = last.list().await.unwrap();
    assert_eq!((&found[0].id, found[0].alive), (&newer, false));
    for error in [
        last.adopt(&newer).await.unwrap_err(),
        last.destroy(&newer).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("newer eyot"), "{error}");
    }
    assert!(dir.join("spec.json").exists());
    fs::remove_dir_all(dir).unwrap();
}

pub(super) async fn wait_for_log(sandbox: &dyn crate::Sandbox, text: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        // A whole line: some programs write one in pieces.
        let log = sandbox.log_tail(1 << 16).await.unwrap();
        if log.contains(text) && log.ends_with('\n') {
            return;
        }
        assert!(Instant::now() < until, "it never said {text}: {log}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(super) fn guest_pid(bench: &Bench, id: &SandboxId) -> i32 {
    let text = fs::read(bench.state_dir().join(id.as_str()).join("guest.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    i32::try_from(record["pid"].as_i64().unwrap()).unwrap()
}
