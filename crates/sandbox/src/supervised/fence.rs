//! Whose a sandbox is: the server's with the highest epoch that has taken it over.
//!
//! The guest refuses lower epochs by itself. This is for what a server does without asking the guest, because it is frozen,
//! or dead, or need not know: the record is locked while something is done, and the epoch looked at under that lock, so
//! that nothing of an older server comes after the new one has taken over.

use super::record::{FILE, Record};
use crate::Error;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The epoch of the server that has adopted the sandbox, if one has.
const EPOCH: &str = "epoch";

/// As long as it lives, no other server takes the sandbox over.
pub(super) type Held = Flock<File>;

/// Takes a sandbox over; waits until nothing is being done to it by another server.
pub(super) fn claim(dir: &Path, epoch: u64) -> Result<(), Error> {
    let Some(_held) = lock(dir, FlockArg::LockExclusive)? else {
        return Err(Error::Gone);
    };
    let highest = highest(dir)?;
    if highest > epoch {
        return Err(Error::Fenced(highest));
    }
    if highest < epoch {
        let draft = dir.join(format!("{EPOCH}.new"));
        fs::write(&draft, epoch.to_string())
            .and_then(|()| fs::rename(&draft, dir.join(EPOCH)))
            .map_err(|error| failed("taking over", dir, error))?;
    }
    Ok(())
}

/// Keeps others from taking a sandbox over meanwhile; [`Error::Fenced`] if one has. `None` if it has gone.
pub(super) fn hold(dir: &Path, epoch: u64) -> Result<Option<Held>, Error> {
    let Some(held) = lock(dir, FlockArg::LockShared)? else {
        return Ok(None);
    };
    match highest(dir)? {
        highest if highest > epoch => Err(Error::Fenced(highest)),
        _ => Ok(Some(held)),
    }
}

fn lock(dir: &Path, how: FlockArg) -> Result<Option<Held>, Error> {
    let file = match File::open(dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("opening the record in", dir, error)),
    };
    match Flock::lock(file, how) {
        Ok(held) => Ok(Some(held)),
        Err((_, error)) => Err(failed("locking the record in", dir, error.into())),
    }
}

fn highest(dir: &Path) -> Result<u64, Error> {
    let started = Record::read(dir)?.map_or(0, |record| record.epoch);
    match fs::read_to_string(dir.join(EPOCH)) {
        Ok(text) => {
            let adopted: u64 = text.trim().parse().map_err(|_| {
                let error = io::Error::other(format!("'{}' is no epoch", text.escape_debug()));
                failed("reading the epoch in", dir, error)
            })?;
            Ok(adopted.max(started))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(started),
        Err(error) => Err(failed("reading the epoch in", dir, error)),
    }
}

fn failed(what: &str, dir: &Path, source: io::Error) -> Error {
    Error::Io {
        what: format!("{what} {}", dir.display()),
        source,
    }
}
