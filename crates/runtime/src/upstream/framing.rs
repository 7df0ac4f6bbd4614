//! Where the body of an agent's answer ends. No I/O: bytes go in as they came, pieces of the body come out.
//!
//! ```text
//!   Length(n) ──n bytes──> End        UntilClose ──connection closed──> End
//!   Size ──"0"──> Trailers ──empty line──> End
//!    │  ^──"\r\n"── DataEnd <──n bytes──┐
//!    └──────────"n"──────────> Data(n) ─┘
//! ```
//!
//! Invariant: what is not exactly as RFC 9112 has it is an error, never a guess; nothing that was refused is taken from the
//! input, so the same error comes again. Invariant: no line and no trailer makes the input grow without bound.

use super::fault::Fault;
use bytes::{Buf, Bytes, BytesMut};

/// Of a chunk's line, with its extensions, and of all trailers together. Both are read over.
const MOST_LINE: usize = 4096;
/// Pieces up to this size are copied, so that the buffer they came in can be used again.
const SMALL: usize = 1024;
const BAD_CHUNK: Fault = Fault::NotHttp("one of its chunks is not as it should be");

/// What is still to come of a body.
#[derive(Debug)]
pub struct Framing(State);

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    Size,
    Data(u64),
    DataEnd,
    /// How many bytes of them have come.
    Trailers(usize),
    End,
}

impl Framing {
    /// A body of so many bytes.
    pub(super) fn length(bytes: u64) -> Self {
        Self(if bytes == 0 { State::End } else { State::Length(bytes) })
    }

    /// A body in chunks.
    pub(super) fn chunked() -> Self {
        Self(State::Size)
    }

    /// A body that lasts as long as its connection.
    pub(super) fn until_close() -> Self {
        Self(State::UntilClose)
    }

    /// Whether all of the body has come.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.0, State::End)
    }

    /// How many bytes are still to come, if that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            State::End => Some(0),
            _ => None,
        }
    }

    /// The body's next piece; nothing at its end, and when more bytes are needed.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Fault> {
        self.settle(input)?;
        let most = match self.0 {
            State::Length(left) | State::Data(left) => usize::try_from(left).unwrap_or(usize::MAX),
            State::UntilClose => usize::MAX,
            _ => return Ok(None),
        };
        let count = most.min(input.len());
        if count == 0 {
            return Ok(None);
        }
        let piece = if count <= SMALL {
            let piece = Bytes::copy_from_slice(input.get(..count).unwrap_or_default());
            input.advance(count);
            piece
        } else {
            input.split_to(count).freeze()
        };
        self.took(count as u64);
        // So that the end is known together with the last piece. What is wrong here is told with the next one.
        let _ = self.settle(input);
        Ok(Some(piece))
    }

    /// No more bytes will come: whether that is a proper end.
    pub fn closed(&mut self) -> Result<(), Fault> {
        match self.0 {
            State::UntilClose | State::End => {
                self.0 = State::End;
                Ok(())
            }
            _ => Err(Fault::Ended),
        }
    }

    fn took(&mut self, count: u64) {
        match &mut self.0 {
            State::Length(left) if *left == count => self.0 = State::End,
            State::Data(left) if *left == count => self.0 = State::DataEnd,
            State::Length(left) | State::Data(left) => *left -= count,
            _ => {}
        }
    }

    /// Goes on to where the next data begin, or the body ends, as far as `input` says.
    fn settle(&mut self, input: &mut BytesMut) -> Result<(), Fault> {
        loop {
            match self.0 {
                State::Size => {
                    let Some(line) = line(input, MOST_LINE)? else {
                        return Ok(());
                    };
                    let (size, length) = (chunk_size(line)?, line.len() + 2);
                    input.advance(length);
                    self.0 = if size == 0 {
                        State::Trailers(0)
                    } else {
                        State::Data(size)
                    };
                }
                State::DataEnd => {
                    match input.get(..2) {
                        Some(b"\r\n") => input.advance(2),
                        Some(_) => return Err(BAD_CHUNK),
                        None => return Ok(()),
                    }
                    self.0 = State::Size;
                }
                State::Trailers(came) => {
                    let Some(line) = line(input, MOST_LINE.saturating_sub(came))? else {
                        return Ok(());
                    };
                    let length = line.len() + 2;
                    self.0 = if line.is_empty() {
                        State::End
                    } else {
                        State::Trailers(came + length)
                    };
                    input.advance(length);
                }
                State::Length(_) | State::Data(_) | State::UntilClose | State::End => return Ok(()),
            }
        }
    }
}

/// The line that `input` begins with, without its end; nothing if it is not there whole.
fn line(input: &[u8], most: usize) -> Result<Option<&[u8]>, Fault> {
    let start = &input[..input.len().min(most)];
    let Some(end) = memchr::memchr(b'\n', start) else {
        return if input.len() < most { Ok(None) } else { Err(BAD_CHUNK) };
    };
    let line = start[..end].strip_suffix(b"\r").ok_or(BAD_CHUNK)?;
    // Somebody else might take it for the end of a line.
    if line.contains(&b'\r') {
        Err(BAD_CHUNK)
    } else {
        Ok(Some(line))
    }
}

/// Hexadecimal digits, then perhaps extensions, which mean nothing to us.
fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii_end();
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BAD_CHUNK);
    }
    let text = std::str::from_utf8(digits).map_err(|_| BAD_CHUNK)?;
    u64::from_str_radix(text, 16).map_err(|_| BAD_CHUNK)
}
