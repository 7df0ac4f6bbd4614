//! Numbers of which each sandbox of a state directory has its own: ranges of user ids, ports.
//!
//! A slot is a symbolic link that leads nowhere: its text is the sandbox's id. It is made whole or not at all, by one call
//! that fails where there is one, so it survives the server as the sandbox does and never lacks its owner's name. (Earlier
//! versions wrote files, which a kill in between could leave empty.) Servers with different state directories start to
//! look at different places.

use crate::Error;
use domain::id::SandboxId;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// One kind of number.
#[derive(Debug)]
pub(crate) struct Slots {
    dir: PathBuf,
    kind: &'static str,
    count: u32,
    next: AtomicU32,
}

impl Slots {
    /// `count` numbers from 0, first tried from `seed` on.
    pub(crate) fn new(state_dir: &Path, kind: &'static str, count: u32, seed: u64) -> Self {
        let start = u32::try_from(seed % u64::from(count.max(1))).unwrap_or(0);
        Self {
            dir: state_dir.join(".slots"),
            kind,
            count,
            next: AtomicU32::new(start),
        }
    }

    /// Takes a number that nobody has and that `fits`; the name to release it by.
    pub(crate) fn claim(&self, id: &SandboxId, fits: impl Fn(u32) -> bool) -> Result<(u32, String), Error> {
        let failed = |path: &Path, source| Error::Io {
            what: format!("claiming {}", path.display()),
            source,
        };
        fs::create_dir_all(&self.dir).map_err(|source| failed(&self.dir, source))?;
        for _ in 0..self.count {
            let number = self.next.fetch_add(1, Ordering::Relaxed) % self.count;
            if !fits(number) {
                continue;
            }
            let name = format!("{}-{number}", self.kind);
            let path = self.dir.join(&name);
            match symlink(id.as_str(), &path) {
                Ok(()) => return Ok((number, name)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(failed(&path, source)),
            }
        }
        Err(Error::Host(format!(
            "all {} {} slots are taken by sandboxes; stop some",
            self.count, self.kind
        )))
    }

    /// Gives a sandbox's slot back. A slot that another sandbox has is left alone.
    pub(crate) fn release(state_dir: &Path, name: &str, id: &SandboxId) {
        let path = state_dir.join(".slots").join(name);
        if owner(&path).is_some_and(|owner| owner == id.as_str()) {
            // If it cannot be removed now, the next `erase` of the same sandbox tries again.
            let _ = fs::remove_file(path);
        }
    }

    /// Gives all of a sandbox's slots back, when its record cannot say which they are.
    pub(crate) fn release_all(state_dir: &Path, id: &SandboxId) {
        for entry in fs::read_dir(state_dir.join(".slots")).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str() {
                Self::release(state_dir, name, id);
            }
        }
    }
}

/// Whose a slot is; also of an earlier version, which wrote files.
fn owner(slot: &Path) -> Option<String> {
    match fs::read_link(slot) {
        Ok(id) => id.into_os_string().into_string().ok(),
        Err(_) => fs::read_to_string(slot).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_an_earlier_version_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let id = SandboxId::generate();
        let slots = dir.path().join(".slots");
        fs::create_dir(&slots).unwrap();
        fs::write(slots.join("port-7"), id.as_str()).unwrap();
        Slots::release(dir.path(), "port-7", &SandboxId::generate());
        assert!(slots.join("port-7").exists());
        Slots::release(dir.path(), "port-7", &id);
        assert!(!slots.join("port-7").exists());
    }

    #[test]
    fn no_number_is_given_twice_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::new(dir.path(), "port", 4, 3);
        let [a, b] = [SandboxId::generate(), SandboxId::generate()];
        let mut taken: Vec<_> = (0..3).map(|_| slots.claim(&a, |n| n != 2).unwrap()).collect();
        taken.sort();
        assert_eq!(taken.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1, 3]);
        assert!(slots.claim(&b, |n| n != 2).is_err());
        Slots::release(dir.path(), "port-1", &b);
        assert!(
            slots.claim(&b, |n| n != 2).is_err(),
            "a slot was released by another's sandbox"
        );
        Slots::release(dir.path(), "port-1", &a);
        assert_eq!(slots.claim(&b, |n| n != 2).unwrap().0, 1);
        Slots::release_all(dir.path(), &a);
        assert_eq!(fs::read_dir(dir.path().join(".slots")).unwrap().count(), 1);
    }
}
