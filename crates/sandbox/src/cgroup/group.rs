//! One sandbox's control groups.

use super::{Controller, Version};
use crate::{Error, Limits};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The period in which a CPU quota counts.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel takes no smaller quota.
const LEAST_QUOTA_US: u64 = 1_000;
/// How long a group's last process may take to go once it has been killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directories of one sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    places: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    version: Version,
    controllers: Vec<Controller>,
    /// Whether the tasks can be frozen here. Beside the controllers, of which an older server would not know this one.
    #[serde(default)]
    freezes: bool,
    dir: PathBuf,
}

/// A file of the group and what is written into it.
struct Setting {
    path: PathBuf,
    value: String,
    /// Absent where the kernel was built without it (swap accounting).
    optional: bool,
}

impl Group {
    pub(super) fn new(places: Vec<(Version, Vec<Controller>, PathBuf)>) -> Self {
        Self {
            places: places
                .into_iter()
                .map(|(version, mut controllers, dir)| {
                    let freezes = controllers.contains(&Controller::Freezer);
                    controllers.retain(|controller| *controller != Controller::Freezer);
                    Place {
                        version,
                        controllers,
                        freezes,
                        dir,
                    }
                })
                .collect(),
        }
    }

    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().map(|place| place.dir.as_path())
    }

    /// Writes the limits into the directories, which must have been made.
    pub(super) fn limit(&self, limits: &Limits) -> Result<(), Error> {
        for place in &self.places {
            let failed = |path: &Path, source| Error::Io {
                what: format!("setting up {}", path.display()),
                source,
            };
            for setting in place.settings(limits) {
                match fs::write(&setting.path, &setting.value) {
                    Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(&setting.path, error)),
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }

    /// Files into which a process of one thread writes `0` to join. On v1 that is `tasks`, which moves the one thread
    /// without the kernel's global lock; v2 moves whole processes only.
    pub(crate) fn join_files(&self) -> Vec<PathBuf> {
        self.places
            .iter()
            .map(|place| match place.version {
                Version::V1 => place.dir.join("tasks"),
                Version::V2 => place.dir.join("cgroup.procs"),
            })
            .collect()
    }

    /// Reads back that a process is inside and that the limits are what was asked for.
    pub(crate) fn verify(&self, pid: i32, limits: &Limits) -> Result<(), Error> {
        let wall = |wall: &str, detail: String| Error::Wall {
            wall: wall.to_owned(),
            detail,
        };
        for place in &self.places {
            let path = place.dir.join("cgroup.procs");
            let members = fs::read_to_string(&path).map_err(|e| wall("cgroup", format!("{}: {e}", path.display())))?;
            if !members.lines().any(|member| member.parse() == Ok(pid)) {
                return Err(wall("cgroup", format!("process {pid} is not in {}", path.display())));
            }
            for setting in place.settings(limits) {
                let found = match fs::read_to_string(&setting.path) {
                    Ok(found) => found,
                    Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(wall("cgroup limit", format!("{}: {error}", setting.path.display()))),
                };
                if found.trim() != setting.value {
                    let text = format!(
                        "{} says {}, not {}",
                        setting.path.display(),
                        found.trim(),
                        setting.value
                    );
                    return Err(wall("cgroup limit", text));
                }
            }
        }
        Ok(())
    }

    /// SIGKILL to all, until none is left. Blocks for as long as they take to go, at most ten seconds.
    pub(crate) fn kill(&self) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut left = false;
            for place in &self.places {
                let members = fs::read_to_string(place.dir.join("cgroup.procs")).unwrap_or_default();
                if members.is_empty() {
                    continue;
                }
                left = true;
                if place.version == Version::V2 && fs::write(place.dir.join("cgroup.kill"), "1").is_ok() {
                    continue;
                }
                for pid in members
                    .lines()
                    .filter_map(|line| line.parse().ok())
                    .filter(|pid| *pid > 0)
                {
                    // Gone already, or killed through another hierarchy.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            if !left {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes the directories, and the one above them if this was the last. Blocks like [`Group::kill`].
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        for place in &self.places {
            loop {
                match fs::remove_dir(&place.dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    // A process that has ended is still being taken apart.
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until => {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                    Err(source) => {
                        return Err(Error::Io {
                            what: format!("removing {}", place.dir.display()),
                            source,
                        });
                    }
                }
            }
            if let Some(base) = place.dir.parent() {
                // Not empty unless this was the last one.
                let _ = fs::remove_dir(base);
            }
        }
        Ok(())
    }

    /// The directory in which the tasks can be frozen.
    pub(super) fn freezer(&self) -> Option<(Version, &Path)> {
        let place = self.places.iter().find(|place| place.freezes)?;
        Some((place.version, &place.dir))
    }

    /// The directory in which the memory is counted.
    pub(super) fn memory(&self) -> Option<(Version, &Path)> {
        let counts = |place: &&Place| place.controllers.contains(&Controller::Memory);
        let place = self.places.iter().find(counts)?;
        Some((place.version, &place.dir))
    }

    /// Whether the kernel has killed a process for the memory limit.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.read(Controller::Memory, "memory.oom_control", "memory.events")
            .is_some_and(|text| {
                text.lines().any(|line| {
                    line.strip_prefix("oom_kill ")
                        .is_some_and(|count| count.trim().parse::<u64>().is_ok_and(|n| n > 0))
                })
            })
    }

    /// The most memory that all processes used at a time, where the kernel says.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        let text = self.read(Controller::Memory, "memory.max_usage_in_bytes", "memory.peak")?;
        text.trim().parse().ok()
    }

    /// What all processes use, as far as the controllers say.
    pub(crate) fn usage(&self) -> (Option<Duration>, Option<u64>) {
        let memory = self.read(Controller::Memory, "memory.usage_in_bytes", "memory.current");
        let cpu = self
            .read(Controller::Cpuacct, "cpuacct.usage", "cpu.stat")
            .and_then(
                |text| match text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
                    Some(microseconds) => microseconds.trim().parse().ok().map(Duration::from_micros),
                    None => text.trim().parse().ok().map(Duration::from_nanos),
                },
            );
        (cpu, memory.and_then(|text| text.trim().parse().ok()))
    }

    fn read(&self, controller: Controller, v1: &str, v2: &str) -> Option<String> {
        let place = self
            .places
            .iter()
            .find(|place| place.controllers.contains(&controller))?;
        let file = if place.version == Version::V1 { v1 } else { v2 };
        fs::read_to_string(place.dir.join(file)).ok()
    }
}

