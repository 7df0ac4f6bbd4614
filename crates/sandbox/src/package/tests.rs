//! Hostile and ordinary archives through the whole of the store.

use super::forge::{Forged, archive, archive_with};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::os::unix::fs::MetadataExt;

const SMALL: UnpackLimits = UnpackLimits {
    archive: 1 << 20,
    unpacked: 1 << 20,
    entries: 50,
};

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// What lies below a directory: path -> mode and content, or `-> target`.
fn tree(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let meta = fs::symlink_metadata(&path).unwrap();
            let text = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                walk(root, &path, into);
                format!("{:o} dir", meta.mode() & 0o7777)
            } else {
                format!(
                    "{:o} {}",
                    meta.mode() & 0o7777,
                    String::from_utf8_lossy(&fs::read(&path).unwrap())
                )
            };
            into.insert(name, text);
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, String>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let result = store.unpack(file_of(bytes), SMALL).map(|package| tree(&package.root));
    if result.is_err() {
        assert!(
            tree(&store.dir).is_empty(),
            "a refused package left something: {:?}",
            tree(&store.dir)
        );
    }
    let beside: Vec<_> = tree(dir.path())
        .into_keys()
        .filter(|k| !k.starts_with("store"))
        .collect();
    assert!(beside.is_empty(), "written outside the store: {beside:?}");
    result
}

#[track_caller]
fn check_refused(entries: &[Forged], reason: &str) {
    check_bytes_refused(&archive(entries), reason);
}

#[track_caller]
fn check_bytes_refused(bytes: &[u8], reason: &str) {
    match unpack(bytes) {
        Err(Error::Artifact(message)) => assert!(message.contains(reason), "{message:?} lacks {reason:?}"),
        other => panic!("wanted Artifact with {reason:?}, got {other:?}"),
    }
}

fn ok() -> Forged {
    Forged::stored("main.py", b"print()")
}

