//! A device that is full: the caller learns it, nothing that was there is lost, and space that comes back is used.
//!
//! The child has a small file system in memory to itself, mounted in a namespace of its own: no privilege is needed.

use super::{play, put, told};
use crate::blobs::Blobs;
use crate::files::FileBlobs;
use crate::records::Records;
use crate::seal::MasterKey;
use crate::sqlite::Store;
use crate::{Error, Result};
use bytes::Bytes;
use std::fs;
use std::path::Path;
use std::process::Command;

const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--mount", "--"];

#[test]
fn records_on_a_full_device() {
    on_a_small_device("tests::full_disk::records_on_a_full_device", |dir| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let path = dir.join("eyot.db");
        let store = Store::open(&path).unwrap();
        runtime.block_on(store.commit(vec![put("kept", "1")])).unwrap();

        let hog = fill(dir);
        let mut stored = 0;
        let error = loop {
            // Free pages of the log may take a few more.
            match runtime.block_on(store.commit(vec![put(&format!("more/{stored:04}"), vec![7; 20_000])])) {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, Error::Full(said) if *said == path), "{error:?}");
        let read = |store: &Store| {
            assert_eq!(
                runtime.block_on(store.get("thing", "kept")).unwrap().unwrap().value,
                "1"
            );
            assert_eq!(
                runtime
                    .block_on(store.list("thing", "more/", None, 1000))
                    .unwrap()
                    .len(),
                stored
            );
        };
        read(&store);
        drop(store);

        // A restart while it is still full says so, or works; and loses nothing.
        match Store::open(&path) {
            Ok(store) => read(&store),
            Err(error) => assert!(matches!(error, Error::Full(_)), "{error:?}"),
        }
        fs::remove_file(hog).unwrap();
        let store = Store::open(&path).unwrap();
        read(&store);
        runtime
            .block_on(store.commit(vec![put("after", vec![7; 20_000])]))
            .unwrap();
    });
}

#[test]
fn blobs_on_a_full_device() {
    on_a_small_device("tests::full_disk::blobs_on_a_full_device", |dir| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let blobs = FileBlobs::open(dir).unwrap();
        let put = |key: &'static str, size| -> Result<()> {
            runtime.block_on(async {
                let mut upload = blobs.upload(key).await?;
                upload.write(Bytes::from(vec![7; size])).await?;
                upload.finish().await.map(|_| ())
            })
        };
        put("kept", 1 << 20).unwrap();
        // Larger than the device: the write fails, and what it had written makes room again.
        let error = put("kept", 64 << 20).unwrap_err();
        assert!(matches!(error, Error::Full(_)), "{error:?}");
        assert_eq!(dir.join("temporary").read_dir().unwrap().count(), 0);
        put("other", 1 << 20).unwrap();

        let hog = fill(dir);
        let error = put("kept", 1000).unwrap_err();
        assert!(matches!(error, Error::Full(_)), "{error:?}");
        assert_eq!(runtime.block_on(blobs.open("kept")).unwrap().unwrap().size, 1 << 20);
        assert_eq!(runtime.block_on(blobs.list("", None, 10)).unwrap(), ["kept", "other"]);
        fs::remove_file(hog).unwrap();
        put("kept", 1000).unwrap();
    });
}

#[test]
fn a_master_key_on_a_full_device() {
    on_a_small_device("tests::full_disk::a_master_key_on_a_full_device", |dir| {
        let hog = fill(dir);
        let path = dir.join("master.key");
        let error = MasterKey::load_or_create(&path).unwrap_err();
        assert!(matches!(error, Error::Full(_)), "{error:?}");
        fs::remove_file(hog).unwrap();
        assert_eq!(dir.read_dir().unwrap().count(), 0, "no half-written key is left");
        MasterKey::load_or_create(&path).unwrap();
    });
}

/// Runs the test's body in a child on a device of 8 MiB.
fn on_a_small_device(test: &str, body: impl FnOnce(&Path)) {
    if let Some(dir) = told() {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(&dir)
            .status()
            .unwrap();
        assert!(mounted.success());
        return body(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    // The trial mounts too: some hosts allow the namespaces but not a mount in them.
    let trial = Command::new("unshare")
        .args(UNSHARE)
        .args(["mount", "-t", "tmpfs", "tmpfs"])
        .arg(dir.path())
        .output();
    let refusal = match trial {
        Ok(trial) if trial.status.success() => None,
        Ok(trial) => Some(String::from_utf8_lossy(&trial.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(refusal) = refusal {
        println!("SKIPPED {test}: this host does not let a process mount in its own namespace ({refusal})");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(UNSHARE).arg(std::env::current_exe().unwrap());
    play(&mut command, test, dir.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "the child failed: {said}"
    );
}

/// Writes a file until no block is left.
fn fill(dir: &Path) -> std::path::PathBuf {
    use std::io::Write as _;
    let path = dir.join("hog");
    let mut hog = fs::File::create(&path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        while hog.write_all(&vec![7; size]).is_ok() {}
    }
    path
}
