//! Directories that outlive their sandboxes.

use super::bench::{Bench, Which, exited, run};
use super::cases::guest_pid;
use crate::{Error, Sandbox, Spec, Storage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

const NO_GRACE: Duration = Duration::ZERO;
const SIZE: u64 = 16 << 20;

/// The agent, with a storage of that name.
fn with_storage(bench: &Bench, name: &str) -> Spec {
    let mut spec = bench.agent();
    spec.storage = Some(Storage {
        dir: bench.package().with_file_name(name),
        mount_path: "/mnt/data".into(),
        bytes: SIZE,
    });
    spec
}

/// Whether the case can go on; where there is no storage, a start says what is missing.
async fn has_storage(bench: &Bench) -> bool {
    if bench.driver.abilities().storage {
        return true;
    }
    println!("skipped: there is no session storage here");
    let error = bench.driver.start(with_storage(bench, "one")).await.unwrap_err();
    let reason = if bench.which == Which::Process {
        "container"
    } else {
        "session storage needs"
    };
    assert!(matches!(&error, Error::Host(text) if text.contains(reason)), "{error}");
    false
}

/// Loop devices that have a file of this bench.
fn attached(bench: &Bench) -> Vec<String> {
    let place = fs::canonicalize(bench.package()).unwrap().parent().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if file.starts_with(place.to_str().unwrap()) {
            found.push(file);
        }
    }
    found
}

