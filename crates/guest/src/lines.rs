//! How the agent's output is kept: one record a line, with its time and its stream.
//!
//! ```text
//! eyot-log 1 7                               the format's version, the file's generation
//! 1764076654123456 o hello                   microseconds since 1970 (UTC), standard output, a whole line
//! 1764076654123999 e Traceback (most ...     standard error
//! 1764076654130000 O Password:               capital: the line goes on in the next record of its stream
//! 1764076654200000 y paused                  the server's or the guest's own word
//! ```
//!
//! There are two files. When the newer one is full its bytes are copied over the older one and it begins again with the
//! next generation, so a reader that follows knows whether it has missed some. Files of a guest of before this format are
//! plain text; the sandbox's record says which it is, because an agent could write anything into those.
//!
//! Invariant: a record ends at the first newline and no text contains one, so nothing that an agent writes is read as
//! another stream or another time. Invariant: a reader never holds more than one record.

use std::io::Write;

/// The version of the format.
pub const FORMAT: u32 = 1;
/// The longest text of one record; a longer line is cut.
pub const TEXT: usize = 8192;
/// What stands before the text, at most.
const PREFIX: usize = 32;
/// How the first line of a file begins.
const HEADER: &[u8] = b"eyot-log 1 ";
/// The longest first line.
pub const HEADER_LENGTH: usize = HEADER.len() + 21;

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The agent, to standard output.
    Stdout,
    /// The agent, to standard error.
    Stderr,
    /// The server or the guest.
    Eyot,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Microseconds since 1970, UTC, when it was read.
    pub at: i64,
    /// Who wrote it.
    pub stream: Stream,
    /// Its bytes, without a line end.
    pub text: Vec<u8>,
    /// Whether the line ends here.
    pub whole: bool,
}

/// The first line of a file.
#[must_use]
pub fn header(generation: u64) -> Vec<u8> {
    [HEADER, generation.to_string().as_bytes(), b"\n"].concat()
}

/// The generation that the beginning of a file names, and how long that line is.
#[must_use]
pub fn generation(start: &[u8]) -> Option<(u64, usize)> {
    let rest = start.strip_prefix(HEADER)?;
    let end = rest.iter().take(21).position(|byte| *byte == b'\n')?;
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((number, HEADER.len() + end + 1))
}

/// Adds a record to `out`. Of a text above [`TEXT`] the rest is dropped, and a newline in it becomes a blank.
pub fn encode(out: &mut Vec<u8>, at: i64, stream: Stream, text: &[u8], whole: bool) {
    let letter = match (stream, whole) {
        (Stream::Stdout, true) => 'o',
        (Stream::Stdout, false) => 'O',
        (Stream::Stderr, true) => 'e',
        (Stream::Stderr, false) => 'E',
        (Stream::Eyot, true) => 'y',
        (Stream::Eyot, false) => 'Y',
    };
    // A vector takes all that is written to it.
    let _ = write!(out, "{} {letter} ", at.max(0));
    let from = out.len();
    out.extend_from_slice(&text[..text.len().min(TEXT)]);
    for byte in &mut out[from..] {
        if *byte == b'\n' {
            *byte = b' ';
        }
    }
    out.push(b'\n');
}

/// Where to cut a text that is too long: at most `most` bytes, and not in the middle of a character.
#[must_use]
pub fn cut(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let continues = |at: usize| text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    // A character has four bytes at most; what has more of these is no text anyway.
    (most.saturating_sub(3)..=most)
        .rev()
        .find(|at| !continues(*at))
        .unwrap_or(most)
        .max(1)
}

/// Collects bytes of a file and gives its records out.
#[derive(Debug)]
pub struct Decoder {
    held: Vec<u8>,
    /// Where the next record begins in `held`.
    next: usize,
    /// How far has been looked for a newline.
    looked: usize,
    /// The rest of a record that is too long to be one is passed over.
    skipping: bool,
    /// Plain text, with this for a time.
    plain: Option<i64>,
}

