//! Reads a sandbox's log files ([`guest::lines`]) while its guest writes them.
//!
//! The reader asks nobody: it works for a paused sandbox, and for one whose guest hangs. It keeps the files open, since
//! the guest never replaces them. The generations that the files name tell it where its place is now: still in the newer
//! file, in the older one since, or gone with what was thrown away.
//!
//! ```text
//! at (generation, position)   newer file is of that generation    -> read on there
//!                             older file is                       -> read the rest of it, then the newer one from its start
//!                             neither                             -> lines are lost: from the start of what there is
//! ```
//!
//! Invariant: bytes count only if the file is of the same generation before and after they were read, because the guest
//! may have begun it anew meanwhile. What the files contain is a stranger's.

use crate::{Error, LogLine, Stream};
use guest::lines::{self, Decoder, HEADER_LENGTH, Line};
use guest::protocol::{LOG, OLD_LOG};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Bytes read at a time.
const PIECE: usize = 64 * 1024;
/// How often a piece is tried that changes while it is read.
const TRIES: u32 = 100;

/// A place in a log.
#[derive(Debug)]
pub(super) struct Reader {
    newer: File,
    older: File,
    /// Of a guest that writes plain text: it names no generation.
    plain: bool,
    place: Option<Place>,
    decoder: Decoder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    generation: u64,
    position: u64,
}

/// What was found at one look.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Records, in order.
    pub(super) lines: Vec<Line>,
    /// Records before these were thrown away unread.
    pub(super) lost: bool,
    /// There may be more right away.
    pub(super) more: bool,
}

impl Reader {
    /// Opens the log of a sandbox's directory, at its start. `format` is what the sandbox's record says.
    pub(super) fn open(dir: &Path, format: u32) -> Result<Self, Error> {
        let open = |name: &str| {
            File::open(dir.join(name)).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => Error::Gone,
                _ => failed(source),
            })
        };
        let (newer, older) = (open(LOG)?, open(OLD_LOG)?);
        let plain = format == 0;
        let decoder = if plain {
            let changed = newer.metadata().and_then(|data| data.modified()).unwrap_or(UNIX_EPOCH);
            let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
            Decoder::plain(i64::try_from(since.as_micros()).unwrap_or(0))
        } else {
            Decoder::new()
        };
        Ok(Self {
            newer,
            older,
            plain,
            place: None,
            decoder,
        })
    }

    /// Bytes in both files now.
    pub(super) fn size(&self) -> u64 {
        let size = |file: &File| file.metadata().map_or(0, |data| data.len());
        size(&self.newer) + size(&self.older)
    }

    /// Reads on from where the last look ended.
    pub(super) fn look(&mut self) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        let mut buffer = vec![0; PIECE];
        for _ in 0..TRIES {
            let step = if self.plain {
                self.step_plain(&mut buffer)
            } else {
                self.step(&mut buffer)
            };
            match step.map_err(failed)? {
                Step::Read(count) => {
                    self.decoder.push(&buffer[..count]);
                    while let Some(line) = self.decoder.take() {
                        batch.lines.push(line);
                    }
                    batch.more = true;
                    return Ok(batch);
                }
                Step::End => return Ok(batch),
                Step::Lost => batch.lost = true,
                Step::Again => {}
            }
        }
        // The guest writes faster than this can read.
        batch.more = true;
        Ok(batch)
    }

    /// What stands at the very end without a line end, once no more will come.
    pub(super) fn finish(&mut self) -> Option<Line> {
        self.decoder.finish()
    }

    fn step(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        let (newer, older) = (generation(&self.newer)?, generation(&self.older)?);
        let Some(place) = self.place else {
            let first = match (older, newer) {
                (Some(older), Some(newer)) if older.checked_add(1) == Some(newer) => older,
                // Seen in the middle of a rotation, both hold the same.
                (_, Some(newer)) => newer,
                (Some(older), None) => older,
                (None, None) => return Ok(Step::End),
            };
            self.place = Some(Place {
                generation: first,
                position: 0,
            });
            return Ok(Step::Again);
        };
        let file = if newer == Some(place.generation) {
            &self.newer
        } else if older == Some(place.generation) {
            &self.older
        } else if newer.is_none() && older.is_none() {
            return Ok(Step::End);
        } else {
            self.restart(None);
            return Ok(Step::Lost);
        };
        let count = file.read_at(buffer, place.position)?;
        if generation(file)? != Some(place.generation) {
            return Ok(Step::Again);
        }
        if count > 0 {
            self.place = Some(Place {
                position: place.position + count as u64,
                ..place
            });
            return Ok(Step::Read(count));
        }
        match newer {
            // The next file has not been begun, or has been but for its first line.
            Some(newer) if newer == place.generation => Ok(Step::End),
            None => Ok(Step::End),
            Some(newer) if Some(newer) == place.generation.checked_add(1) => {
                self.restart(Some(newer));
                Ok(Step::Again)
            }
            Some(_) => {
                self.restart(None);
                Ok(Step::Lost)
            }
        }
    }

    /// Goes to the start of a file, or of what there is. Records do not go over the ends of files.
    fn restart(&mut self, generation: Option<u64>) {
        self.place = generation.map(|generation| Place {
            generation,
            position: 0,
        });
        self.decoder = Decoder::new();
    }

    /// Here 0 is the older file and 1 the newer one. That a file was begun anew is seen only by its being shorter.
    fn step_plain(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        let place = *self.place.get_or_insert(Place {
            generation: 0,
            position: 0,
        });
        let file = if place.generation == 0 {
            &self.older
        } else {
            &self.newer
        };
        let length = file.metadata()?.len();
        if place.generation == 1 && length < place.position {
            self.place = Some(Place {
                generation: 1,
                position: 0,
            });
            return Ok(Step::Lost);
        }
        let count = file.read_at(buffer, place.position)?;
        if count == 0 && place.generation == 0 {
            self.place = Some(Place {
                generation: 1,
                position: 0,
            });
            return Ok(Step::Again);
        }
        self.place = Some(Place {
            position: place.position + count as u64,
            ..place
        });
        Ok(if count == 0 { Step::End } else { Step::Read(count) })
    }
}

