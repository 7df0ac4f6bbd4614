//! A code package is a stranger's archive: unpacking must answer, stay inside its folder and within its limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox::package::{UnpackLimits, unpack_into};
use std::io::Cursor;
use std::path::Path;

const LIMITS: UnpackLimits = UnpackLimits { archive: 1 << 20, unpacked: 1 << 20, entries: 200 };

fuzz_target!(|archive: &[u8]| {
    let outer = tempfile::tempdir().expect("a folder can be made");
    let inner = outer.path().join("package");
    std::fs::create_dir(&inner).expect("a folder can be made");
    let unpacked = unpack_into(Cursor::new(archive), &inner, LIMITS);

    let beside = std::fs::read_dir(outer.path()).expect("it is a folder").count();
    assert_eq!(beside, 1, "something was written outside the package");
    if unpacked.is_ok() {
        let (mut bytes, mut entries) = (0, 0);
        measure(&inner, &inner, &mut bytes, &mut entries);
        assert!(bytes <= LIMITS.unpacked && entries <= LIMITS.entries, "{bytes} bytes in {entries} entries");
    }
});

fn measure(root: &Path, dir: &Path, bytes: &mut u64, entries: &mut usize) {
    for entry in std::fs::read_dir(dir).expect("it is a folder") {
        let path = entry.expect("it can be listed").path();
        let metadata = path.symlink_metadata().expect("it is there");
        *entries += 1;
        if metadata.is_symlink() {
            // A link may point at nothing, but never at something outside.
            if let Ok(target) = path.canonicalize() {
                assert!(target.starts_with(root.canonicalize().expect("it is there")), "{} leads outside", path.display());
            }
        } else if metadata.is_dir() {
            measure(root, &path, bytes, entries);
        } else {
            assert!(metadata.is_file());
            *bytes += metadata.len();
        }
    }
}
