//! `docs/benchmarks.md`: what a request costs.

use super::{machine_lines, megabytes, milliseconds, number, show, verdict};
use crate::machine::Machine;
use crate::measure::{Results, Rounds, load, memory};
use crate::request::Way;
use crate::stats::{Block, Spread};
use jiff::Timestamp;
use std::fmt::Write as _;
use std::time::Duration;

const ADDED_AT_P50_MS: f64 = 0.1;
const PROCESSOR_PER_REQUEST_US: f64 = 30.0;
const FIRST_BYTE_MS: f64 = 0.2;
const GROWTH_MB: f64 = 16.0;

/// Below this share of other work the figures are those of a quiet machine.
const QUIET: f64 = 0.05;

/// The whole report.
pub(crate) fn markdown(machine: &Machine, results: &Results) -> String {
    let date = Timestamp::now().strftime("%Y-%m-%d");
    let parts = [
        format!(
            "# Benchmarks\n\nWritten by `cargo xtask bench` on {date}; not edited by hand. Everything is measured in one run, \
             side by side\nwith the same agent (`examples/sample-agent`) called directly. Driver: `{}`. What sessions cost \
             is in\n[benchmarks-sessions.md](benchmarks-sessions.md).\n",
            results.driver
        ),
        aims(results),
        environment(machine, results),
        latency(results),
        throughput(results),
        stream(results),
        bodies(results),
        cold(results),
        METHOD.to_owned(),
    ];
    parts.join("\n")
}

fn aims(results: &Results) -> String {
    let mut text = "## Aims\n\n| aim | measured | |\n|---|---|---|\n".to_owned();
    let mut row = |what: &str, limit: f64, unit: &str, digits: usize, measured: Spread, strict: bool| {
        let met = if strict {
            measured.median < limit
        } else {
            measured.median <= limit
        };
        let _ = writeln!(
            text,
            "| {what} | {} {unit} | {} |",
            show(measured, digits),
            verdict(met)
        );
    };
    let added = added(&results.latency, Way::Boto, |block| block.p50);
    row(
        "less than 0.1 ms added at p50, one connection",
        ADDED_AT_P50_MS,
        "ms",
        3,
        added,
        true,
    );
    for (way, words) in [(Way::Boto, "body hash not sent"), (Way::Declared, "body hash sent")] {
        let what = format!("at most 30 µs of the server's CPU per request, {words}");
        let measured = over(&results.load, way, |block| per_request(block.server, block));
        row(&what, PROCESSOR_PER_REQUEST_US, "µs", 1, measured, false);
    }
    let first = self::added(&results.stream, Way::Boto, |block| block.p50);
    row(
        "first byte of a stream at most 0.2 ms later, p50",
        FIRST_BYTE_MS,
        "ms",
        3,
        first,
        false,
    );
    // A limit of memory must hold each time, so the most counts, not the median.
    let worst = |spread: Spread| Spread {
        median: spread.most,
        ..spread
    };
    let down = worst(over(&results.memory.down, Way::Boto, growth));
    row(
        "less than 16 MB of memory for a response of 100 MB",
        GROWTH_MB,
        "MB",
        1,
        down,
        true,
    );
    for (way, words) in [(Way::Boto, "body hash not sent"), (Way::Declared, "body hash sent")] {
        let what = format!("less than 16 MB of memory for a signed upload of 100 MB, {words}");
        row(
            &what,
            GROWTH_MB,
            "MB",
            1,
            worst(over(&results.memory.up, way, growth)),
            true,
        );
    }
    text
}

fn environment(machine: &Machine, results: &Results) -> String {
    let others = Spread::of(results.load.values().flatten().map(|block| block.others));
    let noise = if others.most < QUIET {
        ""
    } else {
        "; the machine was shared, which makes times longer and less steady"
    };
    format!(
        "{}; share of the CPU that other work took during it: {:.0} % ({:.0} to {:.0}){noise}\n",
        machine_lines(machine),
        others.median * 100.0,
        others.least * 100.0,
        others.most * 100.0,
    )
}

fn latency(results: &Results) -> String {
    let mut text =
        "## Latency, one connection\n\nA small JSON request and its answer, on a kept connection, in ms.\n\n\
                    | | p50 | p99 | samples |\n|---|---|---|---|\n"
            .to_owned();
    timed(&mut text, &results.latency);
    text
}

