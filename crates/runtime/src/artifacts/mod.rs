//! From what a request names to a package that can be run: fetch, unpack, check.
//!
//! `code.s3` names either the built-in store (`route` takes uploads into it) or a bucket of an S3-compatible service
//! (`s3`). Either way the object is copied or opened as an unlinked file, unpacked once per digest, and its entry
//! point is looked up on the managed runtime that the request chose.
//!
//! Everything that goes wrong is a sentence for the person who owns the runtime: it ends up as `failureReason`.
//!
//! Two limits, so that a slow service holds up nobody but those who fetch from it: each service has its own few turns
//! (`s3`), and unpacking, which is this host's work, has `UNPACK_AT_ONCE`. Whoever has a turn of both took them in this
//! order, and keeps the first until the fetched file is gone, so files on their way are few as well.
//!
//! Invariant: a version only ever runs the content that it was made with. An object that was replaced since is
//! refused, never run.

mod config;
pub(crate) mod route;
mod s3;

pub use config::{Config, S3, Secret};

use crate::control::record::{Code, Pinned};
use domain::Clock;
use sandbox::managed::{Launch, Runtimes};
use sandbox::package::{self, UnpackLimits};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::Blobs;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many packages are unpacked and checked at once, wherever they come from.
const UNPACK_AT_ONCE: usize = 4;

/// Fetches, unpacks and checks artifacts.
#[derive(Debug)]
pub struct Artifacts {
    config: Config,
    blobs: Arc<dyn Blobs>,
    s3: s3::Client,
    packages: Arc<package::Store>,
    managed: Arc<Runtimes>,
    scratch: PathBuf,
    unpacking: Semaphore,
}

/// An artifact that can be run on this host now.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) pinned: Pinned,
    /// The unpacked package.
    pub(crate) root: PathBuf,
    pub(crate) launch: Launch,
}

impl Artifacts {
    /// `scratch` is a directory for files on their way, on a disk with room for a few packages. The error says what
    /// is wrong with the configuration.
    pub fn new(
        config: Config,
        services: &BTreeMap<String, S3>,
        blobs: Arc<dyn Blobs>,
        packages: Arc<package::Store>,
        managed: Arc<Runtimes>,
        scratch: &Path,
        clock: Clock,
    ) -> Result<Self, String> {
        let s3 = s3::Client::new(services, clock)?;
        Ok(Self {
            config,
            blobs,
            s3,
            packages,
            managed,
            scratch: scratch.to_owned(),
            unpacking: Semaphore::new(UNPACK_AT_ONCE),
        })
    }

    /// Fetches and unpacks an artifact and looks up how to run it. With `pinned`, only that very content will do.
    pub(crate) async fn prepare(&self, code: &Code, pinned: Option<&Pinned>) -> Result<Prepared, String> {
        let fetched = if code.bucket == self.config.bucket {
            None
        } else {
            Some(self.fetch(code).await?)
        };
        let _turn = self.unpacking.acquire().await.expect("nobody closes it");
        let (file, _service_turn) = match fetched {
            Some((file, turn)) => (file, Some(turn)),
            None => (self.open_own(code).await?, None),
        };
        let limits = UnpackLimits {
            archive: self.config.max_object_bytes,
            unpacked: self.config.max_unpacked_bytes,
            ..UnpackLimits::default()
        };
        let (packages, managed) = (Arc::clone(&self.packages), Arc::clone(&self.managed));
        let (code, pinned) = (code.clone(), pinned.cloned());
        blocking(move || {
            let size = file
                .metadata()
                .map_err(|e| format!("the artifact cannot be read: {e}"))?
                .len();
            let package = packages.unpack(file, limits).map_err(|e| e.to_string())?;
            if let Some(pinned) = pinned.filter(|pinned| pinned.package != package.digest) {
                return Err(format!(
                    "s3://{}/{} was replaced after this version was made (its SHA-256 was {}, now it is {}): \
                     put the old object back, or make a new version with UpdateAgentRuntime",
                    code.bucket, code.key, pinned.package, package.digest
                ));
            }
            let launch = managed
                .resolve(code.runtime.as_str(), &code.entry_point, &package.root)
                .map_err(|e| e.to_string())?;
            Ok(Prepared {
                pinned: Pinned {
                    package: package.digest,
                    size,
                },
                root: package.root,
                launch,
            })
        })
        .await
    }

    /// The artifact, if its package is still unpacked; the error says why it cannot be run on this host any more.
    pub(crate) async fn find(&self, code: &Code, pinned: &Pinned) -> Result<Option<Prepared>, String> {
        let (packages, managed) = (Arc::clone(&self.packages), Arc::clone(&self.managed));
        let (code, pinned) = (code.clone(), pinned.clone());
        blocking(move || {
            let Some(package) = packages.get(&pinned.package) else {
                return Ok(None);
            };
            let launch = managed
                .resolve(code.runtime.as_str(), &code.entry_point, &package.root)
                .map_err(|e| e.to_string())?;
            Ok(Some(Prepared {
                pinned,
                root: package.root,
                launch,
            }))
        })
        .await
    }

    /// Removes every unpacked package but these.
    pub(crate) async fn collect(&self, keep: HashSet<String>) -> Result<(), String> {
        let packages = Arc::clone(&self.packages);
        blocking(move || packages.remove_except(&keep).map_err(|e| e.to_string())).await
    }

    /// A service's object as a file that nobody changes and that goes away by itself, and the turn to be kept as long.
    async fn fetch(&self, code: &Code) -> Result<(std::fs::File, OwnedSemaphorePermit), String> {
        if !self.s3.has(&code.bucket) {
            return Err(format!(
                "there is no bucket '{}' here: use '{}' after an upload with `eyot deploy`, or add a \
                 [runtime.s3.NAME] section for it to the server's configuration",
                code.bucket, self.config.bucket
            ));
        }
        let turn = self.s3.turn(code).await?;
        let scratch = self.scratch.clone();
        let file = blocking(move || {
            let made = std::fs::create_dir_all(&scratch).and_then(|()| tempfile::tempfile_in(&scratch));
            made.map_err(|e| format!("no scratch file can be made in {}: {e}", scratch.display()))
        });
        let mut file = tokio::fs::File::from_std(file.await?);
        self.s3.fetch(code, &mut file, self.config.max_object_bytes).await?;
        Ok((file.into_std().await, turn))
    }

    async fn open_own(&self, code: &Code) -> Result<std::fs::File, String> {
        if let Some(version) = &code.version_id {
            return Err(format!(
                "bucket '{}' is the built-in store, which keeps one version of each object: leave out versionId '{version}'",
                code.bucket
            ));
        }
        let missing = || {
            format!(
                "there is no object '{}' in bucket '{}': upload it first",
                code.key, code.bucket
            )
        };
        if !route::is_key(&code.key) {
            return Err(missing());
        }
        let blob = self.blobs.open(&route::blob_key(&code.bucket, &code.key)).await;
        let blob = blob
            .map_err(|e| format!("the built-in store cannot be read: {e}"))?
            .ok_or_else(missing)?;
        Ok(blob.file)
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(format!("the work on the package was not finished: {error}")),
    }
}
