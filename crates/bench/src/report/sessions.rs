//! `docs/benchmarks-sessions.md`: what a session costs.

use super::{machine_lines, megabytes, milliseconds, number, show, verdict};
use crate::machine::Machine;
use crate::measure::sessions::{BURST, Burst, Idle, Memory, Results, Start, Starts};
use crate::stats::{Spread, percentile};
use jiff::Timestamp;
use std::fmt::Write as _;
use std::time::Duration;

const WARM_P50_MS: f64 = 5.0;
const WARM_P95_MS: f64 = 20.0;
const COLD_MS: f64 = 60.0;
const BURST_P95_MS: f64 = 100.0;
const MEMORY_MB: f64 = 3.0;
const IDLE_PERCENT: f64 = 2.0;

/// The whole report.
pub(crate) fn markdown(machine: &Machine, results: &Results) -> String {
    let date = Timestamp::now().strftime("%Y-%m-%d");
    let mut parts = vec![format!(
        "# Benchmarks of sessions\n\nWritten by `cargo xtask bench sessions` on {date}; not edited by hand. Everything is \
         measured in one run, in turns.\nDriver: `{}`. What a request costs is in [benchmarks.md](benchmarks.md).\n",
        results.driver
    )];
    if let Some(why) = &results.no_pool {
        parts.push(format!("**No warm pool was measured**: {why}.\n"));
    }
    if let Err(why) = &results.python {
        parts.push(format!("**No Python agent was measured**: {}.\n", why.trim()));
    }
    parts.extend([
        aims(machine, results),
        format!("{}\n", machine_lines(machine)),
        single(results),
        burst(machine, results),
        idle(&results.idle),
        METHOD.to_owned(),
    ]);
    parts.join("\n")
}

fn all(results: &Results) -> impl Iterator<Item = &Starts> {
    std::iter::once(&results.native).chain(results.python.as_ref().ok())
}

fn aims(machine: &Machine, results: &Results) -> String {
    let mut text = "## Aims\n\n| aim | measured | |\n|---|---|---|\n".to_owned();
    let mut row = |what: &str, limit: f64, unit: &str, digits: usize, measured: Spread| {
        if measured.median.is_nan() {
            return;
        }
        let shown = show(measured, digits);
        let _ = writeln!(
            text,
            "| {what} | {shown} {unit} | {} |",
            verdict(measured.median < limit)
        );
    };
    for starts in all(results) {
        let agent = starts.agent;
        let single = |start, percent| quantile(starts.single.get(&start).map_or(&[], Vec::as_slice), percent);
        row(
            &format!("{agent}: new session from the pool, p50 under 5 ms"),
            WARM_P50_MS,
            "ms",
            2,
            single(Start::Warm, 50),
        );
        row(
            &format!("{agent}: new session from the pool, p95 under 20 ms"),
            WARM_P95_MS,
            "ms",
            2,
            single(Start::Warm, 95),
        );
        let bursts = samples(starts, Start::Warm);
        row(
            &format!("{agent}: {BURST} at once from the pool, p95 under 100 ms"),
            BURST_P95_MS,
            "ms",
            1,
            quantile(&bursts, 95),
        );
    }
    row(
        &format!("{}: cold start, p50 under 60 ms", results.native.agent),
        COLD_MS,
        "ms",
        1,
        quantile(&results.native.single[&Start::Cold], 50),
    );
    if let Ok(python) = &results.python {
        row(
            &format!("{}: cold start, p50 less than 60 ms more than outside", python.agent),
            COLD_MS,
            "ms",
            1,
            added(python),
        );
    }
    row(
        "less than 3 MB for an idle session beyond its agent",
        MEMORY_MB,
        "MB",
        2,
        beyond(&results.idle),
    );
    let share = Spread::of(results.idle.processor.iter().map(|(server, _)| server * 100.0));
    row(
        &format!(
            "{} idle sessions take less than 2 % of one core of the server",
            results.idle.sessions
        ),
        IDLE_PERCENT,
        "%",
        2,
        share,
    );
    let cores = number(machine.cores as u64);
    let rate = Spread::of(cold_bursts(&results.native).iter().map(|burst| rate(burst) / cores));
    let _ = writeln!(
        text,
        "| (no aim) {}: cold starts per second and core | {} | |",
        results.native.agent,
        show(rate, 1)
    );
    text
}

fn single(results: &Results) -> String {
    let mut text =
        "## One at a time\n\nFrom the call of a new session to the first byte of its answer; for a plain process \
                    from its start. In ms.\n\n| | p50 | p95 | p99 | starts |\n|---|---|---|---|---|\n"
            .to_owned();
    for starts in all(results) {
        for (start, blocks) in &starts.single {
            percentiles(&mut text, starts.agent, *start, blocks);
        }
        let _ = writeln!(
            text,
            "| {}, cold, more than outside | {} | | | |",
            starts.agent,
            show(added(starts), 2)
        );
    }
    misses(&mut text, results);
    text
}

