//! Stopping all of a sandbox's tasks without their noticing, and letting them run on.
//!
//! A group says itself whether it is frozen, so nobody needs to remember it. A frozen task of v1 does not even die: who
//! kills it must thaw it.
//!
//! Memory is taken back only where there is swap. Without it the kernel could drop nothing but copies of files, which it
//! can drop at any time by itself, and of which most are programs that the other sandboxes use as well.

use super::{Group, Version};
use crate::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long tasks may take to stop; those that wait for a disk are the last.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the names of groups begin with in which freezing is tried; the server's process id and a number follow.
const PROBE: &str = "probe-";
/// How much memory is asked back at a time on v2, so that it can be given up soon.
const PIECE: u64 = 8 << 20;

/// Whether tasks can be frozen in groups below this one: tried with an empty group.
pub(super) fn works(version: Version, base: &Path) -> bool {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    clear(base);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = base.join(format!("{PROBE}{}-{count}", std::process::id()));
    if fs::create_dir(&dir).is_err() {
        return false;
    }
    let frozen = ask(version, &dir, true).is_ok() && is_complete(version, &dir);
    let thawed = ask(version, &dir, false).is_ok() && !is_asked(version, &dir);
    let _ = fs::remove_dir(&dir);
    frozen && thawed
}

/// Removes the empty groups of servers that were killed while they tried.
fn clear(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PROBE)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

impl Group {
    /// Whether somebody has frozen it.
    pub(crate) fn is_frozen(&self) -> bool {
        self.freezer().is_some_and(|(version, dir)| is_asked(version, dir))
    }

    /// Stops all tasks and waits until all have stopped. If they do not in time, they run on.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        let Some((version, dir)) = self.freezer() else {
            return Err(Error::Host(
                "sandboxes cannot be paused here: there is no freezer control group that this server may use".into(),
            ));
        };
        ask(version, dir, true).map_err(|source| failed("freezing", dir, source))?;
        let until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(50);
        while !is_complete(version, dir) {
            if Instant::now() > until {
                self.thaw()?;
                return Err(Error::Host(format!(
                    "the sandbox's processes did not stop within {} s; they run on",
                    PATIENCE.as_secs()
                )));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
            if version == Version::V1 {
                // A task that was forked meanwhile is caught by asking again.
                ask(version, dir, true).map_err(|source| failed("freezing", dir, source))?;
            }
        }
        Ok(())
    }

    /// Lets all tasks run on. Idempotent, also where nothing can be frozen or the group has gone.
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        let Some((version, dir)) = self.freezer() else {
            return Ok(());
        };
        if has_swap()
            && let Some((Version::V2, memory)) = self.memory()
        {
            // What is out there stays until it is used. Nothing more may go.
            let _ = fs::write(memory.join("memory.swap.max"), "0");
        }
        match ask(version, dir, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| failed("thawing", dir, source)),
        }
    }

    /// Asks the kernel to take back the memory of frozen tasks, until it has or `enough` is set. Gives the bytes used
    /// before and after.
    pub(crate) fn reclaim(&self, enough: &AtomicBool) -> Option<(u64, u64)> {
        let (version, dir) = self.memory()?;
        if !has_swap() {
            return None;
        }
        let used = || self.usage().1;
        let before = used()?;
        match version {
            Version::V1 => {
                let _ = fs::write(dir.join("memory.swappiness"), "100");
                // On a group with tasks it takes what it can and leaves the rest.
                let _ = fs::write(dir.join("memory.force_empty"), "1");
            }
            Version::V2 => {
                let limit = fs::read_to_string(dir.join("memory.max")).ok()?;
                let _ = fs::write(dir.join("memory.swap.max"), limit.trim());
                let file = dir.join("memory.reclaim");
                let mut words = ["swappiness=max", "swappiness=200", ""].into_iter();
                let mut word = words.next()?;
                let mut left = before;
                while left > 0 && !enough.load(Ordering::Relaxed) {
                    match fs::write(&file, format!("{} {word}", PIECE.min(left))) {
                        Ok(()) => left = left.saturating_sub(PIECE),
                        // An older kernel takes no such word.
                        Err(error) if error.kind() == io::ErrorKind::InvalidInput => word = words.next()?,
                        // It could not take that much: there is no more.
                        Err(_) => break,
                    }
                }
            }
        }
        Some((before, used()?))
    }
}

fn ask(version: Version, dir: &Path, frozen: bool) -> io::Result<()> {
    match version {
        Version::V1 => fs::write(dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" }),
        Version::V2 => fs::write(dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
    }
}

fn is_asked(version: Version, dir: &Path) -> bool {
    let (file, running) = match version {
        Version::V1 => ("freezer.self_freezing", "0"),
        Version::V2 => ("cgroup.freeze", "0"),
    };
    fs::read_to_string(dir.join(file)).is_ok_and(|text| text.trim() != running)
}

/// Whether the last task has stopped.
fn is_complete(version: Version, dir: &Path) -> bool {
    match version {
        Version::V1 => fs::read_to_string(dir.join("freezer.state")).is_ok_and(|text| text.trim() == "FROZEN"),
        Version::V2 => {
            fs::read_to_string(dir.join("cgroup.events")).is_ok_and(|text| text.lines().any(|line| line == "frozen 1"))
        }
    }
}

/// Whether the machine has somewhere to put memory.
fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

fn failed(what: &str, dir: &Path, source: io::Error) -> Error {
    Error::Io {
        what: format!("{what} {}", dir.display()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_server_tried_is_cleared_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let own = format!("{PROBE}{}-0", std::process::id());
        // No process has a number beyond the kernel's largest.
        let (dead, other) = (format!("{PROBE}4194305-3"), "01a212f74de671448636bd374c3d11c4");
        for name in [&own, &dead, other] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        clear(base.path());
        let left = |name: &str| base.path().join(name).exists();
        assert_eq!((left(&own), left(&dead), left(other)), (true, false, true));
    }
}
