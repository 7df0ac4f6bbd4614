//! What a sandbox costs, printed for a person: `cargo test -p eyot-sandbox --release measure -- --ignored --nocapture`.

use super::bench::{Bench, PORT, Which, listening};
use super::cases::guest_pid;
use std::fs;
use std::time::{Duration, Instant};

/// Times of starts, dials and stops, and the guest's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn measure() {
    for which in [Which::Process, Which::Container] {
        let bench = Bench::new(which);
        let [mut starts, mut stops, mut dials, mut assigns, mut pauses, mut resumes] = [const { Vec::new() }; 6];
        let can_pause = bench.driver.abilities().pause;
        for _ in 0..40 {
            let spec = bench.shell("sleep 1000");
            let at = Instant::now();
            let sandbox = bench.driver.start(spec).await.unwrap();
            starts.push(at.elapsed());
            let at = Instant::now();
            sandbox
                .assign([("session".to_owned(), "s2".to_owned())].into())
                .await
                .unwrap();
            assigns.push(at.elapsed());
            let at = Instant::now();
            sandbox.stop(Duration::ZERO).await.unwrap();
            stops.push(at.elapsed());
        }
        let at = Instant::now();
        let sandbox = bench.driver.start(bench.agent()).await.unwrap();
        listening(&*sandbox).await;
        println!("{which:?}: a Python agent listens after {:?}", at.elapsed());
        for _ in 0..500 {
            let at = Instant::now();
            drop(sandbox.dial(PORT).await.unwrap());
            dials.push(at.elapsed());
        }
        let pid = guest_pid(&bench, sandbox.id());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for line in status
            .lines()
            .filter(|line| line.starts_with("Rss") || line.starts_with("VmRSS"))
        {
            println!("{which:?}: guest {line}");
        }
        let cpu = || fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        let before = cpu();
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!(
            "{which:?}: idle for 2 s, the guest's CPU time unchanged: {}",
            before == cpu()
        );
        for _ in 0..if can_pause { 100 } else { 0 } {
            let at = Instant::now();
            sandbox.pause().await.unwrap();
            pauses.push(at.elapsed());
            let at = Instant::now();
            sandbox.resume().await.unwrap();
            resumes.push(at.elapsed());
        }
        sandbox.stop(Duration::ZERO).await.unwrap();
        for (name, mut times) in [
            ("start", starts),
            ("assign", assigns),
            ("stop", stops),
            ("dial", dials),
            ("pause", pauses),
            ("resume", resumes),
        ] {
            if times.is_empty() {
                continue;
            }
            times.sort_unstable();
            let [median, p90] = [times[times.len() / 2], times[times.len() * 9 / 10]];
            println!("{which:?}: {name} median {median:?}, 90th percentile {p90:?}");
        }
    }
}
