//! The file system that an agent sees, built on a mount point in the sandbox's directory.
//!
//! ```text
//! /                a tiny tmpfs, read-only once built
//! /usr /bin /lib   the host's, read-only
//! /etc             generated, with the host's linker cache, certificates and time zone
//! /var/task        the package under a private writable layer: the working directory
//! /tmp /home/agent /dev/shm    private and writable
//! /dev             null, zero, full, random, urandom, pts of its own
//! /proc            its own, the parts about the machine masked (mounted later, from inside)
//! /sys             empty
//! /mnt/<name>      a directory that outlives the sandbox, where there is one (storage)
//! ```
//!
//! All that is writable lies on one tmpfs (`scratch`) of the size that the limits allow, and counts as the sandbox's
//! memory. What the command needs of the host besides is shown read-only at its own path; the directories above it are
//! ours, so that an agent's user reaches it also below a home directory that only its owner may enter.
//!
//! Invariant: no file of the host is writable from inside, and the package's own files never are.

use super::mounts::{NODEV, NOEXEC, NOSUID, RDONLY, bind, bind_mapped, fresh};
use crate::failure::{Context, wall};
use crate::{failure, sys};
use guest::protocol::{AGENT_ID, Container, Failure, HOME, Ids, TASK};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::unistd::{Gid, Uid};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// What of the host every program needs.
const BASE: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib64", "lib32", "libx32", "nix", "gnu"];
/// What of the host's `/etc` programs look for and that says nothing about the host. Shown where it exists.
const ETC: [&str; 9] = [
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "pki",
    "ca-certificates",
    "alternatives",
    "mime.types",
    "protocols",
];
/// The devices that are harmless and expected.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Where nothing of the host may be shown, because it is ours.
const OURS: [&str; 6] = ["/dev", "/proc", "/sys", "/etc", TASK, HOME];

