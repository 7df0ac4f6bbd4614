//! An agent behind all walls.
//!
//! ```text
//! launcher   joins the cgroups
//!            as an ordinary user: enters a user namespace, itself as the only user
//!            enters a mount namespace and builds the root                        (rootfs)
//!            clones the guest into the other namespaces; as root, into a user namespace with a range of ids
//!            writes the range's maps, tells the server who the guest is, ends
//! guest      becomes the namespace's root, names the host, brings loopback up, mounts /proc, moves into the new root
//!            forks the agent (agent), sheds what it does not need itself, waits for the server, supervises (supervise)
//! ```
//!
//! As root, the root file system is built before the user namespace exists, so inside it every mount of it is locked: not
//! even a process with all capabilities there could take one away or make it writable.
//!
//! The sandbox has no network but its loopback. On addresses of that the server listens, through sockets that the guest has
//! made ([`Listening`]).

use super::mounts::{NODEV, NOEXEC, NOSUID, RDONLY, bind, fresh};
use super::{Files, detach, join_cgroups, rootfs, run_agent};
use crate::agent::{Plan, Privileges};
use crate::failure::{self, Context};
use crate::listening::Listening;
use crate::{seccomp, sys, walls};
use guest::frame;
use guest::protocol::{AGENT_ID, Container, Failure, ID_RANGE, Ids, Launch, Progress, ROOT, TASK};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, fchdir, getegid, geteuid, pivot_root, setgroups, sethostname, setresgid, setresuid};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The one capability that the guest keeps where its user is not the agent's: to signal it.
const CAP_KILL: u32 = 5;
/// Parts of `/proc` about the machine that an agent has no business with, hidden where they exist.
const HIDDEN: [&str; 14] = [
    "proc/acpi",
    "proc/asound",
    "proc/bus",
    "proc/fs",
    "proc/interrupts",
    "proc/irq",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/sysrq-trigger",
    "proc/timer_list",
    "proc/timer_stats",
];

/// Returns whether the agent was started, or, in the launcher, the guest.
pub(crate) fn run(launch: &Launch, container: &Container, mut channel: UnixStream) -> bool {
    let result = match prepare(launch, container) {
        Ok((host, files)) => clone_guest(container, &mut channel).map(|role| (role, host, files)),
        Err(failure) => Err(failure),
    };
    match result {
        Ok((Role::Launcher, _, _)) => true,
        Ok((Role::Guest(go), host, files)) => {
            let own_ids = matches!(container.ids, Ids::Range { .. });
            let listening = match enter(launch, container, go) {
                Ok(Some(listening)) => listening,
                Ok(None) => return false,
                Err(failure) => return fail(&mut channel, failure),
            };
            let plan = Plan {
                launch,
                workdir: Path::new(TASK),
                privileges: Privileges::Shed {
                    host: &host,
                    own_ids,
                    storage: container.storage.as_ref().map(|storage| storage.mount_path.as_str()),
                },
            };
            run_agent(launch, channel, files, listening, &plan, || shed(own_ids))
        }
        Err(failure) => fail(&mut channel, failure),
    }
}

fn fail(channel: &mut UnixStream, failure: Failure) -> bool {
    // If nobody listens there is nobody to tell.
    let _ = frame::write(channel, &Progress::Failed(failure));
    false
}

enum Role {
    Launcher,
    /// The channel over which the launcher says that the maps are written.
    Guest(UnixStream),
}

