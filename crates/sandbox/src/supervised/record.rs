//! What is written down about a sandbox, for whoever comes after this server process.
//!
//! Invariant: only a record that was never finished counts as none. One that is whole but cannot be understood names
//! things that would be lost with it, so it is an error, and its sandbox stays where it is.

use crate::cgroup::Group;
use crate::{Error, Limits, sys};
use domain::id::SandboxId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The record's file, written before anything that it names is made.
pub(super) const FILE: &str = "spec.json";
/// Who the guest is, written before the guest is told to run the agent.
const GUEST: &str = "guest.json";
/// Labels that were given later, once: whole or not there.
const ASSIGNED: &str = "assigned.json";
/// There while the sandbox is paused, and its guest cannot be asked, if it had been seen to listen.
const LISTENED: &str = "listened";
/// The layout of the record; fields are only added, with a default. Older versions stay in [`Record::parse`].
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
    /// Where the server listens inside: the address that callers name, and where that really is.
    #[serde(default)]
    pub(crate) listen: Vec<(SocketAddrV4, SocketAddrV4)>,
    pub(crate) group: Group,
    /// Slots that are the sandbox's until it is erased.
    pub(crate) slots: Vec<String>,
    /// The first of its own ids on the host, if it has any.
    pub(crate) first_id: Option<u32>,
    /// When it was started.
    pub(crate) created: String,
    /// The file of its session storage, which its loop device holds locked.
    #[serde(default)]
    pub(crate) storage: Option<PathBuf>,
    /// The epoch of the server that started it.
    #[serde(default)]
    pub(crate) epoch: u64,
    /// What its log files are: [`guest::lines::FORMAT`], or 0 for the plain text of before. Here and not in the files,
    /// because an agent could write anything into those of before.
    #[serde(default)]
    pub(crate) log_format: u32,
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
            listen: Vec::new(),
            group: Group::default(),
            slots: Vec::new(),
            first_id: None,
            created,
            storage: None,
            epoch: 0,
            log_format: guest::lines::FORMAT,
            guest: None,
        }
    }

    /// Reads a sandbox's record; `None` if it was never written or is torn, as after a crash in the middle of it.
    ///
    /// An error if there is one that this program cannot read, such as a newer program's: see the invariant.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let Some(text) = read(&path)? else { return Ok(None) };
        // Only the whole of a record is JSON: it ends with the brace that it begins with.
        let Ok(whole) = serde_json::from_slice(&text) else {
            return Ok(None);
        };
        let mut record = Self::parse(whole, &path)?;
        // Torn or not there: the guest was never told to run the agent, and ends with the server that started it.
        record.guest = read(&dir.join(GUEST))?.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Some(record))
    }

    fn parse(whole: serde_json::Value, path: &Path) -> Result<Self, Error> {
        match whole.get("version").and_then(serde_json::Value::as_u64) {
            Some(1) => serde_json::from_value(whole).map_err(|error| {
                Error::Host(format!(
                    "the sandbox's record {} is damaged: {error}; end the sandbox's processes and remove its directory",
                    path.display()
                ))
            }),
            Some(newer) if newer > u64::from(VERSION) => Err(Error::Host(format!(
                "the sandbox's record {} has version {newer} and was written by a newer eyot, this one reads up to \
                 {VERSION}: start the newer one again to end the sandbox",
                path.display()
            ))),
            _ => Err(Error::Host(format!(
                "the sandbox's record {} has no version that eyot ever wrote; end the sandbox's processes and remove \
                 its directory",
                path.display()
            ))),
        }
    }

    /// Where the server really listens for an address that callers name.
    pub(crate) fn listens_at(&self, address: SocketAddrV4) -> Option<SocketAddrV4> {
        let found = self.listen.iter().find(|(named, _)| *named == address);
        found.map(|(_, real)| *real)
    }

    /// Writes all but the guest.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        write(&dir.join(FILE), self)
    }

    /// Reads the labels that were given later, `None` if none were.
    ///
    /// An error if they cannot be read: a sandbox that somebody has been given must never pass for one that is free.
    pub(crate) fn read_assigned(dir: &Path) -> Result<Option<BTreeMap<String, String>>, Error> {
        let path = dir.join(ASSIGNED);
        let Some(text) = read(&path)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            Error::Host(format!(
                "the labels in {} cannot be read: {error}; the sandbox is somebody's and cannot be taken over",
                path.display()
            ))
        })
    }

    /// Gives a sandbox further labels; [`Error::Assigned`] if it has some. The file appears whole or not at all, whenever
    /// this process is killed: what is linked is complete, and a link does not replace.
    pub(crate) fn assign(dir: &Path, labels: &BTreeMap<String, String>) -> Result<(), Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = dir.join(ASSIGNED);
        let draft = dir.join(format!(
            "{ASSIGNED}.{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let result = write(&draft, labels).and_then(|()| match fs::hard_link(&draft, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Assigned),
            other => other.map_err(|source| Error::Io {
                what: format!("writing {}", path.display()),
                source,
            }),
        });
        // A draft that is left goes with the directory.
        let _ = fs::remove_file(draft);
        match result {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(Error::Gone),
            other => other,
        }
    }

    /// Remembers while a sandbox is paused whether it listens. What is lost of this comes back with the guest.
    pub(crate) fn write_listened(dir: &Path, listened: bool) {
        let path = dir.join(LISTENED);
        let _ = if listened {
            fs::write(path, "")
        } else {
            fs::remove_file(path)
        };
    }

    /// What was remembered.
    pub(crate) fn read_listened(dir: &Path) -> bool {
        dir.join(LISTENED).exists()
    }

    /// Writes who the guest is.
    pub(crate) fn write_guest(&self, dir: &Path) -> Result<(), Error> {
        write(&dir.join(GUEST), &self.guest)
    }
}