fn stream(results: &Results) -> String {
    let mut text =
        "## First byte of a stream\n\nUntil the first event of `text/event-stream` is there, in ms; the next \
                    event comes 4 ms later.\n\n| | p50 | p99 | samples |\n|---|---|---|---|\n"
            .to_owned();
    timed(&mut text, &results.stream);
    text
}

/// A row for each way, then one for what each adds.
fn timed(text: &mut String, rounds: &Rounds<Block>) {
    for (way, blocks) in rounds {
        let p50 = over(rounds, *way, |block| milliseconds(block.p50));
        let p99 = over(rounds, *way, |block| milliseconds(block.p99));
        let samples: usize = blocks.iter().map(|block| block.samples).sum();
        let count = blocks.len();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {samples} in {count} blocks |",
            way.name(),
            show(p50, 3),
            show(p99, 3)
        );
    }
    for way in rounds.keys().filter(|way| **way != Way::Direct) {
        let (p50, p99) = (
            added(rounds, *way, |block| block.p50),
            added(rounds, *way, |block| block.p99),
        );
        let _ = writeln!(
            text,
            "| added by {} | {} | {} | |",
            way.name(),
            show(p50, 3),
            show(p99, 3)
        );
    }
}

fn throughput(results: &Results) -> String {
    let rounds = &results.load;
    let rate = |block: &load::Block| number(block.requests) / block.elapsed.as_secs_f64();
    let direct = over(rounds, Way::Direct, rate).median;
    let mut text = format!(
        "## {} connections\n\nSmall JSON requests to one session. Client, server and agent share the machine. CPU in µs for \
         each request.\n\n| | requests/s | of direct | CPU of the server | CPU of the agent | requests |\n|---|---|---|---|---|---|\n",
        load::CONNECTIONS
    );
    for (way, blocks) in rounds {
        let rate = over(rounds, *way, rate);
        let server = over(rounds, *way, |block| per_request(block.server, block));
        let agent = over(rounds, *way, |block| per_request(block.agent, block));
        let server = if *way == Way::Direct {
            "–".to_owned()
        } else {
            show(server, 1)
        };
        let requests: u64 = blocks.iter().map(|block| block.requests).sum();
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {server} | {} | {requests} in {} blocks |",
            way.name(),
            show(rate, 0),
            rate.median / direct,
            show(agent, 1),
            blocks.len()
        );
    }
    text
}

fn bodies(results: &Results) -> String {
    let mut text =
        "## Bodies of 100,000,000 bytes\n\nGrowth of the server's peak resident memory while one passes through.\n\n\
                    | | MB/s | memory, MB |\n|---|---|---|\n"
            .to_owned();
    for (what, rounds) in [
        ("response of unsaid length", &results.memory.down),
        ("upload", &results.memory.up),
    ] {
        for way in rounds.keys() {
            let rate = over(rounds, *way, |passage| {
                megabytes(memory::SIZE as u64) / passage.elapsed.as_secs_f64()
            });
            let grown = if *way == Way::Direct {
                "–".to_owned()
            } else {
                show(over(rounds, *way, growth), 1)
            };
            let _ = writeln!(text, "| {what}, {} | {} | {grown} |", way.name(), show(rate, 0));
        }
    }
    text.push_str(
        "\nAn upload that does not send its hash is kept in a file until the signature is verified; one that does is \
         passed on as it comes.\n",
    );
    text
}

fn cold(results: &Results) -> String {
    let mut text = "## Cold start\n\nFrom nothing to the first answer of a native agent, in ms.\n\n\
                    | | median | starts |\n|---|---|---|\n"
        .to_owned();
    for (way, starts) in &results.cold {
        let what = match way {
            Way::Direct => "a process of the agent".to_owned(),
            Way::Boto | Way::Declared => format!("a session, driver `{}`", results.driver),
        };
        let spread = over(&results.cold, *way, |start| milliseconds(*start));
        let _ = writeln!(text, "| {what} | {} | {} |", show(spread, 1), starts.len());
    }
    text
}

const METHOD: &str = "\
## Method

