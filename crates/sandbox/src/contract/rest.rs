//! Pausing and resuming, and what becomes of a sandbox that is paused.

use super::bench::{Bench, PORT, exited, listening, run};
use super::cases::{guest_pid, wait_for_log};
use crate::{Error, Exit, State, Stream};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const NO_GRACE: Duration = Duration::ZERO;

/// Python that counts in the background.
const COUNT: &str = "
import builtins, threading, time
builtins.count = 0
def count():
    while True: builtins.count += 1; time.sleep(0.001)
threading.Thread(target=count, daemon=True).start()
print('counting', flush=True)
";

/// Whether the case can go on; where nothing can be paused, that is said clearly.
async fn can_pause(bench: &Bench) -> bool {
    if bench.driver.abilities().pause {
        return true;
    }
    println!("skipped: sandboxes cannot be paused here");
    let sandbox = bench.driver.start(bench.shell("sleep 1000")).await.unwrap();
    let error = sandbox.pause().await.unwrap_err();
    assert!(
        matches!(&error, Error::Host(text) if text.contains("freezer")),
        "{error}"
    );
    sandbox.resume().await.unwrap();
    sandbox.stop(NO_GRACE).await.unwrap();
    false
}

pub(super) async fn a_paused_sandbox_rests(bench: &Bench) {
    if !can_pause(bench).await {
        return;
    }
    let sandbox = bench.listening(bench.agent()).await;
    run(&*sandbox, COUNT).await.unwrap();
    wait_for_log(&*sandbox, "counting").await;
    let mut open = BufReader::new(sandbox.dial(PORT).await.unwrap());
    let at = Instant::now();
    sandbox.pause().await.unwrap();
    println!("pausing took {:?}", at.elapsed());
    let before = sandbox.usage().await.unwrap();
    assert!(before.memory > 0 && before.memory_peak >= before.memory, "{before:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(sandbox.usage().await.unwrap().cpu, before.cpu);
    // What needs the guest says why not, at once; what does not works.
    let at = Instant::now();
    let error = sandbox.dial(PORT).await.unwrap_err();
    assert!(
        matches!(&error, Error::Host(text) if text.contains("paused")),
        "{error}"
    );
    assert!(sandbox.ports().await.is_err());
    assert!(at.elapsed() < Duration::from_secs(1));
    sandbox.note("said meanwhile").await.unwrap();
    wait_for_log(&*sandbox, "counting").await;
    let mut lines = sandbox.logs(true).await.unwrap();
    assert_eq!(lines.recv().await.unwrap().text, "counting");
    assert_eq!(*sandbox.state().borrow(), State::Listening);
    sandbox.pause().await.unwrap();

    // A connection does not notice, but for the time.
    open.write_all(b"\"r = count\"\n").await.unwrap();
    let at = Instant::now();
    sandbox.resume().await.unwrap();
    println!("resuming took {:?}", at.elapsed());
    let mut answer = String::new();
    open.read_line(&mut answer).await.unwrap();
    println!("answered {:?} after it was resumed", at.elapsed());
    sandbox.resume().await.unwrap();
    let line = lines.recv().await.unwrap();
    assert_eq!((line.stream, line.text.as_str()), (Stream::Eyot, "said meanwhile"));
    let first = run(&*sandbox, "r = count").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(run(&*sandbox, "r = count").await.unwrap().as_u64() > first.as_u64());
    for _ in 0..20 {
        sandbox.pause().await.unwrap();
        sandbox.resume().await.unwrap();
    }
    assert_eq!(run(&*sandbox, "r = 1").await.unwrap(), 1);
    sandbox.stop(NO_GRACE).await.unwrap();
    assert!(matches!(sandbox.pause().await, Err(Error::Gone)));
}

pub(super) async fn a_call_that_meets_a_pause_does_not_hang(bench: &Bench) {
    if !can_pause(bench).await {
        return;
    }
    let sandbox = bench.listening(bench.agent()).await;
    for _ in 0..20 {
        let (dialed, paused) = tokio::join!(sandbox.dial(PORT), sandbox.pause());
        paused.unwrap();
        assert!(!matches!(dialed, Err(Error::Protocol(_) | Error::Gone)), "{dialed:?}");
        sandbox.resume().await.unwrap();
    }
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn a_paused_sandbox_can_be_ended(bench: &Bench) {
    if !can_pause(bench).await {
        return;
    }
    // It has its grace.
    let polite = "trap 'sleep 0.1; exit 5' TERM; echo polite; while :; do sleep 0.05; done";
    let sandbox = bench.driver.start(bench.shell(polite)).await.unwrap();
    wait_for_log(&*sandbox, "polite").await;
    sandbox.pause().await.unwrap();
    assert_eq!(sandbox.stop(Duration::from_secs(10)).await.unwrap().code, Some(5));
    // And none that it was not given.
    let sandbox = bench.listening(bench.agent()).await;
    sandbox.pause().await.unwrap();
    let (stop, pause) = tokio::join!(sandbox.stop(NO_GRACE), sandbox.pause());
    assert!(stop.unwrap().signal.is_some());
    assert!(matches!(pause, Ok(()) | Err(Error::Gone)), "{pause:?}");
    bench.assert_nothing_left().await;
    // A guest that was killed while it was paused.
    let sandbox = bench.listening(bench.agent()).await;
    sandbox.pause().await.unwrap();
    kill(Pid::from_raw(guest_pid(bench, sandbox.id())), Signal::SIGKILL).unwrap();
    let exit = sandbox.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!((exit.signal, exit.out_of_memory), (Some(9), false));
    // A leftover.
    let sandbox = bench.listening(bench.agent()).await;
    sandbox.pause().await.unwrap();
    let id = sandbox.id().clone();
    drop(sandbox);
    let next = bench.restarted();
    assert!(next.list().await.unwrap()[0].alive);
    next.destroy(&id).await.unwrap();
}

pub(super) async fn a_paused_sandbox_is_adopted(bench: &Bench) {
    if !can_pause(bench).await {
        return;
    }
    let sandbox = bench.listening(bench.agent()).await;
    run(&*sandbox, "import builtins; builtins.kept = 'in memory'; print('said')")
        .await
        .unwrap();
    sandbox
        .assign([("assigned".to_owned(), "a".to_owned())].into())
        .await
        .unwrap();
    wait_for_log(&*sandbox, "said").await;
    sandbox.pause().await.unwrap();
    let (id, labels) = (sandbox.id().clone(), sandbox.labels());
    drop(sandbox);
    let next = bench.restarted();
    let sandbox = next.adopt(&id).await.unwrap();
    assert_eq!((sandbox.labels(), sandbox.labels().len()), (labels, 2));
    assert_eq!(*sandbox.state().borrow(), State::Listening);
    assert_eq!(sandbox.log_tail(100).await.unwrap(), "said\n");
    assert!(matches!(sandbox.dial(PORT).await, Err(Error::Host(_))));
    if bench
        .driver
        .probe()
        .await
        .unwrap()
        .walls
        .iter()
        .any(|wall| wall.starts_with("memory limit"))
    {
        assert!(sandbox.usage().await.unwrap().memory > 0);
    }
    sandbox.resume().await.unwrap();
    assert_eq!(run(&*sandbox, "r = kept").await.unwrap(), "in memory");
    // And it can be paused again, and listens on after that.
    sandbox.pause().await.unwrap();
    sandbox.resume().await.unwrap();
    listening(&*sandbox).await;
    let exit = sandbox.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(
        exit,
        Exit {
            code: None,
            signal: Some(15),
            out_of_memory: false
        }
    );
    exited(&*sandbox).await;
}
