//! Writes the archive that the kernel unpacks as its first file system: cpio in the "newc" format.
//!
//! By our own hand, because it is forty lines, and so neither a tool nor root is needed: everything belongs to root in the
//! archive, whoever made it.

use super::image::{Entry, Image};
use anyhow::{Context as _, ensure};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

/// The types of files, as in `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Writes a whole image.
pub(super) fn write(image: &Image, out: &mut impl Write) -> anyhow::Result<()> {
    for (number, (path, entry)) in (1..).zip(image.entries()) {
        let inside = path.strip_prefix("/").unwrap_or(path).as_os_str();
        match entry {
            Entry::Directory { mode } => member(out, number, inside, DIRECTORY | mode, 0, &[])?,
            Entry::Link(target) => member(out, number, inside, LINK | 0o777, 0, target.as_os_str().as_bytes())?,
            Entry::Text(text) => member(out, number, inside, FILE | 0o755, 0, text.as_bytes())?,
            Entry::File(source) => {
                let read = || Ok::<_, std::io::Error>((fs::metadata(source)?, fs::read(source)?));
                let (data, bytes) = read().with_context(|| source.display().to_string())?;
                // Python believes its compiled files only if the source's time is the one that it remembers.
                let time = u32::try_from(data.mtime()).unwrap_or_default();
                member(out, number, inside, FILE | data.mode() & 0o755, time, &bytes)?;
            }
        }
    }
    member(out, 0, OsStr::new("TRAILER!!!"), 0, 0, &[])
}

fn member(out: &mut impl Write, number: u32, name: &OsStr, mode: u32, time: u32, data: &[u8]) -> anyhow::Result<()> {
    let name = name.as_bytes();
    let (size, name_size) = (u32::try_from(data.len())?, u32::try_from(name.len() + 1)?);
    ensure!(!name.is_empty(), "the root itself is not in the archive");
    // inode, mode, user, group, links, time, size, device (two), device named (two), size of the name, checksum
    let fields = [number, mode, 0, 0, 1, time, size, 0, 0, 0, 0, name_size, 0];
    let mut head = String::from("070701");
    for field in fields {
        head.push_str(&format!("{field:08x}"));
    }
    out.write_all(head.as_bytes())?;
    out.write_all(name)?;
    // The name ends with a zero; it and the data are filled up to a multiple of four.
    let used = head.len() + name.len();
    out.write_all(&[0; 4][..4 - used % 4])?;
    out.write_all(data)?;
    out.write_all(&[0; 4][..(4 - data.len() % 4) % 4])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_aligned_and_the_trailer_ends_them() {
        for name in ["a", "ab", "abc", "abcd", "abcde"] {
            let mut out = Vec::new();
            member(&mut out, 7, OsStr::new(name), FILE | 0o644, 0, b"hello").unwrap();
            assert_eq!(out.len() % 4, 0, "{name}");
            assert!(out.starts_with(b"07070100000007000081a4"), "{name}");
            let data = out.len() - 8;
            assert_eq!(&out[data..data + 5], b"hello", "{name}");
            assert_eq!(out[110 + name.len()], 0, "{name}");
        }
        let mut out = Vec::new();
        write(&Image::default(), &mut out).unwrap();
        assert!(out[110..].starts_with(b"TRAILER!!!\0"));
    }
}