fn prepare(launch: &Launch, container: &Container) -> Result<(walls::Host, Files), Failure> {
    let host = detach()?;
    join_cgroups(launch)?;
    // A machine that runs out of memory ends an agent rather than the server.
    let _ = fs::write("/proc/self/oom_score_adj", "300");
    let files = Files::open(launch)?;
    if container.ids == Ids::Own {
        let (uid, gid) = (geteuid(), getegid());
        unshare(CloneFlags::CLONE_NEWUSER).map_err(no_user_namespace)?;
        fs::write("/proc/self/setgroups", "deny").on_wall("user namespace")?;
        fs::write("/proc/self/uid_map", format!("{AGENT_ID} {uid} 1")).on_wall("user namespace")?;
        fs::write("/proc/self/gid_map", format!("{AGENT_ID} {gid} 1")).on_wall("user namespace")?;
    }
    unshare(CloneFlags::CLONE_NEWNS).on_wall("mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).on_wall("mount namespace")?;
    rootfs::build(&launch.dir.join(ROOT), container)?;
    Ok((host, files))
}

fn clone_guest(container: &Container, channel: &mut UnixStream) -> Result<Role, Failure> {
    let mut namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    if let Ids::Range { .. } = container.ids {
        namespaces |= libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    }
    let (mut ours, theirs) = UnixStream::pair().on_host("a channel to the guest")?;
    let pid = sys::fork_into(namespaces, true).on_wall("namespaces")?;
    if pid == 0 {
        return Ok(Role::Guest(theirs));
    }
    // Told first: from here on the server ends the guest if anything goes wrong.
    frame::write(channel, &Progress::Cloned { pid }).on_host("answering the server")?;
    if let Ids::Range { base } = container.ids {
        let map = format!("0 {base} {ID_RANGE}");
        fs::write(format!("/proc/{pid}/uid_map"), &map).on_wall("user namespace")?;
        fs::write(format!("/proc/{pid}/gid_map"), &map).on_wall("user namespace")?;
    }
    ours.write_all(b"!").on_host("telling the guest")?;
    Ok(Role::Launcher)
}

/// Makes the namespaces a place to live in; the sockets for the server there. Nothing when the launcher died before it was
/// done.
fn enter(launch: &Launch, container: &Container, mut go: UnixStream) -> Result<Option<Listening>, Failure> {
    let mut word = [0];
    if go.read(&mut word).on_host("waiting for the launcher")? == 0 {
        return Ok(None);
    }
    nix::unistd::setsid().on_host("a session of its own for the guest")?;
    if let Ids::Range { .. } = container.ids {
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setgroups(&[]).on_wall("supplementary groups")?;
        setresgid(gid, gid, gid).on_wall("user namespace")?;
        setresuid(uid, uid, uid).on_wall("user namespace")?;
    }
    sethostname("localhost").on_wall("uts namespace")?;
    sys::loopback_up().on_wall("network namespace")?;
    // While the guest may still do as it likes with its network.
    let listening = Listening::on_own_loopback(&launch.listen)?;
    // A copy of the tree, because this namespace's own mount of it is locked and cannot become a root.
    let root = sys::open_tree(c".", true).on_wall("root")?;
    sys::move_mount(root.as_fd(), c".").on_wall("root")?;
    fchdir(&root).on_wall("root")?;
    drop(root);
    // While the host's is still in sight: the kernel gives no new one to those who could see none.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    fresh("proc", Path::new("proc"), flags, "").map_err(|error| no_proc(&error))?;
    mask().on_wall("/proc")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    fresh(
        "devpts",
        Path::new("dev/pts"),
        flags,
        "newinstance,ptmxmode=0666,mode=620",
    )
    .on_wall("/dev/pts")?;
    pivot_root(".", ".").on_wall("root")?;
    umount2(".", MntFlags::MNT_DETACH).on_wall("root")?;
    std::env::set_current_dir("/").on_wall("root")?;
    Ok(Some(listening))
}

fn mask() -> std::io::Result<()> {
    for name in HIDDEN {
        let path = Path::new(name);
        match fs::metadata(path) {
            // The sandbox's own /sys is an empty directory.
            Ok(data) if data.is_dir() => bind(Path::new("sys"), path, RDONLY | NOSUID | NODEV | NOEXEC, false)?,
            Ok(_) => bind(Path::new("dev/null"), path, NOSUID | NOEXEC, false)?,
            Err(_) => {}
        }
    }
    bind(
        Path::new("proc/sys"),
        Path::new("proc/sys"),
        RDONLY | NOSUID | NODEV | NOEXEC,
        false,
    )
}

/// The guest gives up what it needs no more: it has nothing left to build, only to watch.
fn shed(own_ids: bool) -> Result<(), Failure> {
    sys::drop_bounding_set().on_wall("the guest's capabilities")?;
    sys::keep_capabilities(if own_ids { &[CAP_KILL] } else { &[] }).on_wall("the guest's capabilities")?;
    nix::sys::prctl::set_dumpable(false).on_wall("the guest's memory")?;
    nix::sys::prctl::set_no_new_privs().on_wall("the guest's privileges")?;
    seccomp::apply().on_wall("the guest's seccomp filter")?;
    walls::read_back_guest(if own_ids { 1 << CAP_KILL } else { 0 })
}

fn no_user_namespace(error: nix::errno::Errno) -> Failure {
    failure::wall(
        "user namespace",
        format!(
            "{error}; an ordinary user needs them allowed: see the sysctls user.max_user_namespaces, \
             kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, or run as root"
        ),
    )
}

fn no_proc(error: &std::io::Error) -> Failure {
    failure::wall(
        "/proc",
        format!(
            "{error}; inside another container, /proc must be given whole to it (`--security-opt systempaths=unconfined` \
             or `--privileged`)"
        ),
    )
}
