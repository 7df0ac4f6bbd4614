//! Reads every wall back from `/proc`, in the agent's process, right before its program runs.
//!
//! A call that answers success proves little (a build of one well-known runtime ignores its seccomp profile silently), so
//! what counts is what the kernel says afterwards.
//!
//! Invariant: a wall that does not read back as it should ends the start.

use crate::failure::{self, Context};
use guest::protocol::{AGENT_ID, Failure};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// The namespaces that a sandbox has of its own, with what to call them.
const NAMESPACES: [(&str, &str); 7] = [
    ("user", "user namespace"),
    ("pid", "pid namespace"),
    ("mnt", "mount namespace"),
    ("net", "network namespace"),
    ("ipc", "ipc namespace"),
    ("uts", "uts namespace"),
    ("cgroup", "cgroup namespace"),
];

/// What the host has and a sandbox must not share.
pub(crate) struct Host {
    namespaces: [u64; NAMESPACES.len()],
}

impl Host {
    /// Looks at the namespaces of this process, before any is left.
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self {
            namespaces: namespaces()?,
        })
    }
}

/// Checks every wall around this process; the names of those that stand, and what is weaker than it should be.
pub(crate) fn read_back(
    host: &Host,
    own_ids: bool,
    storage: Option<&str>,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let mut walls = Vec::new();
    let mut warnings = Vec::new();
    let here = namespaces().on_wall("namespaces")?;
    for (index, (_, name)) in NAMESPACES.iter().enumerate() {
        if host.namespaces[index] == here[index] {
            return Err(failure::wall(*name, "the agent's process is still in the host's"));
        }
        walls.push((*name).to_owned());
    }
    let status = fs::read_to_string("/proc/self/status").on_wall("/proc")?;
    check_status(&status, own_ids, &mut warnings)?;
    walls.extend(
        [
            "unprivileged user",
            "capabilities dropped",
            "no new privileges",
            "seccomp",
        ]
        .map(str::to_owned),
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").on_wall("/proc")?;
    check_mounts(&mounts)?;
    walls.push("read-only root".to_owned());
    if let Some(place) = storage {
        check_storage(&mounts, place)?;
        walls.push("session storage".to_owned());
    }
    check_descriptors()?;
    Ok((walls, warnings))
}

/// Checks that the guest itself has kept nothing but these capabilities.
pub(crate) fn read_back_guest(capabilities: u64) -> Result<(), Failure> {
    let status = fs::read_to_string("/proc/self/status").on_wall("/proc")?;
    let kept = format!("{capabilities:016x}");
    let none = "0000000000000000";
    for (key, value) in [
        ("CapInh", none),
        ("CapPrm", &kept),
        ("CapEff", &kept),
        ("CapBnd", none),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        let found = field(&status, key).unwrap_or("nothing");
        if found != value {
            return Err(failure::wall(
                "the guest's privileges",
                format!("/proc/self/status says {key}: {found}, not {value}"),
            ));
        }
    }
    Ok(())
}

fn namespaces() -> io::Result<[u64; NAMESPACES.len()]> {
    let mut found = [0; NAMESPACES.len()];
    for (slot, (file, _)) in found.iter_mut().zip(NAMESPACES) {
        *slot = fs::metadata(format!("/proc/self/ns/{file}"))?.ino();
    }
    Ok(found)
}

fn check_status(status: &str, own_ids: bool, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let agent = format!("{AGENT_ID}\t{AGENT_ID}\t{AGENT_ID}\t{AGENT_ID}");
    let none = "0000000000000000";
    let wanted: [(&str, &str, &str); 9] = [
        ("Uid", &agent, "unprivileged user"),
        ("Gid", &agent, "unprivileged group"),
        ("CapInh", none, "inheritable capabilities"),
        ("CapPrm", none, "permitted capabilities"),
        ("CapEff", none, "effective capabilities"),
        ("CapBnd", none, "capability bounding set"),
        ("CapAmb", none, "ambient capabilities"),
        ("NoNewPrivs", "1", "no new privileges"),
        ("Seccomp", "2", "seccomp"),
    ];
    for (key, value, wall) in wanted {
        let found = field(status, key);
        if found != Some(value) {
            let found = found.unwrap_or("nothing");
            return Err(failure::wall(
                wall,
                format!("/proc/self/status says {key}: {found}, not {value}"),
            ));
        }
    }
    let groups = field(status, "Groups").unwrap_or_default();
    let foreign = groups
        .split_ascii_whitespace()
        .any(|group| group.parse() != Ok(AGENT_ID));
    if own_ids && !groups.is_empty() {
        return Err(failure::wall(
            "supplementary groups",
            format!("/proc/self/status says Groups: {groups}"),
        ));
    }
    if foreign {
        warnings.push(
            "the agent keeps the supplementary groups of the server's user, because only root may drop them: \
             start the server with no supplementary groups"
                .to_owned(),
        );
    }
    Ok(())
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

/// The root is read-only and nothing below it honours set-user-id bits or, outside `/dev`, device nodes.
fn check_mounts(mountinfo: &str) -> Result<(), Failure> {
    let mut root = None;
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let (Some(point), Some(options)) = (fields.nth(4), fields.next()) else {
            continue;
        };
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        if point == "/" {
            root = Some(has("ro"));
        }
        if !has("nosuid") {
            return Err(failure::wall("nosuid", format!("{point} is mounted with '{options}'")));
        }
        if !has("nodev") && !point.starts_with("/dev/") && !point.starts_with("/proc/") {
            return Err(failure::wall("nodev", format!("{point} is mounted with '{options}'")));
        }
    }
    if root != Some(true) {
        return Err(failure::wall("read-only root", "the root of the sandbox is writable"));
    }
    Ok(())
}

/// The storage is a file system of its own, of which a part is shown, writable.
fn check_storage(mountinfo: &str, place: &str) -> Result<(), Failure> {
    let found = mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
        (point == place).then(|| (root, options, right.split(' ').next().unwrap_or_default()))
    });
    match found {
        Some(("/data", options, "ext4")) if options.split(',').any(|option| option == "rw") => Ok(()),
        other => Err(failure::wall(
            "session storage",
            format!("{place} is mounted as {other:?}"),
        )),
    }
}

