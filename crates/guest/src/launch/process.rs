//! An agent without walls: a child process whose orphans come to the guest.

use super::{Files, detach, join_cgroups, run_agent};
use crate::agent::{Plan, Privileges};
use crate::failure::Context;
use crate::listening::Listening;
use guest::frame;
use guest::protocol::{Failure, Launch, Progress};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Returns whether the agent was started.
pub(crate) fn run(launch: &Launch, workdir: &Path, mut channel: UnixStream) -> bool {
    match prepare(launch) {
        Ok((files, listening)) => {
            let plan = Plan {
                launch,
                workdir,
                privileges: Privileges::Keep,
            };
            run_agent(launch, channel, files, listening, &plan, || Ok(()))
        }
        Err(failure) => {
            let _ = frame::write(&mut channel, &Progress::Failed(failure));
            false
        }
    }
}

fn prepare(launch: &Launch) -> Result<(Files, Listening), Failure> {
    detach()?;
    join_cgroups(launch)?;
    nix::sys::prctl::set_child_subreaper(true).on_host("becoming the parent of the agent's orphans")?;
    Ok((Files::open(launch)?, Listening::on(&launch.listen)?))
}
