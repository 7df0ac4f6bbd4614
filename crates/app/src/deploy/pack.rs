//! A directory, and what was installed for it, to one archive.
//!
//! Invariant: the same files give the same bytes: entries are sorted, times are fixed, and of a mode only the
//! executable bit is kept. So the same code has the same digest, and a server that has it unpacked need not do it again.

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// What AWS and, by default, our server take at most.
const MAX_ARCHIVE: u64 = 250 << 20;

/// Names that are no part of an agent wherever they occur. `.env` usually holds a developer's own secrets.
const LEFT_OUT: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".DS_Store",
    ".env",
    ".idea",
    ".vscode",
    ".venv",
    ".tox",
    ".nox",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
];

/// Marks a virtual environment, whatever its name.
const ENVIRONMENT_MARK: &str = "pyvenv.cfg";

/// A finished archive.
#[derive(Debug)]
pub(super) struct Package {
    /// Without a name on the disk; gone when dropped.
    pub(super) archive: File,
    pub(super) size: u64,
    pub(super) files: usize,
}

#[derive(Debug)]
enum Source {
    File { path: PathBuf, executable: bool },
    Link(String),
}

/// Packs a directory. Files of `beside` come along unless the directory has one of the same path.
pub(super) fn pack(dir: &Path, beside: Option<&Path>) -> anyhow::Result<Package> {
    let mut sources = BTreeMap::new();
    if let Some(beside) = beside {
        collect(beside, &mut Vec::new(), true, &mut sources)?;
    }
    collect(dir, &mut Vec::new(), false, &mut sources)?;
    if sources.is_empty() {
        bail!("{} has no files to pack", dir.display());
    }
    let archive = tempfile::tempfile().context("cannot make a temporary file for the archive")?;
    let mut archive = write(archive, &sources)?;
    let size = archive
        .seek(io::SeekFrom::End(0))
        .context("cannot read the archive back")?;
    if size > MAX_ARCHIVE {
        let largest = sources.values().filter_map(|source| match source {
            Source::File { path, .. } => Some((path.metadata().ok()?.len(), path)),
            Source::Link(_) => None,
        });
        let hint = largest
            .max_by_key(|(size, _)| *size)
            .map(|(_, path)| path.display().to_string())
            .unwrap_or_default();
        bail!(
            "the package is {} and may be at most {}; its largest file is {hint}",
            super::human(size),
            super::human(MAX_ARCHIVE)
        );
    }
    Ok(Package {
        archive,
        size,
        files: sources.len(),
    })
}

/// Adds what a directory holds. `everything` keeps compiled Python, which is left out of a developer's own files.
fn collect(
    root: &Path,
    below: &mut Vec<String>,
    everything: bool,
    into: &mut BTreeMap<String, Source>,
) -> anyhow::Result<()> {
    let dir = below.iter().fold(root.to_owned(), |path, part| path.join(part));
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            bail!("{} has a name that is not UTF-8; rename it", path.display());
        };
        if !everything && (LEFT_OUT.contains(&name.as_str()) || path.join(ENVIRONMENT_MARK).is_file()) {
            continue;
        }
        let meta = fs::symlink_metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
        below.push(name);
        if meta.is_dir() {
            collect(root, below, everything, into)?;
        } else if meta.is_symlink() {
            into.insert(below.join("/"), link(root, &path, below.len() - 1)?);
        } else if meta.is_file() {
            let executable = meta.permissions().mode() & 0o100 != 0;
            into.insert(below.join("/"), Source::File { path, executable });
        } else {
            bail!(
                "{} is a device, pipe or socket, which a package cannot hold; remove it",
                path.display()
            );
        }
        below.pop();
    }
    Ok(())
}

/// A link that stays inside comes along as a link; anything else is an error here rather than on the server.
fn link(root: &Path, path: &Path, depth: usize) -> anyhow::Result<Source> {
    let target = fs::read_link(path).with_context(|| format!("cannot read the link {}", path.display()))?;
    let mut level = Some(depth);
    for component in target.components() {
        level = match component {
            Component::Normal(_) => level.map(|l| l + 1),
            Component::CurDir => level,
            Component::ParentDir => level.and_then(|l| l.checked_sub(1)),
            Component::RootDir | Component::Prefix(_) => None,
        };
    }
    match (level, target.to_str()) {
        (Some(_), Some(target)) => Ok(Source::Link(target.to_owned())),
        _ => bail!(
            "{} is a link to {}, which leads out of {}; put a copy in its place",
            path.display(),
            target.display(),
            root.display()
        ),
    }
}

/// Writes the archive to any file-like thing.
fn write<W: Write + Seek>(to: W, sources: &BTreeMap<String, Source>) -> anyhow::Result<W> {
    let mut writer = ZipWriter::new(to);
    for (name, source) in sources {
        let context = || format!("cannot pack {name}");
        match source {
            Source::File { path, executable } => {
                let mut file = File::open(path).with_context(context)?;
                writer
                    .start_file(name.as_str(), options(*executable))
                    .with_context(context)?;
                io::copy(&mut file, &mut writer).with_context(context)?;
            }
            Source::Link(target) => writer
                .add_symlink(name.as_str(), target.as_str(), options(false))
                .with_context(context)?,
        }
    }
    writer.finish().context("cannot finish the archive")
}

/// One executable file as an archive in memory.
pub(super) fn single(name: &str, content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
    writer.start_file(name, options(true))?;
    writer.write_all(content)?;
    Ok(writer.finish()?.into_inner())
}

/// The default time of the `zip` crate is the format's earliest, the same everywhere.
fn options(executable: bool) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(if executable { 0o755 } else { 0o644 })
}
