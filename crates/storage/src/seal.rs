//! Secrets at rest: AES-256-GCM under one master key that lives beside the data in a file of its own.
//!
//! A sealed value is base64 of `version (1 byte) | nonce (12) | ciphertext | tag (16)`. The context (for example
//! `access-key/AKIA…`) is authenticated with it, so a sealed value copied to another record does not open there.
//!
//! Invariant: the master key is never written anywhere but to its file, and never used from a file that others than
//! its owner can read. Invariant: key and opened plaintext are wiped from memory when dropped.

use crate::durable::{remove_file, sync_dir};
use crate::{Error, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const KEY_LEN: usize = 32;
const VERSION: u8 = 1;
const TAG_LEN: usize = 16;

/// The key that seals and opens.
pub struct MasterKey(Zeroizing<[u8; KEY_LEN]>);

impl MasterKey {
    /// The key in this file (64 hex digits, mode 0600); made at random on first use, atomically: of two processes
    /// that start together both get the same key.
    ///
    /// [`Error::KeyFile`] when group or others may read the file, or it does not hold a key.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        match File::open(path) {
            Ok(file) => return Self::read(path, file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(path, e)),
        }
        let made = Self::generate()?;
        if made.save_new(path)? {
            return Ok(made);
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        Self::read(path, file)
    }

    /// The key in this file, which must be there; for commands that only read.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        Self::read(path, file)
    }

    /// The key that these 64 hex digits are, white space around them left out; nothing if they are none.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        hex::decode_to_slice(digits.trim(), key.as_mut()).ok()?;
        Some(Self(key))
    }

    /// A new random key that is kept nowhere.
    pub fn generate() -> Result<Self> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        rand::fill(key.as_mut()).map_err(|_| Error::Sealed("the system has no randomness"))?;
        Ok(Self(key))
    }

    /// Makes a text that only [`MasterKey::open`] with the same key and context can read.
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Result<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| Error::Sealed("the system has no randomness"))?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plaintext.len() + TAG_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        // Sized for the tag too: growing would leave a copy of the plaintext behind.
        let mut body = Vec::with_capacity(plaintext.len() + TAG_LEN);
        body.extend_from_slice(plaintext);
        self.cipher()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut body,
            )
            .map_err(|_| Error::Sealed("the value is too long to seal"))?;
        sealed.extend_from_slice(&body);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What was sealed. [`Error::Sealed`] if the key or the context is another, or the text was changed.
    pub fn open(&self, context: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let sealed = URL_SAFE_NO_PAD
            .decode(sealed)
            .map_err(|_| Error::Sealed("it is not base64"))?;
        let (version, rest) = sealed.split_first().ok_or(Error::Sealed("it is empty"))?;
        if *version != VERSION {
            return Err(Error::Sealed("it was sealed by a newer Eyot"));
        }
        let (nonce, body) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(Error::Sealed("it is cut short"))?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .cipher()
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context.as_bytes()),
                &mut body,
            )
            .map_err(|_| Error::Sealed("the master key is another one, or the value was changed or moved"))?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// A key for one purpose, from which nobody can tell this one or that of another purpose (HKDF-SHA256).
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_LEN]> {
        let mut derived = Zeroizing::new([0; KEY_LEN]);
        Salt::new(HKDF_SHA256, b"eyot master key")
            .extract(self.0.as_ref())
            .expand(&[purpose.as_bytes()], HKDF_SHA256)
            .and_then(|okm| okm.fill(derived.as_mut()))
            .expect("the length asked for is that of the hash");
        derived
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, self.0.as_ref()).expect("the key has the cipher's length");
        LessSafeKey::new(key)
    }

    fn read(path: &Path, file: File) -> Result<Self> {
        let problem = |problem| Error::KeyFile {
            path: path.to_owned(),
            problem,
        };
        // Asked of the open file, not of the path: the path may name another file a moment later.
        let mode = file.metadata().map_err(|e| Error::io(path, e))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(problem(
                "others than its owner have access; run chmod 600 on it, and consider its secrets seen",
            ));
        }
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN + 2));
        file.take(2 * KEY_LEN as u64 + 2)
            .read_to_string(&mut text)
            .map_err(|_| problem("it cannot be read as text; put the right file back"))?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        hex::decode_to_slice(text.trim_end(), key.as_mut())
            .map_err(|_| problem("it does not hold 64 hex digits; put the right file back"))?;
        Ok(Self(key))
    }

    /// Writes the key to a new file; false if the file is there by now.
    fn save_new(&self, path: &Path) -> Result<bool> {
        let draft = draft_path(path)?;
        let made = self.write_draft(&draft).and_then(|()| {
            // A link, unlike a rename, never replaces the key of a process that was quicker.
            match fs::hard_link(&draft, path) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(e) => Err(Error::io(path, e)),
            }
        });
        remove_file(&draft)?;
        if made? {
            sync_dir(
                path.parent()
                    .filter(|p| !p.as_os_str().is_empty())
                    .unwrap_or(Path::new(".")),
            )?;
            return Ok(true);
        }
        Ok(false)
    }

    fn write_draft(&self, draft: &Path) -> Result<()> {
        let mut text = Zeroizing::new([0; 2 * KEY_LEN + 1]);
        hex::encode_to_slice(self.0.as_ref(), &mut text[..2 * KEY_LEN]).expect("two digits for each byte");
        text[2 * KEY_LEN] = b'\n';
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(draft)
            .and_then(|mut file| file.write_all(text.as_ref()).and_then(|()| file.sync_all()))
            .map_err(|e| Error::io(draft, e))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

fn draft_path(path: &Path) -> Result<PathBuf> {
    let mut tail = [0; 8];
    rand::fill(&mut tail).map_err(|_| Error::Sealed("the system has no randomness"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", hex::encode(tail)));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_is_made_once_and_only_for_its_owner() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("master.key");
        let sealed = MasterKey::load_or_create(&path).unwrap().seal("a", b"secret").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "the draft is gone");
        let opened = MasterKey::load_or_create(&path).unwrap().open("a", &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"secret");
        MasterKey::load(&path).unwrap().open("a", &sealed).unwrap();
    }

    #[test]
    fn of_processes_that_start_together_all_get_one_key() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("master.key");
        let start = std::sync::Barrier::new(8);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let make = || {
                start.wait();
                MasterKey::load_or_create(&path).unwrap().0.to_vec()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|k| *k == keys[0]));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "the drafts are gone");
    }

    #[test]
    fn a_file_that_cannot_be_trusted_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("master.key");
        let check = |content: &str, mode, said: &str| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = MasterKey::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("master.key"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content, "left as it was");
        };
        let good = "07".repeat(32);
        check(&good, 0o640, "chmod 600");
        check(&good, 0o604, "chmod 600");
        check("", 0o600, "64 hex digits");
        check(&good[1..], 0o600, "64 hex digits");
        check(&format!("{good}07"), 0o600, "64 hex digits");
        check(&good.replace('7', "g"), 0o600, "64 hex digits");
    }

    #[test]
    fn the_key_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", MasterKey::generate().unwrap()), "MasterKey(***)");
    }

    #[test]
    fn another_key_or_context_does_not_open() {
        let key = MasterKey::generate().unwrap();
        let sealed = key.seal("access-key/one", b"secret").unwrap();
        assert!(matches!(key.open("access-key/two", &sealed), Err(Error::Sealed(_))));
        let other = MasterKey::generate().unwrap();
        assert!(matches!(other.open("access-key/one", &sealed), Err(Error::Sealed(_))));
        assert_ne!(
            sealed,
            key.seal("access-key/one", b"secret").unwrap(),
            "a nonce is never used twice"
        );
    }

    #[test]
    fn a_derived_key_is_the_same_for_the_same_purpose_only() {
        let key = MasterKey::generate().unwrap();
        assert_eq!(key.derive("one"), key.derive("one"));
        assert_ne!(key.derive("one"), key.derive("two"));
        assert_ne!(key.derive("one"), MasterKey::generate().unwrap().derive("one"));
        assert_ne!(*key.derive("one"), *key.0);
    }

    #[test]
    fn what_is_not_a_sealed_value_is_refused() {
        let key = MasterKey::generate().unwrap();
        let newer = URL_SAFE_NO_PAD.encode([2; 40]);
        for text in ["", "A", "AQ", "not base64!", newer.as_str(), "AQEBAQEBAQEBAQEBAQEBAQEB"] {
            assert!(matches!(key.open("a", text), Err(Error::Sealed(_))), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn sealing_round_trips_and_every_changed_bit_is_noticed(
            context in ".{0,20}", plaintext in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>(), bit in 0..8u8,
        ) {
            let key = MasterKey::generate().unwrap();
            let sealed = key.seal(&context, &plaintext).unwrap();
            prop_assert_eq!(&*key.open(&context, &sealed).unwrap(), &plaintext);
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(key.open(&context, &URL_SAFE_NO_PAD.encode(bytes)).is_err());
        }
    }
}
