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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    /// Writes as the guest does: the newer file's bytes go to the older one, whole, and then it begins anew.
    struct Writer {
        dir: tempfile::TempDir,
        generation: u64,
        count: i64,
    }

    impl Writer {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(LOG), "").unwrap();
            fs::write(dir.path().join(OLD_LOG), "").unwrap();
            Self {
                dir,
                generation: 0,
                count: 0,
            }
        }

        fn line(&mut self) {
            let path = self.dir.path().join(LOG);
            let mut bytes = fs::read(&path).unwrap();
            if bytes.is_empty() {
                bytes = lines::header(self.generation);
            }
            let text = self.count.to_string();
            lines::encode(&mut bytes, self.count, lines::Stream::Stdout, text.as_bytes(), true);
            fs::write(path, bytes).unwrap();
            self.count += 1;
        }

        fn rotate(&mut self) {
            if fs::metadata(self.dir.path().join(LOG)).unwrap().len() == 0 {
                return;
            }
            fs::copy(self.dir.path().join(LOG), self.dir.path().join(OLD_LOG)).unwrap();
            fs::write(self.dir.path().join(LOG), "").unwrap();
            self.generation += 1;
        }

        fn reader(&self) -> Reader {
            Reader::open(self.dir.path(), lines::FORMAT).unwrap()
        }
    }

    fn all(reader: &mut Reader) -> (Vec<i64>, bool) {
        let (mut numbers, mut lost) = (Vec::new(), false);
        loop {
            let batch = reader.look().unwrap();
            lost |= batch.lost;
            numbers.extend(batch.lines.iter().map(|line| line.at));
            if !batch.more {
                return (numbers, lost);
            }
        }
    }

    #[test]
    fn rotations_are_followed_and_what_is_missed_is_said() {
        let mut writer = Writer::new();
        let mut reader = writer.reader();
        assert_eq!(all(&mut reader), (vec![], false));
        writer.line();
        writer.line();
        assert_eq!(all(&mut reader), (vec![0, 1], false));
        writer.line();
        writer.rotate();
        assert_eq!(all(&mut reader), (vec![2], false));
        writer.line();
        assert_eq!(all(&mut reader), (vec![3], false));
        for _ in 0..3 {
            writer.line();
            writer.rotate();
        }
        writer.line();
        assert_eq!(all(&mut reader), (vec![6, 7], true));
        assert_eq!(all(&mut writer.reader()), (vec![6, 7], false));
        assert_eq!(tail(writer.dir.path(), lines::FORMAT, 100).unwrap(), "6\n7\n");
        assert_eq!(tail(writer.dir.path(), lines::FORMAT, 3).unwrap(), "7\n");
    }

    #[test]
    fn a_log_of_before_the_format_is_plain_text() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(OLD_LOG), "one\n1764076654123456 e tw").unwrap();
        fs::write(dir.path().join(LOG), "o\nthree").unwrap();
        let mut reader = Reader::open(dir.path(), 0).unwrap();
        let mut found = Vec::new();
        loop {
            let batch = reader.look().unwrap();
            found.extend(batch.lines);
            if !batch.more {
                break;
            }
        }
        found.extend(reader.finish());
        let mut lines_of = Lines::default();
        let found: Vec<_> = found.into_iter().filter_map(|line| lines_of.line(line)).collect();
        assert!(found.iter().all(|line| line.stream == Stream::Stdout));
        let text: Vec<_> = found.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(text, ["one", "1764076654123456 e two", "three"]);
        assert_eq!(tail(dir.path(), 0, 9).unwrap(), "three");
        assert!(matches!(tail(&dir.path().join("x"), 0, 9), Err(Error::Gone)));
    }

    #[test]
    fn a_line_in_pieces_ends_once() {
        let piece = |text: &str, whole| Line {
            at: 1,
            stream: lines::Stream::Stderr,
            text: text.into(),
            whole,
        };
        let mut made = Lines::default();
        let mut given = |text, whole| made.line(piece(text, whole)).map(|line| line.text);
        assert_eq!(given("", true).as_deref(), Some(""));
        assert_eq!(given("Password: ", false).as_deref(), Some("Password: "));
        assert_eq!(given("", true), None);
        assert_eq!(given("x\r", true).as_deref(), Some("x"));
        assert_eq!(
            made.line(Line {
                at: i64::MAX,
                ..piece("x", true)
            }),
            None
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// However lines, rotations and looks fall: lines come in order, none twice, and one is missing only where it is said.
        #[test]
        fn following_misses_nothing_in_silence(steps in proptest::collection::vec(0u8..8, 1..60)) {
            let mut writer = Writer::new();
            let mut reader = writer.reader();
            let mut next = 0;
            // It is there from the beginning.
            writer.line();
            reader.look().unwrap();
            writer.count = 0;
            for step in steps.into_iter().chain([7]) {
                match step {
                    0..=3 => writer.line(),
                    4 | 5 => writer.rotate(),
                    _ => {
                        let (numbers, lost) = all(&mut reader);
                        let first = numbers.first().copied().unwrap_or(next);
                        prop_assert!(first == next || lost && first > next, "{} after {}", first, next);
                        prop_assert!(numbers.iter().copied().eq(first..first + numbers.len() as i64));
                        next = first + numbers.len() as i64;
                    }
                }
            }
        }

        /// Any bytes in the files: an answer, within bounds.
        #[test]
        fn hostile_files_are_read(newer: Vec<u8>, older: Vec<u8>, headers: bool, format in 0u32..2, max in 0usize..100) {
            let dir = tempfile::tempdir().unwrap();
            let start = |number| if headers { lines::header(number) } else { Vec::new() };
            fs::write(dir.path().join(LOG), [start(2), newer].concat()).unwrap();
            fs::write(dir.path().join(OLD_LOG), [start(1), older].concat()).unwrap();
            // A byte that is none of UTF-8 becomes three.
            prop_assert!(tail(dir.path(), format, max).unwrap().len() <= 3 * max);
        }
    }
}
