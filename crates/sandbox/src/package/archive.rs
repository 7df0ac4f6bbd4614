//! A zip archive's table of contents, and the bytes of one entry.
//!
//! Our own reader rather than the `zip` crate's, for three reasons: that crate keeps only the last of two entries with
//! one name, allocates by the number of entries before anybody can refuse it, and lets entries overlap. This one is
//! stricter than the format: one volume, nothing before the first entry or after the end record, and a local header
//! that agrees with the table, so that every tool sees the same files in an archive that is accepted here.
//!
//! Invariant: an entry's data lies inside the archive and in no other entry.

use super::path::MAX_PATH;
use super::{UnpackLimits, io_error, refused};
use crate::Error;
use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const END_SIZE: u64 = 22;
const LOCATOR_64_SIZE: u64 = 20;
const END_64_SIZE: u64 = 56;

/// Says that the real value is in a ZIP64 record.
const SATURATED: u64 = 0xffff_ffff;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

const BROKEN: &str =
    "the code package is not a complete zip archive; was the upload cut short? Pack and upload it again";

/// An opened archive.
pub(super) struct Archive<R> {
    reader: BufReader<R>,
    /// Entries in the order of their data.
    pub(super) entries: Vec<Entry>,
    /// Where the table begins and data must have ended.
    data_end: u64,
    /// End of the last entry that was opened.
    read_to: u64,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The name as stored, at most [`MAX_PATH`] bytes.
    pub(super) name: Vec<u8>,
    /// File type and permissions, when the archive was made on a Unix system.
    pub(super) unix_mode: Option<u32>,
    /// Unpacked size as declared; to be checked against the real one.
    pub(super) size: u64,
    packed: u64,
    crc: u32,
    method: u16,
    encrypted: bool,
    header_at: u64,
}

impl Entry {
    /// The name for messages.
    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the table of contents and refuses what cannot be unpacked before any data is read.
    pub(super) fn open(reader: R, limits: &UnpackLimits) -> Result<Self, Error> {
        let mut reader = BufReader::with_capacity(64 * 1024, reader);
        let table = find_table(&mut reader)?;
        if table.entries > limits.entries as u64 {
            return Err(Error::Artifact(format!(
                "the code package has {} entries and may have at most {}; leave out what the agent does not need",
                table.entries, limits.entries
            )));
        }
        reader.seek(SeekFrom::Start(table.at)).map_err(read_error)?;
        let mut rest = reader.by_ref().take(table.size);
        let mut entries = Vec::new();
        for _ in 0..table.entries {
            entries.push(read_entry(&mut rest)?);
        }
        if rest.limit() != 0 {
            return Err(Error::Artifact(BROKEN.to_owned()));
        }
        let declared = entries.iter().fold(0_u64, |sum, e| sum.saturating_add(e.size));
        if declared > limits.unpacked {
            return Err(too_large(limits.unpacked));
        }
        entries.sort_by_key(|e| e.header_at);
        Ok(Self {
            reader,
            entries,
            data_end: table.at,
            read_to: 0,
        })
    }

    /// The unpacked bytes of an entry. Entries are opened in order, each once; that is how an overlap shows.
    pub(super) fn data(&mut self, entry: &Entry) -> Result<Data<'_, R>, Error> {
        let shown = entry.shown();
        let broken = || refused(&shown, "disagrees with the archive's table of contents; pack again");
        if entry.header_at < self.read_to {
            return Err(refused(
                &shown,
                "overlaps another entry, as in a zip bomb; pack again with an ordinary tool",
            ));
        }
        self.reader.seek(SeekFrom::Start(entry.header_at)).map_err(read_error)?;
        let header: [u8; 30] = array(&mut self.reader)?;
        let name_length = u64::from(u16_at(&header, 26));
        if header[..4] != LOCAL || name_length != entry.name.len() as u64 || u16_at(&header, 8) != entry.method {
            return Err(broken());
        }
        let mut name = vec![0; entry.name.len()];
        self.reader.read_exact(&mut name).map_err(read_error)?;
        let encrypted = u16_at(&header, 6) & 1 == 1;
        if name != entry.name || encrypted != entry.encrypted {
            return Err(broken());
        }
        let data_at = entry.header_at + 30 + name_length + u64::from(u16_at(&header, 28));
        let end = data_at
            .checked_add(entry.packed)
            .filter(|end| *end <= self.data_end)
            .ok_or_else(broken)?;
        self.read_to = end;
        if encrypted {
            return Err(refused(&shown, "is encrypted; pack again without a password"));
        }
        self.reader.seek(SeekFrom::Start(data_at)).map_err(read_error)?;
        let packed = self.reader.by_ref().take(entry.packed);
        let source = match entry.method {
            STORED => Source::Stored(packed),
            DEFLATED => Source::Deflated(Box::new(DeflateDecoder::new(packed))),
            other => {
                let why = format!("is compressed with {}; pack again with deflate", method_name(other));
                return Err(refused(&shown, why));
            }
        };
        Ok(Data {
            source,
            left: entry.size,
            crc: Crc::new(),
            want_crc: entry.crc,
            name: shown,
        })
    }
}

