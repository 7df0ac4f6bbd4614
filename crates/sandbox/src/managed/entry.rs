//! The entry point's file: where it is and what can run it.
//!
//! Invariant: a file is accepted only if it lies inside the package, links followed.

use super::Language;
use super::elf::Header;
use crate::Error;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Where installers put the programs of a package that was installed with `--target`.
const SCRIPTS: &str = "bin";

/// Enough of a script for its first two lines.
const START: u64 = 1024;

/// How many names a message lists.
const SHOWN_NAMES: usize = 12;

/// What the first word of an entry point is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Relative to the package.
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// What runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The kernel.
    Executable,
    /// An interpreter.
    Script(Language),
}

/// Finds the program that an entry point names: a file of the package, or a script in its `bin`.
pub(super) fn find(root: &Path, name: &str, language: Language) -> Result<Program, Error> {
    let in_scripts = format!("{SCRIPTS}/{name}");
    let path = if !name.contains('/') && !is_script_name(name) && root.join(&in_scripts).is_file() {
        find_file(root, &in_scripts)?
    } else {
        find_file(root, name)?
    };
    let file = root.join(&path);
    let io = |e| Error::Io {
        what: format!("read the entry point {name:?}"),
        source: e,
    };
    let mut start = Vec::new();
    File::open(&file)
        .and_then(|f| f.take(START).read_to_end(&mut start))
        .map_err(io)?;
    let kind = match by_name(&path) {
        Some(language) => Kind::Script(language),
        None => by_content(name, &start, language)?,
    };
    if kind == Kind::Executable && file.metadata().map_err(io)?.permissions().mode() & 0o111 == 0 {
        return Err(Error::Artifact(format!(
            "the entry point {name:?} is not executable; run 'chmod +x {path}' and pack again with a tool that keeps modes"
        )));
    }
    Ok(Program { path, kind })
}

/// The path of an existing regular file of the package, relative to it.
pub(super) fn find_file(root: &Path, name: &str) -> Result<String, Error> {
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => path.push(part),
            _ => {
                return Err(Error::Artifact(format!(
                    "the entry point {name:?} is not a path inside the code package; name a file relative to its root"
                )));
            }
        }
    }
    let io = |e| Error::Io {
        what: format!("look for the entry point {name:?}"),
        source: e,
    };
    // First: an unpacked package that has vanished is not its owner's fault.
    let real_root = root.canonicalize().map_err(io)?;
    let file = root.join(&path);
    let real = match file.canonicalize() {
        Ok(real) => real,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(missing(root, name, &path));
        }
        Err(e) => return Err(io(e)),
    };
    if !real.starts_with(real_root) {
        return Err(Error::Artifact(format!(
            "the entry point {name:?} is a link that leads out of the code package"
        )));
    }
    if real.is_dir() {
        let why = format!("the entry point {name:?} is a directory of the code package; name a file");
        return Err(Error::Artifact(format!("{why}, such as one of: {}", listing(&real))));
    }
    path.into_os_string()
        .into_string()
        .map_err(|_| Error::Artifact(format!("the entry point {name:?} is not UTF-8")))
}

/// Whether a word is meant as a file to interpret.
pub(super) fn is_script_name(name: &str) -> bool {
    by_name(name).is_some()
}

fn by_name(name: &str) -> Option<Language> {
    let extension = Path::new(name).extension()?.to_str()?;
    match extension {
        "py" => Some(Language::Python),
        "js" | "mjs" | "cjs" => Some(Language::Node),
        _ => None,
    }
}

fn by_content(name: &str, start: &[u8], language: Language) -> Result<Kind, Error> {
    if let Some(header) = Header::parse(start) {
        header.check_machine(name)?;
        if header.is_program() {
            return Ok(Kind::Executable);
        }
        return Err(Error::Artifact(format!(
            "the entry point {name:?} is an object file, not a program; link it first"
        )));
    }
    let text = String::from_utf8_lossy(start);
    let mut lines = text.lines();
    let (first, second) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    // Installers write the path of the interpreter that they ran with, which may not be here: only its kind counts.
    // When that path is too long for a first line, they write a shell line that Python reads as a string.
    match first.strip_prefix("#!") {
        Some(line) if line.contains("python") || second.starts_with("'''exec'") => Ok(Kind::Script(Language::Python)),
        Some(line) if line.contains("node") => Ok(Kind::Script(Language::Node)),
        Some(_) => Ok(Kind::Executable),
        None => Err(Error::Artifact(format!(
            "the entry point {name:?} is neither a {language} file, nor a script with a '#!' line, nor a native program; \
             name a .py or .js file or a program built for {}",
            std::env::consts::ARCH
        ))),
    }
}

fn missing(root: &Path, name: &str, path: &Path) -> Error {
    let mut message = format!(
        "the entry point {name:?} is not in the code package; it holds: {}",
        listing(root)
    );
    // The usual mistake: the directory itself was packed instead of what is in it.
    let wrapped = fs::read_dir(root).ok().and_then(|mut entries| {
        entries.find_map(|entry| Some(entry.ok()?.file_name()).filter(|dir| root.join(dir).join(path).is_file()))
    });
    if let Some(dir) = wrapped {
        let dir = dir.to_string_lossy();
        message += &format!(". There is {dir}/{name}: pack from inside {dir}, or name that as the entry point");
    }
    Error::Artifact(message)
}

/// A few names of a directory.
fn listing(dir: &Path) -> String {
    let Ok(entries) = fs::read_dir(dir) else {
        return "nothing that can be read".to_owned();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let more = names.len().saturating_sub(SHOWN_NAMES);
    names.truncate(SHOWN_NAMES);
    match (names.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}
