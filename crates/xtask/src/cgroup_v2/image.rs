//! What the guest's file system is made of: files of this machine at the paths that they have here.
//!
//! A program is taken with every link on the way to it and the libraries that `ldd` names, so that the guest has the same
//! C library as the tests were built for, and nothing has to be downloaded.

use anyhow::{Context as _, bail, ensure};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

/// More links in a row are a circle.
const LINKS: usize = 40;

/// A file system in the making; sorted, so that a directory comes before what is in it.
#[derive(Debug, Default)]
pub(super) struct Image {
    entries: BTreeMap<PathBuf, Entry>,
}

/// One file of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A directory, with its permissions.
    Directory { mode: u32 },
    /// A symbolic link.
    Link(PathBuf),
    /// A copy of a file of this machine.
    File(PathBuf),
    /// An executable file with this text.
    Text(&'static str),
}

impl Image {
    /// All of it.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// A file of this machine under another name; the directory above it must have been added.
    pub(super) fn place(&mut self, inside: impl Into<PathBuf>, source: impl Into<PathBuf>) {
        self.entries.insert(inside.into(), Entry::File(source.into()));
    }

    /// A script of ours.
    pub(super) fn text(&mut self, inside: impl Into<PathBuf>, text: &'static str) {
        self.entries.insert(inside.into(), Entry::Text(text));
    }

    /// An empty directory and those above it.
    pub(super) fn directory(&mut self, path: &str) {
        for above in Path::new(path).ancestors().filter(|above| above.parent().is_some()) {
            let entry = Entry::Directory { mode: 0o755 };
            self.entries.entry(above.to_owned()).or_insert(entry);
        }
    }

    /// A file of this machine at its own path, with every link on the way. Gives its real path.
    pub(super) fn add(&mut self, path: &Path) -> anyhow::Result<PathBuf> {
        let mut left: VecDeque<OsString> = path.components().map(|part| part.as_os_str().to_owned()).collect();
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::Normal(name)) => here.push(name),
                Some(Component::ParentDir) => {
                    here.pop();
                    continue;
                }
                Some(Component::RootDir) => {
                    here = PathBuf::from("/");
                    continue;
                }
                _ => continue,
            }
            let data = fs::symlink_metadata(&here).with_context(|| here.display().to_string())?;
            let entry = if data.is_symlink() {
                links += 1;
                ensure!(links < LINKS, "{} is a circle of links", path.display());
                let target = fs::read_link(&here)?;
                for part in target.components().rev() {
                    left.push_front(part.as_os_str().to_owned());
                }
                Entry::Link(target)
            } else if data.is_dir() {
                Entry::Directory {
                    mode: data.mode() & 0o755,
                }
            } else {
                Entry::File(here.clone())
            };
            let link = matches!(entry, Entry::Link(_));
            self.entries.insert(here.clone(), entry);
            if link {
                here.pop();
            }
        }
        Ok(here)
    }

    /// A program and the libraries that it needs.
    pub(super) fn program(&mut self, path: &Path) -> anyhow::Result<()> {
        let real = self.add(path)?;
        self.libraries(&real)
    }

    /// The libraries that a program or library needs.
    pub(super) fn libraries(&mut self, file: &Path) -> anyhow::Result<()> {
        let output = Command::new("ldd")
            .arg(file)
            .stderr(Stdio::null())
            .output()
            .context("ldd cannot be started")?;
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            match library {
                Ok(path) => drop(self.add(Path::new(path))?),
                Err(name) => bail!("{} needs {name}, which is not here", file.display()),
            }
        }
        Ok(())
    }

    /// A directory and all that is in it, but for entries that `keep` refuses by name.
    pub(super) fn tree(&mut self, dir: &Path, keep: &impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let real = self.add(dir)?;
        for entry in fs::read_dir(&real).with_context(|| real.display().to_string())? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            if !keep(&name.to_string_lossy()) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&path, keep)?;
            } else if kind.is_file() {
                self.add(&path)?;
                if path.extension().is_some_and(|extension| extension == "so") {
                    self.libraries(&path)?;
                }
            } else if kind.is_symlink() && path.exists() {
                self.add(&path)?;
            }
        }
        Ok(())
    }
}

/// Reads what `ldd` says: the path of each library, or the name of one that is missing.
fn libraries(text: &str) -> impl Iterator<Item = Result<&str, &str>> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if let Some((name, _)) = line.split_once(" => not found") {
            return Some(Err(name));
        }
        let found = line.split_once(" => ").map_or(line, |(_, found)| found);
        let path = found.split(" (0x").next()?;
        path.starts_with('/').then_some(Ok(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_comes_with_the_links_on_its_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/real"), "x").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("../bin/real", root.join("usr/bin/name")).unwrap();
        let mut image = Image::default();
        assert_eq!(image.add(&root.join("bin/name")).unwrap(), root.join("usr/bin/real"));
        let below: Vec<_> = image
            .entries()
            .filter_map(|(path, entry)| Some((path.strip_prefix(&root).ok()?.to_str()?.to_owned(), entry)))
            .filter(|(path, _)| !path.is_empty())
            .collect();
        let names: Vec<_> = below.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["bin", "usr", "usr/bin", "usr/bin/name", "usr/bin/real"]);
        assert_eq!(*below[0].1, Entry::Link("usr/bin".into()));
        assert_eq!(*below[3].1, Entry::Link("../bin/real".into()));
        symlink("round", root.join("round")).unwrap();
        assert!(image.add(&root.join("round")).is_err());
    }

    #[test]
    fn what_ldd_says_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0)\n\
            \tlibodd.so => not found\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f1)\n\
            \tstatically linked\n";
        let found: Vec<_> = libraries(text).collect();
        assert_eq!(
            found,
            [
                Ok("/lib/x86_64-linux-gnu/libc.so.6"),
                Err("libodd.so"),
                Ok("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }
}
