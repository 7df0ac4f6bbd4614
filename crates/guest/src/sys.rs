//! The few system calls that `nix` does not wrap. The guest has one thread, so a raw fork is safe.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

pub(crate) const MOUNT_ATTR_RDONLY: u64 = 1;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 2;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 4;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 8;
pub(crate) const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_int = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Forks, the child in new namespaces. With `sibling` the child's parent is the caller's own parent.
/// Gives the child's id, 0 in the child.
pub(crate) fn fork_into(namespaces: libc::c_int, sibling: bool) -> io::Result<i32> {
    let parent = if sibling { libc::CLONE_PARENT } else { 0 };
    #[allow(clippy::cast_sign_loss, reason = "flags are a bit set")]
    let flags = (namespaces | parent | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: no stack, no shared memory and no thread ids are passed, so this is a fork; this process has one thread,
    // so no lock can be held by another one in the child's copy of memory.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    let result = Errno::result(result)?;
    i32::try_from(result).map_err(io::Error::other)
}

/// Ends the process at once, running no destructor.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Takes a descriptor that this process was started with.
///
/// # Safety contract
/// To be called once for each descriptor, before anything else could own it.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads the descriptor table only.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open (checked above) and the caller is its first owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes a descriptor that the caller has just been given, or whose former owner in this forked child is never dropped.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: as said above; the callers are few and each says which of the two it is.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: only to be called right before exec or by a process that owns none of them; kernel state only.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    Ok(())
}

/// A detached copy of the mount at a path, with all below it if `recursive`.
pub(crate) fn open_tree(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    #[allow(clippy::cast_sign_loss, reason = "flags are a bit set")]
    let flags = OPEN_TREE_CLONE | (libc::O_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 }) as libc::c_uint;
    // SAFETY: the path is a valid C string for the length of the call.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets attributes on a mount and, if `recursive`, all below it.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    set: u64,
    recursive: bool,
    ids: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let userns_fd = match ids {
        Some(fd) => u64::try_from(fd.as_raw_fd()).map_err(io::Error::other)?,
        None => 0,
    };
    let attr = MountAttr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` lives through the call and its size is passed with it; the path is an empty C string.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Attaches a detached mount at a path.
pub(crate) fn move_mount(mount: BorrowedFd<'_>, target: &CStr) -> io::Result<()> {
    // SAFETY: both paths are valid C strings for the length of the call.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Leaves exactly these capabilities, permitted and effective, none inheritable or ambient.
pub(crate) fn keep_capabilities(keep: &[u32]) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut data = [CapData {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    for capability in keep {
        let word = &mut data[usize::from(*capability >= 32)];
        word.effective |= 1 << (capability % 32);
        word.permitted |= 1 << (capability % 32);
    }
    let header = CapHeader {
        version: VERSION_3,
        pid: 0,
    };
    // SAFETY: header and two data words, as version 3 asks for, live through the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// Takes every capability out of the bounding set and the ambient set.
pub(crate) fn drop_bounding_set() -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    for capability in 0..64 {
        // SAFETY: prctl with integer arguments.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => {}
            // The kernel's last capability is passed.
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Being root gives no capabilities any more, and none can be made ambient; locked.
pub(crate) fn lock_securebits() -> io::Result<()> {
    const NOROOT_AND_LOCK: libc::c_int = 0b11;
    const NO_AMBIENT_RAISE_AND_LOCK: libc::c_int = 0b1100_0000;
    // SAFETY: prctl with integer arguments.
    Errno::result(unsafe {
        libc::prctl(
            libc::PR_SET_SECUREBITS,
            NOROOT_AND_LOCK | NO_AMBIENT_RAISE_AND_LOCK,
            0,
            0,
            0,
        )
    })?;
    Ok(())
}

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    #[allow(clippy::cast_possible_truncation, reason = "the two flags are below 2^15")]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    }
    // SAFETY: `request` is a valid `ifreq` with a name that ends in zero, for the length of the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}

/// Gives the loopback interface of the current network namespace a further address, itself alone (`/32`).
pub(crate) fn add_loopback_address(number: usize, address: std::net::Ipv4Addr) -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // A further address is one of an alias.
    let name = format!("lo:{number}");
    // In this order: the kernel guesses a mask from the address, and would take its whole network for this machine.
    for (what, value) in [
        (libc::SIOCSIFADDR, address),
        (libc::SIOCSIFNETMASK, std::net::Ipv4Addr::BROADCAST),
    ] {
        // SAFETY: all-zero bytes are a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero.
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let socket_address = libc::sockaddr_in {
            sin_family: libc::sa_family_t::try_from(libc::AF_INET).map_err(io::Error::other)?,
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes(value.octets()),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: both are plain data, and `sockaddr_in` is not larger than the `sockaddr` that it is written over.
        unsafe {
            (&raw mut request.ifr_ifru)
                .cast::<libc::sockaddr_in>()
                .write_unaligned(socket_address);
        }
        // SAFETY: `request` is a valid `ifreq` with a name that ends in zero, for the length of the call.
        Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), what as _, &raw const request) })?;
    }
    Ok(())
}

/// Puts all signals back to their default, the mask empty: what a program expects to be started with.
pub(crate) fn default_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    for number in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action is no function of ours.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Ignores a signal.
pub(crate) fn ignore_signal(number: nix::sys::signal::Signal) -> io::Result<()> {
    // SAFETY: ignoring is no function of ours.
    unsafe { nix::sys::signal::signal(number, nix::sys::signal::SigHandler::SigIgn) }?;
    Ok(())
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// The number of a loop device that nobody uses now.
pub(crate) fn free_loop(control: BorrowedFd<'_>) -> io::Result<i32> {
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    // JUSTIFICATION: `nix` has no calls for loop devices. SAFETY: this request takes no argument.
    Ok(Errno::result(unsafe {
        libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _)
    })?)
}

/// Attaches a file to a loop device that detaches itself with its last user.
pub(crate) fn configure_loop(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR,
            names: [0; 160],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // JUSTIFICATION: as above. SAFETY: `config` has the layout of `struct loop_config` and lives through the call.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) })?;
    Ok(())
}

/// A path as the system takes it.
pub(crate) fn c_path(path: &Path) -> io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
