//! Finds the control group hierarchies in which this process may make groups.

use super::{Controller, Group, Version, freeze};
use crate::{Error, Limits};
use domain::id::SandboxId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The hierarchies in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    hierarchies: Vec<Hierarchy>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    controllers: Vec<Controller>,
    /// The directory in which sandboxes have theirs: our own, so that all of it can be found and removed.
    base: PathBuf,
}

/// A mounted hierarchy and where this process is in it.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    version: Version,
    controllers: Vec<Controller>,
    mount: PathBuf,
    own: PathBuf,
}

impl Tree {
    /// Tries every mounted hierarchy. `key` names our part of each.
    pub(crate) fn find(key: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mounted = parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let mut tree = Self::default();
        for place in mounted {
            let wanted: Vec<Controller> = match place.version {
                Version::V1 => place.controllers.clone(),
                Version::V2 => offered(&place.own).into_iter().chain([Controller::Freezer]).collect(),
            };
            let wanted: Vec<_> = wanted.into_iter().filter(|controller| !tree.has(*controller)).collect();
            if wanted.is_empty() {
                continue;
            }
            match place.usable(key, &wanted) {
                Ok(hierarchy) if hierarchy.controllers.is_empty() => {}
                Ok(hierarchy) => tree.hierarchies.push(hierarchy),
                Err(reason) => tree
                    .warnings
                    .push(format!("control groups at {}: {reason}", place.mount.display())),
            }
        }
        tree
    }

    /// The limits that stand, in words.
    pub(crate) fn walls(&self) -> Vec<String> {
        let limits = [
            (Controller::Memory, "memory limit"),
            (Controller::Pids, "process limit"),
            (Controller::Cpu, "CPU limit"),
        ];
        let version = |controller| {
            self.hierarchies
                .iter()
                .find(|h| h.controllers.contains(&controller))
                .map(|h| h.version)
        };
        limits
            .into_iter()
            .filter_map(|(controller, name)| match version(controller)? {
                Version::V1 => Some(format!("{name} (cgroup v1)")),
                Version::V2 => Some(format!("{name} (cgroup v2)")),
            })
            .collect()
    }

    /// The limits that do not stand, and why.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let missing: Vec<&str> = [Controller::Memory, Controller::Pids, Controller::Cpu]
            .into_iter()
            .filter(|controller| !self.has(*controller))
            .map(Controller::name)
            .collect();
        if missing.is_empty() {
            return Vec::new();
        }
        let mut text = format!("no limit of {} for a whole sandbox", missing.join(", "));
        if !self.warnings.is_empty() {
            text = format!("{text} ({})", self.warnings.join("; "));
        }
        text.push_str(
            ": run the server as root, or give its user a delegated control group \
             (`systemd-run --user --scope -p Delegate=yes eyot serve`)",
        );
        vec![text]
    }

    /// Whether a controller can be used.
    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.hierarchies
            .iter()
            .any(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    /// The directories that a sandbox's group will have; nothing is made yet.
    pub(crate) fn plan(&self, id: &SandboxId) -> Group {
        let places = self.hierarchies.iter();
        Group::new(
            places
                .map(|place| (place.version, place.controllers.clone(), place.base.join(id.as_str())))
                .collect(),
        )
    }

    /// Makes a planned group and writes its limits.
    pub(crate) fn create(&self, group: &Group, limits: &Limits) -> Result<(), Error> {
        for hierarchy in &self.hierarchies {
            hierarchy.prepare().map_err(|source| Error::Io {
                what: format!("making the control group {}", hierarchy.base.display()),
                source,
            })?;
        }
        group.create(limits)
    }
}

impl Mounted {
    /// Makes our part of the hierarchy, to see whether it can be made.
    fn usable(&self, key: &str, wanted: &[Controller]) -> Result<Hierarchy, String> {
        let name = format!("eyot-{key}");
        // On v2 a group with processes cannot give controllers to groups below it, except the topmost one. Root goes
        // there; others stay in the group that was delegated to them.
        let above = match self.version {
            Version::V2 if crate::sys::is_root() && !enabled(&self.mount, wanted) => &self.mount,
            Version::V2 | Version::V1 => &self.own,
        };
        if self.version == Version::V2 {
            enable(above, wanted).map_err(|error| format!("enabling controllers in {}: {error}", above.display()))?;
        }
        let mut hierarchy = Hierarchy {
            version: self.version,
            controllers: wanted.to_vec(),
            base: above.join(name),
        };
        hierarchy
            .prepare()
            .map_err(|error| format!("making {}: {error}", hierarchy.base.display()))?;
        if wanted.contains(&Controller::Freezer) && !freeze::works(self.version, &hierarchy.base) {
            hierarchy
                .controllers
                .retain(|controller| *controller != Controller::Freezer);
        }
        let writable = hierarchy.base.join("cgroup.procs");
        let check = nix::unistd::access(&writable, nix::unistd::AccessFlags::W_OK);
        // Left empty, it goes away with the last sandbox; a probe leaves nothing behind.
        let _ = fs::remove_dir(&hierarchy.base);
        check.map_err(|error| format!("writing {}: {error}", writable.display()))?;
        Ok(hierarchy)
    }
}