/// Builds the root below `base`, which becomes the current directory. The caller is in a mount namespace of its own.
pub(super) fn build(base: &Path, container: &Container) -> Result<(), Failure> {
    let rw = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    fresh("tmpfs", base, rw, "mode=755,size=4m,nr_inodes=4096").on_wall("root")?;
    // From here on all paths are relative: what `/proc/mounts` shows inside then names nothing of the host.
    std::env::set_current_dir(base).on_wall("root")?;
    system().on_wall("read-only base")?;
    etc().on_wall("/etc")?;
    devices().on_wall("/dev")?;
    let scratch = scratch(container)?;
    for dir in ["proc", "sys", "run", "mnt", "opt", "srv", "root"] {
        directory(Path::new(dir), 0o755).on_wall("root")?;
    }
    for path in &container.read_only {
        show(path)?;
    }
    task(container, &scratch)?;
    if let Some(storage) = &container.storage {
        let Ids::Range { base } = container.ids else {
            return Err(failure::host("session storage", "it needs a server that is root"));
        };
        super::storage::show(storage, base)?;
    }
    scratch.hide().on_wall("scratch space")?;
    File::create(".dockerenv").on_wall("root")?;
    let root = nix::fcntl::open(
        ".",
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .on_wall("read-only root")?;
    sys::mount_setattr(std::os::fd::AsFd::as_fd(&root), RDONLY | NOSUID | NODEV, false, None).on_wall("read-only root")
}

/// The host's programs and libraries, as directories or as the links that they are there.
fn system() -> io::Result<()> {
    for name in BASE {
        let host = Path::new("/").join(name);
        let Ok(data) = fs::symlink_metadata(&host) else {
            continue;
        };
        if data.is_symlink() {
            // Relative, so that it means the same before and after this becomes the root.
            let target = fs::read_link(&host)?;
            symlink(target.strip_prefix("/").unwrap_or(&target), name)?;
        } else if data.is_dir() {
            directory(Path::new(name), 0o755)?;
            bind(&host, Path::new(name), RDONLY | NOSUID | NODEV, true)?;
        }
    }
    Ok(())
}

fn etc() -> io::Result<()> {
    directory(Path::new("etc"), 0o755)?;
    let id = AGENT_ID;
    for (name, text) in [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:{id}:{id}:agent:{HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        ("group", format!("root:x:0:\nagent:x:{id}:\nnogroup:x:65534:\n")),
        ("hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned()),
        ("hostname", "localhost\n".to_owned()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n".to_owned(),
        ),
        ("resolv.conf", "# no network\n".to_owned()),
        ("services", String::new()),
        ("shells", "/bin/sh\n".to_owned()),
    ] {
        fs::write(Path::new("etc").join(name), text)?;
    }
    symlink("/proc/self/mounts", "etc/mtab")?;
    for name in ETC {
        show_file(&Path::new("/etc").join(name), &Path::new("etc").join(name))?;
    }
    for name in ["localtime", "os-release"] {
        // Links into /usr, which is here.
        match fs::read_link(Path::new("/etc").join(name)) {
            Ok(target) => symlink(target, Path::new("etc").join(name))?,
            Err(_) => show_file(&Path::new("/etc").join(name), &Path::new("etc").join(name))?,
        }
    }
    Ok(())
}

fn devices() -> io::Result<()> {
    directory(Path::new("dev"), 0o755)?;
    for name in DEVICES {
        let target = Path::new("dev").join(name);
        File::create(&target)?;
        bind(&Path::new("/dev").join(name), &target, NOSUID | NOEXEC, false)?;
    }
    directory(Path::new("dev/pts"), 0o755)?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, Path::new("dev").join(name))?;
    }
    Ok(())
}

/// The private writable space, mounted aside until its parts are where they belong.
struct Scratch {
    owner: (Uid, Gid),
}

const SCRATCH: &str = ".scratch";
const LOWER: &str = ".lower";

fn scratch(container: &Container) -> Result<Scratch, Failure> {
    let (uid, gid) = match container.ids {
        Ids::Range { base } => (base + AGENT_ID, base + AGENT_ID),
        Ids::Own => (AGENT_ID, AGENT_ID),
    };
    let scratch = Scratch {
        owner: (Uid::from_raw(uid), Gid::from_raw(gid)),
    };
    let mount = || {
        directory(Path::new(SCRATCH), 0o755)?;
        let inodes = (container.scratch / 4096).clamp(1024, 1 << 20);
        let options = format!("mode=755,size={},nr_inodes={inodes}", container.scratch.max(64 << 10));
        fresh(
            "tmpfs",
            Path::new(SCRATCH),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            &options,
        )?;
        for (name, target, mode) in [
            ("tmp", "tmp", 0o1777),
            ("home", &HOME[1..], 0o700),
            ("shm", "dev/shm", 0o1777),
        ] {
            let part = scratch.part(name, mode)?;
            directory(Path::new(target), 0o755)?;
            bind(&part, Path::new(target), NOSUID | NODEV, false)?;
        }
        directory(Path::new("var"), 0o755)?;
        symlink("../tmp", "var/tmp")
    };
    mount().on_wall("scratch space")?;
    Ok(scratch)
}

impl Scratch {
    /// A directory of it, the agent's.
    fn part(&self, name: &str, mode: u32) -> io::Result<PathBuf> {
        let path = Path::new(SCRATCH).join(name);
        fs::create_dir(&path)?;
        // The umask is not to have a say.
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        self.give(&path)?;
        Ok(path)
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        nix::unistd::fchownat(
            nix::fcntl::AT_FDCWD,
            path,
            Some(self.owner.0),
            Some(self.owner.1),
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(io::Error::from)
    }

    /// Takes the whole out of sight; its parts stay where they are shown.
    fn hide(self) -> io::Result<()> {
        for name in [SCRATCH, LOWER] {
            if Path::new(name).exists() {
                umount2(name, MntFlags::MNT_DETACH)?;
                fs::remove_dir(name)?;
            }
        }
        Ok(())
    }
}

/// The package at [`TASK`], under a layer that takes what the agent writes.
fn task(container: &Container, scratch: &Scratch) -> Result<(), Failure> {
    let target = Path::new(&TASK[1..]);
    let lower = Path::new(LOWER);
    let overlay = || {
        directory(target, 0o755)?;
        directory(lower, 0o755)?;
        show_package(container, lower)?;
        let (upper, work) = (scratch.part("upper", 0o755)?, scratch.part("work", 0o755)?);
        let mut options = format!(
            "lowerdir={LOWER},upperdir={},workdir={}",
            upper.display(),
            work.display()
        );
        if container.ids == Ids::Own {
            options.push_str(",userxattr");
        }
        fresh("overlay", target, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &options)
    };
    if overlay().is_ok() {
        return Ok(());
    }
    // A kernel without overlayfs, or one that refuses it to ordinary users.
    let copy = || {
        let task = scratch.part("task", 0o755)?;
        copy_tree(&container.package, &task, scratch)?;
        bind(&task, target, NOSUID | NODEV, false)
    };
    copy().map_err(|error| {
        wall(
            "private layer over the package",
            format!("neither overlayfs nor a copy: {error}"),
        )
    })
}

/// As root, whoever owns the package appears as the agent inside, so that it may change its own copy of every file, as it
/// can where the server's user and the agent are one.
fn show_package(container: &Container, target: &Path) -> io::Result<()> {
    let attributes = RDONLY | NOSUID | NODEV;
    if let Ids::Range { base } = container.ids {
        let owner = fs::metadata(&container.package)?;
        let mapped = id_map(owner.uid(), owner.gid(), base + AGENT_ID)
            .and_then(|ids| bind_mapped(&container.package, target, attributes, std::os::fd::AsFd::as_fd(&ids)));
        if mapped.is_ok() {
            return Ok(());
        }
        // A file system that cannot map ids: the agent reads what everyone may read, and writes new files only.
    }
    bind(&container.package, target, attributes, false)
}

/// A user namespace that maps one user and one group, for a mount to use.
pub(super) fn id_map(uid: u32, gid: u32, to: u32) -> io::Result<OwnedFd> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let child = sys::fork_into(libc::CLONE_NEWUSER, false)?;
    if child == 0 {
        drop(ours);
        // It lives until the other end closes.
        let _ = io::Read::read(&mut { theirs }, &mut [0]);
        sys::exit_now(0);
    }
    drop(theirs);
    let open = || {
        fs::write(format!("/proc/{child}/uid_map"), format!("{uid} {to} 1"))?;
        fs::write(format!("/proc/{child}/gid_map"), format!("{gid} {to} 1"))?;
        File::open(format!("/proc/{child}/ns/user"))
    };
    let namespace = open();
    drop(ours);
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None)?;
    Ok(namespace?.into())
}

