//! Installs a `requirements.txt` for the Python that the agent will run on, once for each content of it.
//!
//! The result lies in the user's cache directory under the digest of everything that decides what it holds. Modules
//! are compiled there, so that a new session does not spend its first second compiling the same files again; marked
//! `unchecked-hash`, because an archive keeps no times to compare.
//!
//! Invariant: a directory in the cache is complete: it is made under another name and renamed.

use super::progress;
use anyhow::{Context, bail};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// The file that names what to install.
pub(super) const FILE: &str = "requirements.txt";

/// Raised when the way of installing changes.
const LAYOUT: &str = "1";

/// Large packages over a slow line take their time.
const INSTALL_DEADLINE: Duration = Duration::from_secs(30 * 60);
const COMPILE_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// What installs.
#[derive(Debug)]
struct Installer {
    name: &'static str,
    command: Vec<String>,
}

/// The directory with everything that `requirements.txt` asks for; `None` if there is no such file or nothing in it.
pub(super) async fn install(
    dir: &Path,
    runtime: &str,
    interpreter: Option<&Path>,
    afresh: bool,
) -> anyhow::Result<Option<PathBuf>> {
    let file = dir.join(FILE);
    let Ok(text) = fs::read_to_string(&file) else {
        if file.exists() {
            bail!("{} cannot be read as text", file.display());
        }
        return Ok(None);
    };
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let Some(version) = runtime.strip_prefix("PYTHON_").map(|v| v.replace('_', ".")) else {
        bail!(
            "{} is there, but {runtime} is no Python runtime; choose one with --runtime or remove the file",
            file.display()
        );
    };
    let installer = installer(interpreter, &version).await?;
    let key = key(&text, runtime, interpreter);
    let cache = cache_dir().join("requirements");
    let finished = cache.join(&key);
    // Another file that this one refers to may have changed without it.
    let self_contained = !lines.iter().any(|line| refers_to_files(line));
    if finished.is_dir() && self_contained && !afresh {
        progress(&format!(
            "using {FILE} as installed before (--no-cache installs it afresh)"
        ));
        return Ok(Some(finished));
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let scratch = tempfile::Builder::new().prefix(".new-").tempdir_in(&cache);
    let scratch = scratch.with_context(|| format!("cannot write to {}", cache.display()))?;
    progress(&format!(
        "installing {FILE} for Python {version} with {}",
        installer.name
    ));
    let started = Instant::now();
    let target = scratch.path().join("target");
    run_installer(&installer, &target, dir).await?;
    if let Some(interpreter) = interpreter {
        compile(interpreter, &target).await?;
    }
    progress(&format!("installed in {:.1} s", started.elapsed().as_secs_f64()));
    publish(scratch, &target, &finished)?;
    Ok(Some(finished))
}

/// `uv` if it is there, being several times faster; else pip of the very interpreter, else of any that can install
/// for another version.
async fn installer(interpreter: Option<&Path>, version: &str) -> anyhow::Result<Installer> {
    let words = |text: &[&str]| text.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    if works(&["uv", "--version"]).await {
        let mut command = words(&["uv", "pip", "install", "--quiet"]);
        match interpreter {
            Some(path) => command.extend(["--python".to_owned(), path.display().to_string()]),
            None => command.extend(["--python-version".to_owned(), version.to_owned()]),
        }
        return Ok(Installer { name: "uv", command });
    }
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--no-warn-script-location",
    ];
    let exact = interpreter.map(|path| path.display().to_string());
    for python in exact.iter().map(String::as_str).chain(["python3", "python"]) {
        if !works(&[python, "-m", "pip", "--version"]).await {
            continue;
        }
        let mut command = words(&[python]);
        command.extend(words(&pip));
        if exact.as_deref() != Some(python) {
            // Without an interpreter of that version only finished wheels can be installed for it.
            command.extend(words(&["--python-version", version, "--only-binary=:all:"]));
        }
        return Ok(Installer { name: "pip", command });
    }
    bail!(
        "{FILE} needs uv or pip to be installed: install one of them, or put the packages into the directory yourself"
    )
}

async fn works(command: &[&str]) -> bool {
    let mut process = Command::new(command[0]);
    process
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let status = tokio::time::timeout(Duration::from_secs(20), process.status()).await;
    matches!(status, Ok(Ok(status)) if status.success())
}

