//! Finds interpreters and asks each what it is.
//!
//! What a path says proves nothing: `python3` may be a shim of a version manager, a link into a virtual environment or
//! an old version. Each candidate is run once and reports its version, real executable and library directories.

use super::{ALWAYS_SHOWN, Interpreter, Language};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Searched before `PATH`: what lies in `/usr` is in every sandbox already.
const SYSTEM_DIRECTORIES: &[&str] = &["/usr/bin", "/usr/local/bin"];

/// Searched after `PATH`, which a service manager may have cut short.
const OTHER_DIRECTORIES: &[&str] = &["/opt/python/bin", "/opt/node/bin", "/opt/homebrew/bin", "/snap/bin"];

/// A shim that takes longer is broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A program that is not an interpreter may print anything.
const MAX_ANSWER: u64 = 16 * 1024;

/// Isolated from the environment and without `site`, so that neither changes the answer.
const ASK_PYTHON: &[&str] = &[
    "-I",
    "-S",
    "-c",
    "import json, sys; print(json.dumps({'version': list(sys.version_info[:2]), \
     'executable': getattr(sys, '_base_executable', None) or sys.executable, \
     'prefixes': [sys.base_prefix, sys.base_exec_prefix]}))",
];

const ASK_NODE: &[&str] = &[
    "-p",
    "JSON.stringify({version: process.versions.node.split('.').slice(0, 2).map(Number), \
     executable: process.execPath, prefixes: []})",
];

#[derive(Debug, Deserialize)]
struct Answer {
    version: [u32; 2],
    executable: PathBuf,
    prefixes: Vec<PathBuf>,
}

/// A runtime's interpreter: the configured one, with the reason if it does not work, or the first that is found.
pub(super) fn one(
    (name, language, number): (&str, Language, u32),
    overrides: &BTreeMap<String, PathBuf>,
) -> Option<Result<Interpreter, String>> {
    match overrides.get(name) {
        Some(path) => Some(configured(language, number, path)),
        None => search(language, number).map(Ok),
    }
}

/// An interpreter that the operator named, or the directory above its `bin`.
fn configured(language: Language, number: u32, path: &Path) -> Result<Interpreter, String> {
    let file = if path.is_dir() {
        let names = names(language, number);
        let inside = names
            .iter()
            .map(|name| path.join("bin").join(name))
            .find(|file| is_program(file));
        inside.ok_or_else(|| {
            format!(
                "the configured directory {} has none of bin/{}",
                path.display(),
                names.join(", bin/")
            )
        })?
    } else {
        path.to_owned()
    };
    let answer = ask(language, &file).map_err(|e| format!("the configured interpreter {} {e}", file.display()))?;
    if !is_wanted(language, number, &answer) {
        let [major, minor] = answer.version;
        return Err(format!(
            "the configured interpreter {} is of version {major}.{minor}",
            file.display()
        ));
    }
    interpreter(language, answer)
}

fn search(language: Language, number: u32) -> Option<Interpreter> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = SYSTEM_DIRECTORIES
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path).filter(|dir| dir.is_absolute()))
        .chain(OTHER_DIRECTORIES.iter().map(PathBuf::from))
        .collect();
    let mut asked: Vec<PathBuf> = Vec::new();
    for name in names(language, number) {
        for file in directories
            .iter()
            .map(|dir| dir.join(&name))
            .filter(|file| is_program(file))
        {
            if asked.contains(&file) {
                continue;
            }
            let usable = ask(language, &file)
                .ok()
                .filter(|answer| is_wanted(language, number, answer));
            if let Some(Ok(found)) = usable.map(|answer| interpreter(language, answer)) {
                return Some(found);
            }
            asked.push(file);
        }
    }
    None
}

/// File names to look for, the most telling first.
fn names(language: Language, number: u32) -> Vec<String> {
    match language {
        Language::Python => vec![format!("python3.{number}"), "python3".to_owned()],
        Language::Node => vec![
            format!("node{number}"),
            format!("node-{number}"),
            "node".to_owned(),
            "nodejs".to_owned(),
        ],
    }
}

fn is_wanted(language: Language, number: u32, answer: &Answer) -> bool {
    match language {
        Language::Python => answer.version == [3, number],
        Language::Node => answer.version[0] == number,
    }
}