impl Decoder {
    /// For files of this format.
    #[must_use]
    pub fn new() -> Self {
        Self {
            held: Vec::new(),
            next: 0,
            looked: 0,
            skipping: false,
            plain: None,
        }
    }

    /// For plain text, all of it the agent's standard output at a time that nobody knows better.
    #[must_use]
    pub fn plain(at: i64) -> Self {
        Self {
            plain: Some(at),
            ..Self::new()
        }
    }

    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.next);
        self.looked -= self.next;
        self.next = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next record. What is none is passed over.
    pub fn take(&mut self) -> Option<Line> {
        loop {
            let newline = self.held[self.looked..].iter().position(|byte| *byte == b'\n');
            let Some(end) = newline.map(|at| self.looked + at) else {
                self.looked = self.held.len();
                return self.too_long();
            };
            let record = &self.held[self.next..end];
            let skip = std::mem::take(&mut self.skipping);
            let line = match self.plain {
                Some(at) if record.len() <= TEXT => Some(plain(at, record, true)),
                Some(_) => {
                    self.looked = end;
                    return self.too_long();
                }
                None if skip => None,
                None => parse(record),
            };
            self.next = end + 1;
            self.looked = self.next;
            if line.is_some() {
                return line;
            }
        }
    }

    /// What was held back because its line had not ended, when no more will come.
    pub fn finish(&mut self) -> Option<Line> {
        let rest = self.held.split_off(self.next);
        self.held.clear();
        (self.next, self.looked) = (0, 0);
        match self.plain {
            Some(at) if !rest.is_empty() => Some(plain(at, &rest, false)),
            _ => None,
        }
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len() - self.next
    }

    /// A line without an end: plain text is cut, anything else is passed over.
    fn too_long(&mut self) -> Option<Line> {
        let held = &self.held[self.next..];
        match self.plain {
            Some(at) if held.len() > TEXT => {
                let line = plain(at, &held[..cut(held, TEXT)], false);
                self.next += line.text.len();
                self.looked = self.looked.max(self.next);
                Some(line)
            }
            None if held.len() > PREFIX + TEXT => {
                self.skipping = true;
                self.next = self.looked;
                None
            }
            _ => None,
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

fn plain(at: i64, text: &[u8], whole: bool) -> Line {
    Line {
        at,
        stream: Stream::Stdout,
        text: text.to_vec(),
        whole,
    }
}

fn parse(record: &[u8]) -> Option<Line> {
    let digits = record.iter().take(19).take_while(|byte| byte.is_ascii_digit()).count();
    let at = std::str::from_utf8(&record[..digits]).ok()?.parse().ok()?;
    let [b' ', letter, b' ', text @ ..] = &record[digits..] else {
        return None;
    };
    let (stream, whole) = match letter {
        b'o' => (Stream::Stdout, true),
        b'O' => (Stream::Stdout, false),
        b'e' => (Stream::Stderr, true),
        b'E' => (Stream::Stderr, false),
        b'y' => (Stream::Eyot, true),
        b'Y' => (Stream::Eyot, false),
        _ => return None,
    };
    (text.len() <= TEXT).then(|| Line {
        at,
        stream,
        text: text.to_vec(),
        whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            decoder.push(piece);
            while let Some(line) = decoder.take() {
                lines.push(line);
            }
        }
        lines
    }

    /// The text is never changed: it is what guests have left on disks.
    #[test]
    fn files_of_format_1_are_read() {
        let file = b"eyot-log 1 7\n1764076654123456 o hello\n1764076654123999 e \n1764076654130000 O Pass: \n\
            junk\n1764076654130001 x no\n1764076654130001 o\n99999999999999999999 o no\n1764076654200000 y paused\n17";
        assert_eq!(generation(file), Some((7, 13)));
        let found: Vec<_> = read(&mut Decoder::new(), file, 5)
            .into_iter()
            .map(|line| (line.at, line.stream, String::from_utf8(line.text).unwrap(), line.whole))
            .collect();
        let line = |at, stream, text: &str, whole| (at, stream, text.to_owned(), whole);
        assert_eq!(
            found,
            [
                line(1_764_076_654_123_456, Stream::Stdout, "hello", true),
                line(1_764_076_654_123_999, Stream::Stderr, "", true),
                line(1_764_076_654_130_000, Stream::Stdout, "Pass: ", false),
                line(1_764_076_654_200_000, Stream::Eyot, "paused", true),
            ]
        );
    }

    #[test]
    fn a_header_is_whole_or_none() {
        for number in [0, 7, u64::MAX] {
            let line = header(number);
            assert!(line.len() <= HEADER_LENGTH);
            assert_eq!(generation(&line), Some((number, line.len())));
            assert_eq!(generation(&line[..line.len() - 1]), None);
        }
        for other in [
            "",
            "eyot-log 2 7\n",
            "eyot-log 1 x\n",
            "eyot-log 1 99999999999999999999999\n",
        ] {
            assert_eq!(generation(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn plain_text_is_standard_output_of_one_time() {
        let long = "x".repeat(2 * TEXT + 1);
        let text = format!("1764076654123456 e forged?\n{long}\nlast");
        let mut decoder = Decoder::plain(5);
        let lines = read(&mut decoder, text.as_bytes(), 100);
        assert!(lines.iter().all(|line| (line.at, line.stream) == (5, Stream::Stdout)));
        assert_eq!(lines[0].text, b"1764076654123456 e forged?");
        let lengths: Vec<_> = lines[1..].iter().map(|line| (line.text.len(), line.whole)).collect();
        assert_eq!(lengths, [(TEXT, false), (TEXT, false), (1, true)]);
        assert_eq!(decoder.finish().unwrap().text, b"last");
        assert_eq!(decoder.finish(), None);
    }

    #[test]
    fn cuts_are_between_characters() {
        assert_eq!(cut("aé".as_bytes(), 2), 1);
        assert_eq!(cut("aé".as_bytes(), 3), 3);
        assert_eq!(cut("x😀".as_bytes(), 4), 1);
        assert_eq!(cut(&[0x80; 20], 10), 10);
        assert_eq!(cut("😀".as_bytes(), 1), 1);
    }

    fn streams() -> impl Strategy<Value = Stream> {
        prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr), Just(Stream::Eyot)]
    }

    proptest! {
        /// Whatever is written is one record, with its own stream and time, however the file is cut.
        #[test]
        fn what_is_written_is_read(
            lines in proptest::collection::vec((0..i64::MAX / 8, streams(), any::<Vec<u8>>(), any::<bool>()), 0..20),
            piece in 1usize..200,
        ) {
            let mut file = header(1);
            for (at, stream, text, whole) in &lines {
                encode(&mut file, *at, *stream, text, *whole);
            }
            let found = read(&mut Decoder::new(), &file, piece);
            prop_assert_eq!(found.len(), lines.len());
            for (found, (at, stream, text, whole)) in found.iter().zip(&lines) {
                let text: Vec<u8> = text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
                prop_assert_eq!((found.at, found.stream, &found.text, found.whole), (*at, *stream, &text, *whole));
            }
        }

        /// Any bytes in any pieces: no panic, the same lines, a bounded amount held.
        #[test]
        fn hostile_files_are_read_the_same_however_cut(
            bytes in proptest::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'\n'), 1 => Just(b' ')], 0..600),
            filler in 0usize..20_000,
            piece in 1usize..300,
            plain in any::<bool>(),
        ) {
            let mut file = bytes.clone();
            file.extend(std::iter::repeat_n(b'1', filler));
            file.extend(&bytes);
            let decoder = || if plain { Decoder::plain(0) } else { Decoder::new() };
            let whole = read(&mut decoder(), &file, file.len());
            let mut pieces = decoder();
            let cut = read(&mut pieces, &file, piece);
            prop_assert!(pieces.held() <= PREFIX + TEXT);
            if plain {
                let text = |lines: Vec<Line>| lines.into_iter().flat_map(|line| line.text).collect::<Vec<_>>();
                prop_assert_eq!(text(whole), text(cut));
            } else {
                prop_assert_eq!(whole, cut);
            }
        }
    }
}
