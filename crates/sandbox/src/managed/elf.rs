//! The few facts about native code that decide whether it can run here.
//!
//! AWS refuses, at creation, a package whose native code is for another processor; a clear sentence then is worth more
//! than an `Exec format error` at the first invocation.

use crate::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Directories in which packages keep builds for every platform side by side and choose at run time.
const MIXED_DIRECTORIES: &[&str] = &["prebuilds"];

/// Deeper trees do not come out of an archive that the package store accepts.
const MAX_DEPTH: usize = 600;

/// What an ELF header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    machine: u16,
    kind: u16,
}

impl Header {
    /// Reads the first bytes of a file; `None` if it is not ELF.
    pub(super) fn parse(start: &[u8]) -> Option<Self> {
        if start.get(..4)? != b"\x7fELF" {
            return None;
        }
        let little = *start.get(5)? != 2;
        let short = |at: usize| {
            let pair = [*start.get(at)?, *start.get(at + 1)?];
            Some(if little {
                u16::from_le_bytes(pair)
            } else {
                u16::from_be_bytes(pair)
            })
        };
        Some(Self {
            kind: short(16)?,
            machine: short(18)?,
        })
    }

    /// A program rather than an object file or a core dump.
    pub(super) fn is_program(self) -> bool {
        matches!(self.kind, 2 | 3)
    }

    /// Fails with the whole sentence if this code is for another processor.
    pub(super) fn check_machine(self, file: &str) -> Result<(), Error> {
        let (name, host) = (machine_name(self.machine), std::env::consts::ARCH);
        if name == host {
            return Ok(());
        }
        Err(Error::Artifact(format!(
            "the code package's file {file:?} is built for {name}, and this host is {host}; build or install it for {host} \
             (for Python packages: uv pip install --python-platform {host}-manylinux2014)"
        )))
    }
}

/// Checks the processor of every shared library and Node add-on of a package.
pub(super) fn check_libraries(root: &Path) -> Result<(), Error> {
    check_directory(root, "", 0)
}

fn check_directory(dir: &Path, shown: &str, depth: usize) -> Result<(), Error> {
    let io = |e| Error::Io {
        what: format!("look at the code package's directory {shown:?}"),
        source: e,
    };
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if shown.is_empty() {
            name.clone()
        } else {
            format!("{shown}/{name}")
        };
        // Of the entry itself: a link is looked at where it leads to, if that is in the package.
        let kind = entry.file_type().map_err(io)?;
        if kind.is_dir() && !MIXED_DIRECTORIES.contains(&name.as_str()) {
            check_directory(&entry.path(), &path, depth + 1)?;
        } else if kind.is_file() && is_library_name(&name) {
            let mut start = Vec::new();
            File::open(entry.path())
                .and_then(|f| f.take(64).read_to_end(&mut start))
                .map_err(io)?;
            if let Some(header) = Header::parse(&start) {
                header.check_machine(&path)?;
            }
        }
    }
    Ok(())
}

/// `x.so`, `x.so.1.2`, `x.node`.
fn is_library_name(name: &str) -> bool {
    let versioned = name
        .split_once(".so.")
        .is_some_and(|(_, rest)| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    versioned || name.ends_with(".so") || name.ends_with(".node")
}

/// Names as Rust's `ARCH` and Python's platform tags have them.
fn machine_name(machine: u16) -> String {
    let known = match machine {
        3 => "x86",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        other => return format!("processor type {other}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_names() {
        for (name, is) in [
            ("x.so", true),
            ("libz.so.1.2", true),
            ("a.cpython-311-x86_64-linux-gnu.so", true),
            ("addon.node", true),
            ("x.so.txt", false),
            ("so", false),
            ("main.py", false),
        ] {
            assert_eq!(is_library_name(name), is, "{name}");
        }
    }

    #[test]
    fn headers_of_both_byte_orders_are_read_and_others_are_not_elf() {
        let mut start = vec![0; 64];
        start[..6].copy_from_slice(b"\x7fELF\x02\x01");
        start[16..20].copy_from_slice(&[2, 0, 62, 0]);
        assert_eq!(Header::parse(&start), Some(Header { kind: 2, machine: 62 }));
        start[5] = 2;
        start[16..20].copy_from_slice(&[0, 3, 0, 183]);
        assert_eq!(Header::parse(&start), Some(Header { kind: 3, machine: 183 }));
        for not in [
            &b""[..],
            b"\x7fEL",
            b"\x7fELF\x02\x01",
            b"#!/bin/sh and more text than a header has",
        ] {
            assert_eq!(Header::parse(not), None, "{not:?}");
        }
    }
}
