//! How a sandbox goes on over the life of its server: what it was assigned, adoption, fencing.

use super::bench::{Bench, EPOCH, PATIENCE, PORT, exited, listening, run};
use super::cases::{guest_pid, wait_for_log};
use crate::{Error, State, Stream};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NO_GRACE: Duration = Duration::ZERO;

fn labels(session: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("assigned".to_owned(), session.to_owned())])
}

pub(super) async fn it_is_assigned_once(bench: &Bench) {
    let sandbox = bench.driver.start(bench.shell("sleep 1000")).await.unwrap();
    let id = sandbox.id().clone();
    // Of many at a time one wins, and it is the winner's labels that are kept.
    let tries: Vec<_> = (0..8)
        .map(|number| {
            let sandbox = Arc::clone(&sandbox);
            tokio::spawn(async move { (number, sandbox.assign(labels(&format!("s{number}"))).await) })
        })
        .collect();
    let mut won = Vec::new();
    for attempt in tries {
        match attempt.await.unwrap() {
            (number, Ok(())) => won.push(format!("s{number}")),
            (_, Err(Error::Assigned)) => {}
            (_, Err(other)) => panic!("{other}"),
        }
    }
    assert_eq!(won.len(), 1);
    let mut wanted = labels(&won[0]);
    wanted.insert("session".into(), "s1".into());
    assert_eq!(sandbox.labels(), wanted);
    drop(sandbox);
    // A later server sees them, and does not assign again.
    let next = bench.restarted();
    assert_eq!(next.list().await.unwrap()[0].labels, wanted);
    let sandbox = next.adopt(&id).await.unwrap();
    assert_eq!(sandbox.labels(), wanted);
    assert!(matches!(sandbox.assign(labels("other")).await, Err(Error::Assigned)));
    drop(sandbox);
    // What cannot be read does not pass for unassigned.
    let file = bench.state_dir().join(id.as_str()).join("assigned.json");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let last = bench.restarted();
    let found = last.list().await.unwrap();
    assert_eq!((found[0].alive, found[0].labels.len()), (true, 0));
    let error = last.adopt(&id).await.unwrap_err().to_string();
    assert!(error.contains("cannot be taken over"), "{error}");
    last.destroy(&id).await.unwrap();

    let sandbox = bench.listening(bench.agent()).await;
    let at = Instant::now();
    sandbox.assign(labels("timed")).await.unwrap();
    println!("assign took {:?}", at.elapsed());
    listening(&*sandbox).await;
    let many = (0..65).map(|number| (number.to_string(), String::new())).collect();
    assert!(matches!(sandbox.assign(many).await, Err(Error::Host(_))));
    sandbox.stop(NO_GRACE).await.unwrap();
    assert!(matches!(sandbox.assign(labels("late")).await, Err(Error::Gone)));
}

pub(super) async fn a_server_that_was_succeeded_can_do_nothing(bench: &Bench) {
    let sandbox = bench.listening(bench.agent()).await;
    let id = sandbox.id().clone();
    run(&*sandbox, "print('said')").await.unwrap();
    wait_for_log(&*sandbox, "said").await;
    // Nobody goes back.
    assert!(matches!(
        bench.successor(EPOCH - 1).adopt(&id).await,
        Err(Error::Fenced(EPOCH))
    ));
    assert!(matches!(
        bench.successor(EPOCH - 1).destroy(&id).await,
        Err(Error::Fenced(EPOCH))
    ));
    let next = bench.successor(EPOCH + 1);
    let mine = next.adopt(&id).await.unwrap();
    listening(&*mine).await;
    let fenced = |error: Error| assert!(matches!(error, Error::Fenced(epoch) if epoch == EPOCH + 1), "{error}");
    fenced(sandbox.dial(PORT).await.unwrap_err());
    fenced(sandbox.ports().await.unwrap_err());
    fenced(sandbox.note("mine").await.unwrap_err());
    fenced(sandbox.assign(labels("mine")).await.unwrap_err());
    fenced(sandbox.resume().await.unwrap_err());
    fenced(sandbox.stop(NO_GRACE).await.unwrap_err());
    fenced(bench.driver.destroy(&id).await.unwrap_err());
    if next.abilities().pause {
        fenced(sandbox.pause().await.unwrap_err());
        // Also while the guest cannot say so.
        mine.pause().await.unwrap();
        fenced(sandbox.resume().await.unwrap_err());
        fenced(sandbox.stop(NO_GRACE).await.unwrap_err());
        fenced(bench.restarted().adopt(&id).await.unwrap_err());
        fenced(bench.restarted().destroy(&id).await.unwrap_err());
        mine.resume().await.unwrap();
    }
    assert_eq!(*sandbox.state().borrow(), State::Listening);
    // The sandbox has taken no notice, and the new server can do everything.
    assert_eq!(run(&*mine, "r = 6 * 7").await.unwrap(), 42);
    mine.assign(labels("other")).await.unwrap();
    assert_eq!(mine.labels().len(), 2);
    mine.note("noted").await.unwrap();
    assert_eq!(mine.log_tail(100).await.unwrap(), "said\n");
    assert!(mine.usage().await.unwrap().cpu > Duration::ZERO);
    drop(mine);
    let last = bench.successor(EPOCH + 2);
    let mine = last.adopt(&id).await.unwrap();
    listening(&*mine).await;
    assert_eq!(mine.labels().get("assigned").map(String::as_str), Some("other"));
    assert_eq!(mine.stop(Duration::from_secs(5)).await.unwrap().signal, Some(15));
    // The old one's handle tells the end, too.
    exited(&*sandbox).await;
}