fn burst(machine: &Machine, results: &Results) -> String {
    let mut text = format!(
        "## {BURST} at once\n\n{BURST} new sessions begin at the same moment. In ms; client, server and agents share the \
         cores.\n\n| | p50 | p95 | p99 | starts |\n|---|---|---|---|---|\n"
    );
    for starts in all(results) {
        for start in starts.burst.keys() {
            percentiles(&mut text, starts.agent, *start, &samples(starts, *start));
        }
    }
    text.push_str(
        "\nWhat cold starts of a burst cost. CPU in ms for each start: of the server with its launchers, and of the guest; the \
         agent's own is not in it.\n\n| | starts/s | starts/s and core | CPU of server and launcher | CPU of the guest |\n\
         |---|---|---|---|---|\n",
    );
    for starts in all(results) {
        let bursts = cold_bursts(starts);
        let cores = number(machine.cores as u64);
        let over = |of: &dyn Fn(&Burst) -> f64| Spread::of(bursts.iter().map(of));
        let each = number(BURST as u64);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            starts.agent,
            show(over(&rate), 1),
            show(over(&|burst| rate(burst) / cores), 1),
            show(over(&|burst| milliseconds(burst.server) / each), 2),
            show(over(&|burst| milliseconds(burst.guests) / each), 2),
        );
    }
    text
}

fn idle(idle: &Idle) -> String {
    let part = |of: fn(&Memory) -> u64| Spread::of(idle.memory.iter().map(|one| megabytes(of(one))));
    let kernel = if idle.memory.iter().all(|one| one.kernel.is_some()) {
        show(part(|one| one.kernel.unwrap_or_default()), 2)
    } else {
        "not told by this kernel".to_owned()
    };
    let processor = |of: fn(&(f64, f64)) -> f64| {
        let shares = idle.processor.iter().map(of);
        show(Spread::of(shares.map(|share| share * 100.0)), 2)
    };
    format!(
        "## Idle sessions\n\n{} sessions of the sample agent, after {} s without a call; memory in MB for each, CPU in per \
         cent of one core for all together, over {} windows of {} s.\n\n| | |\n|---|---|\n\
         | the agent's own memory | {} |\n\
         | memory of the guest | {} |\n\
         | memory of the kernel for guest and agent | {kernel} |\n\
         | growth of the server's resident memory | {:.3} |\n\
         | beyond the agent: the last three | {} |\n\
         | CPU of the server | {} |\n\
         | CPU of all guests | {} |\n",
        idle.sessions,
        idle.quiet.as_secs(),
        idle.processor.len(),
        idle.window.as_secs(),
        show(part(|one| one.agent), 2),
        show(part(|one| one.guest), 2),
        idle.server / 1e6,
        show(beyond(idle), 2),
        processor(|share| share.0),
        processor(|share| share.1),
    )
}

const METHOD: &str = "\
## Method

Client, servers and agents run on the same machine and speak over the loopback interface. One server keeps 32 sandboxes of
each agent ready (`runtime.session.warm`), another keeps none; both are otherwise as they are by default, but for limits of
rates and of memory that a measurement would run into. The ways to start take turns in blocks (A B C, C B A, …), and nothing
is started before the sessions of the block before have ended and the pool is full again. A percentile is that of all starts
together, as a sample, with the least and the most of the blocks' own in brackets. An agent outside runs on the interpreter and
from the unpacked, compiled files that it has inside, without `/ping` before its first call. PSS is what memory of guest and
agent means: a page that n processes share counts as an n-th. That of the kernel is what the sandbox's control group says.
CPU time is that of whole processes as the kernel counts it. A process that runs has answered `/ping` and no call: that is
what a warm sandbox has to be compared with.
Whether an agent outside listens is found out by trying, up to every half millisecond; 32 that start at once are slowed by
it, so their figures are no measure of what a session adds.
";

fn percentiles(text: &mut String, agent: &str, start: Start, blocks: &[Vec<Duration>]) {
    let what = match start {
        Start::Outside => "a plain process",
        Start::Running => "the first call of a process that runs",
        Start::Cold => "a session, cold",
        Start::Warm => "a session, from the pool",
    };
    let shown = |percent| show(quantile(blocks, percent), 2);
    let count: usize = blocks.iter().map(Vec::len).sum();
    let _ = writeln!(
        text,
        "| {agent}, {what} | {} | {} | {} | {count} in {} blocks |",
        shown(50),
        shown(95),
        shown(99),
        blocks.len()
    );
}

fn misses(text: &mut String, results: &Results) {
    for starts in all(results).filter(|starts| starts.missed > 0.0) {
        let _ = writeln!(
            text,
            "\n{} sessions of the {} that should have come from the pool found it empty.",
            starts.missed, starts.agent
        );
    }
}

