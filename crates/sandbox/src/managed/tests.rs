//! Entry points against packages on the disk, and the host's own interpreters.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// A host with `PYTHON_3_11` in `/usr` and `NODE_22` elsewhere.
fn host() -> Runtimes {
    let python = Interpreter {
        executable: "/usr/bin/python3.11".into(),
        directories: vec![],
    };
    let node = Interpreter {
        executable: "/opt/node/bin/node".into(),
        directories: vec!["/opt/node".into()],
    };
    let broken = Err("the configured interpreter /x is of version 3.8".to_owned());
    let runtimes = Runtimes::default();
    for (index, (name, ..)) in KNOWN.iter().enumerate() {
        let found = match *name {
            "PYTHON_3_11" => Some(Ok(python.clone())),
            "NODE_22" => Some(Ok(node.clone())),
            "PYTHON_3_12" => Some(broken.clone()),
            _ => None,
        };
        runtimes.found[index].set(found).unwrap();
    }
    runtimes
}

fn package(files: &[(&str, &[u8], u32)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content, mode) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    dir
}

fn elf(machine: u16) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[16..18].copy_from_slice(&3_u16.to_le_bytes());
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes
}

fn host_machine() -> u16 {
    match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        other => panic!("add the ELF number of {other}"),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn entry_points_become_commands() {
    let native = elf(host_machine());
    let dir = package(&[
        ("main.py", b"", 0o644),
        ("src/app.py", b"", 0o644),
        ("index.mjs", b"", 0o644),
        ("agent", &native, 0o755),
        ("start.sh", b"#!/bin/sh\n", 0o755),
        (
            "bin/opentelemetry-instrument",
            b"#!/build/machine/python\nimport x",
            0o755,
        ),
        (
            "bin/other-tool",
            b"#!/bin/sh\n'''exec' \"/long/python\" \"$0\" \"$@\"\n' '''\n",
            0o755,
        ),
        ("bin/native-tool", &native, 0o755),
        ("node_modules/x/cli", b"#!/usr/bin/env node\n", 0o755),
    ]);
    for (runtime, entry_point, command) in [
        ("PYTHON_3_11", "main.py", "/usr/bin/python3.11 main.py"),
        (
            "PYTHON_3_11",
            "./src//app.py --flag",
            "/usr/bin/python3.11 src/app.py --flag",
        ),
        (
            "PYTHON_3_11",
            "opentelemetry-instrument main.py",
            "/usr/bin/python3.11 bin/opentelemetry-instrument /usr/bin/python3.11 main.py",
        ),
        (
            "PYTHON_3_11",
            "other-tool main.py",
            "/usr/bin/python3.11 bin/other-tool main.py",
        ),
        ("PYTHON_3_11", "agent", "./agent"),
        ("PYTHON_3_11", "./agent x", "./agent x"),
        ("PYTHON_3_14", "agent", "./agent"),
        ("PYTHON_3_11", "native-tool", "./bin/native-tool"),
        ("PYTHON_3_11", "./start.sh", "./start.sh"),
        ("NODE_22", "index.mjs", "/opt/node/bin/node index.mjs"),
        ("NODE_22", "node_modules/x/cli", "/opt/node/bin/node node_modules/x/cli"),
    ] {
        let launch = host().resolve(runtime, &words(entry_point), dir.path()).unwrap();
        assert_eq!(launch.command, words(command), "{entry_point}");
        let node = command.contains("node index") || command.contains("node_modules");
        assert_eq!(
            launch.read_only,
            if node { vec![PathBuf::from("/opt/node")] } else { vec![] },
            "{entry_point}"
        );
        let has_path = launch.env.contains(&("PYTHONPATH".to_owned(), "{package}".to_owned()));
        assert_eq!(has_path, command.starts_with("/usr/bin/python"), "{entry_point}");
    }
}

#[test]
fn entry_points_that_cannot_run_are_refused_with_the_reason() {
    let foreign = elf(if host_machine() == 62 { 183 } else { 62 });
    let mut object = elf(host_machine());
    object[16] = 1;
    let dir = package(&[
        ("main.py", b"", 0o644),
        ("index.js", b"", 0o644),
        ("agent", &elf(host_machine()), 0o644),
        ("foreign", &foreign, 0o755),
        ("object", &object, 0o755),
        ("notes", b"hello", 0o755),
        ("wrapped/inner.py", b"", 0o644),
    ]);
    symlink("/etc/passwd", dir.path().join("out.py")).unwrap();
    for (runtime, entry_point, reasons) in [
        (
            "PYTHON_3_11",
            "app.py",
            &["\"app.py\" is not in the code package", "agent, foreign", "wrapped/"][..],
        ),
        ("PYTHON_3_11", "main.py/x.py", &["is not in the code package"]),
        ("PYTHON_3_11", "inner.py", &["There is wrapped/inner.py"]),
        ("PYTHON_3_11", "wrapped", &["is a directory", "inner.py"]),
        ("PYTHON_3_11", "../main.py", &["not a path inside"]),
        ("PYTHON_3_11", "/etc/passwd", &["not a path inside"]),
        ("PYTHON_3_11", "out.py", &["leads out"]),
        ("PYTHON_3_11", "", &["is a directory"]),
        ("PYTHON_3_11", "agent", &["not executable", "chmod +x agent"]),
        ("PYTHON_3_11", "foreign", &["built for", std::env::consts::ARCH]),
        ("PYTHON_3_11", "object", &["object file"]),
        ("PYTHON_3_11", "notes", &["neither a Python file"]),
        (
            "PYTHON_3_11",
            "index.js",
            &["is a Node.js program, but the runtime is PYTHON_3_11"],
        ),
        ("NODE_22", "main.py", &["is a Python program"]),
        ("PYTHON_2_7", "main.py", &["not a managed runtime", "PYTHON_3_10"]),
    ] {
        let error = host()
            .resolve(runtime, &[entry_point.to_owned()], dir.path())
            .unwrap_err();
        let Error::Artifact(message) = error else {
            panic!("{entry_point}: {error:?}")
        };
        for reason in reasons {
            assert!(message.contains(reason), "{entry_point}: {message:?} lacks {reason:?}");
        }
    }
    let two = host()
        .resolve("PYTHON_3_11", &words("main.py missing.py"), dir.path())
        .unwrap_err()
        .to_string();
    assert!(two.contains("\"missing.py\" is not in the code package"), "{two}");
    let none = host().resolve("PYTHON_3_11", &[], dir.path()).unwrap_err().to_string();
    assert!(none.contains("empty"), "{none}");
    let vanished = host().resolve("PYTHON_3_11", &words("main.py"), &dir.path().join("nowhere"));
    assert!(matches!(vanished, Err(Error::Io { .. })), "{vanished:?}");
}

#[test]
fn a_runtime_that_is_not_here_says_which_are() {
    let dir = package(&[("main.py", b"", 0o644)]);
    for (runtime, reason) in [
        (
            "PYTHON_3_14",
            "PYTHON_3_14 is not available on this host; it has PYTHON_3_11 (/usr/bin/python3.11), NODE_22 (/opt/node/bin/node)",
        ),
        (
            "PYTHON_3_12",
            "the configured interpreter /x is of version 3.8; it has PYTHON_3_11",
        ),
    ] {
        let error = host().resolve(runtime, &words("main.py"), dir.path()).unwrap_err();
        assert!(
            matches!(&error, Error::Host(message) if message.contains(reason)),
            "{error:?}"
        );
    }
}

#[test]
fn libraries_for_another_processor_are_refused() {
    let foreign = elf(if host_machine() == 62 { 183 } else { 62 });
    let own = elf(host_machine());
    for (name, content, fine) in [
        ("lib/numpy.so", &foreign, false),
        ("libz.so.1.2.3", &foreign, false),
        ("node_modules/x/addon.node", &foreign, false),
        ("node_modules/x/prebuilds/linux-arm64/addon.node", &foreign, true),
        ("lib/numpy.so", &own, true),
        ("windows.node", &b"MZ\x90\0".to_vec(), true),
    ] {
        let dir = package(&[("main.py", b"", 0o644), (name, content, 0o644)]);
        let result = host().resolve("PYTHON_3_11", &words("main.py"), dir.path());
        match result {
            Ok(_) => assert!(fine, "{name}"),
            Err(e) => assert!(
                !fine && e.to_string().contains(&format!("{name:?} is built for")),
                "{name}: {e}"
            ),
        }
    }
}

/// Each interpreter that is found, or named as in `EYOT_TEST_RUNTIMES=PYTHON_3_12=/opt/python,…`, runs from its real path alone, in an empty environment, and finds its library and
/// the package's modules.
#[test]
fn found_interpreters_run_and_import_from_the_package() {
    let extra = std::env::var("EYOT_TEST_RUNTIMES").unwrap_or_default();
    let named = extra.split(',').filter_map(|pair| pair.split_once('='));
    let runtimes = Runtimes::discover(named.map(|(name, path)| (name.to_owned(), path.into())).collect());
    let python = b"import sys, json, deep\nprint('%d.%d' % sys.version_info[:2], deep.answer)";
    let node = b"import {answer} from './deep.mjs'; console.log(process.versions.node.split('.')[0], answer)";
    let dir = package(&[
        ("src/main.py", python, 0o644),
        ("deep.py", b"answer = 42", 0o644),
        ("main.mjs", node, 0o644),
        ("deep.mjs", b"export const answer = 42", 0o644),
    ]);
    for &(name, language, number) in KNOWN {
        if runtimes.interpreter(name).is_none() {
            eprintln!("skipped: {name} is not on this host");
            continue;
        }
        let (entry_point, want) = match language {
            Language::Python => ("src/main.py", format!("3.{number} 42\n")),
            Language::Node => ("main.mjs", format!("{number} 42\n")),
        };
        let launch = runtimes.resolve(name, &words(entry_point), dir.path()).unwrap();
        let package = dir.path().display().to_string();
        let mut env = launch.env.clone();
        place_package(&mut env, &package);
        let mut command = Command::new(&launch.command[0]);
        let output = command
            .args(&launch.command[1..])
            .env_clear()
            .envs(env)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), want, "{name}: {output:?}");
        // Outside /usr everything that it loads must be in the directories that the sandbox will show.
        let executable = Path::new(&launch.command[0]);
        let shown = launch.read_only.iter().map(PathBuf::as_path).chain([Path::new("/usr")]);
        assert!(shown.into_iter().any(|dir| executable.starts_with(dir)), "{launch:?}");
    }
}

#[test]
fn a_system_interpreter_is_preferred() {
    let system = Path::new("/usr/bin/python3.11");
    if !system.exists() {
        eprintln!("skipped: a_system_interpreter_is_preferred needs /usr/bin/python3.11");
        return;
    }
    let runtimes = Runtimes::discover(BTreeMap::new());
    assert_eq!(runtimes.interpreter("PYTHON_3_11"), Some(system));
}

#[test]
fn only_the_whole_token_is_replaced() {
    let pairs = |values: [&str; 2]| values.map(|value| ("X".to_owned(), value.to_owned()));
    let mut env = pairs([PACKAGE_TOKEN, "Write a {package} list"]);
    place_package(&mut env, "/var/task");
    assert_eq!(env, pairs(["/var/task", "Write a {package} list"]));
}
