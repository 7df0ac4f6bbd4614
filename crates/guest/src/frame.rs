//! Framing: a length of 4 bytes, big-endian, then that many bytes of JSON.
//!
//! [`Decoder`] takes bytes as they come and gives whole frames; [`read`] and [`write`] are for blocking streams.
//!
//! Invariant: a length above [`MAX`] is refused before anything is allocated for it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// The longest frame's body. A launch carries the whole environment of an agent; everything else is far smaller.
pub const MAX: usize = 1 << 20;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The length is above [`MAX`].
    #[error("a frame of {0} bytes, more than the {MAX} allowed")]
    TooLong(usize),
    /// The body is not the JSON that was expected.
    #[error("a frame that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The stream failed, or ended inside a frame.
    #[error("the channel failed: {0}")]
    Io(#[from] io::Error),
}

/// Collects bytes and gives out whole frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Takes bytes as they came. At most [`MAX`] and a header's worth should be held before [`Decoder::take`] is asked.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` if more bytes are needed. After an error the stream is of no more use.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = body_length(*header)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let value = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(value))
    }

    /// How many bytes of unfinished frames are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes.len()
    }
}

/// One value as a frame's bytes.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(header) if length <= MAX => bytes[..4].copy_from_slice(&header.to_be_bytes()),
        _ => return Err(Error::TooLong(length)),
    }
    Ok(bytes)
}

/// Reads one frame from a blocking stream; `None` at the stream's end.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, Error> {
    let mut header = [0; 4];
    let mut have = 0;
    while have < header.len() {
        match stream.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(Error::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut body = vec![0; body_length(header)?];
    stream.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Writes one frame to a blocking stream.
pub fn write<T: Serialize>(stream: &mut impl Write, value: &T) -> Result<(), Error> {
    stream.write_all(&encode(value)?)?;
    Ok(())
}

fn body_length(header: [u8; 4]) -> Result<usize, Error> {
    match usize::try_from(u32::from_be_bytes(header)) {
        Ok(length) if length <= MAX => Ok(length),
        Ok(length) => Err(Error::TooLong(length)),
        Err(_) => Err(Error::TooLong(usize::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut bytes = encode(&"first").unwrap();
        bytes.extend(encode(&"second").unwrap());
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::default();
            let mut found: Vec<String> = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                decoder.push(part);
                while let Some(text) = decoder.take().unwrap() {
                    found.push(text);
                }
            }
            assert_eq!(found, ["first", "second"], "cut at {cut}");
            assert_eq!(decoder.held(), 0);
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_the_body_comes() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.take::<String>(), Err(Error::TooLong(_))));
        assert!(matches!(encode(&"x".repeat(MAX)), Err(Error::TooLong(_))));
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error_and_between_frames_is_not() {
        let bytes = encode(&1).unwrap();
        assert!(read::<u32>(&mut &bytes[..0]).unwrap().is_none());
        for cut in 1..bytes.len() {
            assert!(read::<u32>(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(read::<u32>(&mut &bytes[..]).unwrap(), Some(1));
    }

    proptest::proptest! {
        /// Whatever comes, in whatever pieces: an answer or an error, and never more held than was given.
        #[test]
        fn hostile_bytes_never_panic(pieces: Vec<Vec<u8>>) {
            let mut decoder = Decoder::default();
            for piece in pieces {
                decoder.push(&piece);
                while let Ok(Some(_)) = decoder.take::<crate::protocol::Request>() {}
            }
        }
    }
}