#[test]
fn an_ordinary_package_is_unpacked_with_its_modes_and_links() {
    let entries = [
        Forged::dir("bin/"),
        Forged::deflated("bin/tool", b"#!/bin/sh").with(|e| e.mode = Some(0o100_700)),
        Forged::stored("main.py", b"print()").with(|e| e.mode = Some(0o100_600)),
        Forged::stored("wild", b"x").with(|e| e.mode = Some(0o106_777)),
        Forged::stored("from-windows.txt", b"x").with(|e| e.mode = None),
        Forged::stored("deep/er/file", b"x").with(|e| e.zip64 = true),
        Forged::link("deep/er/up", "../../bin/tool"),
        Forged::link("through", "deep/er/up"),
        Forged::link("dangling", "not/there"),
        Forged::stored("empty", b""),
        Forged::dir("bin/"),
    ];
    let want: BTreeMap<String, String> = [
        ("bin", "755 dir"),
        ("bin/tool", "755 #!/bin/sh"),
        ("dangling", "-> not/there"),
        ("deep", "755 dir"),
        ("deep/er", "755 dir"),
        ("deep/er/file", "644 x"),
        ("deep/er/up", "-> ../../bin/tool"),
        ("empty", "644 "),
        ("from-windows.txt", "644 x"),
        ("main.py", "644 print()"),
        ("through", "-> deep/er/up"),
        ("wild", "755 x"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into();
    for zip64_end in [false, true] {
        assert_eq!(unpack(&archive_with(&entries, zip64_end)).unwrap(), want);
    }
}

#[test]
fn what_the_zip_crate_writes_is_read() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .unix_permissions(0o755)
        .large_file(true);
    writer.add_directory("d", options).unwrap();
    writer.start_file("d/run", options).unwrap();
    writer.write_all(&b"hello ".repeat(1000)).unwrap();
    writer.add_symlink("l", "d/run", options).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let found = unpack(&bytes).unwrap();
    assert_eq!(found["d/run"], format!("755 {}", "hello ".repeat(1000)));
    assert_eq!(found["l"], "-> d/run");
}

#[test]
fn entries_that_climb_out_are_refused() {
    for (name, reason) in [
        ("../evil", "climbs out"),
        ("a/../../evil", "climbs out"),
        ("/tmp/evil", "absolute"),
        ("..\\evil", "backslash"),
        ("C:evil", "drive letter"),
        ("a\0b", "control character"),
        ("", "empty name"),
    ] {
        check_refused(&[ok(), Forged::stored(name, b"x")], reason);
        check_refused(&[ok(), Forged::link(name, "main.py")], reason);
    }
    check_refused(&[Forged::dir("../d/")], "climbs out");
    check_refused(
        &[Forged::stored("./", b"x").with(|e| e.mode = Some(0o100_644))],
        "content of its own",
    );
    check_refused(&[Forged::stored(".", b"x")], "directory's name");
    check_refused(&[Forged::stored(&"x".repeat(256), b"")], "256 bytes");
    check_refused(&[Forged::stored(&"x/".repeat(600), b"")], "1200 bytes");
}

#[test]
fn links_may_not_lead_out_and_nothing_is_written_through_one() {
    for (name, target, reason) in [
        ("l", "/etc/passwd", "absolute path"),
        ("l", "..", "leads out"),
        ("l", "../x", "leads out"),
        ("d/l", "../../x", "leads out"),
        ("d/l", "x/../../../y", "leads out"),
        ("l", "", "empty"),
        ("l", "a\0b", "control characters"),
        ("l", "l", "circle"),
    ] {
        check_refused(&[ok(), Forged::link(name, target)], reason);
    }
    // Each link alone looks harmless: `hop` is `a/b`, so `hop/..` is `a` and `hop/../..` the root, and one more leads out.
    let hop = Forged::link("hop", "a/b");
    check_refused(
        &[hop.clone(), Forged::dir("a/b/"), Forged::link("out", "hop/../../..")],
        "leads out",
    );
    let found = unpack(&archive(&[hop, Forged::dir("a/b/"), Forged::link("in", "hop/../..")])).unwrap();
    assert_eq!(found["in"], "-> hop/../..");
    check_refused(&[Forged::link("a", "b"), Forged::link("b", "a")], "circle");
    for order in [[0, 1], [1, 0]] {
        let entries = [Forged::link("d", "elsewhere"), Forged::stored("d/file", b"x")];
        let reason = if order == [0, 1] {
            "itself a file or a link"
        } else {
            "twice"
        };
        check_refused(&order.map(|i| entries[i].clone()), reason);
    }
    check_refused(&[Forged::link("l/", "x")], "directory's name");
    check_refused(&[Forged::link("l", &"x/".repeat(2000))], "overlong target");
}

#[test]
fn things_that_are_not_files_are_refused() {
    for kind in [0o010_000, 0o020_000, 0o060_000, 0o140_000, 0o160_000] {
        check_refused(&[ok().with(|e| e.mode = Some(kind | 0o644))], "device, pipe or socket");
    }
}

#[test]
fn entries_that_clash_are_refused() {
    check_refused(&[ok(), ok()], "twice");
    check_refused(&[ok(), Forged::stored("./main.py", b"other")], "twice");
    check_refused(&[ok(), Forged::stored("main.py/x", b"")], "itself a file");
    check_refused(&[Forged::stored("d/x", b""), Forged::stored("d", b"")], "twice");
    check_refused(&[ok(), Forged::dir("main.py/")], "twice");
    check_refused(&[], "empty archive");
}

#[test]
fn bombs_are_refused_by_their_real_size() {
    let big = vec![0; (1 << 20) + 1];
    check_refused(&[Forged::deflated("big", &big)], "more than 1048576 bytes");
    check_refused(
        &[Forged::deflated("a", &big[1..]), Forged::stored("b", b"x")],
        "more than 1048576 bytes",
    );
    check_refused(
        &[Forged::deflated("big", &big).with(|e| e.size = 10)],
        "another size than the archive declares",
    );
    check_refused(
        &[Forged::deflated("small", b"abc").with(|e| e.size = 10)],
        "another size",
    );
    check_refused(
        &[Forged::deflated("huge", b"abc").with(|e| (e.size, e.zip64) = (u64::MAX >> 33, true))],
        "more than",
    );
    // Many entries that share one packed stream.
    let shared = Forged::deflated("a", &[0; 1000]);
    check_refused(
        &[
            shared.clone(),
            shared.with(|e| (e.name, e.share_with) = (b"b".to_vec(), Some(0))),
        ],
        "overlaps",
    );
    let many: Vec<_> = (0..51).map(|i| Forged::stored(&format!("f{i}"), b"")).collect();
    check_refused(&many, "51 entries");
    check_refused(
        &[Forged::stored(&"a/".repeat(60), b"")],
        "more than 50 files and directories",
    );
}

#[test]
fn a_package_of_exactly_the_limit_is_accepted() {
    let data = vec![7; 1 << 20];
    assert_eq!(
        unpack(&archive(&[Forged::deflated("f", &data)])).unwrap()["f"].len(),
        4 + data.len()
    );
    let many: Vec<_> = (0..50).map(|i| Forged::stored(&format!("f{i}"), b"")).collect();
    assert_eq!(unpack(&archive(&many)).unwrap().len(), 50);
}

#[test]
fn unreadable_entries_are_named() {
    check_refused(&[ok().with(|e| e.flags = 1)], "encrypted");
    for (method, name) in [
        (9, "deflate64"),
        (12, "bzip2"),
        (14, "LZMA"),
        (93, "Zstandard"),
        (77, "method 77"),
    ] {
        check_refused(&[ok().with(|e| e.method = method)], name);
    }
    check_refused(&[ok().with(|e| e.crc ^= 1)], "checksum");
    check_refused(
        &[Forged::deflated("x", b"abc").with(|e| e.packed = vec![0xff; 8])],
        "damaged",
    );
    check_refused(&[ok().with(|e| e.local_name = Some(b"evil.py".to_vec()))], "disagrees");
    check_refused(&[ok().with(|e| e.packed_size = 70_000)], "disagrees");
}

#[test]
fn truncated_and_padded_archives_are_refused() {
    let whole = archive(&[ok(), Forged::deflated("b", &[1; 500])]);
    for cut in 0..whole.len() {
        check_bytes_refused(&whole[..cut], "not a complete zip archive");
    }
    check_bytes_refused(&[&whole[..], b"tail"].concat(), "not a complete zip archive");
    check_bytes_refused(
        &[b"#!/bin/sh\n", &whole[..]].concat(),
        "10 bytes that belong to no entry",
    );
    check_bytes_refused(b"PK", "not a complete zip archive");
    check_bytes_refused(&[0; 100_000], "not a complete zip archive");
}

#[test]
fn an_archive_over_the_limit_is_refused_before_it_is_read() {
    check_bytes_refused(&vec![0; (1 << 20) + 1], "may be at most 1048576");
}

#[test]
fn the_store_keeps_one_tree_for_one_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = archive(&[ok()]);
    let first = store.unpack(file_of(&bytes), SMALL).unwrap();
    let inode = fs::metadata(&first.root).unwrap().ino();
    assert_eq!(store.unpack(file_of(&bytes), SMALL).unwrap(), first);
    assert_eq!(fs::metadata(&first.root).unwrap().ino(), inode);
    assert_eq!(store.get(&first.digest), Some(first.clone()));
    for wrong in ["", "..", "../x", &"0".repeat(64), &first.digest.to_uppercase()] {
        assert_eq!(store.get(wrong), None, "{wrong}");
    }
    let other = store
        .unpack(file_of(&archive(&[Forged::stored("other", b"")])), SMALL)
        .unwrap();
    store.remove_except(&HashSet::from([other.digest.clone()])).unwrap();
    assert_eq!(
        (store.get(&first.digest), store.get(&other.digest).is_some()),
        (None, true)
    );
}

