//! `cargo xtask soak`: the tests of survival at length, with the sample agent, against a release build.
//!
//! The tests are those of `tests/test_survival.py`; what is long about them is in the environment. They listen on loopback
//! only, and what they start is taken down by their fixtures, also when they fail or are interrupted.
//!
//! Invariant: it ends: each part has a deadline, after which it is killed and fails.

use crate::{bench, step, test, workspace};
use anyhow::bail;
use clap::ValueEnum;
use std::process::Command;
use std::time::Duration;

/// What a part may take beyond its time: the start, the last round, and the end.
const MARGIN: Duration = Duration::from_secs(10 * 60);
/// More than a session of a churn takes on a slow machine.
const PER_SESSION: Duration = Duration::from_millis(200);

/// What to do, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Minutes of each part; the churn does its sessions once and goes on until then.
    #[arg(long, default_value_t = 0)]
    minutes: u32,
    /// Sessions that the churn begins and ends.
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// For another order of kills.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this; all three, one after the other, if nothing is named.
    what: Option<What>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Sessions begun and ended; then everything must be as it was.
    Churn,
    /// kill -9 of the server, of agents and of guests, in random order.
    Kill,
    /// SIGTERM and the next process, again and again, under clients that retry.
    Restart,
}

impl What {
    fn test(self) -> &'static str {
        match self {
            Self::Churn => "test_sessions_leave_nothing",
            Self::Kill => "test_kills_in_any_order",
            Self::Restart => "test_restarts_lose_no_session",
        }
    }
}

/// Runs one part, or all; fails at the first that fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let python = step::timed("Python environment", test::environment)?;
    let binary = step::timed("release build", test::build_release)?;
    let agent = step::timed("sample agent", bench::agent)?;
    for what in What::value_variants() {
        if options.what.is_some_and(|only| only != *what) {
            continue;
        }
        let time = Duration::from_secs(u64::from(options.minutes) * 60);
        let churn = if *what == What::Churn {
            PER_SESSION * options.sessions
        } else {
            Duration::ZERO
        };
        let mut pytest = Command::new(&python);
        pytest.current_dir(workspace::root());
        pytest.args(["-m", "pytest", "--color=no", "-q", "-s", "-p", "no:cacheprovider"]);
        pytest.arg(format!("tests/test_survival.py::{}", what.test()));
        pytest
            .env("EYOT_BIN", &binary)
            .env("EYOT_SAMPLE_AGENT", &agent)
            .env("EYOT_SOAK_MINUTES", options.minutes.to_string())
            .env("EYOT_SOAK_SESSIONS", options.sessions.to_string())
            .env("PYTHONUNBUFFERED", "1");
        if let Some(seed) = options.seed {
            pytest.env("EYOT_SOAK_SEED", seed.to_string());
        }
        step::timed(&format!("{what:?}"), || {
            let deadline = time + churn + MARGIN;
            let status = step::follow(&mut pytest, deadline, |line| println!("{line}"))?;
            if !status.success() {
                bail!("{} failed with {status}", what.test());
            }
            Ok(())
        })?;
    }
    Ok(())
}
