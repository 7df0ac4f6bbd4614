//! The whole suite again as an ordinary user, when it runs as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

/// An id that nobody has.
const USER: u32 = 65_111;

/// Copies this test program to where an ordinary user can execute it, and runs the contract's tests as one.
#[test]
fn the_suite_passes_as_an_ordinary_user() {
    if !crate::sys::is_root() {
        println!("skipped: this is an ordinary user already");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let program = dir.path().join("tests");
    fs::copy("/proc/self/exe", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    chown(&temporary, Some(USER), Some(USER)).unwrap();
    assert_eq!(fs::metadata(&temporary).unwrap().uid(), USER);
    let id = USER.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"])
        .arg(&program)
        .args(["contract::", "--nocapture", "--test-threads", "2"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &temporary)
        .env("TMPDIR", &temporary)
        .current_dir(&temporary)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: setpriv (util-linux) cannot be run: {error}");
            return;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|line| line.contains("skipped:")) {
        println!("as an ordinary user: {line}");
    }
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
