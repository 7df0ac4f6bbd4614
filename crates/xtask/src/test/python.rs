//! The Python half: `tests/` with pytest, in an environment of its own below `target/`.
//!
//! Invariant: an environment is used only if it was completed for exactly these requirements and this Python.

use super::DEADLINE;
use super::tally::Tally;
use crate::{step, workspace};
use anyhow::Context as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Pytest's exit status when no test was chosen.
const NO_TESTS: i32 = 5;

/// Makes the environment, or finds it ready; answers its Python.
pub(crate) fn environment() -> anyhow::Result<PathBuf> {
    let requirements = workspace::root().join("tests/requirements.txt");
    let folder = workspace::target_directory()?.join("test-venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("made-for");
    let wanted = made_for(&requirements)?;
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && python.exists() {
        println!("ready in {}", folder.display());
        return Ok(python);
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| folder.display().to_string());
        }
        _ => {}
    }
    step::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    step::run(pip.arg(&requirements))?;
    // Last, so that an environment that was cut off half-way is made anew.
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(python)
}

/// Runs the black-box tests against a binary; `web` is the folder of the provider and the browser.
pub(crate) fn run(python: &Path, web: &Path, binary: &Path, filters: &[String]) -> Tally {
    let mut pytest = Command::new(python);
    pytest
        .current_dir(workspace::root())
        .env("EYOT_BIN", binary)
        .env("EYOT_TEST_WEB", web)
        .env("PYTHONUNBUFFERED", "1");
    pytest.args([
        "-m",
        "pytest",
        "tests",
        "--color=no",
        "--verbose",
        "-rsx",
        "--no-fold-skipped",
        "--durations=10",
        // Two files at a time: much of the time is waiting, for deadlines and for agents.
        "-n2",
        "--dist=loadfile",
    ]);
    // A test that hangs says where before the deadline ends it; caches would be files that nobody wants.
    pytest.args([
        "-p",
        "no:cacheprovider",
        "--continue-on-collection-errors",
        "-o",
        "faulthandler_timeout=600",
    ]);
    if !filters.is_empty() {
        pytest.args(["-k", &filters.join(" or ")]);
    }
    let mut tally = Tally::default();
    let mut summed_up = false;
    let done = step::follow(&mut pytest, DEADLINE, |line| {
        println!("{line}");
        if let Some(skipped) = line.strip_prefix("SKIPPED ").or(line.strip_prefix("XFAIL ")) {
            tally.skipped.push(skipped.replacen(" - Skipped: ", ": ", 1));
        }
        summed_up |= count(line, &mut tally);
    });
    match done {
        Err(error) => tally.trouble(format!("{error:#}")),
        Ok(status) if status.code() == Some(NO_TESTS) && !filters.is_empty() => {}
        Ok(status) if !summed_up || (!status.success() && tally.failed == 0) => {
            tally.trouble(format!("pytest broke off with {status}; its last lines say why"));
        }
        Ok(_) => {}
    }
    tally
}

fn made_for(requirements: &Path) -> anyhow::Result<String> {
    let version = Command::new("python3")
        .arg("-VV")
        .output()
        .context("python3 cannot be started")?;
    let list = fs::read_to_string(requirements).with_context(|| requirements.display().to_string())?;
    Ok(format!("{}{list}", String::from_utf8_lossy(&version.stdout)))
}

/// Reads pytest's last line, such as `==== 1 failed, 20 passed, 2 skipped in 12.34s ====`; answers whether it was it.
fn count(line: &str, tally: &mut Tally) -> bool {
    let inner = line.trim_matches('=');
    let Some((counts, _)) = inner.trim().rsplit_once(" in ").filter(|_| inner.len() < line.len()) else {
        return false;
    };
    let parsed: Option<Vec<(u64, &str)>> = counts
        .split(", ")
        .map(|part| {
            part.split_once(' ')
                .and_then(|(number, what)| Some((number.parse().ok()?, what)))
        })
        .collect();
    let Some(parsed) = parsed else {
        return counts == "no tests ran";
    };
    for (number, what) in parsed {
        match what {
            "passed" | "xpassed" => tally.passed += number,
            "failed" | "error" | "errors" => tally.failed += number,
            // Skipped and expected to fail: each has been named in a line of its own.
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_pytest_is_read() {
        let check = |line: &str, expected: Option<(u64, u64)>| {
            let mut tally = Tally::default();
            let is_last = count(line, &mut tally);
            assert_eq!(is_last.then_some((tally.passed, tally.failed)), expected, "{line}");
        };
        check(
            "===== 1 failed, 20 passed, 2 skipped, 1 xfailed, 3 warnings in 61.02s (0:01:01) =====",
            Some((20, 1)),
        );
        check("===== 20 passed in 1.00s =====", Some((20, 0)));
        check("== 3 passed, 1 deselected, 2 errors in 0.1s ==", Some((3, 2)));
        check("===== no tests ran in 0.01s =====", Some((0, 0)));
        check("===== short test summary info =====", None);
        check("===== slowest 10 durations in tests =====", None);
        check("tests/test_lifecycle.py::test_create PASSED [ 10%]", None);
        check("1 passed in 1.0s", None);
    }
}
