//! One step of a task: says what it does, how long it took, and whether it failed.

use anyhow::{Context as _, bail};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Says what a step is, runs it, and says how long it took.
pub(crate) fn timed<T>(name: &str, step: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("── {name}");
    let start = Instant::now();
    let done = step();
    let outcome = if done.is_ok() { "" } else { " (failed)" };
    println!("── {name}: {:.1} s{outcome}", start.elapsed().as_secs_f64());
    done
}

/// Runs a command to its end; fails when it does.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{program} cannot be started"))?;
    if !status.success() {
        bail!("{} failed with {status}", describe(command));
    }
    Ok(())
}

/// Runs a command and hands each line of its standard output to `line` as it comes. Past the deadline it is killed.
pub(crate) fn follow(
    command: &mut Command,
    deadline: Duration,
    mut line: impl FnMut(&str),
) -> anyhow::Result<ExitStatus> {
    let said = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{said} cannot be started"))?;
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let (sender, lines) = mpsc::sync_channel(256);
    // The thread ends with the output. It is not joined: something that outlives the command may hold the pipe open.
    thread::spawn(move || {
        for part in output.split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&part).into_owned()).is_err() {
                break;
            }
        }
    });
    let end = Instant::now() + deadline;
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(text) => line(text.trim_end_matches('\r')),
            Err(RecvTimeoutError::Disconnected) => break,
            // Quiet, and the command is gone: what it left running keeps the pipe, and nobody waits for that.
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_some() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() > end {
            return Err(give_up(&mut child, &said, deadline));
        }
    }
    Ok(child.wait()?)
}

fn give_up(child: &mut Child, said: &str, deadline: Duration) -> anyhow::Error {
    let killed = child.kill().and_then(|()| child.wait());
    let trouble = killed
        .err()
        .map(|error| format!(" and cannot be killed: {error}"))
        .unwrap_or_default();
    anyhow::anyhow!(
        "{said} was still running after {} minutes{trouble}",
        deadline.as_secs() / 60
    )
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn follows_lines_and_status() {
        let mut lines = Vec::new();
        let status = follow(&mut shell("echo one; echo two; exit 3"), Duration::from_secs(60), |l| {
            lines.push(l.to_owned())
        });
        assert_eq!(status.unwrap().code(), Some(3));
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn gives_up_on_what_does_not_end() {
        let start = Instant::now();
        let error = follow(&mut shell("exec sleep 60"), Duration::from_millis(300), |_| {}).unwrap_err();
        assert!(error.to_string().contains("still running"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn does_not_wait_for_what_a_command_leaves_behind() {
        let mut lines = Vec::new();
        let start = Instant::now();
        follow(&mut shell("echo mine; sleep 45 &"), Duration::from_secs(60), |l| {
            lines.push(l.to_owned())
        })
        .unwrap();
        assert_eq!(lines, ["mine"]);
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failing_command_is_named() {
        let error = run(&mut shell("exit 7")).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 7") && error.contains('7'), "{error}");
    }
}