fn copy_tree(from: &Path, to: &Path, scratch: &Scratch) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&entry.path(), &target, scratch)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
        scratch.give(&target)?;
    }
    Ok(())
}

/// Shows a directory or file of the host at its own path, read-only.
fn show(path: &Path) -> Result<(), Failure> {
    let what = || format!("showing {}", path.display());
    let real = fs::canonicalize(path).on_host(what())?;
    for place in [path, &real] {
        if place
            .components()
            .any(|part| matches!(part, Component::ParentDir | Component::CurDir))
            || !place.is_absolute()
        {
            return Err(failure::host(what(), "it is not an absolute path without '.' and '..'"));
        }
        let inside = OURS
            .iter()
            .any(|ours| place.starts_with(ours) || Path::new(ours).starts_with(place));
        if inside || place == Path::new("/tmp") {
            return Err(failure::host(
                what(),
                format!("{} is the sandbox's own there", place.display()),
            ));
        }
        show_at(&real, place).on_host(what())?;
    }
    Ok(())
}

fn show_at(source: &Path, place: &Path) -> io::Result<()> {
    let target = place.strip_prefix("/").map_err(io::Error::other)?;
    // The first component may be one of the host's directories that are here already, or a link into one.
    let first = target.components().next().map(|part| PathBuf::from(part.as_os_str()));
    if first.is_some_and(|first| BASE.iter().any(|name| Path::new(name) == first)) && Path::new(target).exists() {
        return Ok(());
    }
    if fs::symlink_metadata(target).is_ok() && same(source, target) {
        // Shown before, itself or with a directory above it.
        return Ok(());
    }
    if source.is_dir() {
        directory(target, 0o755)?;
        bind(source, target, RDONLY | NOSUID | NODEV, true)
    } else {
        if let Some(parent) = target.parent() {
            directory(parent, 0o755)?;
        }
        File::create(target)?;
        bind(source, target, RDONLY | NOSUID | NODEV, false)
    }
}

fn same(one: &Path, two: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(two)) {
        (Ok(one), Ok(two)) => (one.dev(), one.ino()) == (two.dev(), two.ino()),
        _ => false,
    }
}

/// Shows a file or directory of the host elsewhere, if it exists.
fn show_file(source: &Path, target: &Path) -> io::Result<()> {
    let Ok(real) = fs::canonicalize(source) else {
        return Ok(());
    };
    if real.is_dir() {
        directory(target, 0o755)?;
        bind(&real, target, RDONLY | NOSUID | NODEV, true)
    } else {
        File::create(target)?;
        bind(&real, target, RDONLY | NOSUID | NODEV, false)
    }
}

/// Makes a directory and those above it. A link on the way would lead out of the new root, so there must be none.
pub(super) fn directory(path: &Path, mode: u32) -> io::Result<()> {
    let mut made = PathBuf::new();
    for part in path.components() {
        made.push(part);
        match fs::symlink_metadata(&made) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("{} is in the way", made.display()))),
            Err(_) => DirBuilder::new().mode(mode).create(&made)?,
        }
    }
    Ok(())
}
