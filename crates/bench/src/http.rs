//! The least client that HTTP/1.1 allows: one blocking socket, prepared requests, one answer at a time.
//!
//! It does nothing that a measurement would then measure: no allocation for an answer, no copies beside the socket's,
//! two system calls for a small exchange.

use crate::interrupt;
use anyhow::{Context as _, anyhow, bail, ensure};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// No answer takes this long, not even the first ones of 32 agents in Python that start at once; past it a peer hangs.
const DEADLINE: Duration = Duration::from_secs(180);

/// Room for any head, and large enough that reading 100 MB is not a matter of system calls.
const BUFFER: usize = 256 << 10;

/// A kept connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// What has been received and not been looked at: `buffer[start..end]`.
    start: usize,
    end: usize,
}

/// What is known of an answer once it is complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// Bytes of the body.
    pub(crate) size: u64,
    /// When the first of them was there; when the head was, if there is none.
    pub(crate) first_byte: Instant,
}

enum Framing {
    Length(u64),
    Chunked,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect_timeout(&address, DEADLINE).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
        })
    }

    /// Sends a prepared request and throws the answer's body away. Any status but 200 is an error.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.exchange_parts(&[request], |_| ())
    }

    /// The same with the answer's body as text.
    pub(crate) fn exchange_text(&mut self, parts: &[&[u8]]) -> anyhow::Result<String> {
        let mut text = Vec::new();
        self.exchange_parts(parts, |piece| text.extend_from_slice(piece))?;
        String::from_utf8(text).context("the answer is not UTF-8")
    }

    /// Sends a request in parts and hands every piece of the answer's body to `sink`.
    pub(crate) fn exchange_parts(&mut self, parts: &[&[u8]], mut sink: impl FnMut(&[u8])) -> anyhow::Result<Answer> {
        for part in parts {
            self.stream.write_all(part).context("sending a request")?;
        }
        let (status, framing) = self.head()?;
        if status == 200 {
            return self.body(&framing, &mut sink);
        }
        let mut text = Vec::new();
        self.body(&framing, &mut |piece| text.extend_from_slice(piece))?;
        bail!("status {status}: {}", String::from_utf8_lossy(&text));
    }

    fn head(&mut self) -> anyhow::Result<(u16, Framing)> {
        let length = loop {
            let received = &self.buffer[self.start..self.end];
            match received.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.fill()?,
            }
        };
        let text = std::str::from_utf8(&self.buffer[self.start..self.start + length])?;
        let found = read_head(text).ok_or_else(|| anyhow!("the head of an answer cannot be read: {text:?}"));
        self.start += length;
        found
    }

    fn body(&mut self, framing: &Framing, sink: &mut impl FnMut(&[u8])) -> anyhow::Result<Answer> {
        let mut answer = Answer {
            size: 0,
            first_byte: Instant::now(),
        };
        match framing {
            Framing::Length(length) => self.pieces(*length, &mut answer, sink)?,
            Framing::Chunked => loop {
                let size = self.chunk_size()?;
                self.pieces(size, &mut answer, sink)?;
                ensure!(self.line()?.is_empty(), "a chunk does not end where it should");
                if size == 0 {
                    break;
                }
            },
        }
        ensure!(self.start == self.end, "there is more than an answer");
        Ok(answer)
    }

    fn pieces(&mut self, length: u64, answer: &mut Answer, sink: &mut impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.start == self.end {
                self.fill()?;
            }
            if answer.size == 0 {
                answer.first_byte = Instant::now();
            }
            let received = self.end - self.start;
            let taken = usize::try_from(left).map_or(received, |left| left.min(received));
            sink(&self.buffer[self.start..self.start + taken]);
            self.start += taken;
            left -= taken as u64;
            answer.size += taken as u64;
        }
        Ok(())
    }

    fn chunk_size(&mut self) -> anyhow::Result<u64> {
        let line = self.line()?;
        u64::from_str_radix(&line, 16).with_context(|| format!("{line:?} is not the size of a chunk"))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        loop {
            let received = &self.buffer[self.start..self.end];
            if let Some(at) = received.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8(received[..at].to_vec())?;
                self.start += at + 2;
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// Receives something.
    fn fill(&mut self) -> anyhow::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        ensure!(self.end < self.buffer.len(), "the head of an answer is too long");
        let received = loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                // A socket with a deadline is not read on after a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => interrupt::check()?,
                received => break received.context("waiting for an answer")?,
            }
        };
        ensure!(received > 0, "the connection was closed before an answer was complete");
        self.end += received;
        Ok(())
    }
}

fn read_head(text: &str) -> Option<(u16, Framing)> {
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let mut framing = None;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            framing = Some(Framing::Length(value.trim().parse().ok()?));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Some(Framing::Chunked);
        }
    }
    Some((status, framing?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Runs two exchanges against a peer that writes these bytes, split where told, and nothing else.
    fn exchanges(written: &'static [&'static str]) -> Vec<anyhow::Result<String>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            for answer in written {
                let mut request = [0; 3];
                stream.read_exact(&mut request).unwrap();
                for piece in answer.split('|') {
                    stream.write_all(piece.as_bytes()).unwrap();
                    stream.flush().unwrap();
                }
            }
        });
        let mut connection = Connection::open(address).unwrap();
        let answers = written
            .iter()
            .map(|_| connection.exchange_text(&[b"as", b"k"]))
            .collect();
        peer.join().unwrap();
        answers
    }

    #[test]
    fn answers_are_read_however_they_are_framed_and_split() {
        let answers = exchanges(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r|\nTransfer-Encoding: chunked\r\n\r\n3\r|\nhel\r\n2|\r\nlo\r\n0\r\n|\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ]);
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, ["hello", "hello", ""]);
    }

    #[test]
    fn what_is_not_a_complete_good_answer_is_an_error() {
        for (answer, said) in [
            (
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope",
                "status 403: nope",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "closed before"),
            ("HTTP/1.1 200 OK\r\n\r\n", "cannot be read"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nmuch",
                "more than an answer",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                "size of a chunk",
            ),
        ] {
            let written: &'static [&'static str] = Box::leak(Box::new([answer]));
            let error = exchanges(written).pop().unwrap().unwrap_err();
            assert!(format!("{error:#}").contains(said), "{answer}: {error:#}");
        }
    }
}