/// What came of one try.
enum Step {
    Read(usize),
    End,
    Lost,
    Again,
}

/// The last `max` bytes of what the agent wrote, cut at the start of a line.
pub(super) fn tail(dir: &Path, format: u32, max: usize) -> Result<String, Error> {
    let mut reader = Reader::open(dir, format)?;
    let mut text = Vec::new();
    // What is written meanwhile need not be waited for.
    let mut left = reader.size();
    loop {
        let batch = reader.look()?;
        let more = batch.more && left > 0;
        let last = if more { None } else { reader.finish() };
        left = left.saturating_sub(PIECE as u64);
        for line in batch.lines.into_iter().chain(last) {
            if line.stream != lines::Stream::Eyot {
                text.extend_from_slice(&line.text);
                text.extend(line.whole.then_some(b'\n'));
            }
        }
        if text.len() > max.saturating_mul(2).max(PIECE) {
            // One byte more than asked for, by which is seen that something was cut.
            text.drain(..text.len() - max - 1);
        }
        if !more {
            break;
        }
    }
    let mut end = &text[text.len().saturating_sub(max)..];
    if end.len() < text.len()
        && let Some(line) = end.iter().position(|byte| *byte == b'\n')
        && line + 1 < end.len()
    {
        end = &end[line + 1..];
    }
    Ok(String::from_utf8_lossy(end).into_owned())
}

/// Makes lines for callers of records; remembers which lines have begun.
#[derive(Debug, Default)]
pub(super) struct Lines {
    open: [bool; 3],
}

impl Lines {
    /// `None` for what is nothing but the end of a line that was given before, and for times that no calendar has.
    pub(super) fn line(&mut self, line: Line) -> Option<LogLine> {
        let (stream, index) = match line.stream {
            lines::Stream::Stdout => (Stream::Stdout, 0),
            lines::Stream::Stderr => (Stream::Stderr, 1),
            lines::Stream::Eyot => (Stream::Eyot, 2),
        };
        let continued = std::mem::replace(&mut self.open[index], !line.whole);
        if continued && line.text.is_empty() {
            return None;
        }
        let text = line
            .text
            .strip_suffix(b"\r")
            .filter(|_| line.whole)
            .unwrap_or(&line.text);
        Some(LogLine {
            at: jiff::Timestamp::from_microsecond(line.at).ok()?,
            stream,
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }
}

fn generation(file: &File) -> io::Result<Option<u64>> {
    let mut start = [0; HEADER_LENGTH];
    let count = file.read_at(&mut start, 0)?;
    Ok(lines::generation(&start[..count]).map(|(number, _)| number))
}

fn failed(source: io::Error) -> Error {
    Error::Io {
        what: "reading a sandbox's log".into(),
        source,
    }
}

#[cfg(test)]
mod tests;
