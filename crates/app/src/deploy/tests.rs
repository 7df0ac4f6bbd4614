//! Packing, names and entry points; the whole way against a server is in `tests/test_cli.py`.

use super::*;
use sandbox::package::{Store, UnpackLimits};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn tree(files: &[(&str, u32)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    dir
}

fn unpacked(dir: &Path, beside: Option<&Path>) -> (tempfile::TempDir, PathBuf, String) {
    let package = pack::pack(dir, beside).unwrap();
    let store = tempfile::tempdir().unwrap();
    let unpacked = Store::open(store.path())
        .unwrap()
        .unpack(package.archive, UnpackLimits::default())
        .unwrap();
    (store, unpacked.root, unpacked.digest)
}

#[test]
fn a_packed_directory_unpacks_to_itself_without_what_is_no_code() {
    let dir = tree(&[
        ("main.py", 0o600),
        ("run.sh", 0o755),
        ("lib/deep/x.py", 0o644),
        ("node_modules/x/index.js", 0o644),
        (".git/config", 0o644),
        (".env", 0o600),
        ("lib/__pycache__/x.pyc", 0o644),
        ("myenv/pyvenv.cfg", 0o644),
        ("myenv/bin/python", 0o755),
    ]);
    symlink("../main.py", dir.path().join("lib/link.py")).unwrap();
    let beside = tree(&[
        ("main.py", 0o755),
        ("dep/__init__.py", 0o644),
        ("dep/__pycache__/a.pyc", 0o644),
    ]);
    let (_store, root, digest) = unpacked(dir.path(), Some(beside.path()));
    for (path, mode) in [
        ("main.py", 0o644),
        ("run.sh", 0o755),
        ("lib/deep/x.py", 0o644),
        ("node_modules/x/index.js", 0o644),
        ("dep/__init__.py", 0o644),
        ("dep/__pycache__/a.pyc", 0o644),
    ] {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), path);
        assert_eq!(
            fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777,
            mode,
            "{path}"
        );
    }
    assert_eq!(
        fs::read_link(root.join("lib/link.py")).unwrap(),
        Path::new("../main.py")
    );
    for path in [".git", ".env", "lib/__pycache__", "myenv"] {
        assert!(!root.join(path).exists(), "{path}");
    }
    // The same content packed at another time is the same archive.
    fs::write(dir.path().join("main.py"), "main.py").unwrap();
    assert_eq!(unpacked(dir.path(), Some(beside.path())).2, digest);
    fs::write(dir.path().join("main.py"), "changed").unwrap();
    assert_ne!(unpacked(dir.path(), Some(beside.path())).2, digest);
}

#[test]
fn links_out_and_empty_directories_are_refused() {
    for target in ["/etc/passwd", "../outside", "a/../../outside"] {
        let dir = tree(&[("main.py", 0o644)]);
        symlink(target, dir.path().join("l")).unwrap();
        let error = pack::pack(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("leads out") && error.contains(target), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(
        pack::pack(empty.path(), None)
            .unwrap_err()
            .to_string()
            .contains("no files")
    );
}

#[test]
fn names_are_made_from_directories() {
    for (dir, name) in [
        ("/x/my-agent", "my_agent"),
        ("/x/ünï.v2", "agent__n__v2"),
        ("/x/2fast", "agent_2fast"),
        ("/", "agent_"),
        ("/x/_x", "agent__x"),
    ] {
        assert_eq!(default_name(Path::new(dir)).as_str(), name, "{dir}");
    }
    assert_eq!(
        default_name(Path::new(&format!("/{}", "a".repeat(80)))).as_str().len(),
        48
    );
}

#[test]
fn entry_points_are_found_or_refused() {
    let words = |text: &str| {
        text.split(' ')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let python = tree(&[("main.py", 0o644), ("requirements.txt", 0o644), ("src/app.py", 0o644)]);
    let node = tree(&[("index.js", 0o644)]);
    for (dir, asked, want) in [
        (&python, "", Ok("main.py")),
        (&node, "", Ok("index.js")),
        (&python, "src/app.py", Ok("src/app.py")),
        (
            &python,
            "opentelemetry-instrument main.py",
            Ok("opentelemetry-instrument main.py"),
        ),
        (
            &node,
            "opentelemetry-instrument",
            Err("has no file opentelemetry-instrument"),
        ),
        (&python, "opentelemetry-instrument none.py", Err("has no file none.py")),
        (&python, "none.py", Err("has no file none.py")),
        (&python, "src", Ok("src")),
        (&python, "a b c", Err("one file, or a wrapper and a file")),
    ] {
        match (entry_point(dir.path(), &words(asked)), want) {
            (Ok(found), Ok(want)) => assert_eq!(found, words(want)),
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
            other => panic!("{asked}: {other:?}"),
        }
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(
        entry_point(empty.path(), &[])
            .unwrap_err()
            .to_string()
            .contains("--entry-point")
    );
}

#[test]
fn variables_are_split_at_the_first_equals_sign() {
    assert_eq!(parse_variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
    assert_eq!(parse_variable("A="), Ok(("A".to_owned(), String::new())));
    assert!(parse_variable("A").is_err() && parse_variable("=b").is_err());
}

#[test]
fn the_sample_agent_is_a_package_that_runs_without_an_interpreter() {
    let (release, payload) = sample::release(RuntimeName::parse("sample").unwrap()).unwrap();
    let crate::client::Payload::Memory(bytes) = payload else {
        panic!("not in memory")
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &bytes).unwrap();
    let store = tempfile::tempdir().unwrap();
    let store = Store::open(store.path()).unwrap();
    let package = store.unpack(file.reopen().unwrap(), UnpackLimits::default()).unwrap();
    let launch = Runtimes::discover(BTreeMap::new()).resolve(&release.runtime, &release.entry_point, &package.root);
    assert_eq!(launch.unwrap().command, ["./sample-agent"]);
}
