//! The part of a driver that is the same for both: where sandboxes are kept, and their way from start to end.

use super::erase;
use super::fence;
use super::handle::{Handle, blocking};
use super::image::Image;
use super::launch::{Launching, Started};
use super::record::{self, Kind, Record};
use crate::cgroup;
use crate::{Config, Error, Found, Sandbox, Spec};
use domain::id::SandboxId;
use guest::protocol::{Launch, Mode, VERSION};
use std::collections::{BTreeMap, HashSet, hash_map::DefaultHasher};
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Labels that a sandbox may have.
const LABELS: usize = 64;
/// Addresses that a sandbox may have for its server.
const LISTEN: usize = 8;

/// One driver's half of the state directory.
#[derive(Debug)]
pub(crate) struct Host {
    kind: Kind,
    config: Config,
    image: Image,
    groups: cgroup::Tree,
    /// Sandboxes that this process starts or holds, which are none of the leftovers.
    held: Mutex<HashSet<SandboxId>>,
}

/// What a driver adds to a start.
pub(crate) trait Parts: Send + 'static {
    /// Claims what the sandbox needs of its own and writes it into the record. Nothing that outlives a crash is made here.
    fn claim(&self, spec: &Spec, record: &mut Record) -> Result<(), Error>;

    /// Fills the sandbox's directory; gives the guest's mode and the agent's environment.
    fn prepare(&self, spec: &Spec, record: &Record, dir: &Path) -> Result<(Mode, Vec<(String, String)>), Error>;
}