impl Place {
    fn settings(&self, limits: &Limits) -> Vec<Setting> {
        // The kernel rounds down to whole pages; this is the largest page that kernels are built with.
        let page = 64 << 10;
        let memory = (limits.memory / page * page).max(page).to_string();
        // The guest is one process that the agent's limit does not count.
        let pids = u64::from(limits.pids).saturating_add(1).to_string();
        let quota = (u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1000).max(LEAST_QUOTA_US);
        let mut settings = Vec::new();
        let mut set = |file: &str, value: String, optional| {
            settings.push(Setting {
                path: self.dir.join(file),
                value,
                optional,
            });
        };
        for controller in &self.controllers {
            match (controller, self.version) {
                (Controller::Memory, Version::V1) => {
                    set("memory.limit_in_bytes", memory.clone(), false);
                    set("memory.memsw.limit_in_bytes", memory.clone(), true);
                }
                (Controller::Memory, Version::V2) => {
                    set("memory.max", memory.clone(), false);
                    set("memory.swap.max", "0".to_owned(), true);
                }
                (Controller::Pids, _) => set("pids.max", pids.clone(), false),
                (Controller::Cpu, Version::V1) => {
                    set("cpu.cfs_period_us", CPU_PERIOD_US.to_string(), false);
                    set("cpu.cfs_quota_us", quota.to_string(), false);
                }
                (Controller::Cpu, Version::V2) => set("cpu.max", format!("{quota} {CPU_PERIOD_US}"), false),
                (Controller::Cpuacct | Controller::Freezer, _) => {}
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_the_words_of_each_version() {
        let limits = Limits {
            memory: 10_000_000,
            pids: 64,
            cpu_millis: 1500,
            scratch: 0,
            log: 0,
        };
        let check = |version, controllers: &[Controller], wanted: &[(&str, &str)]| {
            let place = Place {
                version,
                controllers: controllers.to_vec(),
                freezes: false,
                dir: "/g".into(),
            };
            let found = place.settings(&limits);
            let found: Vec<_> = found
                .iter()
                .map(|s| (s.path.to_str().unwrap(), s.value.as_str()))
                .collect();
            assert_eq!(found, wanted);
        };
        let all = [
            Controller::Memory,
            Controller::Pids,
            Controller::Cpu,
            Controller::Cpuacct,
        ];
        check(
            Version::V2,
            &all,
            &[
                ("/g/memory.max", "9961472"),
                ("/g/memory.swap.max", "0"),
                ("/g/pids.max", "65"),
                ("/g/cpu.max", "150000 100000"),
            ],
        );
        check(
            Version::V1,
            &all,
            &[
                ("/g/memory.limit_in_bytes", "9961472"),
                ("/g/memory.memsw.limit_in_bytes", "9961472"),
                ("/g/pids.max", "65"),
                ("/g/cpu.cfs_period_us", "100000"),
                ("/g/cpu.cfs_quota_us", "150000"),
            ],
        );
    }

    #[test]
    fn an_oom_kill_is_seen_in_either_form() {
        let dir = tempfile::tempdir().unwrap();
        let place = |version| Group {
            places: vec![Place {
                version,
                controllers: vec![Controller::Memory],
                freezes: false,
                dir: dir.path().into(),
            }],
        };
        assert!(!place(Version::V1).out_of_memory());
        fs::write(
            dir.path().join("memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        )
        .unwrap();
        fs::write(
            dir.path().join("memory.events"),
            "low 0\nhigh 0\nmax 5\noom 0\noom_kill 0\n",
        )
        .unwrap();
        assert!(place(Version::V1).out_of_memory());
        assert!(!place(Version::V2).out_of_memory());
    }
}