pub(super) async fn an_orphan_ends_by_itself(bench: &Bench) {
    let after = Duration::from_millis(600);
    let mut spec = bench.shell("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done");
    spec.orphan_after = after;
    let sandbox = bench.driver.start(spec).await.unwrap();
    let id = sandbox.id().clone();
    wait_for_log(&*sandbox, "up").await;
    // Not while it is held, and not by a short absence.
    tokio::time::sleep(after * 2).await;
    assert_eq!(*sandbox.state().borrow(), State::Started);
    drop(sandbox);
    tokio::time::sleep(after / 4).await;
    let sandbox = bench.restarted().adopt(&id).await.unwrap();
    tokio::time::sleep(after * 2).await;
    assert_eq!(*sandbox.state().borrow(), State::Started);
    let mut log = sandbox.logs(true).await.unwrap();
    let at = Instant::now();
    drop(sandbox);
    while log.recv().await.is_some() {}
    let next = bench.restarted();
    while next.list().await.unwrap()[0].alive {
        assert!(at.elapsed() < PATIENCE, "it lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(at.elapsed() >= after * 3 / 4, "{:?}", at.elapsed());
    // As by a stop: it had its grace, and how it ended is written down.
    let dir = bench.state_dir().join(id.as_str());
    let exit: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("exit.json")).unwrap()).unwrap();
    assert_eq!(exit["code"], 5);
    assert!(
        fs::read_to_string(dir.join("agent.log"))
            .unwrap()
            .contains(" y no server has held")
    );
    assert!(matches!(next.adopt(&id).await, Err(Error::Gone)));
    next.destroy(&id).await.unwrap();
}

pub(super) async fn a_slow_agent_is_noticed_soon_and_cheaply(bench: &Bench) {
    let slow = "
import os, socket, time
time.sleep(1)
s = socket.create_server(('127.0.0.1', int(os.environ.get('PORT') or 8080)))
print('listens', flush=True)
time.sleep(1000)
";
    let mut delays = Vec::new();
    for _ in 0..3 {
        let sandbox = bench.driver.start(bench.python(slow)).await.unwrap();
        let cpu = || -> u64 {
            let pid = guest_pid(bench, sandbox.id());
            let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
            text.split(' ').next().unwrap().parse().unwrap()
        };
        let before = cpu();
        let mut log = sandbox.logs(true).await.unwrap();
        let mut state = sandbox.state();
        let told = tokio::spawn(async move {
            let _ = state.wait_for(|state| *state == State::Listening).await;
            jiff::Timestamp::now()
        });
        let line = log.recv().await.unwrap();
        assert_eq!((line.stream, line.text.as_str()), (Stream::Stdout, "listens"));
        let delay = told.await.unwrap().duration_since(line.at);
        delays.push((delay, Duration::from_nanos(cpu() - before)));
        sandbox.stop(NO_GRACE).await.unwrap();
    }
    println!("noticed after, and the guest's CPU time: {delays:?}");
    // The best of them: a busy machine delays anything.
    let best = delays.iter().map(|(delay, _)| delay.as_millis()).min().unwrap();
    assert!(best <= 10, "{delays:?}");
}
