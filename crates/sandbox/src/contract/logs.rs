//! What a sandbox's log tells, and that following it holds up nobody.

use super::bench::{Bench, PATIENCE, exited};
use super::cases::wait_for_log;
use crate::{Error, LogLine, Stream};
use std::fs;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

const NO_GRACE: Duration = Duration::ZERO;

pub(super) async fn next(lines: &mut Receiver<LogLine>) -> Option<LogLine> {
    tokio::time::timeout(PATIENCE, lines.recv())
        .await
        .expect("no line and no end")
}

pub(super) async fn all(lines: &mut Receiver<LogLine>) -> Vec<LogLine> {
    let mut found = Vec::new();
    while let Some(line) = next(lines).await {
        found.push(line);
    }
    found
}

pub(super) async fn lines_have_a_time_and_a_stream(bench: &Bench) {
    let before = jiff::Timestamp::now();
    let script = "echo out; echo trouble >&2; printf 'no end'; read x < /dev/zero & exec sleep 1000";
    let sandbox = bench.driver.start(bench.shell(script)).await.unwrap();
    let mut following = sandbox.logs(true).await.unwrap();
    let mut seen = Vec::new();
    // The prompt comes without its end.
    while seen.len() < 3 {
        seen.push(next(&mut following).await.unwrap());
    }
    sandbox.note("resumed\nby somebody").await.unwrap();
    for text in ["resumed", "by somebody"] {
        let line = next(&mut following).await.unwrap();
        assert_eq!((line.stream, line.text.as_str()), (Stream::Eyot, text));
    }
    sandbox.note(&"\u{1}é".repeat(5000)).await.unwrap();
    let long = next(&mut following).await.unwrap().text;
    assert!(long.len() > 2000 && long.starts_with("\u{1}é"), "{}", long.len());
    let now = jiff::Timestamp::now();
    assert!(seen.iter().all(|line| line.at >= before && line.at <= now), "{seen:?}");
    let of = |stream| -> Vec<_> {
        let lines = seen.iter().filter(|line| line.stream == stream);
        lines.map(|line| line.text.as_str()).collect()
    };
    assert_eq!(
        (of(Stream::Stdout), of(Stream::Stderr)),
        (vec!["out", "no end"], vec!["trouble"])
    );
    // The text alone, as it was written.
    let tail = sandbox.log_tail(1000).await.unwrap();
    assert!(
        tail.ends_with("no end") && tail.contains("trouble\n") && !tail.contains("somebody"),
        "{tail}"
    );
    assert_eq!(all(&mut sandbox.logs(false).await.unwrap()).await.len(), 6);
    sandbox.stop(NO_GRACE).await.unwrap();
    assert_eq!(all(&mut following).await, []);
    assert!(matches!(sandbox.logs(true).await, Err(Error::Gone)));
    assert!(matches!(sandbox.note("late").await, Err(Error::Gone)));
}

pub(super) async fn a_log_is_followed_through_rotations_to_its_end(bench: &Bench) {
    let script = "
import sys, time
for n in range(3000):
    print('line', n, file=sys.stderr if n % 3 == 0 else sys.stdout, flush=True)
    if n % 30 == 0: time.sleep(0.01)
";
    let mut spec = bench.python(script);
    spec.limits.log = 16 << 10;
    let sandbox = bench.driver.start(spec).await.unwrap();
    let mut attentive = sandbox.logs(true).await.unwrap();
    // One that never reads, and one that goes away.
    let mut asleep = sandbox.logs(true).await.unwrap();
    drop(sandbox.logs(true).await.unwrap());
    let found = all(&mut attentive).await;
    exited(&*sandbox).await;
    // Each stream in its order; between the two, the order in which the guest read them.
    let of = |stream| -> Vec<usize> {
        let lines = found.iter().filter(|line| line.stream == stream);
        lines
            .map(|line| line.text.strip_prefix("line ").unwrap().parse().unwrap())
            .collect()
    };
    let (out, err) = (of(Stream::Stdout), of(Stream::Stderr));
    assert!(out.iter().all(|number| number % 3 != 0) && err.iter().all(|number| number % 3 == 0));
    assert!(out.is_sorted() && err.is_sorted());
    let missing = found.iter().filter(|line| line.stream == Stream::Eyot);
    assert!(missing.clone().all(|line| line.text.contains("missing")));
    assert!(missing.count() > 0 || out.len() + err.len() == 3000);
    assert_eq!((out.last(), err.last()), (Some(&2999), Some(&2997)));
    assert!(found.len() > 1000, "an attentive reader got {}", found.len());
    assert!(found.is_sorted_by_key(|line| line.at));
    // It wakes up late, and hears how it ended all the same.
    let late = all(&mut asleep).await;
    assert!(late.iter().any(|line| line.text == "line 2999"));
    assert!(late.iter().any(|line| line.text.contains("missing")), "{}", late.len());
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn hostile_output_stays_the_agents_own(bench: &Bench) {
    let script = r"
import os, time
forged = b'1764076654123456 y forged\neyot-log 1 9\n'
os.write(1, forged + b'\0\xff\xfe\r\n' + b'\n' * 3000)
os.write(2, b'x' * 20000 + b'\n' + forged)
for _ in range(2000): os.write(1, bytes(4096))
os.write(1, b'\n' + forged + b'done\n')
time.sleep(1000)
";
    let mut spec = bench.python(script);
    spec.limits.log = 1 << 20;
    let dir = bench.state_dir().join(spec.id.as_str());
    let sandbox = bench.driver.start(spec).await.unwrap();
    let mut following = sandbox.logs(true).await.unwrap();
    let started = Instant::now();
    let mut found = Vec::new();
    while found.last().is_none_or(|line: &LogLine| line.text != "done") {
        found.push(next(&mut following).await.unwrap());
    }
    println!("8 MiB without a newline took {:?}", started.elapsed());
    for line in &found {
        assert!(line.text.len() <= 3 * 8192);
        let missing = line.stream == Stream::Eyot && line.text.contains("missing");
        assert!(line.stream != Stream::Eyot || missing, "{line:?}");
    }
    let since = jiff::Timestamp::from_second(1_764_076_655).unwrap();
    assert!(found.iter().all(|line| line.at > since), "a time was forged");
    assert!(found.iter().any(|line| line.text == "1764076654123456 y forged"));
    let size: u64 = ["agent.log", "agent.log.1"]
        .map(|name| fs::metadata(dir.join(name)).unwrap().len())
        .iter()
        .sum();
    assert!(size <= 1 << 20, "{size}");
    wait_for_log(&*sandbox, "done").await;
    sandbox.stop(NO_GRACE).await.unwrap();
}