Client, server and agent run on the same machine and speak over the loopback interface. The client is blocking threads on
plain sockets; requests look like those of boto3, differ from each other, and are signed before the clock starts. Each
measurement runs in blocks that take turns (A B, B A, …). A figure is the median of its blocks with the least and the most
of them in brackets; percentiles within a block are samples, not estimates; what is *added* is the difference of neighbouring
blocks. CPU time is that of whole processes as the kernel counts it, in and below the program; that of the agent includes the
guest above it. Memory is `VmHWM` after a reset. Run `cargo xtask bench` on an idle machine to have your own figures.
";

/// What a way takes more than the direct one, from the difference of each round.
fn added(rounds: &Rounds<Block>, way: Way, of: impl Fn(&Block) -> Duration) -> Spread {
    let blocks = |way| rounds.get(&way).into_iter().flatten();
    let pairs = blocks(way).zip(blocks(Way::Direct));
    Spread::of(pairs.map(|(block, direct)| milliseconds(of(block)) - milliseconds(of(direct))))
}

fn over<T>(rounds: &Rounds<T>, way: Way, of: impl Fn(&T) -> f64) -> Spread {
    Spread::of(rounds.get(&way).into_iter().flatten().map(of))
}

fn per_request(time: Duration, block: &load::Block) -> f64 {
    time.as_secs_f64() * 1e6 / number(block.requests)
}

fn growth(passage: &memory::Passage) -> f64 {
    megabytes(passage.growth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn results(server_us: u64) -> Results {
        let block = |us: u64| Block {
            p50: Duration::from_micros(us),
            p99: Duration::from_micros(us * 2),
            samples: 10,
        };
        let timed = BTreeMap::from([
            (Way::Direct, vec![block(50), block(90), block(60)]),
            (Way::Boto, vec![block(120), block(170), block(130)]),
        ]);
        let load = |server| load::Block {
            requests: 1000,
            elapsed: Duration::from_secs(1),
            server: Duration::from_micros(server * 1000),
            agent: Duration::from_millis(5),
            others: 0.5,
        };
        let passage = |growth| memory::Passage {
            elapsed: Duration::from_millis(500),
            growth,
        };
        let bodies = |growth| {
            BTreeMap::from([
                (Way::Boto, vec![passage(growth), passage(1_000_000)]),
                (Way::Declared, vec![passage(0)]),
            ])
        };
        Results {
            driver: "container".to_owned(),
            latency: timed.clone(),
            load: Way::ALL.iter().map(|way| (*way, vec![load(server_us)])).collect(),
            stream: timed,
            memory: memory::Results {
                down: bodies(15_900_000),
                up: bodies(16_000_000),
            },
            cold: BTreeMap::from([(Way::Boto, vec![Duration::from_millis(12)])]),
        }
    }

    #[test]
    fn aims_are_judged_by_what_was_measured() {
        let check = |server_us, row: &str| {
            let text = aims(&results(server_us));
            assert!(text.lines().any(|line| line == row), "{row}\nis not in\n{text}");
        };
        check(
            30,
            "| at most 30 µs of the server's CPU per request, body hash not sent | 30.0 (30.0 to 30.0) µs | met |",
        );
        check(
            31,
            "| at most 30 µs of the server's CPU per request, body hash sent | 31.0 (31.0 to 31.0) µs | **missed** |",
        );
        check(
            1,
            "| less than 0.1 ms added at p50, one connection | 0.070 (0.070 to 0.080) ms | met |",
        );
        check(
            1,
            "| less than 16 MB of memory for a response of 100 MB | 15.9 (1.0 to 15.9) MB | met |",
        );
        check(
            1,
            "| less than 16 MB of memory for a signed upload of 100 MB, body hash not sent | 16.0 (1.0 to 16.0) MB | **missed** |",
        );
    }

    #[test]
    fn the_report_has_every_part_and_says_that_the_machine_was_shared() {
        let machine = Machine {
            cores: 2,
            processor: "a processor".to_owned(),
            is_virtual: true,
            has_sha: false,
            kernel: "6.1".to_owned(),
            memory: 8_000_000_000,
            load: "1.00".to_owned(),
        };
        let text = markdown(&machine, &results(10));
        for part in [
            "## Aims",
            "## Machine",
            "other work took during it: 50 %",
            "the machine was shared",
            "## 32 connections",
            "## Method",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("NaN"), "{text}");
    }
}