impl Hierarchy {
    /// Makes the base, with the controllers given to the groups below it.
    fn prepare(&self) -> io::Result<()> {
        match fs::create_dir(&self.base) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match self.version {
            Version::V1 => Ok(()),
            Version::V2 => enable(&self.base, &self.controllers),
        }
    }
}

fn enable(dir: &Path, wanted: &[Controller]) -> io::Result<()> {
    if enabled(dir, wanted) {
        return Ok(());
    }
    let text: Vec<String> = wanted
        .iter()
        .filter(|controller| controller.is_given())
        .map(|c| format!("+{}", c.name()))
        .collect();
    match fs::write(dir.join("cgroup.subtree_control"), text.join(" ")) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            // We sit in it. If we are alone, we move one level down and try again.
            let me = std::process::id().to_string();
            let there = fs::read_to_string(dir.join("cgroup.procs"))?;
            if there.lines().any(|pid| pid != me) {
                return Err(io::Error::other(
                    "other processes than the server are in this control group",
                ));
            }
            let leaf = dir.join("eyot-server");
            fs::create_dir_all(&leaf)?;
            fs::write(leaf.join("cgroup.procs"), me)?;
            fs::write(dir.join("cgroup.subtree_control"), text.join(" "))
        }
        other => other,
    }
}

fn enabled(dir: &Path, wanted: &[Controller]) -> bool {
    let text = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |name: &str| text.split_ascii_whitespace().any(|word| word == name);
    wanted
        .iter()
        .all(|controller| !controller.is_given() || has(controller.name()))
}

/// What a v2 group can give to groups below it.
fn offered(dir: &Path) -> Vec<Controller> {
    let text = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let mut found: Vec<_> = Controller::ALL
        .into_iter()
        .filter(|c| text.split_ascii_whitespace().any(|word| word == c.name()))
        .collect();
    if found.contains(&Controller::Cpu) {
        found.push(Controller::Cpuacct);
    }
    found
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`. v1 comes first: where a controller is bound there, v2 has it not.
fn parse(mountinfo: &str, own: &str) -> Vec<Mounted> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(root), Some(mount), Some(kind)) = (left.get(3), left.get(4), right.first()) else {
            continue;
        };
        let options = right.get(2).copied().unwrap_or_default();
        let (version, controllers) = match *kind {
            "cgroup" => {
                let named = |c: &Controller| options.split(',').any(|option| option == c.name());
                (
                    Version::V1,
                    Controller::ALL.into_iter().filter(named).collect::<Vec<_>>(),
                )
            }
            "cgroup2" => (Version::V2, Vec::new()),
            _ => continue,
        };
        if version == Version::V1 && controllers.is_empty() {
            continue;
        }
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            let mine = match version {
                Version::V1 => controllers
                    .iter()
                    .all(|c| names.split(',').any(|name| name == c.name())),
                Version::V2 => names.is_empty(),
            };
            mine.then_some(path)
        });
        // A container's mount shows only the part of the hierarchy from `root` on.
        let below = path
            .and_then(|path| Path::new(path).strip_prefix(root).ok())
            .unwrap_or(Path::new(""));
        let mount = PathBuf::from(unescape(mount));
        found.push(Mounted {
            version,
            controllers,
            own: mount.join(below),
            mount,
        });
    }
    found.sort_by_key(|place| place.version == Version::V2);
    found
}

/// mountinfo writes blanks and backslashes as octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mountinfo: &str, own: &str, wanted: &[(Version, &[Controller], &str, &str)]) {
        let wanted: Vec<Mounted> = wanted
            .iter()
            .map(|(version, controllers, mount, own)| Mounted {
                version: *version,
                controllers: controllers.to_vec(),
                mount: mount.into(),
                own: own.into(),
            })
            .collect();
        assert_eq!(parse(mountinfo, own), wanted);
    }

    #[test]
    fn every_layout_is_read() {
        use Controller::{Cpu, Cpuacct, Memory};
        use Version::{V1, V2};
        // v2 alone, as a user's scope
        check(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/user-1000.slice/x.scope\n",
            &[(
                V2,
                &[],
                "/sys/fs/cgroup",
                "/sys/fs/cgroup/user.slice/user-1000.slice/x.scope",
            )],
        );
        // both, v1 controllers mounted together
        check(
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n",
            "4:memory:/a/b\n3:cpu,cpuacct:/\n0::/\n",
            &[
                (
                    V1,
                    &[Cpu, Cpuacct],
                    "/sys/fs/cgroup/cpu,cpuacct",
                    "/sys/fs/cgroup/cpu,cpuacct/",
                ),
                (V1, &[Memory], "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a/b"),
                (V2, &[], "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/"),
            ],
        );
        // inside a container that sees its own part only
        check(
            "35 31 0:32 /docker/77 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            "4:memory:/docker/77\n",
            &[(V1, &[Memory], "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/")],
        );
        check("garbage\n1 2 3\n", "", &[]);
    }
}
