//! Finds the control group hierarchies in which this process may make groups.

use super::{Controller, Group, Version, freeze};
use crate::{Error, Limits};
use domain::id::SandboxId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the server goes on v2 when it shares its group with its sandboxes.
const LEAF: &str = "eyot-server";

/// How often a start makes the group above its own anew, when others that end take it away.
const TRIES: u32 = 100;

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
            for above in place.candidates(crate::sys::is_root(), crate::sys::is_delegated) {
                let offered = match place.version {
                    Version::V1 => place.controllers.clone(),
                    Version::V2 => offered(&above),
                };
                let mut wanted: Vec<_> = offered
                    .into_iter()
                    .filter(|controller| !tree.has(*controller))
                    .collect();
                if wanted.is_empty() {
                    continue;
                }
                // Every group of v2 can be frozen; nobody needs to give that.
                if place.version == Version::V2 && !tree.has(Controller::Freezer) {
                    wanted.push(Controller::Freezer);
                }
                match usable(place.version, above.join(format!("eyot-{key}")), wanted) {
                    Ok(hierarchy) if hierarchy.controllers.is_empty() => {}
                    Ok(hierarchy) => {
                        tree.hierarchies.push(hierarchy);
                        break;
                    }
                    Err(reason) => tree
                        .warnings
                        .push(format!("control groups at {}: {reason}", above.display())),
                }
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
        for (hierarchy, dir) in self.hierarchies.iter().zip(group.dirs()) {
            hierarchy.make(dir).map_err(|source| Error::Io {
                what: format!("making the control group {}", dir.display()),
                source,
            })?;
        }
        group.limit(limits)
    }
}

impl Mounted {
    /// The groups in which ours could be, the best first.
    ///
    /// On v2 a group with processes cannot give controllers to groups below it, so the server moves out of the one that
    /// it shares with its sandboxes, into a leaf; and a group belongs to whoever manages that part of the tree, so one
    /// that systemd has not delegated is left alone. Root has the topmost group then, which may have processes and
    /// groups. That is the case in a login session, whose processes are many, and in a service whose unit says nothing.
    fn candidates(&self, root: bool, delegated: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let own = &self.own;
        if self.version == Version::V1 {
            return vec![own.clone()];
        }
        let above = own.parent().filter(|above| above.starts_with(&self.mount));
        let moved = own.file_name() == Some(LEAF.as_ref());
        let mut places: Vec<&Path> = Vec::new();
        if !moved && (!root || delegated(own)) {
            places.push(own);
        }
        // Ours already, or the server was put into a leaf of the service to which it was delegated (`DelegateSubgroup=`).
        places.extend(above.filter(|above| moved || delegated(above)));
        if root && !places.contains(&self.mount.as_path()) {
            places.push(&self.mount);
        }
        places.into_iter().map(Path::to_owned).collect()
    }
}

/// Makes our part of a hierarchy, to see whether it can be made.
fn usable(version: Version, base: PathBuf, controllers: Vec<Controller>) -> Result<Hierarchy, String> {
    let mut hierarchy = Hierarchy {
        version,
        controllers,
        base,
    };
    persist(|| hierarchy.prepare())
        .map_err(|error| format!("making {} with its controllers: {error}", hierarchy.base.display()))?;
    if hierarchy.controllers.contains(&Controller::Freezer) && !freeze::works(version, &hierarchy.base) {
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

impl Hierarchy {
    /// Makes the base, with the controllers given to the groups below it. They are given to the base too: as long as there
    /// was none, whoever manages the tree may have taken them back.
    fn prepare(&self) -> io::Result<()> {
        let enable = |dir: &Path| match self.version {
            Version::V1 => Ok(()),
            Version::V2 => enable(dir, &self.controllers),
        };
        self.base.parent().map_or(Ok(()), enable)?;
        match fs::create_dir(&self.base) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        enable(&self.base)
    }

    /// Makes a sandbox's directory. The last sandbox to go takes the base along, at any moment until this directory is in
    /// it; and then the base may be another start's, which has not come to its controllers yet.
    fn make(&self, dir: &Path) -> io::Result<()> {
        persist(|| {
            self.prepare()?;
            fs::create_dir(dir)
        })?;
        self.prepare()
    }
}

/// Tries again when what was to be changed went away, before it was opened or after.
fn persist(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..TRIES {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => {}
            other => return other,
        }
    }
    attempt()
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
            let leaf = dir.join(LEAF);
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
    fn a_place_is_chosen_by_whose_it_is() {
        let check = |own: &str, root: bool, delegated: &[&str], wanted: &[&str]| {
            let top = Path::new("/cg");
            let place = Mounted {
                version: Version::V2,
                controllers: Vec::new(),
                mount: top.to_owned(),
                own: top.join(own),
            };
            let marked = |path: &Path| delegated.iter().any(|group| top.join(group) == path);
            let wanted: Vec<PathBuf> = wanted.iter().map(|group| top.join(group)).collect();
            assert_eq!(place.candidates(root, marked), wanted, "{own} {root} {delegated:?}");
        };
        // Without systemd, or in a container.
        check("", true, &[], &[""]);
        check("", false, &[], &[""]);
        // A login session, and a service whose unit says nothing.
        check("user.slice/session.scope", true, &[], &[""]);
        check("user.slice/session.scope", false, &[], &["user.slice/session.scope"]);
        // Delegated, and after an earlier server, or this one, has moved down.
        check("a.service", true, &["a.service"], &["a.service", ""]);
        check("a.service/eyot-server", true, &["a.service"], &["a.service", ""]);
        check("a.scope/eyot-server", false, &["a.scope"], &["a.scope"]);
        check("a.scope/eyot-server", false, &[], &["a.scope"]);
        // A leaf of a delegated service.
        check("a.service/main", true, &["a.service"], &["a.service", ""]);
        check(
            "a.service/main",
            false,
            &["a.service"],
            &["a.service/main", "a.service"],
        );
    }

    /// The last group takes the one above it along, while another start may count on it.
    #[test]
    fn a_group_is_made_while_the_last_other_goes() {
        let key = format!("test-{}", std::process::id());
        let tree = Tree::find(&key);
        if tree.hierarchies.is_empty() {
            println!("skipped: {:?}", tree.warnings());
            return;
        }
        let limits = Limits {
            memory: 64 << 20,
            pids: 8,
            cpu_millis: 1000,
            scratch: 0,
            log: 0,
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let group = tree.plan(&SandboxId::generate());
                        let made = tree.create(&group, &limits);
                        group.remove().unwrap();
                        made.unwrap();
                    }
                });
            }
        });
        assert!(tree.hierarchies.iter().all(|hierarchy| !hierarchy.base.exists()));
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