async fn run_installer(installer: &Installer, target: &Path, dir: &Path) -> anyhow::Result<()> {
    let mut process = Command::new(&installer.command[0]);
    process
        .args(&installer.command[1..])
        .arg("--target")
        .arg(target)
        .args(["-r", FILE])
        .current_dir(dir);
    let output = output(process, INSTALL_DEADLINE)
        .await
        .with_context(|| format!("{} could not be run", installer.name))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = if said.trim().is_empty() {
            String::from_utf8_lossy(&output.stdout)
        } else {
            said
        };
        bail!(
            "{} could not install {}:\n{}",
            installer.name,
            dir.join(FILE).display(),
            said.trim_end()
        );
    }
    // Nothing to install is no error of the installer, and leaves no directory.
    fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))
}

/// Some packages carry files for other versions of Python that do not compile; that is nobody's fault.
async fn compile(interpreter: &Path, target: &Path) -> anyhow::Result<()> {
    let mut process = Command::new(interpreter);
    process
        .args([
            "-m",
            "compileall",
            "-q",
            "-q",
            "-j",
            "0",
            "--invalidation-mode",
            "unchecked-hash",
            "-s",
        ])
        .arg(target)
        .arg(target);
    output(process, COMPILE_DEADLINE)
        .await
        .context("the installed modules could not be compiled")?;
    Ok(())
}

async fn output(mut process: Command, deadline: Duration) -> anyhow::Result<Output> {
    process.stdin(Stdio::null()).kill_on_drop(true);
    let waited = tokio::time::timeout(deadline, process.output()).await;
    Ok(waited.with_context(|| format!("it did not finish within {} minutes", deadline.as_secs() / 60))??)
}

fn publish(scratch: tempfile::TempDir, target: &Path, finished: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot put the installed packages into {}", finished.display());
    if finished.exists() {
        // Out of the way in one step; deleted together with the scratch directory.
        fs::rename(finished, scratch.path().join("old")).with_context(context)?;
    }
    fs::rename(target, finished).with_context(context)
}

/// Digest of what decides the result.
fn key(text: &str, runtime: &str, interpreter: Option<&Path>) -> String {
    let mut digest = Digest::new(&SHA256);
    let interpreter = interpreter.map(|path| path.display().to_string()).unwrap_or_default();
    for part in [LAYOUT, text, runtime, &interpreter, std::env::consts::ARCH] {
        digest.update(part.len().to_string().as_bytes());
        digest.update(b":");
        digest.update(part.as_bytes());
    }
    hex::encode(digest.finish())
}

/// Whether a line of requirements points at something outside the file: `-r more.txt`, `-e .`, `./lib`, `x @ file:…`.
fn refers_to_files(line: &str) -> bool {
    line.starts_with(['-', '.', '/']) && !line.starts_with("--index-url") && !line.starts_with("--extra-index-url")
        || line.contains("file:")
        || line.contains(".whl")
}

/// `$XDG_CACHE_HOME/eyot`, else `~/.cache/eyot`.
fn cache_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    base.or_else(home).unwrap_or_else(std::env::temp_dir).join("eyot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_self_contained_requirements_are_reused() {
        for (line, outside) in [
            ("bedrock-agentcore==1.25.0", false),
            ("requests[socks]>=2 ; python_version < '3.12'", false),
            ("--index-url https://example.org/simple", false),
            ("x @ https://example.org/x.tar.gz", false),
            ("-r more.txt", true),
            ("--requirement=more.txt", true),
            ("-e .", true),
            ("./lib", true),
            ("x @ file:///lib", true),
            ("wheels/x-1-py3-none-any.whl", true),
        ] {
            assert_eq!(refers_to_files(line), outside, "{line}");
        }
    }

    #[test]
    fn the_key_depends_on_everything() {
        let one = key("a", "PYTHON_3_11", None);
        for other in [
            key("b", "PYTHON_3_11", None),
            key("a", "PYTHON_3_12", None),
            key("a", "PYTHON_3_11", Some(Path::new("/x"))),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(one, key("a", "PYTHON_3_11", None));
    }

    /// A local directory as requirement, so that no network is needed.
    #[tokio::test]
    async fn what_cannot_be_installed_is_explained_in_the_installers_words() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "./no-such-library\n").unwrap();
        let Ok(installer) = installer(None, "3.11").await else {
            eprintln!("skipped: what_cannot_be_installed_is_explained_in_the_installers_words needs uv or pip");
            return;
        };
        let error = run_installer(&installer, &dir.path().join("target"), dir.path())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("could not install") && error.contains("no-such-library"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn nothing_to_install_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(install(dir.path(), "PYTHON_3_11", None, false).await.unwrap(), None);
        fs::write(dir.path().join(FILE), "# nothing\n\n").unwrap();
        assert_eq!(install(dir.path(), "PYTHON_3_11", None, false).await.unwrap(), None);
        fs::write(dir.path().join(FILE), "x\n").unwrap();
        let error = install(dir.path(), "NODE_22", None, false)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("no Python runtime"), "{error}");
    }
}
