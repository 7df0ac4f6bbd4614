//! The agent's output, a record for each line ([`guest::lines`]), in two files of which the older is thrown away whole.
//!
//! The guest can open nothing in the sandbox's directory any more, so it does not rename: when the newer file is half
//! the limit long, its bytes are copied over the older one and it starts again, with the next generation.
//!
//! A line is written when it ends. One that does not is written in pieces: when it is long, or when nothing has come
//! for a moment, as with a prompt.
//!
//! Invariant: both files together never exceed the limit, and hold whole records only. A file that cannot be written (a
//! full disk) loses output, and never stops the agent.

use guest::lines::{self, HEADER_LENGTH, Stream, TEXT};
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The least that is kept, however small the limit.
const LEAST: u64 = 4096;
/// How long the beginning of a line waits for its end.
const HOLD: Duration = Duration::from_millis(250);
/// What a record has beside its text, and more.
const OVERHEAD: usize = 64;

/// The log's two files.
pub(crate) struct Log {
    newer: File,
    older: File,
    /// Length of the newer file.
    length: u64,
    half: u64,
    generation: u64,
    /// Where a line is cut: so that a record always fits into a file.
    longest: usize,
    /// Records that are about to be written.
    out: Vec<u8>,
    /// The beginnings of the lines of standard output and standard error, and since when they wait.
    held: [(Vec<u8>, Option<Instant>); 2],
}

impl Log {
    /// For two empty files, open for reading and appending.
    pub(crate) fn new(newer: File, older: File, limit: u64) -> Self {
        let half = (limit / 2).max(LEAST);
        let room = usize::try_from(half).unwrap_or(usize::MAX);
        Self {
            newer,
            older,
            length: 0,
            half,
            generation: 0,
            longest: TEXT.min(room - HEADER_LENGTH - OVERHEAD),
            out: Vec::new(),
            held: Default::default(),
        }
    }

    /// Takes what the agent wrote to standard output (0) or standard error (1).
    pub(crate) fn take(&mut self, index: usize, bytes: &[u8]) {
        let at = now();
        let stream = stream(index);
        let (mut held, mut since) = std::mem::take(&mut self.held[index]);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (part, whole) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            held.extend_from_slice(part);
            let mut from = 0;
            while held.len() - from > self.longest {
                let length = lines::cut(&held[from..], self.longest);
                self.record(at, stream, &held[from..from + length], false);
                from += length;
            }
            if whole {
                self.record(at, stream, &held[from..], true);
                held.clear();
                since = None;
            } else {
                held.drain(..from);
            }
        }
        // Since its first piece, or one that goes on without end would never be seen.
        let since = (!held.is_empty()).then(|| since.unwrap_or_else(Instant::now));
        self.held[index] = (held, since);
        self.write();
    }

    /// Adds lines of the server's.
    pub(crate) fn note(&mut self, text: &str) {
        let at = now();
        for line in text.lines() {
            let text = &line.as_bytes()[..lines::cut(line.as_bytes(), self.longest)];
            self.record(at, Stream::Eyot, text, true);
        }
        self.write();
    }

    /// When the beginning of a line has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.held
            .iter()
            .filter_map(|(_, since)| *since)
            .min()
            .map(|since| since + HOLD)
    }

    /// Writes beginnings of lines that have waited long enough, or all of them.
    pub(crate) fn release(&mut self, now_or_all: Option<Instant>) {
        for index in 0..self.held.len() {
            let due = match (self.held[index].1, now_or_all) {
                (Some(since), Some(now)) => since + HOLD <= now,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if due {
                let (held, _) = std::mem::take(&mut self.held[index]);
                self.record(now(), stream(index), &held, false);
            }
        }
        self.write();
    }

    /// Adds a record to those that are about to be written; makes room for it first.
    fn record(&mut self, at: i64, stream: Stream, text: &[u8], whole: bool) {
        let room = self.half.saturating_sub(self.length);
        let needed = self.out.len() + text.len() + HEADER_LENGTH + OVERHEAD;
        if needed as u64 > room {
            self.write();
            if self.length + (text.len() + OVERHEAD) as u64 > self.half {
                self.rotate();
            }
        }
        lines::encode(&mut self.out, at, stream, text, whole);
    }

    fn write(&mut self) {
        if self.out.is_empty() {
            return;
        }
        if self.length == 0 {
            let mut all = lines::header(self.generation);
            all.append(&mut self.out);
            self.out = all;
        }
        if self.newer.write_all(&self.out).is_ok() {
            self.length += self.out.len() as u64;
        } else {
            // Never half a record.
            let _ = self.newer.set_len(self.length);
        }
        self.out.clear();
    }

    fn rotate(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let mut at = 0;
        let _ = self.older.set_len(0);
        while let Ok(count @ 1..) = self.newer.read_at(&mut buffer, at) {
            if self.older.write_all(&buffer[..count]).is_err() {
                break;
            }
            at += count as u64;
        }
        if self.newer.set_len(0).is_ok() {
            self.length = 0;
            self.generation += 1;
        } else {
            // Cannot happen with a file of ours; forget the room rather than grow.
            self.half = self.half.max(self.length);
        }
    }
}

fn stream(index: usize) -> Stream {
    if index == 0 { Stream::Stdout } else { Stream::Stderr }
}