#[test]
fn threads_that_unpack_the_same_archive_all_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = archive(&[ok(), Forged::deflated("x", &[9; 100_000])]);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| store.unpack(file_of(&bytes), SMALL).unwrap()))
            .collect();
        let packages: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(packages.windows(2).all(|pair| pair[0] == pair[1]));
    });
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_a_crash_left_is_removed_at_open_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for name in [".scratch-abc/deep/file", "kept"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    Store::open(dir.path()).unwrap();
    assert_eq!(tree(dir.path()).into_keys().collect::<Vec<_>>(), ["kept"]);
}

/// A file system of 256 KiB, seen by this thread alone.
#[test]
fn a_full_disk_is_reported_as_such_and_leaves_nothing() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let dir = tempfile::tempdir().unwrap();
    let thread = std::thread::scope(|scope| {
        let in_own_namespace = || {
            unshare(CloneFlags::CLONE_NEWNS).ok()?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).ok()?;
            mount(
                Some("tmpfs"),
                dir.path(),
                Some("tmpfs"),
                MsFlags::empty(),
                Some("size=256k"),
            )
            .ok()?;
            let store = Store::open(&dir.path().join("store")).unwrap();
            let result = store.unpack(
                file_of(&archive(&[ok(), Forged::deflated("big", &[1; 1 << 19])])),
                SMALL,
            );
            Some((result, tree(&store.dir)))
        };
        scope.spawn(in_own_namespace).join().unwrap()
    });
    let Some((result, left)) = thread else {
        eprintln!(
            "skipped: a_full_disk_is_reported_as_such_and_leaves_nothing needs root, to mount a small file system"
        );
        return;
    };
    let Err(Error::Host(message)) = result else {
        panic!("{result:?}")
    };
    assert!(
        message.contains("\"big\"") && message.contains("Free space"),
        "{message}"
    );
    assert!(left.is_empty(), "{left:?}");
}

