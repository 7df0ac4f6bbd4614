//! The guest: launcher, first process and supervisor of every sandbox, in one small static program.
//!
//! ```text
//! main -> launch (process | container) -> agent (the forked child, up to exec) -> walls, seccomp
//!                                      -> supervise (control, logs, readiness, tree)
//! ```
//!
//! It has one thread and no async runtime, sleeps in `poll` when nothing happens, and outlives the server.
//!
//! Invariant: the agent's program is executed only after every wall has been read back and the server has said that it
//! can find this sandbox again. Invariant: nothing that the agent does makes the guest wait without end, use memory
//! without bound, or write without bound.

#[cfg(not(target_os = "linux"))]
compile_error!("the guest runs on Linux only; see crates/sandbox for what another system would need");

mod agent;
mod failure;
mod launch;
mod listening;
mod seccomp;
mod supervise;
mod sys;
mod walls;

use guest::frame;
use guest::protocol::{FailureKind, Launch, Mode, Progress, VERSION};
use std::io::{IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(mut channel) = start_channel() else {
        let _ = writeln!(
            std::io::stderr(),
            "eyot-guest is started by `eyot serve`, one for each sandbox; it is of no use by hand"
        );
        return ExitCode::from(2);
    };
    let launch = match frame::read::<Launch>(&mut channel) {
        Ok(Some(launch)) => launch,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return refuse(&mut channel, failure::host("reading the launch", error)),
    };
    if launch.version != VERSION {
        let detail = format!("the server speaks version {}, this guest {VERSION}", launch.version);
        return refuse(&mut channel, failure::host("reading the launch", detail));
    }
    let result = match launch.mode.clone() {
        Mode::Process { workdir } => launch::process::run(&launch, &workdir, channel),
        Mode::Container(container) => launch::container::run(&launch, &container, channel),
    };
    if result { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Standard input, if it is a socket as the server gives it.
fn start_channel() -> Option<UnixStream> {
    if std::io::stdin().is_terminal() {
        return None;
    }
    let stream = UnixStream::from(sys::inherited(0).ok()?);
    stream.local_addr().ok()?;
    Some(stream)
}

fn refuse(channel: &mut UnixStream, failure: guest::protocol::Failure) -> ExitCode {
    debug_assert!(
        failure.kind != FailureKind::Artifact,
        "nothing of the agent has been looked at"
    );
    // If nobody listens there is nobody to tell.
    let _ = frame::write(channel, &Progress::Failed(failure));
    ExitCode::FAILURE
}
