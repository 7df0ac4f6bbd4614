//! Session storage: where each session's surviving directory lies, and when it goes.
//!
//! `DIR/RUNTIME/ENDPOINT/SESSION/VERSION`; the session's part is a digest, since an id may hold any visible character.
//! A version has storage of its own, because AWS wipes a session's storage when its runtime's version changes. What has
//! not been used for the configured time goes, and with a runtime all of its storage.
//!
//! Invariant: storage that a living session may use is never removed: its session's directory was touched when the
//! session began, and is younger than any session can be old.

use super::config::Config;
use super::router::Key;
use crate::deployment::Deployment;
use aws_lc_rs::digest::{SHA256, digest};
use domain::id::RuntimeId;
use sandbox::Storage;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file in a version's directory whose time of change is when the storage was used last.
const USED: &str = "used";
/// The driver's part of a version's directory.
const DATA: &str = "data";

/// The storage of a session, if its version has any.
pub(super) fn of(root: &Path, key: &Key, deployment: &Deployment, config: &Config) -> Option<Storage> {
    let storage = deployment.storage.as_ref()?;
    let dir = session_dir(root, key).join(deployment.version.to_string());
    Some(Storage {
        dir: dir.join(DATA),
        mount_path: storage.mount_path.clone(),
        bytes: config.storage_size,
    })
}

/// Notes that storage is used now, and removes what other versions of the same session left. A failure is logged: the
/// sandbox's start says what is wrong.
pub(super) async fn touch(data: &Path) {
    let data = data.to_owned();
    blocking("using session storage", move || {
        let Some(dir) = data.parent() else { return Ok(()) };
        fs::create_dir_all(dir)?;
        fs::write(dir.join(USED), "")?;
        for other in dir.parent().into_iter().flat_map(entries) {
            if other != dir {
                fs::remove_dir_all(other)?;
            }
        }
        Ok(())
    })
    .await;
}

/// Removes a runtime's storage, all of it.
pub(super) async fn remove(root: &Path, runtime: &RuntimeId) {
    let dir = root.join(runtime.as_str());
    blocking("removing session storage", move || match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    })
    .await;
}

/// Removes what has not been used for `kept`, except what `in_use` names.
pub(super) async fn expire(root: &Path, kept: Duration, in_use: Vec<PathBuf>) {
    let root = root.to_owned();
    blocking("removing old session storage", move || {
        for session in entries(&root)
            .iter()
            .flat_map(|dir| entries(dir))
            .flat_map(|dir| entries(&dir))
        {
            if !in_use.contains(&session) && is_older(&session, kept) {
                tracing::info!(storage = %session.display(), "session storage has not been used for long: removing it");
                fs::remove_dir_all(&session)?;
            }
        }
        Ok(())
    })
    .await;
}

/// Where a session's storage lies, whatever its version.
pub(super) fn session_dir(root: &Path, key: &Key) -> PathBuf {
    let session = hex::encode(&digest(&SHA256, key.session.as_str().as_bytes()).as_ref()[..16]);
    root.join(key.runtime.as_str())
        .join(key.endpoint.as_str())
        .join(session)
}

/// Whether none of a session's versions was used for so long.
fn is_older(session: &Path, kept: Duration) -> bool {
    let versions = entries(session);
    let age = |version: &PathBuf| {
        let used = fs::metadata(version.join(USED)).or_else(|_| fs::metadata(version));
        used.ok()?.modified().ok()?.elapsed().ok()
    };
    versions
        .iter()
        .all(|version| age(version).is_some_and(|age| age >= kept))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

async fn blocking(what: &'static str, work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "{what} failed"),
        Err(error) => tracing::error!(%error, "{what} broke off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::SessionStorage;
    use crate::session::testing::{deployment, key};
    use domain::id::Version;

    fn with_storage(version: Version) -> Deployment {
        Deployment {
            version,
            storage: Some(SessionStorage {
                mount_path: "/mnt/data".to_owned(),
            }),
            ..deployment()
        }
    }

    #[tokio::test]
    async fn a_new_version_wipes_and_another_session_does_not() {
        let root = tempfile::tempdir().unwrap();
        let config = Config::default();
        let place = |name: &str, version| {
            of(root.path(), &key(name), &with_storage(version), &config)
                .unwrap()
                .dir
        };
        let [a1, b1] = ["a", "b"].map(|name| place(name, Version::FIRST));
        for dir in [&a1, &b1] {
            touch(dir).await;
            fs::create_dir_all(dir).unwrap();
        }
        assert_eq!(place("a", Version::FIRST), a1);
        touch(&a1).await;
        assert!(a1.exists(), "the same version goes on");
        touch(&place("a", Version::FIRST.next())).await;
        assert!(!a1.exists() && b1.exists());
        assert_eq!(of(root.path(), &key("a"), &deployment(), &config), None);
    }

    #[tokio::test]
    async fn what_is_old_goes_unless_it_is_in_use() {
        let root = tempfile::tempdir().unwrap();
        let config = Config::default();
        let dirs = ["a", "b"].map(|name| {
            of(root.path(), &key(name), &with_storage(Version::FIRST), &config)
                .unwrap()
                .dir
        });
        for dir in &dirs {
            touch(dir).await;
            fs::create_dir_all(dir).unwrap();
        }
        expire(root.path(), Duration::from_secs(3600), Vec::new()).await;
        assert!(dirs.iter().all(|dir| dir.exists()));
        expire(root.path(), Duration::ZERO, vec![session_dir(root.path(), &key("a"))]).await;
        assert_eq!(dirs.each_ref().map(|dir| dir.exists()), [true, false]);
        remove(root.path(), &key("a").runtime).await;
        remove(root.path(), &key("a").runtime).await;
        assert_eq!(entries(root.path()).len(), 0);
    }
}