/// Microseconds since 1970.
fn now() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| {
        time.tv_sec()
            .saturating_mul(1_000_000)
            .saturating_add(time.tv_nsec() / 1000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest::lines::{Decoder, Line, generation};
    use proptest::prelude::*;
    use std::fs::{self, OpenOptions};
    use std::path::PathBuf;

    struct Bench {
        dir: tempfile::TempDir,
        log: Log,
        limit: u64,
    }

    fn bench(limit: u64) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let open = |path| {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).open(path).unwrap()
        };
        let log = Log::new(open(dir.path().join("log")), open(dir.path().join("log.1")), limit);
        let limit = limit.max(2 * LEAST);
        Bench { dir, log, limit }
    }

    impl Bench {
        fn files(&self) -> [Vec<u8>; 2] {
            ["log.1", "log"].map(|name| fs::read(PathBuf::from(self.dir.path()).join(name)).unwrap())
        }

        /// The records of both files, which are whole and within the limit.
        fn lines(&self) -> Vec<Line> {
            let files = self.files();
            assert!(files.iter().map(Vec::len).sum::<usize>() as u64 <= self.limit);
            let mut lines = Vec::new();
            for file in &files {
                assert!(file.is_empty() || file.ends_with(b"\n") && generation(file).is_some());
                let mut decoder = Decoder::new();
                decoder.push(file);
                let from = lines.len();
                lines.extend(std::iter::from_fn(|| decoder.take()));
                let newlines = file.iter().filter(|byte| **byte == b'\n').count();
                assert_eq!(
                    lines.len() - from,
                    newlines.saturating_sub(1),
                    "something was passed over"
                );
            }
            lines
        }

        fn text(&self, stream: Stream) -> Vec<u8> {
            let mut text = Vec::new();
            for line in self.lines().into_iter().filter(|line| line.stream == stream) {
                text.extend(line.text);
                text.extend(line.whole.then_some(b'\n'));
            }
            text
        }
    }

    #[test]
    fn the_last_part_is_kept_and_the_limit_holds() {
        let mut bench = bench(4 * LEAST);
        let mut all = Vec::new();
        for number in 0..2000 {
            let line = format!("line {number}\n");
            bench.log.take(0, line.as_bytes());
            all.extend(line.into_bytes());
            let size: u64 = bench.files().iter().map(|file| file.len() as u64).sum();
            assert!(size <= bench.limit, "{size}");
        }
        let size: u64 = bench.files().iter().map(|file| file.len() as u64).sum();
        assert!(size >= bench.limit / 2 - 2 * 64, "{size}");
        assert!(all.ends_with(&bench.text(Stream::Stdout)));
        let [older, newer] = bench.files();
        assert_eq!(generation(&older).unwrap().0 + 1, generation(&newer).unwrap().0);
    }

    #[test]
    fn a_line_without_an_end_is_cut_and_never_held_for_long() {
        let mut bench = bench(64 * 1024);
        bench.log.take(0, "é".repeat(TEXT).as_bytes());
        assert_eq!(
            bench.lines().iter().map(|line| line.text.len()).collect::<Vec<_>>(),
            [TEXT]
        );
        bench.log.take(1, b"Password: ");
        assert!(bench.text(Stream::Stderr).is_empty());
        let due = bench.log.deadline().unwrap();
        bench.log.release(Some(due - HOLD / 2));
        assert!(bench.text(Stream::Stderr).is_empty());
        bench.log.release(Some(due + HOLD));
        assert_eq!(bench.text(Stream::Stderr), b"Password: ");
        assert_eq!(bench.log.deadline(), None);
        bench.log.take(1, b"\n");
        assert_eq!(bench.text(Stream::Stderr), b"Password: \n");
        assert_eq!(bench.text(Stream::Stdout), "é".repeat(TEXT).as_bytes());
    }

    #[test]
    fn nothing_forges_a_stream_or_a_time() {
        let mut bench = bench(64 * 1024);
        bench.log.take(0, b"a\n1 e forged\neyot-log 1 9\n\0\xff\r\n");
        bench.log.note("one\ntwo");
        let lines = bench.lines();
        let streams: Vec<_> = lines.iter().map(|line| line.stream).collect();
        assert_eq!(streams, [[Stream::Stdout; 4].as_slice(), &[Stream::Eyot; 2]].concat());
        assert!(lines.iter().all(|line| line.at > 1_700_000_000_000_000));
        assert_eq!(bench.text(Stream::Stdout), b"a\n1 e forged\neyot-log 1 9\n\0\xff\r\n");
        assert_eq!(bench.text(Stream::Eyot), b"one\ntwo\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any output in any pieces: what is kept of each stream is its end, and the limit holds.
        #[test]
        fn the_end_of_any_output_is_kept(
            limit in 0u64..40_000,
            pieces in proptest::collection::vec((0usize..2, prop_oneof![
                any::<Vec<u8>>(),
                (0usize..30_000, any::<u8>()).prop_map(|(count, byte)| vec![byte; count]),
                Just(b"text\n".to_vec()),
            ]), 0..12),
        ) {
            let mut bench = bench(limit);
            let mut all = [Vec::new(), Vec::new()];
            for (index, piece) in &pieces {
                bench.log.take(*index, piece);
                all[*index].extend_from_slice(piece);
            }
            bench.log.release(None);
            for (index, all) in all.iter().enumerate() {
                prop_assert!(all.ends_with(&bench.text(stream(index))));
            }
        }
    }
}
