//! Forges zip archives byte by byte, for tests: also those that an honest tool refuses to write.

use flate2::Compression;
use flate2::Crc;
use flate2::write::DeflateEncoder;
use std::io::Write;

/// One entry; every claim about it may be a lie.
#[derive(Debug, Clone)]
pub(super) struct Forged {
    pub(super) name: Vec<u8>,
    /// The name in the local header, if another.
    pub(super) local_name: Option<Vec<u8>>,
    /// Unix mode with file type; `None` for an archive made on another system.
    pub(super) mode: Option<u32>,
    pub(super) method: u16,
    pub(super) flags: u16,
    /// The bytes as they lie in the archive.
    pub(super) packed: Vec<u8>,
    pub(super) size: u64,
    pub(super) packed_size: u64,
    pub(super) crc: u32,
    /// Puts sizes into a ZIP64 extra field.
    pub(super) zip64: bool,
    /// Points at the data of an earlier entry instead of having its own.
    pub(super) share_with: Option<usize>,
}

impl Forged {
    pub(super) fn stored(name: &str, data: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(data);
        Self {
            name: name.as_bytes().to_vec(),
            local_name: None,
            mode: Some(0o100_644),
            method: 0,
            flags: 0,
            packed: data.to_vec(),
            size: data.len() as u64,
            packed_size: data.len() as u64,
            crc: crc.sum(),
            zip64: false,
            share_with: None,
        }
    }

    pub(super) fn deflated(name: &str, data: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        let packed = encoder.finish().unwrap();
        Self {
            method: 8,
            packed_size: packed.len() as u64,
            packed,
            ..Self::stored(name, data)
        }
    }

    pub(super) fn link(name: &str, target: &str) -> Self {
        Self {
            mode: Some(0o120_777),
            ..Self::stored(name, target.as_bytes())
        }
    }

    pub(super) fn dir(name: &str) -> Self {
        Self {
            mode: Some(0o040_755),
            ..Self::stored(name, b"")
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The archive of these entries.
pub(super) fn archive(entries: &[Forged]) -> Vec<u8> {
    archive_with(entries, false)
}

/// The same, with a ZIP64 end record if asked for.
pub(super) fn archive_with(entries: &[Forged], zip64_end: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut offsets: Vec<u64> = Vec::new();
    for entry in entries {
        if let Some(other) = entry.share_with {
            offsets.push(offsets[other]);
            continue;
        }
        offsets.push(out.len() as u64);
        let name = entry.local_name.as_ref().unwrap_or(&entry.name);
        out.extend(b"PK\x03\x04");
        shorts(&mut out, &[20, entry.flags, entry.method, 0, 0x21]);
        longs(&mut out, &[entry.crc, low(entry.packed_size), low(entry.size)]);
        shorts(&mut out, &[short(name.len()), 0]);
        out.extend(name);
        out.extend(&entry.packed);
    }
    let table_at = out.len() as u64;
    for (entry, offset) in entries.iter().zip(&offsets) {
        let made_by = if entry.mode.is_some() { 3 << 8 | 20 } else { 20 };
        let extra: Vec<u8> = if entry.zip64 {
            let mut extra = vec![1, 0, 16, 0];
            extra.extend(entry.size.to_le_bytes());
            extra.extend(entry.packed_size.to_le_bytes());
            extra
        } else {
            Vec::new()
        };
        let [packed, size] = if entry.zip64 {
            [u32::MAX; 2]
        } else {
            [low(entry.packed_size), low(entry.size)]
        };
        out.extend(b"PK\x01\x02");
        shorts(&mut out, &[made_by, 20, entry.flags, entry.method, 0, 0x21]);
        longs(&mut out, &[entry.crc, packed, size]);
        shorts(&mut out, &[short(entry.name.len()), short(extra.len()), 0, 0, 0]);
        longs(&mut out, &[entry.mode.unwrap_or(0) << 16, low(*offset)]);
        out.extend(&entry.name);
        out.extend(&extra);
    }
    let end = out.len() as u64;
    let mut count = short(entries.len().min(0xffff));
    let mut table = [low(end - table_at), low(table_at)];
    if zip64_end {
        out.extend(b"PK\x06\x06");
        out.extend(44_u64.to_le_bytes());
        shorts(&mut out, &[45, 45]);
        longs(&mut out, &[0, 0]);
        for value in [entries.len() as u64, entries.len() as u64, end - table_at, table_at] {
            out.extend(value.to_le_bytes());
        }
        out.extend(b"PK\x06\x07");
        longs(&mut out, &[0]);
        out.extend(end.to_le_bytes());
        longs(&mut out, &[1]);
        count = 0xffff;
        table = [u32::MAX; 2];
    }
    out.extend(b"PK\x05\x06");
    shorts(&mut out, &[0, 0, count, count]);
    longs(&mut out, &table);
    shorts(&mut out, &[0]);
    out
}

fn shorts(out: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|v| out.extend(v.to_le_bytes()));
}

fn longs(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|v| out.extend(v.to_le_bytes()));
}

fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap()
}

fn short(value: usize) -> u16 {
    u16::try_from(value).unwrap()
}
