//! Managed runtimes: how the code of a package becomes a command on this host.
//!
//! AWS runs a code package on an image of its own for `PYTHON_3_11` and its siblings. Here the host's interpreter of
//! that version is used, shown read-only inside the sandbox. `discover` finds interpreters, `entry` looks at the entry
//! point's file, `elf` at native code.
//!
//! A native program (an ELF file of the package) needs no interpreter, so it runs whatever `runtime` says.
//!
//! Invariant: an interpreter is used only after it has said itself which version it is.
//! Invariant: nothing of the package is executed here.

use crate::Error;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

mod discover;
mod elf;
mod entry;

#[cfg(test)]
mod tests;

/// Stands for the package's directory in [`Launch::env`], as a whole value: only the driver knows at which path its
/// sandboxes show the package. See [`place_package`].
pub const PACKAGE_TOKEN: &str = "{package}";

/// Directories that every sandbox shows anyway.
const ALWAYS_SHOWN: &[&str] = &["/usr"];

/// Starts the command after it with instrumentation. It looks for a program, so a script must be given to it with its
/// interpreter; AWS documents the entry point without one.
const INSTRUMENT: &str = "opentelemetry-instrument";

/// The runtimes of the API, and how each is recognised.
const KNOWN: &[(&str, Language, u32)] = &[
    ("PYTHON_3_10", Language::Python, 10),
    ("PYTHON_3_11", Language::Python, 11),
    ("PYTHON_3_12", Language::Python, 12),
    ("PYTHON_3_13", Language::Python, 13),
    ("PYTHON_3_14", Language::Python, 14),
    ("NODE_22", Language::Node, 22),
];

/// The interpreters of this host. Each is looked for when it is first needed, because asking takes time: tens of
/// milliseconds, seconds where version managers put shell scripts in the way.
#[derive(Debug, Default)]
pub struct Runtimes {
    /// Interpreters that the operator named.
    overrides: BTreeMap<String, PathBuf>,
    /// Parallel to [`KNOWN`]: nothing if there is none, the reason if a configured one does not work.
    found: [OnceLock<Option<Result<Interpreter, String>>>; KNOWN.len()],
}

/// How to start a package's agent; the parts of a [`crate::Spec`] that depend on the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments; relative ones are relative to the package, which is the working directory.
    pub command: Vec<String>,
    /// Host directories that the interpreter needs, beside those that every sandbox shows.
    pub read_only: Vec<PathBuf>,
    /// Environment that the interpreter needs. A value may be [`PACKAGE_TOKEN`].
    pub env: Vec<(String, String)>,
}

/// One interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interpreter {
    executable: PathBuf,
    /// Directories with its library, the executable's own included.
    directories: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    Node,
}

impl Runtimes {
    /// Looks for the interpreters of this host. `overrides` maps names such as `PYTHON_3_11` to an interpreter or to the
    /// directory above its `bin`; one that does not work is reported when its runtime is used.
    ///
    /// Looks at nothing yet; the other methods block while interpreters are asked, five seconds if one hangs.
    #[must_use]
    pub fn discover(overrides: BTreeMap<String, PathBuf>) -> Self {
        Self {
            overrides,
            ..Self::default()
        }
    }

    /// The runtimes that work, Python before Node.js and older before newer, each with its interpreter. Asks for all at once.
    pub fn available(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        thread::scope(|scope| {
            for index in 0..KNOWN.len() {
                scope.spawn(move || self.at(index));
            }
        });
        KNOWN.iter().enumerate().filter_map(|(index, (name, ..))| {
            let interpreter = self.at(index).as_ref()?.as_ref().ok()?;
            Some((*name, interpreter.executable.as_path()))
        })
    }

    /// The interpreter of a runtime, if it works.
    #[must_use]
    pub fn interpreter(&self, runtime: &str) -> Option<&Path> {
        Some(&self.found(runtime)?.as_ref().ok()?.executable)
    }