fn first_id(bench: &Bench, sandbox: &dyn Sandbox) -> u64 {
    let text = fs::read(bench.state_dir().join(sandbox.id().as_str()).join("spec.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["first_id"]
        .as_u64()
        .unwrap()
}

pub(super) async fn storage_outlives_its_sandbox_and_keeps_its_size(bench: &Bench) {
    if !has_storage(bench).await {
        return;
    }
    let at = Instant::now();
    let one = bench.listening(with_storage(bench, "one")).await;
    println!("the first start with storage took {:?}", at.elapsed());
    let write = "
import os
os.mkdir('/mnt/data/d', 0o700); open('/mnt/data/d/kept', 'w').write('text')
os.symlink('d/kept', '/mnt/data/link'); os.chmod('/mnt/data/d/kept', 0o640)
r = sorted(os.listdir('/mnt/data'))
";
    assert_eq!(run(&*one, write).await.unwrap(), serde_json::json!(["d", "link"]));
    // Only there, and as little as anywhere may it harm the host.
    assert!(
        run(&*one, "open('/mnt/x', 'w')")
            .await
            .unwrap_err()
            .contains("Read-only")
    );
    let id = first_id(bench, &*one);
    one.stop(NO_GRACE).await.unwrap();
    assert_eq!(attached(bench), [""; 0]);
    bench.assert_nothing_left().await;

    let at = Instant::now();
    let two = bench.listening(with_storage(bench, "one")).await;
    println!("the second start with storage took {:?}", at.elapsed());
    assert_ne!(first_id(bench, &*two), id);
    let look = "
import os, stat
s = os.stat('/mnt/data/link'); t = os.stat('/mnt/data')
r = [open('/mnt/data/link').read(), oct(s.st_mode), s.st_uid, s.st_gid, t.st_uid]
open('/mnt/data/d/kept', 'a').write(' more')
";
    let wanted = serde_json::json!(["text", "0o100640", 1000, 1000, 1000]);
    assert_eq!(run(&*two, look).await.unwrap(), wanted);
    // It holds what it holds and no more, and the file on the host is no longer than that.
    let fill = "
f = open('/mnt/data/big', 'wb', buffering=0)
n = 0
try:
    while n < 64: f.write(bytes(1 << 20)); n += 1
except OSError as e: r = [e.strerror, n]
";
    let filled = run(&*two, fill).await.unwrap();
    assert_eq!(filled[0], "No space left on device");
    assert!((8..=16).contains(&filled[1].as_u64().unwrap()), "{filled}");
    let image = bench.package().with_file_name("one").join("image.ext4");
    let size = fs::metadata(&image).unwrap();
    assert!(
        size.len() == SIZE && size.blocks() * 512 <= SIZE + (1 << 20),
        "{size:?}"
    );
    run(&*two, "import os; os.remove('/mnt/data/big')").await.unwrap();
    two.stop(NO_GRACE).await.unwrap();
    let used = fs::metadata(&image).unwrap().blocks() * 512;
    println!("the file takes {used} bytes once what filled it is removed");
    assert!(used < SIZE / 2, "{used}");
}

pub(super) async fn storage_leaves_nothing_when_all_is_killed(bench: &Bench) {
    if !has_storage(bench).await {
        return;
    }
    let sandbox = bench.listening(with_storage(bench, "one")).await;
    run(
        &*sandbox,
        "import os; f = open('/mnt/data/kept', 'w'); f.write('text'); f.flush(); os.fsync(f.fileno())",
    )
    .await
    .unwrap();
    assert_eq!(attached(bench).len(), 1);
    kill(Pid::from_raw(guest_pid(bench, sandbox.id())), Signal::SIGKILL).unwrap();
    exited(&*sandbox).await;
    let until = Instant::now() + Duration::from_secs(10);
    while !attached(bench).is_empty() {
        assert!(Instant::now() < until, "{:?}", attached(bench));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains("image.ext4")
    );
    sandbox.stop(NO_GRACE).await.unwrap();
    let next = bench.listening(with_storage(bench, "one")).await;
    assert_eq!(run(&*next, "r = open('/mnt/data/kept').read()").await.unwrap(), "text");
    next.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn two_storages_do_not_meet(bench: &Bench) {
    if !has_storage(bench).await {
        return;
    }
    let one = bench.listening(with_storage(bench, "one")).await;
    let two = bench.listening(with_storage(bench, "two")).await;
    run(&*one, "open('/mnt/data/secret', 'w').write('one')").await.unwrap();
    let see = "import os; r = [os.listdir('/mnt'), os.listdir('/mnt/data')]";
    assert_eq!(run(&*two, see).await.unwrap(), serde_json::json!([["data"], []]));
    // The device is the kernel's business, not the agent's.
    let raw = "import os; r = [os.path.exists(f'/dev/loop{n}') for n in range(8)]";
    assert_eq!(run(&*two, raw).await.unwrap(), serde_json::json!(vec![false; 8]));
    // One at a time.
    let error = bench.driver.start(with_storage(bench, "one")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Host(text) if text.contains("in use by another")),
        "{error}"
    );
    assert_eq!(run(&*one, "r = open('/mnt/data/secret').read()").await.unwrap(), "one");
    let ended = one.id().clone();
    one.stop(NO_GRACE).await.unwrap();
    two.stop(NO_GRACE).await.unwrap();
    assert!(!bench.state_dir().join(ended.as_str()).exists());
}

pub(super) async fn storage_that_cannot_be_used_says_why(bench: &Bench) {
    if !has_storage(bench).await {
        return;
    }
    for path in [
        "/data", "/mnt", "/mnt/", "/mnt/a/b", "/mnt/..", "/mnt/a b", "mnt/a", "/mnt/\n",
    ] {
        let mut spec = with_storage(bench, "one");
        spec.storage.as_mut().unwrap().mount_path = path.into();
        let error = bench.driver.start(spec).await.unwrap_err();
        assert!(
            matches!(&error, Error::Host(text) if text.contains("below /mnt")),
            "{path:?}: {error}"
        );
    }
    let sandbox = bench.listening(with_storage(bench, "one")).await;
    sandbox.stop(NO_GRACE).await.unwrap();
    let image = bench.package().with_file_name("one").join("image.ext4");
    let whole = fs::read(&image).unwrap();
    let mut damaged = whole.clone();
    damaged[..64 << 10].fill(0x55);
    for bytes in [damaged, Vec::new(), whole[..whole.len() / 2].to_vec()] {
        fs::write(&image, bytes).unwrap();
        let error = bench.driver.start(with_storage(bench, "one")).await.unwrap_err();
        assert!(
            matches!(&error, Error::Host(text) if text.contains("is damaged")),
            "{error}"
        );
        bench.assert_nothing_left().await;
    }
    fs::write(&image, whole).unwrap();
    let sandbox = bench.listening(with_storage(bench, "one")).await;
    sandbox.stop(NO_GRACE).await.unwrap();
}
