//! The default driver: namespaces, capabilities, seccomp and limits around each sandbox, built by the guest.
//!
//! The walls themselves are in `guest::launch`; this is what the server adds: a range of user ids for each sandbox, where
//! the server is root, and the directory.
//!
//! *As root* every sandbox has 65536 ids of the host that no other one has, so that even the kernel sees two sandboxes as
//! two users. *As an ordinary user* there is one user inside, who is the server's user outside; control groups work where
//! some were delegated, and where they were not, the number of processes is limited by the user namespace's own count,
//! and the memory of each single process, which [`Driver::probe`] says.
//!
//! A sandbox has no network but its own loopback. All that it reaches there besides itself is what the server chooses to
//! listen on ([`Spec::listen`]). Ways out of it come with a later part of the project.
//!
//! All that an agent writes (`/var/task`, `/tmp`, its home) lies in memory, within `limits.scratch`, and counts as part of
//! `limits.memory`. What must outlive it lies in a [`storage`].

pub(crate) mod storage;

use crate::cgroup::Controller;
use crate::supervised::{Host, Kind, Parts, Record, Slots, Standing};
use crate::{Abilities, Config, Driver, Error, Found, Probe, Sandbox, Spec, Storage};
use async_trait::async_trait;
use domain::id::SandboxId;
use guest::protocol::{self, HOME, ID_RANGE, Ids, Mode};
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The first id that is given away. Below it lie those of distributions, directories and other container engines.
const FIRST_ID: u32 = 0x7000_0000;
/// How many ranges there are; the last one ends below 2^31, which some file systems and programs do not pass.
const RANGES: u32 = 4096;

/// The driver.
#[derive(Debug)]
pub struct Container {
    host: Arc<Host>,
    /// Ranges of ids, where the server can give any.
    ids: Option<Arc<Slots>>,
    /// Why a trial of session storage failed.
    storage_fails: OnceLock<String>,
}

impl Container {
    /// A driver on a state directory, which it makes if need be. Whether the host can run it is for [`Driver::probe`] to say.
    pub fn new(config: Config) -> Result<Self, Error> {
        let host = Host::new(Kind::Container, config)?;
        let ids = crate::sys::is_root().then(|| Arc::new(Slots::new(host.state_dir(), "ids", RANGES, host.seed())));
        Ok(Self {
            host: Arc::new(host),
            ids,
            storage_fails: OnceLock::new(),
        })
    }

    async fn launch(&self, spec: Spec) -> Result<(Arc<dyn Sandbox>, Standing), Error> {
        if spec.storage.is_some()
            && let Some(reason) = storage::missing()
        {
            return Err(Error::Host(reason));
        }
        self.host.start(spec, Layout { ids: self.ids.clone() }).await
    }

    /// Tries session storage, where nothing that it needs is missing; the warning if it does not work.
    async fn try_storage(&self) -> Option<String> {
        if let Some(reason) = storage::missing() {
            return Some(reason);
        }
        let dir = self.host.state_dir().join(".trial-storage");
        let trial = crate::detect::trial(self.host.state_dir(), |mut spec| {
            spec.storage = Some(Storage {
                dir: dir.clone(),
                mount_path: "/mnt/trial".into(),
                bytes: 1 << 20,
            });
            self.launch(spec)
        });
        let result = trial.await;
        let _ = fs::remove_dir_all(&dir);
        result.err().map(|error| {
            let text = format!("session storage does not work here: {error}");
            self.storage_fails.get_or_init(|| text).clone()
        })
    }
}

#[async_trait]
impl Driver for Container {
    fn name(&self) -> &'static str {
        Kind::Container.name()
    }

    async fn probe(&self) -> Result<Probe, Error> {
        let Standing {
            mut walls,
            mut warnings,
        } = crate::detect::trial(self.host.state_dir(), |spec| self.launch(spec)).await?;
        walls.extend(self.host.groups().walls());
        warnings.extend(self.host.groups().warnings());
        warnings.extend(self.try_storage().await);
        Ok(Probe { walls, warnings })
    }

    async fn start(&self, spec: Spec) -> Result<Arc<dyn Sandbox>, Error> {
        self.launch(spec).await.map(|(sandbox, _)| sandbox)
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        self.host.list().await
    }

    async fn adopt(&self, id: &SandboxId) -> Result<Arc<dyn Sandbox>, Error> {
        self.host.adopt(id).await
    }

    async fn destroy(&self, id: &SandboxId) -> Result<(), Error> {
        self.host.destroy(id).await
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            pause: self.host.groups().has(Controller::Freezer),
            storage: storage::missing().is_none() && self.storage_fails.get().is_none(),
        }
    }
}

/// What a sandbox of this driver has in its directory and of the host's ids.
struct Layout {
    ids: Option<Arc<Slots>>,
}

impl Parts for Layout {
    fn claim(&self, spec: &Spec, record: &mut Record) -> Result<(), Error> {
        if let Some(storage) = &spec.storage {
            record.storage = Some(storage::image(storage));
        }
        if let Some(ids) = &self.ids {
            let (slot, name) = ids.claim(&spec.id, |_| true)?;
            record.first_id = Some(FIRST_ID + slot * ID_RANGE);
            record.slots.push(name);
        }
        record.listen = spec
            .listen
            .iter()
            .map(|listen| (listen.address, listen.address))
            .collect();
        Ok(())
    }

    fn prepare(&self, spec: &Spec, record: &Record, dir: &Path) -> Result<(Mode, Vec<(String, String)>), Error> {
        let root = dir.join(protocol::ROOT);
        fs::create_dir(&root).map_err(|source| Error::Io {
            what: format!("making {}", root.display()),
            source,
        })?;
        let mut env = spec.env.clone();
        crate::managed::place_package(&mut env, protocol::TASK);
        crate::env::default(&mut env, "HOME", Path::new(HOME))?;
        crate::env::default(&mut env, "TMPDIR", Path::new("/tmp"))?;
        crate::env::listen(&mut env, &spec.listen, record);
        let container = protocol::Container {
            package: spec.package.clone(),
            read_only: spec.read_only.clone(),
            scratch: spec.limits.scratch,
            ids: record.first_id.map_or(Ids::Own, |base| Ids::Range { base }),
            storage: spec.storage.as_ref().map(storage::prepare).transpose()?,
        };
        Ok((Mode::Container(container), env))
    }
}