/// Nothing of the host's is open: the three standard files, the guest's channel that closes on exec, this listing.
fn check_descriptors() -> Result<(), Failure> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").on_wall("open files")? {
        let name = entry.on_wall("open files")?.file_name();
        open.push(name.to_string_lossy().parse::<i32>().on_wall("open files")?);
    }
    open.sort_unstable();
    if open != [0, 1, 2, 3, 4] {
        return Err(failure::wall(
            "open files",
            format!("descriptors {open:?} are open, expected 0 to 4"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    #[test]
    fn each_line_of_the_status_counts() {
        assert!(check_status(STATUS, true, &mut Vec::new()).is_ok());
        for (from, to) in [
            ("Uid:\t1000", "Uid:\t0"),
            ("1000\nGroups", "0\nGroups"),
            ("CapInh:\t0", "CapInh:\t1"),
            ("CapPrm:\t0", "CapPrm:\t1"),
            ("CapEff:\t0", "CapEff:\t1"),
            ("CapBnd:\t0", "CapBnd:\t1"),
            ("CapAmb:\t0", "CapAmb:\t1"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("Seccomp:\t2\n", ""),
            ("Groups:\t ", "Groups:\t27 "),
        ] {
            assert!(STATUS.contains(from), "{from}");
            assert!(
                check_status(&STATUS.replace(from, to), true, &mut Vec::new()).is_err(),
                "{to}"
            );
        }
    }

    #[test]
    fn a_group_that_cannot_be_dropped_is_a_warning() {
        let mut warnings = Vec::new();
        check_status(&STATUS.replace("Groups:\t ", "Groups:\t27 1000 "), false, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn storage_must_be_a_file_system_of_its_own() {
        let good = "9 1 7:0 /data /mnt/data rw,nosuid,nodev,relatime - ext4 /dev/loop0 rw\n";
        for (text, is_good) in [
            (good.to_owned(), true),
            (good.replace("rw,nosuid", "ro,nosuid"), false),
            (good.replace("ext4", "tmpfs"), false),
            (good.replace("/data /mnt", "/ /mnt"), false),
            (good.replace("/mnt/data", "/mnt/other"), false),
            (String::new(), false),
        ] {
            assert_eq!(check_storage(&text, "/mnt/data").is_ok(), is_good, "{text}");
        }
    }

    #[test]
    fn mounts_must_be_read_only_at_the_root_and_nosuid_everywhere() {
        let root = "1 0 0:1 / / ro,nosuid,nodev,relatime - tmpfs none ro\n";
        for (text, good) in [
            (root.to_owned(), true),
            (root.replace("ro,nosuid", "rw,nosuid"), false),
            (root.replace("nosuid,", ""), false),
            (format!("{root}2 1 0:2 / /usr ro,nodev - ext4 x ro\n"), false),
            (format!("{root}2 1 0:2 / /usr ro,nosuid - ext4 x ro\n"), false),
            (
                format!("{root}2 1 0:2 /null /dev/null rw,nosuid - devtmpfs x rw\n"),
                true,
            ),
            (String::new(), false),
        ] {
            assert_eq!(check_mounts(&text).is_ok(), good, "{text}");
        }
    }
}