    /// How to run a package: finds its entry point and what that needs.
    ///
    /// Blocks: looks at every file name of the package. A fault of the package is [`Error::Artifact`], a missing
    /// interpreter [`Error::Host`].
    pub fn resolve(&self, runtime: &str, entry_point: &[String], package_root: &Path) -> Result<Launch, Error> {
        let Some((first, rest)) = entry_point.split_first() else {
            return Err(Error::Artifact(
                "the entry point is empty; name the agent's file, such as main.py".to_owned(),
            ));
        };
        let language = language_of(runtime)?;
        let program = entry::find(package_root, first, language)?;
        for argument in rest.iter().filter(|a| entry::is_script_name(a)) {
            entry::find_file(package_root, argument)?;
        }
        elf::check_libraries(package_root)?;
        let mut launch = Launch {
            command: Vec::new(),
            read_only: Vec::new(),
            env: Vec::new(),
        };
        match program.kind {
            entry::Kind::Executable => launch.command.push(format!("./{}", program.path)),
            entry::Kind::Script(needs) if needs == language => {
                let interpreter = self.get(runtime)?;
                let executable = interpreter.executable.display().to_string();
                launch.command.extend([executable.clone(), program.path]);
                if first == INSTRUMENT && rest.first().is_some_and(|a| entry::is_script_name(a)) {
                    launch.command.push(executable);
                }
                launch.read_only.clone_from(&interpreter.directories);
                launch.env = environment(language);
            }
            entry::Kind::Script(needs) => {
                return Err(Error::Artifact(format!(
                    "the entry point {first:?} is a {needs} program, but the runtime is {runtime}; choose a {needs} runtime"
                )));
            }
        }
        launch.command.extend(rest.iter().cloned());
        Ok(launch)
    }

    fn get(&self, runtime: &str) -> Result<&Interpreter, Error> {
        match self.found(runtime) {
            Some(Ok(interpreter)) => Ok(interpreter),
            Some(Err(reason)) => Err(Error::Host(format!(
                "{runtime} is not available on this host: {reason}; {}",
                self.which()
            ))),
            None => Err(Error::Host(format!(
                "{runtime} is not available on this host; {}. Install it or name its path in the server's configuration",
                self.which()
            ))),
        }
    }

    fn found(&self, runtime: &str) -> Option<&Result<Interpreter, String>> {
        let index = KNOWN.iter().position(|(name, ..)| *name == runtime)?;
        self.at(index).as_ref()
    }

    fn at(&self, index: usize) -> &Option<Result<Interpreter, String>> {
        self.found[index].get_or_init(|| discover::one(KNOWN[index], &self.overrides))
    }

    /// What there is, as part of a sentence.
    fn which(&self) -> String {
        let named: Vec<String> = self
            .available()
            .map(|(name, at)| format!("{name} ({})", at.display()))
            .collect();
        if named.is_empty() {
            "it has no managed runtime".to_owned()
        } else {
            format!("it has {}", named.join(", "))
        }
    }
}

/// Puts the path at which a sandbox shows the package in place of [`PACKAGE_TOKEN`]; for drivers. Only a value that is
/// the token and nothing else is replaced, so that a user's text that happens to contain it stays as it is.
pub fn place_package(env: &mut [(String, String)], shown_at: &str) {
    for (_, value) in env.iter_mut().filter(|(_, value)| value == PACKAGE_TOKEN) {
        shown_at.clone_into(value);
    }
}

/// The names of all managed runtimes of the API, whether this host has them or not.
pub fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, ..)| *name)
}

impl std::fmt::Display for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Python => "Python",
            Self::Node => "Node.js",
        })
    }
}

fn language_of(runtime: &str) -> Result<Language, Error> {
    let known = KNOWN.iter().find(|(name, ..)| *name == runtime);
    known.map(|(_, language, _)| *language).ok_or_else(|| {
        let names: Vec<_> = KNOWN.iter().map(|(name, ..)| *name).collect();
        Error::Artifact(format!(
            "{runtime:?} is not a managed runtime; there are {}",
            names.join(", ")
        ))
    })
}

fn environment(language: Language) -> Vec<(String, String)> {
    let pairs: &[(&str, &str)] = match language {
        Language::Python => &[
            // Dependencies lie in the package's root, also for an entry point further down.
            ("PYTHONPATH", PACKAGE_TOKEN),
            // A line of log must be seen when it is written, not when a buffer is full or the agent has been killed.
            ("PYTHONUNBUFFERED", "1"),
            // The package is read-only; do not even try.
            ("PYTHONDONTWRITEBYTECODE", "1"),
            // What the host's user installed for himself is no part of the agent.
            ("PYTHONNOUSERSITE", "1"),
        ],
        Language::Node => &[],
    };
    pairs
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
