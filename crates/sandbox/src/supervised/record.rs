//! What is written down about a sandbox, for whoever comes after this server process.

use crate::cgroup::Group;
use crate::{Error, Limits, sys};
use domain::id::SandboxId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The record's file, written before anything that it names is made.
const FILE: &str = "spec.json";
/// Who the guest is, written before the guest is told to run the agent.
const GUEST: &str = "guest.json";
/// The layout of the record; fields are only added, with a default.
const VERSION: u32 = 1;

/// Which driver made a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Without walls.
    Process,
    /// Behind walls.
    Container,
}

impl Kind {
    /// The driver's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Container => "container",
        }
    }
}

/// A sandbox on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) kind: Kind,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    /// The port that callers name, and the one on which the agent really listens.
    pub(crate) port: u16,
    pub(crate) real_port: u16,
    pub(crate) group: Group,
    /// Slots that are the sandbox's until it is erased.
    pub(crate) slots: Vec<String>,
    /// The first of its own ids on the host, if it has any.
    pub(crate) first_id: Option<u32>,
    /// When it was started.
    pub(crate) created: String,
    /// The guest, once there is one. In a file of its own: each of the two is written once, when it does not exist, so
    /// neither needs the slow replacing of files that must never be torn.
    #[serde(skip)]
    pub(crate) guest: Option<Process>,
}

/// A process that cannot be mistaken for another one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// In clock ticks since the machine's start.
    started: u64,
    /// Which start of the machine.
    boot: String,
}

impl Record {
    /// One for a sandbox that is about to be made.
    pub(crate) fn new(
        kind: Kind,
        labels: BTreeMap<String, String>,
        limits: Limits,
        port: u16,
        created: String,
    ) -> Self {
        Self {
            version: VERSION,
            kind,
            labels,
            limits,
            port,
            real_port: port,
            group: Group::default(),
            slots: Vec::new(),
            first_id: None,
            created,
            guest: None,
        }
    }

    /// Reads a sandbox's record; `None` if it was never written or is torn, as after a crash in the middle of it.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        let mut record: Self = serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()?;
        record.guest = fs::read(dir.join(GUEST))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        (record.version == VERSION).then_some(record)
    }

    /// Writes all but the guest.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        write(&dir.join(FILE), self)
    }

    /// Writes who the guest is.
    pub(crate) fn write_guest(&self, dir: &Path) -> Result<(), Error> {
        write(&dir.join(GUEST), &self.guest)
    }
}

/// Not synced: after a power cut there is no process either that it could lead to.
fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(io::Error::other);
    text.and_then(|text| fs::write(path, text)).map_err(|source| Error::Io {
        what: format!("writing {}", path.display()),
        source,
    })
}

impl Process {
    /// Looks at a process that cannot end and be replaced meanwhile, such as a child that nobody has waited for.
    pub(crate) fn of(pid: i32) -> Result<Self, Error> {
        let failed = |source| Error::Io {
            what: format!("looking at process {pid}"),
            source,
        };
        let started = start_time(pid).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        Ok(Self {
            pid,
            started,
            boot: boot().map_err(failed)?,
        })
    }

    /// A descriptor for exactly this process, if it still runs.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        let pidfd = sys::pidfd_open(self.pid).ok()?;
        // In this order: the descriptor pins whoever has the number now, and then we look who that is.
        (start_time(self.pid)? == self.started && boot().ok()? == self.boot).then_some(pidfd)
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process was started; `None` if it has ended, a zombie included.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The directories of sandboxes in a state directory.
pub(crate) fn all(state_dir: &Path) -> Result<Vec<SandboxId>, Error> {
    let entries = match fs::read_dir(state_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::Io {
                what: format!("listing {}", state_dir.display()),
                source,
            });
        }
    };
    // Whatever else lies there is not ours.
    let mut ids: Vec<_> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| SandboxId::parse(name).ok()))
        .collect();
    ids.sort();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let me = i32::try_from(std::process::id()).unwrap();
        let process = Process::of(me).unwrap();
        assert!(process.open().is_some());
        assert!(
            Process {
                started: process.started + 1,
                ..process.clone()
            }
            .open()
            .is_none()
        );
        assert!(
            Process {
                boot: "another".into(),
                ..process
            }
            .open()
            .is_none()
        );
    }

    #[test]
    fn a_record_survives_and_a_torn_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            memory: 1,
            pids: 2,
            cpu_millis: 3,
            scratch: 4,
            log: 5,
        };
        let mut record = Record::new(Kind::Container, BTreeMap::new(), limits, 8080, "2026".into());
        assert!(Record::read(dir.path()).is_none());
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), record);
        record.guest = Some(Process::of(i32::try_from(std::process::id()).unwrap()).unwrap());
        record.write_guest(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()), Some(record));
        fs::write(dir.path().join(FILE), b"{\"version\":1,").unwrap();
        assert!(Record::read(dir.path()).is_none());
    }
}
