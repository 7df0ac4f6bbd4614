//! The Rust half: `cargo test`, read line by line.
//!
//! libtest cannot skip a test at run time, so a test that cannot run on this host prints `SKIPPED <name>: <reason>` and
//! returns; it is counted as skipped here, not as passed. `--show-output` lets such a line through.

use super::DEADLINE;
use super::tally::Tally;
use crate::{step, workspace};
use std::path::Path;

/// Runs all tests of the workspace.
pub(crate) fn run(binary: &Path, filters: &[String]) -> Tally {
    let mut cargo = workspace::cargo();
    cargo.args([
        "test",
        "--workspace",
        "--locked",
        "--no-fail-fast",
        "--",
        "--show-output",
    ]);
    cargo.args(filters).env("EYOT_BIN", binary);
    let mut reader = Reader::default();
    let done = step::follow(&mut cargo, DEADLINE, |line| {
        if reader.read(line) {
            println!("{line}");
        }
    });
    let mut tally = reader.sum();
    match done {
        Err(error) => tally.trouble(format!("{error:#}")),
        Ok(status) if !status.success() && tally.failed == 0 => {
            tally.trouble(format!("cargo test broke off with {status}; its last lines say why"));
        }
        Ok(_) => {}
    }
    tally
}

/// Follows the output of `cargo test`.
#[derive(Debug, Default)]
struct Reader {
    tally: Tally,
    /// Tests that skipped themselves, which libtest counts as passed.
    skips: u64,
    /// Within the output of tests that passed, which nobody wants to read.
    quiet: bool,
}

impl Reader {
    /// Takes a line in; answers whether it is worth showing.
    fn read(&mut self, line: &str) -> bool {
        if line == "successes:" {
            self.quiet = true;
        } else if line == "failures:" {
            self.quiet = false;
        } else if let Some(skipped) = line.strip_prefix("SKIPPED ") {
            self.tally.skipped.push(skipped.to_owned());
            self.skips += 1;
            return true;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.quiet = false;
            self.count(result);
        } else if let Some(ignored) = ignored(line) {
            self.tally.skipped.push(ignored);
        }
        !self.quiet && !line.is_empty()
    }

    fn sum(mut self) -> Tally {
        self.tally.passed = self.tally.passed.saturating_sub(self.skips);
        self.tally
    }

    /// `ok. 57 passed; 0 failed; 1 ignored; …`; the ignored ones have been named before.
    fn count(&mut self, result: &str) {
        let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let [number, what] = pair else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match *what {
                "passed" => self.tally.passed += number,
                "failed" => self.tally.failed += number,
                _ => {}
            }
        }
    }
}

/// `test name ... ignored` or `test name ... ignored, reason`.
fn ignored(line: &str) -> Option<String> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ignored")?;
    let reason = outcome.strip_prefix(", ").unwrap_or("marked #[ignore]");
    Some(format!("{name}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 4 tests
test a::works ... ok
test a::later ... ignored, needs a GPU
test a::never ... ignored
test b::needs_root ... ok
test b::breaks ... FAILED

successes:

---- b::needs_root stdout ----
SKIPPED b::needs_root: this host has no cgroups
some words of a test

successes:
    a::works
    b::needs_root

failures:

---- b::breaks stdout ----
assertion failed

failures:
    b::breaks

test result: FAILED. 2 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 3 tests
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.23s
";

    #[test]
    fn sums_up_and_names_what_was_left_out() {
        let mut reader = Reader::default();
        let shown: Vec<&str> = OUTPUT.lines().filter(|line| reader.read(line)).collect();
        let Tally {
            passed,
            failed,
            skipped,
            troubles,
        } = reader.sum();
        assert_eq!((passed, failed, troubles.len()), (4, 1, 0));
        let expected = [
            "a::later: needs a GPU",
            "a::never: marked #[ignore]",
            "b::needs_root: this host has no cgroups",
        ];
        assert_eq!(skipped, expected);
        assert!(shown.contains(&"assertion failed"), "{shown:?}");
        assert!(!shown.contains(&"some words of a test"), "{shown:?}");
        assert!(
            shown.contains(&"SKIPPED b::needs_root: this host has no cgroups"),
            "{shown:?}"
        );
    }
}