/// An honest archive with a little of everything that a mutation may turn into something else.
fn mixed() -> Vec<u8> {
    archive(&[
        Forged::dir("dir/"),
        Forged::stored("dir/aa", b"stored"),
        Forged::deflated("dir/bb", &b"deflated ".repeat(50)),
        Forged::link("ln", "dir/aa"),
        Forged::link("dir/up", "../ln"),
        Forged::stored("zz/yy/xx", b"").with(|e| e.zip64 = true),
    ])
}

fn every_link_stays_inside(root: &Path) {
    let real_root = root.canonicalize().unwrap();
    for (path, text) in tree(root) {
        if text.starts_with("-> ") {
            let resolved = root.join(&path).canonicalize();
            assert!(
                resolved.is_err() || resolved.unwrap().starts_with(&real_root),
                "{path} {text}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutated_archive_never_writes_outside(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), Just(b'.'), Just(b'/'), Just(0), Just(0xff),
        ]), 1..8),
        zip64_end in any::<bool>(),
    ) {
        let mut bytes = if zip64_end { archive_with(&[ok(), Forged::link("a", "main.py")], true) } else { mixed() };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("outer/root");
        fs::create_dir_all(&root).unwrap();
        let result = unpack_into(Cursor::new(&bytes), &root, SMALL);
        let outside: Vec<_> = tree(dir.path()).into_keys()
            .filter(|p| !p.starts_with("outer/root/") && p != "outer/root" && p != "outer").collect();
        prop_assert!(outside.is_empty(), "{:?}", outside);
        every_link_stays_inside(&root);
        prop_assert!(matches!(result, Ok(()) | Err(Error::Artifact(_))), "{:?}", result);
    }

    #[test]
    fn links_and_names_of_any_shape_stay_inside(
        entries in proptest::collection::vec((
            "(a|b|\\.\\.|\\.|/|c){1,6}", proptest::option::of("((a|b|\\.\\.|\\.|c)/?){1,6}")), 1..6),
    ) {
        let forged: Vec<_> = entries.iter().map(|(name, target)| match target {
            Some(target) => Forged::link(name, target),
            None => Forged::stored(name, b"x"),
        }).collect();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("outer/root");
        fs::create_dir_all(&root).unwrap();
        let result = unpack_into(Cursor::new(archive(&forged)), &root, SMALL);
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        prop_assert_eq!(fs::read_dir(dir.path().join("outer")).unwrap().count(), 1);
        every_link_stays_inside(&root);
        prop_assert!(matches!(result, Ok(()) | Err(Error::Artifact(_))), "{:?}", result);
    }
}