/// The unpacked bytes of one entry. Real bytes are counted, whatever the archive declares.
pub(super) struct Data<'a, R> {
    source: Source<'a, R>,
    /// Declared bytes that have not come yet.
    left: u64,
    crc: Crc,
    want_crc: u32,
    name: String,
}

enum Source<'a, R> {
    Stored(Take<&'a mut BufReader<R>>),
    Deflated(Box<DeflateDecoder<Take<&'a mut BufReader<R>>>>),
}

impl<R: Read> Data<'_, R> {
    /// The next bytes; 0 at the end, once size and checksum have been found right.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let read = match &mut self.source {
            Source::Stored(r) => r.read(buffer),
            Source::Deflated(r) => r.read(buffer),
        };
        let n = match read {
            Ok(n) => n,
            Err(e) if is_corrupt(&e) => return Err(refused(&self.name, format!("is damaged ({e}); pack again"))),
            Err(e) => return Err(read_error(e)),
        };
        let more = "unpacks to another size than the archive declares, as in a zip bomb; pack again";
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| refused(&self.name, more))?;
        self.crc.update(&buffer[..n]);
        if n == 0 && !buffer.is_empty() {
            if self.left != 0 {
                return Err(refused(&self.name, more));
            }
            if self.crc.sum() != self.want_crc {
                return Err(refused(&self.name, "is damaged (its checksum is wrong); pack again"));
            }
        }
        Ok(n)
    }
}

/// Where the table of contents is, from the records at the archive's end.
struct Table {
    at: u64,
    size: u64,
    entries: u64,
}

fn find_table<R: Read + Seek>(reader: &mut BufReader<R>) -> Result<Table, Error> {
    let broken = || Error::Artifact(BROKEN.to_owned());
    let length = reader.seek(SeekFrom::End(0)).map_err(read_error)?;
    // The end record is followed only by its comment, which has at most 65,535 bytes.
    let tail_at = length.saturating_sub(END_SIZE + 0xffff);
    reader.seek(SeekFrom::Start(tail_at)).map_err(read_error)?;
    let mut tail = Vec::new();
    reader
        .take(END_SIZE + 0xffff)
        .read_to_end(&mut tail)
        .map_err(read_error)?;
    let fits = |at: usize, record: &[u8]| at + 22 + usize::from(u16_at(record, 20)) == tail.len();
    let found = tail
        .windows(22)
        .enumerate()
        .rev()
        .find(|(at, r)| r.starts_with(&END) && fits(*at, r));
    let (at, record) = found.ok_or_else(broken)?;
    let mut end = tail_at + at as u64;
    let mut one_volume = u16_at(record, 4) == u16_at(record, 6);
    let mut table = Table {
        at: u64::from(u32_at(record, 16)),
        size: u64::from(u32_at(record, 12)),
        entries: u64::from(u16_at(record, 10)),
    };
    if (table.at == SATURATED || table.size == SATURATED || table.entries == 0xffff)
        && let Some(locator_at) = end.checked_sub(LOCATOR_64_SIZE)
    {
        reader.seek(SeekFrom::Start(locator_at)).map_err(read_error)?;
        let locator: [u8; 20] = array(reader)?;
        if locator[..4] == LOCATOR_64 {
            end = u64_at(&locator, 8);
            if end
                .checked_add(END_64_SIZE)
                .is_none_or(|record_end| record_end > locator_at)
            {
                return Err(broken());
            }
            reader.seek(SeekFrom::Start(end)).map_err(read_error)?;
            let record: [u8; 56] = array(reader)?;
            if record[..4] != END_64 {
                return Err(broken());
            }
            one_volume = u32_at(&record, 16) == u32_at(&record, 20);
            table = Table {
                at: u64_at(&record, 48),
                size: u64_at(&record, 40),
                entries: u64_at(&record, 32),
            };
        }
    }
    if !one_volume {
        return Err(Error::Artifact(
            "the code package is one part of a split zip archive; pack it as one file".to_owned(),
        ));
    }
    match table.at.checked_add(table.size) {
        Some(table_end) if table_end == end => Ok(table),
        Some(table_end) if table_end < end => Err(Error::Artifact(format!(
            "the code package has {} bytes that belong to no entry before the archive or after its table of contents; \
             pack it again with an ordinary tool",
            end - table_end
        ))),
        _ => Err(broken()),
    }
}