/// What was found out about a start, for probes.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) walls: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Host {
    /// Makes the state directory if need be.
    pub(crate) fn new(kind: Kind, config: Config) -> Result<Self, Error> {
        let failed = |source| Error::Io {
            what: format!("the state directory {}", config.state_dir.display()),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.state_dir)
            .map_err(failed)?;
        let state_dir = fs::canonicalize(&config.state_dir).map_err(failed)?;
        let groups = cgroup::Tree::find(&key(&state_dir));
        let config = Config { state_dir, ..config };
        Ok(Self {
            kind,
            config,
            image: Image::new()?,
            groups,
            held: Mutex::default(),
        })
    }

    /// The epoch of this server.
    pub(super) fn epoch(&self) -> u64 {
        self.config.epoch
    }

    /// Where sandboxes are kept.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.config.state_dir
    }

    /// A number that is the same for every server of this state directory and not for others.
    pub(crate) fn seed(&self) -> u64 {
        seed(&self.config.state_dir)
    }

    /// The limits that this host allows.
    pub(crate) fn groups(&self) -> &cgroup::Tree {
        &self.groups
    }

    pub(super) fn dir(&self, id: &SandboxId) -> PathBuf {
        self.config.state_dir.join(id.as_str())
    }

    pub(super) fn forget(&self, id: &SandboxId) {
        self.held().remove(id);
    }

    /// Starts a sandbox. When the future is dropped, the work goes on in the background to where it can be undone, and is.
    pub(crate) async fn start(
        self: &Arc<Self>,
        spec: Spec,
        parts: impl Parts,
    ) -> Result<(Arc<dyn Sandbox>, Standing), Error> {
        check(&spec)?;
        if !self.held().insert(spec.id.clone()) {
            return Err(Error::Host(format!("there is a sandbox {} already", spec.id)));
        }
        let id = spec.id.clone();
        let (done, started) = oneshot::channel();
        let host = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let result = host.start_blocking(&spec, &parts);
            let failed = result.is_err();
            if let Err(Ok(unwanted)) = done.send(result) {
                let pidfd = std::os::fd::AsFd::as_fd(&unwanted.pidfd);
                if let Err(error) = host.erase(&spec.id, Some(&unwanted.record), Some(pidfd)) {
                    tracing::warn!(sandbox = %spec.id, %error, "a start that nobody waits for could not be undone");
                }
            } else if failed {
                host.forget(&spec.id);
            }
        });
        let Started {
            record,
            pidfd,
            walls,
            warnings,
        } = match started.await {
            Ok(result) => result?,
            Err(_) => return Err(Error::Host("the server is shutting down".into())),
        };
        match Handle::new(Arc::clone(self), id.clone(), record, pidfd) {
            Ok(handle) => Ok((Arc::new(handle), Standing { walls, warnings })),
            Err(error) => {
                self.destroy(&id).await?;
                Err(error)
            }
        }
    }

    fn start_blocking(&self, spec: &Spec, parts: &impl Parts) -> Result<Started, Error> {
        let created = self.config.clock.now().to_string();
        let mut record = Record::new(self.kind, spec.labels.clone(), spec.limits, spec.port, created);
        record.epoch = self.config.epoch;
        let mut launching = Launching::begin(&self.config.state_dir, &spec.id, record)?;
        launching.record.group = self.groups.plan(&spec.id);
        parts.claim(spec, &mut launching.record)?;
        launching.save()?;
        self.groups.create(&launching.record.group, &spec.limits)?;
        let dir = launching.dir();
        let (mode, env) = parts.prepare(spec, &launching.record, &dir)?;
        let clones = matches!(mode, Mode::Container(_));
        let launch = Launch {
            version: VERSION,
            dir,
            command: spec.command.clone(),
            env,
            port: launching.record.real_port,
            log_limit: spec.limits.log,
            epoch: self.config.epoch,
            orphan_after: Some(spec.orphan_after),
            listen: launching.record.listen.iter().map(|(_, real)| *real).collect(),
            join: launching.record.group.join_files(),
            // A user namespace counts its own processes; without one, this would count all of the user's.
            max_processes: clones.then_some(u64::from(spec.limits.pids)),
            max_data: (!self.groups.has(cgroup::Controller::Memory)).then(|| data_limit(spec)),
            mode,
        };
        launching.run(&self.image, &launch, clones)
    }

    /// The leftovers of earlier servers.
    pub(crate) async fn list(self: &Arc<Self>) -> Result<Vec<Found>, Error> {
        let host = Arc::clone(self);
        blocking(move || {
            let ids = record::all(&host.config.state_dir)?;
            let held = host.held().clone();
            let found = ids.into_iter().filter(|id| !held.contains(id)).map(|id| {
                // Why one cannot be read is said when it is adopted or destroyed.
                let record = Record::read(&host.dir(&id)).ok().flatten();
                let assigned = Record::read_assigned(&host.dir(&id));
                let mine = record.as_ref().is_some_and(|record| record.kind == host.kind);
                let guest = record.as_ref().and_then(|record| record.guest.as_ref());
                let alive = mine && guest.is_some_and(|guest| guest.open().is_some());
                let labels = match (record, assigned) {
                    (Some(record), Ok(assigned)) => {
                        record.labels.into_iter().chain(assigned.unwrap_or_default()).collect()
                    }
                    _ => BTreeMap::new(),
                };
                Found { id, labels, alive }
            });
            Ok(found.collect())
        })
        .await
    }

    /// Takes a leftover over.
    pub(crate) async fn adopt(self: &Arc<Self>, id: &SandboxId) -> Result<Arc<dyn Sandbox>, Error> {
        let record = Record::read(&self.dir(id))?.ok_or(Error::Gone)?;
        if record.kind != self.kind {
            return Err(Error::Host(format!(
                "sandbox {id} was started by the driver '{}', this is '{}'",
                record.kind.name(),
                self.kind.name()
            )));
        }
        let pidfd = record
            .guest
            .as_ref()
            .and_then(record::Process::open)
            .ok_or(Error::Gone)?;
        if !self.held().insert(id.clone()) {
            return Err(Error::Host(format!("sandbox {id} has a handle already")));
        }
        let (epoch, dir) = (self.config.epoch, self.dir(id));
        let claimed = blocking(move || fence::claim(&dir, &record, epoch).map(|()| record)).await;
        let record = claimed.inspect_err(|_| self.forget(id))?;
        let handle = Handle::new(Arc::clone(self), id.clone(), record, pidfd).inspect_err(|_| self.forget(id))?;
        handle.check().await?;
        Ok(Arc::new(handle))
    }

    /// Erases a leftover. One whose record this program cannot read is left whole: without the record, its guest and
    /// control groups could not be found, and nobody could find them ever after.
    pub(crate) async fn destroy(self: &Arc<Self>, id: &SandboxId) -> Result<(), Error> {
        let (host, id) = (Arc::clone(self), id.clone());
        blocking(move || {
            let record = Record::read(&host.dir(&id))?;
            host.erase(&id, record.as_ref(), None)
        })
        .await
    }

    pub(super) fn erase(
        &self,
        id: &SandboxId,
        record: Option<&Record>,
        pidfd: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        let held = match record {
            Some(record) => fence::hold(&self.dir(id), record, self.config.epoch)?,
            None => None,
        };
        erase::erase(&self.config.state_dir, id, record, pidfd)?;
        drop(held);
        self.forget(id);
        Ok(())
    }

    /// Erases every sandbox of the state directory, whoever holds it.
    #[cfg(test)]
    pub(crate) fn erase_all(state_dir: &Path) {
        for id in record::all(state_dir).unwrap_or_default() {
            let record = Record::read(&state_dir.join(id.as_str())).ok().flatten();
            let _ = erase::erase(state_dir, &id, record.as_ref(), None);
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashSet<SandboxId>> {
        // A set of ids has no half-done state that a panic could leave.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where no control group limits the memory of all processes, each one may have as much, and on top the stacks of all
/// the threads that it may start: the kernel counts those in full, though hardly any of it is ever touched.
fn data_limit(spec: &Spec) -> u64 {
    const STACK: u64 = 8 << 20;
    spec.limits
        .memory
        .saturating_add(u64::from(spec.limits.pids).saturating_mul(STACK))
}

fn check(spec: &Spec) -> Result<(), Error> {
    if spec.command.first().is_none_or(String::is_empty) {
        return Err(Error::Artifact("there is no command to run".into()));
    }
    check_labels(&spec.labels)?;
    if spec.listen.len() > LISTEN {
        return Err(Error::Host(format!(
            "{} addresses to listen on, at most {LISTEN} are possible",
            spec.listen.len()
        )));
    }
    if let Some((name, _)) = spec.env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
        return Err(Error::Artifact(format!(
            "'{name}' cannot be the name of an environment variable"
        )));
    }
    // Unpacked by this server, so its owner is not at fault and must not read where it was.
    let package = fs::metadata(&spec.package).map_err(|source| Error::Io {
        what: format!("looking at the unpacked package {}", spec.package.display()),
        source,
    })?;
    if !package.is_dir() {
        return Err(Error::Host(format!(
            "the unpacked package {} is not a directory",
            spec.package.display()
        )));
    }
    for path in spec.read_only.iter().chain([&spec.package]) {
        if !path.is_absolute() || path.to_str().is_none() {
            return Err(Error::Host(format!(
                "{} is not an absolute path in UTF-8",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Whether there are few enough labels to be kept.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    if labels.len() > LABELS {
        return Err(Error::Host(format!(
            "{} labels, at most {LABELS} are kept",
            labels.len()
        )));
    }
    Ok(())
}

/// The name of our part of the control groups.
pub(crate) fn key(state_dir: &Path) -> String {
    format!("{:016x}", seed(state_dir))
}

/// Stable across servers and versions of this program, as far as the standard library's hasher is; a different seed only
/// makes a different name.
fn seed(state_dir: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    state_dir.hash(&mut hasher);
    hasher.finish()
}