/// A percentile of all samples in ms, with the least and the most of the blocks' own.
fn quantile(blocks: &[Vec<Duration>], percent: usize) -> Spread {
    let of = |mut samples: Vec<Duration>| {
        samples.sort_unstable();
        percentile(&samples, percent).map(milliseconds)
    };
    let each = Spread::of(blocks.iter().cloned().filter_map(of));
    Spread {
        median: of(blocks.concat()).unwrap_or(f64::NAN),
        ..each
    }
}

/// What a cold start takes more than one outside, from the medians of each round.
fn added(starts: &Starts) -> Spread {
    let medians = |start| {
        let blocks = starts.single.get(&start).into_iter().flatten();
        blocks.map(|block| quantile(std::slice::from_ref(block), 50).median)
    };
    Spread::of(
        medians(Start::Cold)
            .zip(medians(Start::Outside))
            .map(|(cold, outside)| cold - outside),
    )
}

fn samples(starts: &Starts, start: Start) -> Vec<Vec<Duration>> {
    let bursts = starts.burst.get(&start).into_iter().flatten();
    bursts.map(|burst| burst.samples.clone()).collect()
}

fn cold_bursts(starts: &Starts) -> &[Burst] {
    starts.burst.get(&Start::Cold).map_or(&[], Vec::as_slice)
}

fn rate(burst: &Burst) -> f64 {
    number(burst.samples.len() as u64) / burst.elapsed.as_secs_f64()
}

/// Memory of a session beyond its agent's own, in MB.
fn beyond(idle: &Idle) -> Spread {
    let each = idle
        .memory
        .iter()
        .map(|one| megabytes(one.guest + one.kernel.unwrap_or_default()));
    Spread::of(each.map(|sandbox| sandbox + idle.server / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn starts(agent: &'static str, warm_ms: u64) -> Starts {
        let ms = Duration::from_millis;
        let burst = |each: u64| Burst {
            samples: vec![ms(each); BURST],
            elapsed: ms(each),
            server: ms(64),
            guests: ms(32),
        };
        Starts {
            agent,
            single: BTreeMap::from([
                (Start::Outside, vec![vec![ms(10), ms(12)], vec![ms(11)]]),
                (Start::Cold, vec![vec![ms(30), ms(40)], vec![ms(35)]]),
                (Start::Warm, vec![vec![ms(1), ms(warm_ms)], vec![ms(2)]]),
            ]),
            burst: BTreeMap::from([(Start::Cold, vec![burst(160)]), (Start::Warm, vec![burst(99)])]),
            missed: 1.0,
        }
    }

    fn results(warm_ms: u64) -> Results {
        let memory = Memory {
            agent: 1_000_000,
            guest: 400_000,
            kernel: Some(900_000),
        };
        Results {
            driver: "container".to_owned(),
            native: starts("sample", warm_ms),
            python: Err("pip is missing".to_owned()),
            no_pool: None,
            idle: Idle {
                sessions: 10,
                quiet: Duration::from_secs(1),
                memory: vec![memory, memory],
                server: 100_000.0,
                processor: vec![(0.01, 0.02), (0.012, 0.02)],
                window: Duration::from_secs(1),
            },
        }
    }

    fn machine() -> Machine {
        Machine {
            cores: 2,
            processor: "a processor".to_owned(),
            is_virtual: true,
            has_sha: false,
            kernel: "6.1".to_owned(),
            memory: 8_000_000_000,
            load: "1.00".to_owned(),
        }
    }

    #[test]
    fn the_report_judges_its_aims_and_names_what_is_missing() {
        let text = markdown(&machine(), &results(19));
        for line in [
            "| sample: new session from the pool, p50 under 5 ms | 2.00 (1.00 to 2.00) ms | met |",
            "| sample: new session from the pool, p95 under 20 ms | 19.00 (2.00 to 19.00) ms | met |",
            "| sample: 32 at once from the pool, p95 under 100 ms | 99.0 (99.0 to 99.0) ms | met |",
            "| sample: cold start, p50 under 60 ms | 35.0 (30.0 to 35.0) ms | met |",
            "| less than 3 MB for an idle session beyond its agent | 1.40 (1.40 to 1.40) MB | met |",
            "| 10 idle sessions take less than 2 % of one core of the server | 1.10 (1.00 to 1.20) % | met |",
            "| (no aim) sample: cold starts per second and core | 100.0 (100.0 to 100.0) | |",
            "| sample, cold, more than outside | 22.00 (20.00 to 24.00) | | | |",
            "| sample | 200.0 (200.0 to 200.0) | 100.0 (100.0 to 100.0) | 2.00 (2.00 to 2.00) | 1.00 (1.00 to 1.00) |",
            "**No Python agent was measured**: pip is missing.",
            "1 sessions of the sample that should have come from the pool found it empty.",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("NaN"), "{text}");
        let text = markdown(&machine(), &results(20));
        assert!(
            text.contains("p95 under 20 ms | 20.00 (2.00 to 20.00) ms | **missed** |"),
            "{text}"
        );
    }
}