fn read_entry(reader: &mut impl Read) -> Result<Entry, Error> {
    let header: [u8; 46] = array(reader)?;
    if header[..4] != CENTRAL {
        return Err(Error::Artifact(BROKEN.to_owned()));
    }
    let lengths = [28, 30, 32].map(|at| usize::from(u16_at(&header, at)));
    let [name_length, extra_length, comment_length] = lengths;
    if name_length > MAX_PATH {
        let mut start = vec![0; 40];
        reader.read_exact(&mut start).map_err(read_error)?;
        return Err(refused(
            &format!("{}…", String::from_utf8_lossy(&start)),
            format!("has a name of {name_length} bytes; at most {MAX_PATH} are possible"),
        ));
    }
    let mut name = vec![0; name_length];
    reader.read_exact(&mut name).map_err(read_error)?;
    let mut extra = vec![0; extra_length + comment_length];
    reader.read_exact(&mut extra).map_err(read_error)?;
    extra.truncate(extra_length);
    // The upper byte of "made by" names the system whose attributes follow: 3 is Unix, 19 is macOS.
    let unix = matches!(header[5], 3 | 19);
    let unix_mode = unix.then(|| u32_at(&header, 38) >> 16);
    let mut sizes = [24, 20, 42].map(|at| u64::from(u32_at(&header, at)));
    widen(&mut sizes, &extra).ok_or_else(|| Error::Artifact(BROKEN.to_owned()))?;
    let [size, packed, header_at] = sizes;
    Ok(Entry {
        name,
        unix_mode,
        size,
        packed,
        crc: u32_at(&header, 16),
        method: u16_at(&header, 10),
        encrypted: u16_at(&header, 8) & 1 == 1,
        header_at,
    })
}

/// Takes saturated values from the ZIP64 extra field: size, packed size and offset, in this order, only those that are saturated.
fn widen(values: &mut [u64; 3], mut extra: &[u8]) -> Option<()> {
    if !values.contains(&SATURATED) {
        return Some(());
    }
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let mut field = extra.get(4..4 + length)?;
        if id == 1 {
            for value in values.iter_mut().filter(|v| **v == SATURATED) {
                *value = u64_at(field.get(..8)?, 0);
                field = &field[8..];
            }
            return Some(());
        }
        extra = &extra[4 + length..];
    }
    None
}

pub(super) fn too_large(limit: u64) -> Error {
    Error::Artifact(format!(
        "the code package unpacks to more than {limit} bytes ({} MiB); leave out what the agent does not need",
        limit >> 20
    ))
}

fn method_name(method: u16) -> String {
    match method {
        1 | 6 => "an obsolete method of PKZIP".to_owned(),
        9 => "deflate64".to_owned(),
        12 => "bzip2".to_owned(),
        14 => "LZMA".to_owned(),
        93 => "Zstandard".to_owned(),
        95 => "XZ".to_owned(),
        99 => "AES encryption".to_owned(),
        other => format!("method {other}"),
    }
}

/// Whether the bytes are at fault rather than the disk that they are read from.
fn is_corrupt(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

fn read_error(error: io::Error) -> Error {
    if is_corrupt(&error) {
        Error::Artifact(BROKEN.to_owned())
    } else {
        io_error("read the code package", error)
    }
}

fn array<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(read_error)?;
    Ok(bytes)
}

// The three readers below are called with offsets that the caller's array or check covers.

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
