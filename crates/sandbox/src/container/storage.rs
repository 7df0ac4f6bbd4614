//! Directories that outlive their sandboxes: a file system in a sparse file, of the size that the directory may have.
//!
//! ```text
//! here       makes the file system at the first use, checks it at each later one
//! launcher   locks the file, attaches it to a loop device that detaches itself, mounts it      (guest::launch::storage)
//! erase      waits until the lock has gone: with it the mount and the loop device have
//! ```
//!
//! The lock lives as long as the loop device does, because both have the file open as one; so nothing is left to clean up
//! after a crash, and two sandboxes cannot have the same directory.

use crate::{Error, Storage};
use guest::protocol;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The file system.
const IMAGE: &str = "image.ext4";
/// The same in the making.
const DRAFT: &str = "image.new";
/// The smallest one that can be made.
const LEAST: u64 = 1 << 20;
/// From this size on it has a journal, which would be most of a smaller one.
const JOURNAL_FROM: u64 = 32 << 20;
/// How long the sandbox that had it last may take to let it go.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is missing on this host, if something is.
pub(super) fn missing() -> Option<String> {
    if !crate::sys::is_root() {
        return Some("session storage needs the server to run as root: it mounts a file system".into());
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/loop-control") {
        return Some(format!(
            "session storage needs loop devices: /dev/loop-control: {error}"
        ));
    }
    let missing = ["mkfs.ext4", "e2fsck"].into_iter().find(|name| tool(name).is_none())?;
    Some(format!(
        "session storage needs {missing}, which is not installed (on Debian, Ubuntu and Fedora it is in the package e2fsprogs)"
    ))
}

/// Makes it ready to be mounted; makes it first if need be.
pub(super) fn prepare(storage: &Storage) -> Result<protocol::Storage, Error> {
    let name = storage.mount_path.strip_prefix("/mnt/").unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || matches!(name, "." | "..") || !name.bytes().all(plain) {
        return Err(Error::Host(format!(
            "session storage cannot be at '{}': it must be a directory right below /mnt, such as /mnt/data",
            storage.mount_path
        )));
    }
    let what = || format!("making the session storage {}", storage.dir.display());
    let failed = |source| Error::Io { what: what(), source };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&storage.dir)
        .map_err(failed)?;
    let dir = fs::canonicalize(&storage.dir).map_err(failed)?;
    // One at a time: two that make the first file system would make it in one another's file.
    let turn = File::open(&dir).map_err(failed)?;
    turn.lock().map_err(failed)?;
    let image = dir.join(IMAGE);
    if image.exists() {
        let _lock = lock(&image)?;
        check(&image)?;
    } else {
        make(&dir.join(DRAFT), storage.bytes)?;
        fs::rename(dir.join(DRAFT), &image).map_err(failed)?;
    }
    Ok(protocol::Storage {
        image,
        mount_path: storage.mount_path.clone(),
    })
}

/// The file of a storage.
pub(super) fn image(storage: &Storage) -> PathBuf {
    storage.dir.join(IMAGE)
}

/// Waits until no loop device has the file any more, if that happens soon: another sandbox may have it.
pub(crate) fn wait_until_free(image: &Path) {
    if let Err(error) = lock(image) {
        tracing::debug!(%error, "session storage was not waited for");
    }
}

fn lock(image: &Path) -> Result<File, Error> {
    let failed = |source| Error::Io {
        what: format!("opening the session storage {}", image.display()),
        source,
    };
    let file = OpenOptions::new().read(true).write(true).open(image).map_err(failed)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Host(format!(
                    "the session storage {} is in use by another sandbox",
                    image.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// A sparse file with an empty file system. One of a crash before is made anew.
fn make(draft: &Path, bytes: u64) -> Result<(), Error> {
    let bytes = bytes.max(LEAST).next_multiple_of(4096);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)
        .and_then(|file| file.set_len(bytes))
        .map_err(|source| Error::Io {
            what: format!("making {}", draft.display()),
            source,
        })?;
    let journal: &[&str] = if bytes < JOURNAL_FROM {
        &["-O", "^has_journal"]
    } else {
        &["-J", "size=4"]
    };
    let mut arguments = vec![
        "-q",
        "-F",
        "-m",
        "0",
        "-E",
        "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
    ];
    arguments.extend(journal);
    let output = run("mkfs.ext4", &arguments, draft)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Host(format!(
        "a file system of {bytes} bytes for session storage could not be made: {}",
        said(&output)
    )))
}

/// Mends what a power cut has left; an error if that cannot be done without losing something.
fn check(image: &Path) -> Result<(), Error> {
    let output = run("e2fsck", &["-p"], image)?;
    // 1: errors were corrected.
    if matches!(output.status.code(), Some(0 | 1)) {
        return Ok(());
    }
    Err(Error::Host(format!(
        "the session storage {} is damaged: {}; repair it with `e2fsck`, or remove its directory to begin with an empty one",
        image.display(),
        said(&output)
    )))
}

fn run(name: &str, arguments: &[&str], file: &Path) -> Result<Output, Error> {
    let program = tool(name).ok_or_else(|| Error::Host(format!("{name} is not installed")))?;
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .env_clear()
        .env("LC_ALL", "C")
        .output();
    output.map_err(|source| Error::Io {
        what: format!("running {name}"),
        source,
    })
}

/// What a program said, in one line.
fn said(output: &Output) -> String {
    let text = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    let text = String::from_utf8_lossy(&text);
    let words: Vec<&str> = text.split_whitespace().take(60).collect();
    format!("{} ({})", words.join(" "), output.status)
}

fn tool(name: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
    places
        .into_iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}