/// Runs a candidate. The error continues a sentence that begins with its path.
fn ask(language: Language, file: &Path) -> Result<Answer, String> {
    let question = match language {
        Language::Python => ASK_PYTHON,
        Language::Node => ASK_NODE,
    };
    let mut command = Command::new(file);
    // From the root, so that no `.python-version` of some directory chooses for a shim.
    command
        .args(question)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| format!("cannot be run: {e}"))?;
    let (sender, receiver) = mpsc::sync_channel(1);
    let stdout = child.stdout.take();
    // A thread of its own, because the end of the output never comes if the candidate leaves a child that holds the pipe.
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.map(|stdout| stdout.take(MAX_ANSWER).read_to_string(&mut text));
        let _ = sender.send(read.map(|result| result.map(|_| text)));
    });
    let answered = receiver.recv_timeout(ANSWER_WITHIN);
    // Fails only if it has ended by itself, as it should have.
    let _ = child.kill();
    let status = child.wait().map_err(|e| format!("cannot be waited for: {e}"))?;
    let text = match answered {
        Ok(Some(Ok(text))) => text,
        Ok(_) => return Err("cannot be read from".to_owned()),
        Err(_) => return Err(format!("did not say its version within {} s", ANSWER_WITHIN.as_secs())),
    };
    let answer = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    answer.ok_or_else(|| format!("is not a {language} interpreter ({status})"))
}

/// From an answer to real paths.
fn interpreter(language: Language, answer: Answer) -> Result<Interpreter, String> {
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|e| format!("names {}: {e}", path.display()))
    };
    let executable = real(&answer.executable)?;
    let bin = executable.parent().unwrap_or(Path::new("/")).to_owned();
    let mut directories = Vec::new();
    for prefix in &answer.prefixes {
        directories.push(real(prefix)?);
    }
    if language == Language::Node
        && let Some(prefix) = bin.parent()
        && prefix.join("lib/node_modules").is_dir()
    {
        directories.push(prefix.to_owned());
    }
    directories.push(bin);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    if let Some(wide) = directories.iter().find(|dir| is_too_wide(dir, home.as_deref())) {
        return Err(format!(
            "is installed straight into {}, which no sandbox may be shown; install it into a directory of its own",
            wide.display()
        ));
    }
    directories.retain(|dir| !ALWAYS_SHOWN.iter().any(|shown| dir.starts_with(shown)));
    directories.sort();
    // Sorted, a directory stands right behind the one that contains it.
    directories.dedup_by(|inner, outer| inner.starts_with(outer));
    Ok(Interpreter {
        executable,
        directories,
    })
}

/// The root, or a home directory and what is above it.
fn is_too_wide(dir: &Path, home: Option<&Path>) -> bool {
    dir.parent().is_none() || home.is_some_and(|home| home.starts_with(dir))
}

fn is_program(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_home_directory_is_never_shown() {
        let home = Some(Path::new("/home/ann"));
        for (dir, wide) in [
            ("/", true),
            ("/home", true),
            ("/home/ann", true),
            ("/home/ann/.py", false),
            ("/opt/py", false),
        ] {
            assert_eq!(is_too_wide(Path::new(dir), home), wide, "{dir}");
        }
    }

    #[test]
    fn a_program_of_another_kind_is_not_an_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("python3.11");
        for (script, reason) in [
            ("#!/bin/sh\necho hello", "is not a Python interpreter"),
            ("#!/bin/sh\nyes", "is not a Python interpreter"),
            ("#!/not/there", "cannot be run"),
        ] {
            std::fs::write(&file, script).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
            let error = configured(Language::Python, 11, &file).unwrap_err();
            assert!(error.contains(reason) && error.contains("python3.11"), "{error}");
        }
        let error = configured(Language::Node, 22, dir.path()).unwrap_err();
        assert!(error.contains("has none of bin/node22"), "{error}");
    }

    #[test]
    fn the_version_and_directories_are_what_the_interpreter_says() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(prefix.join("bin")).unwrap();
        let file = prefix.join("bin/python3.12");
        let shown = prefix.display();
        let answer =
            format!(r#"{{"version":[3,12],"executable":"{shown}/bin/python3.12","prefixes":["{shown}","{shown}"]}}"#);
        std::fs::write(&file, format!("#!/bin/sh\necho noise\necho '{answer}'")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        let want = Interpreter {
            executable: file.clone(),
            directories: vec![prefix.clone()],
        };
        assert_eq!(configured(Language::Python, 12, &prefix), Ok(want.clone()));
        assert_eq!(configured(Language::Python, 12, &file), Ok(want));
        let error = configured(Language::Python, 11, &file).unwrap_err();
        assert!(error.contains("is of version 3.12"), "{error}");
    }
}