/// `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            what: format!("reading {}", path.display()),
            source,
        }),
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
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap().unwrap(), record);
        record.guest = Some(Process::of(i32::try_from(std::process::id()).unwrap()).unwrap());
        record.write_guest(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record));
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        for length in 0..whole.len() {
            fs::write(dir.path().join(FILE), &whole[..length]).unwrap();
            assert_eq!(Record::read(dir.path()).unwrap(), None, "torn after {length} bytes");
        }
    }

    /// The text is never changed: it is what servers have left on disks.
    #[test]
    fn a_record_of_version_1_is_read_whatever_was_added() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"version":1,"kind":"container","labels":{"session":"s1"},
            "limits":{"memory":1,"pids":2,"cpu_millis":3,"scratch":4,"log":5},"port":8080,"real_port":8081,
            "group":{"places":[{"version":"v1","controllers":["memory","pids"],"dir":"/g"}]},"slots":["port-1"],
            "first_id":65536,"created":"2026-01-01T00:00:00Z","added":{"by":"a later server"}}"#;
        fs::write(dir.path().join(FILE), text).unwrap();
        fs::write(
            dir.path().join(GUEST),
            r#"{"pid":7,"started":8,"boot":"b","added":true}"#,
        )
        .unwrap();
        let record = Record::read(dir.path()).unwrap().unwrap();
        assert_eq!((record.kind, record.real_port), (Kind::Container, 8081));
        assert_eq!(record.labels["session"], "s1");
        assert_eq!(record.group.join_files(), [Path::new("/g/tasks")]);
        assert_eq!((record.slots, record.first_id), (vec!["port-1".into()], Some(65536)));
        assert_eq!((record.guest.unwrap().pid, record.log_format), (7, 0));
    }

    #[test]
    fn labels_are_assigned_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let labels = |session: &str| BTreeMap::from([("session".to_owned(), session.to_owned())]);
        assert_eq!(Record::read_assigned(dir.path()).unwrap(), None);
        Record::assign(dir.path(), &labels("one")).unwrap();
        assert!(matches!(
            Record::assign(dir.path(), &labels("two")),
            Err(Error::Assigned)
        ));
        assert_eq!(Record::read_assigned(dir.path()).unwrap(), Some(labels("one")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft was left");
        let whole = fs::read(dir.path().join(ASSIGNED)).unwrap();
        for length in 0..whole.len() {
            fs::write(dir.path().join(ASSIGNED), &whole[..length]).unwrap();
            assert!(Record::read_assigned(dir.path()).is_err(), "torn after {length} bytes");
        }
        assert!(matches!(
            Record::assign(&dir.path().join("gone"), &labels("one")),
            Err(Error::Gone)
        ));
    }

    #[test]
    fn a_whole_record_that_cannot_be_understood_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for (text, said) in [
            (
                r#"{"version":2,"unknown":[]}"#,
                "version 2 and was written by a newer eyot",
            ),
            (r#"{"version":1}"#, "damaged: missing field"),
            (r#"{"version":0}"#, "no version"),
            (r#"{"version":"2"}"#, "no version"),
            ("[]", "no version"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Record::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(error.contains(path.to_str().unwrap()), "{text}: {error}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(Record::read(dir.path()), Err(Error::Io { .. })));
    }
}
