//! The processes of the sandbox: reaping, signalling and counting them.
//!
//! As PID 1 of a namespace the guest reaches all with one call. Without walls it is the subreaper: every descendant's
//! parents lead back to it, however often they forked, so it finds them in `/proc`.

use crate::listening::Listening;
use guest::listeners;
use guest::protocol::Usage;
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::time::Duration;

/// The sandbox's processes.
pub(crate) struct Tree {
    agent: Pid,
    /// PID 1 of a namespace of its own.
    whole_namespace: bool,
}

/// A process as `/proc/<pid>/stat` shows it.
struct Process {
    pid: i32,
    parent: i32,
    ticks: u64,
    resident_pages: u64,
}

impl Tree {
    pub(crate) fn new(agent: Pid, whole_namespace: bool) -> Self {
        Self { agent, whole_namespace }
    }

    /// Reaps whoever has ended; code and signal when the agent's first process is among them.
    pub(crate) fn reap(&self) -> Option<(Option<i32>, Option<i32>)> {
        let mut end = None;
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.agent => end = Some((Some(code), None)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.agent => {
                    end = Some((None, Some(signal as i32)))
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return end,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// SIGTERM to all.
    pub(crate) fn terminate_all(&self) {
        self.signal_all(Signal::SIGTERM);
    }

    /// SIGKILL to all.
    pub(crate) fn kill_all(&self) {
        self.signal_all(Signal::SIGKILL);
    }

    /// Kills and reaps until no process is left.
    pub(crate) fn end_all(&self) {
        loop {
            self.kill_all();
            // One that forked while it was being looked for shows up in the next round. The pause is for processes
            // that the kernel is still taking apart.
            loop {
                match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                    Err(Errno::ECHILD) => return,
                    Ok(WaitStatus::StillAlive) => break,
                    Ok(_) | Err(_) => {}
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// What the processes use, and have used if they were reaped.
    pub(crate) fn usage(&self) -> Usage {
        let tick = sysconf(SysconfVar::CLK_TCK)
            .ok()
            .flatten()
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(100);
        let page = sysconf(SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(4096);
        let mut usage = Usage {
            cpu: reaped(),
            memory: 0,
        };
        for process in self.processes() {
            usage.cpu += Duration::from_micros(process.ticks.saturating_mul(1_000_000) / tick.max(1));
            usage.memory += process.resident_pages.saturating_mul(page);
        }
        usage
    }

    /// The TCP ports on which one of the processes listens; not those of the server's sockets.
    pub(crate) fn ports(&self, but: &Listening) -> Vec<u16> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        let all = tables.iter().flat_map(|table| listeners::parse(table));
        let found: BTreeSet<u16> = if self.whole_namespace {
            all.filter(|listener| !but.has(listener.inode))
                .map(|listener| listener.port)
                .collect()
        } else {
            let mine = self.socket_inodes();
            all.filter(|listener| mine.contains(&listener.inode))
                .map(|listener| listener.port)
                .collect()
        };
        found.into_iter().collect()
    }

    fn signal_all(&self, signal: Signal) {
        if self.whole_namespace {
            // Everyone in the namespace but the caller. ESRCH: nobody is there.
            let _ = kill(Pid::from_raw(-1), signal);
        } else {
            for process in self.processes() {
                let _ = kill(Pid::from_raw(process.pid), signal);
            }
        }
    }

    fn processes(&self) -> Vec<Process> {
        let all: Vec<Process> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                Process::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
            })
            .collect();
        let me = nix::unistd::getpid().as_raw();
        if self.whole_namespace {
            return all.into_iter().filter(|process| process.pid != me).collect();
        }
        let parents: HashMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
        let descends = |pid: i32| {
            let mut at = pid;
            // Bounded, because the table was not read in one instant and could contain a circle.
            for _ in 0..parents.len() {
                match parents.get(&at) {
                    Some(&parent) if parent == me => return true,
                    Some(&parent) => at = parent,
                    None => return false,
                }
            }
            false
        };
        all.into_iter().filter(|process| descends(process.pid)).collect()
    }

    fn socket_inodes(&self) -> HashSet<u64> {
        let links = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        self.processes()
            .iter()
            .flat_map(|process| links(process.pid))
            .filter_map(|entry| {
                let target = fs::read_link(entry.path()).ok()?;
                target
                    .to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse()
                    .ok()
            })
            .collect()
    }
}

impl Process {
    /// The name in parentheses may contain anything, so the fields are counted from its end.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let user: u64 = fields.nth(9)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let resident_pages = fields.nth(8)?.parse().ok()?;
        Some(Self {
            pid,
            parent,
            ticks: user + system,
            resident_pages,
        })
    }
}

fn reaped() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return Duration::ZERO;
    };
    let total = usage.user_time() + usage.system_time();
    let seconds = u64::try_from(total.tv_sec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(total.tv_usec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_not_in_the_way() {
        let stat =
            "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 15 5 0 0 20 0 1 0 12345 1000000 321 18446744073709551615 1";
        let process = Process::parse(42, stat).unwrap();
        assert_eq!((process.parent, process.ticks, process.resident_pages), (7, 20, 321));
        assert!(Process::parse(42, "42 (x").is_none());
    }

    #[test]
    fn this_process_has_used_some_memory() {
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(Process::parse(1, &text).unwrap().resident_pages > 10);
    }
}
