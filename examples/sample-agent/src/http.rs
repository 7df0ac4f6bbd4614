//! HTTP/1.1 as a server speaks it: keep-alive, bodies with a length and in chunks, both ways, of any size.
//!
//! Invariant: no body is held in memory; [`Body`] reads and [`Reply`] writes a piece at a time.

use std::io::{self, BufRead, Read, Write};

/// Bytes of a request's first line and headers together.
const MAX_HEAD: u64 = 64 * 1024;

/// What comes before a request's body.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Path without the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Whether the client takes another answer on this connection, and one in chunks.
    pub(crate) persistent: bool,
}

impl Head {
    /// Reads the next request; `None` when the client has closed the connection between two.
    pub(crate) fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut input = input.take(MAX_HEAD);
        let Some(first) = line(&mut input)? else {
            return Ok(None);
        };
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad("the request line is not 'METHOD path HTTP/1.1'"));
        };
        if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return Err(bad("the version is not HTTP/1.1"));
        }
        let mut headers = Vec::new();
        loop {
            let text = line(&mut input)?.ok_or_else(|| bad("the headers break off or are too long"))?;
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').ok_or_else(|| bad("a header has no ':'"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let mut head = Self {
            method: method.to_owned(),
            path,
            headers,
            persistent: false,
        };
        let close = head
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        head.persistent = version == "HTTP/1.1" && !close;
        Ok(Some(head))
    }

    /// The first header of a name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// How the body is delimited. A request that says it twice and differently could be read in two ways: refused.
    fn framing(&self) -> io::Result<Framing> {
        let all = |name| {
            self.headers
                .iter()
                .filter(move |(n, _)| n == name)
                .map(|(_, value)| value.as_str())
        };
        let mut lengths = all("content-length");
        let length = lengths.next();
        if lengths.any(|other| Some(other) != length) {
            return Err(bad("Content-Length is there twice"));
        }
        match (all("transfer-encoding").next(), length) {
            (Some(_), Some(_)) => Err(bad("both Transfer-Encoding and Content-Length are there")),
            (Some(encoding), None) if encoding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked {
                left: 0,
                started: false,
            }),
            (Some(_), None) => Err(bad("the transfer encoding is not 'chunked'")),
            (None, Some(length)) if length.bytes().all(|b| b.is_ascii_digit()) => Ok(Framing::Length(
                length.parse().map_err(|_| bad("Content-Length is not a number"))?,
            )),
            (None, Some(_)) => Err(bad("Content-Length is not a number")),
            (None, None) => Ok(Framing::Length(0)),
        }
    }
}

#[derive(Debug)]
enum Framing {
    /// Bytes still to come.
    Length(u64),
    /// Bytes still to come of the present chunk.
    Chunked {
        left: u64,
        started: bool,
    },
    Ended,
}

/// A request's body.
#[derive(Debug)]
pub(crate) struct Body<'a, R> {
    input: &'a mut R,
    framing: Framing,
}

impl<'a, R: BufRead> Body<'a, R> {
    pub(crate) fn new(head: &Head, input: &'a mut R) -> io::Result<Self> {
        Ok(Self {
            framing: head.framing()?,
            input,
        })
    }

    /// The size of the next chunk; 0 after the last, whose trailers have then been read too.
    fn next_chunk(&mut self, started: bool) -> io::Result<u64> {
        let mut input = self.input.by_ref().take(MAX_HEAD);
        let broken = || bad("the body's chunks are malformed");
        if started && line(&mut input)?.as_deref() != Some("") {
            return Err(broken());
        }
        let text = line(&mut input)?.ok_or_else(broken)?;
        let digits = text.split(';').next().unwrap_or_default().trim();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(broken());
        }
        let size = u64::from_str_radix(digits, 16).map_err(|_| broken())?;
        if size == 0 {
            while !line(&mut input)?.ok_or_else(broken)?.is_empty() {}
        }
        Ok(size)
    }
}

impl<R: BufRead> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Framing::Chunked { left: 0, started } = self.framing {
            self.framing = match self.next_chunk(started)? {
                0 => Framing::Ended,
                left => Framing::Chunked { left, started: true },
            };
        }
        let left = match &mut self.framing {
            Framing::Ended | Framing::Length(0) => return Ok(0),
            Framing::Length(left) | Framing::Chunked { left, .. } => left,
        };
        let n = self.input.by_ref().take(*left).read(buffer)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body breaks off"));
        }
        *left -= n as u64;
        Ok(n)
    }
}

/// How long a reply's body is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    Known(u64),
    /// Sent in chunks, or up to the end of the connection to a client that does not take chunks.
    Unknown,
}

/// An answer whose head has been sent.
#[derive(Debug)]
pub(crate) struct Reply<'a, W> {
    output: &'a mut W,
    chunked: bool,
    /// One chunk with its frame, so that it leaves in one packet.
    frame: Vec<u8>,
}

impl<'a, W: Write> Reply<'a, W> {
    /// Sends the head at once.
    pub(crate) fn start(head: &Head, output: &'a mut W, status: u16, kind: &str, size: Size) -> io::Result<Self> {
        let chunked = matches!(size, Size::Unknown) && head.persistent;
        output.write_all(head_of(head, status, kind, size).as_bytes())?;
        Ok(Self {
            output,
            chunked,
            frame: Vec::new(),
        })
    }

    /// Sends a complete small answer in one write.
    pub(crate) fn whole(head: &Head, output: &mut W, status: u16, kind: &str, body: &str) -> io::Result<()> {
        let mut text = head_of(head, status, kind, Size::Known(body.len() as u64));
        text.push_str(body);
        output.write_all(text.as_bytes())
    }

    /// Sends a piece of the body.
    pub(crate) fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        if !self.chunked {
            return self.output.write_all(piece);
        }
        if piece.is_empty() {
            return Ok(());
        }
        self.frame.clear();
        write!(self.frame, "{:x}\r\n", piece.len())?;
        self.frame.extend_from_slice(piece);
        self.frame.extend_from_slice(b"\r\n");
        self.output.write_all(&self.frame)
    }

    /// Ends the body.
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.chunked {
            self.output.write_all(b"0\r\n\r\n")
        } else {
            Ok(())
        }
    }
}

fn head_of(head: &Head, status: u16, kind: &str, size: Size) -> String {
    let reason = if status < 400 { "OK" } else { "Error" };
    let length = match size {
        Size::Known(length) => format!("Content-Length: {length}\r\n"),
        Size::Unknown if head.persistent => "Transfer-Encoding: chunked\r\n".to_owned(),
        Size::Unknown => String::new(),
    };
    let close = if head.persistent { "" } else { "Connection: close\r\n" };
    format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\n{length}{close}\r\n")
}

/// The next line without its end; `None` at the end of the input.
fn line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if input.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.pop() != Some(b'\n') {
        return Err(bad("a line breaks off or is too long"));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| bad("a header is not UTF-8"))
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn body_of(request: &str) -> io::Result<(String, String)> {
        let mut input = Cursor::new(request.as_bytes());
        let head = Head::read(&mut input)?.unwrap();
        let mut text = String::new();
        Body::new(&head, &mut input)?.read_to_string(&mut text)?;
        let mut rest = String::new();
        input.read_to_string(&mut rest)?;
        Ok((text, rest))
    }

    #[test]
    fn bodies_end_where_they_should() {
        for (head, body, want) in [
            ("Content-Length: 5", "helloNEXT", "hello"),
            ("content-length: 0", "NEXT", ""),
            ("X: y", "NEXT", ""),
            (
                "Transfer-Encoding: Chunked",
                "5\r\nhello\r\n1;ext=1\r\n!\r\n0\r\nTrailer: x\r\n\r\nNEXT",
                "hello!",
            ),
            ("Transfer-Encoding: chunked", "0\r\n\r\nNEXT", ""),
        ] {
            let request = format!("POST /invocations?x=1 HTTP/1.1\r\n{head}\r\n\r\n{body}");
            assert_eq!(
                body_of(&request).unwrap(),
                (want.to_owned(), "NEXT".to_owned()),
                "{head}"
            );
        }
    }

    #[test]
    fn malformed_requests_are_refused() {
        for (head, body) in [
            ("Content-Length: 5", "hell"),
            ("Content-Length: 5\r\nContent-Length: 6", "hello!"),
            ("Content-Length: +5", "hello"),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            ("Transfer-Encoding: gzip", ""),
            ("Transfer-Encoding: chunked", "5\r\nhello!0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "+5\r\nhello\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "5\r\nhel"),
            ("no colon", ""),
        ] {
            let result = body_of(&format!("POST / HTTP/1.1\r\n{head}\r\n\r\n{body}"));
            assert!(result.is_err(), "{head}: {result:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        for request in ["GET /\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET / HTTP/1.1\r\nX: y", &long] {
            assert!(Head::read(&mut Cursor::new(request)).is_err(), "{request:.40}");
        }
        assert!(Head::read(&mut Cursor::new("")).unwrap().is_none());
    }

    #[test]
    fn replies_are_framed_as_the_client_understands() {
        for (version, want) in [
            (
                "HTTP/1.1",
                "HTTP/1.1 200 OK\r\nContent-Type: t/t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            ),
            (
                "HTTP/1.0",
                "HTTP/1.1 200 OK\r\nContent-Type: t/t\r\nConnection: close\r\n\r\nabc",
            ),
        ] {
            let head = Head::read(&mut Cursor::new(format!("GET / {version}\r\n\r\n")))
                .unwrap()
                .unwrap();
            let mut out = Vec::new();
            let mut reply = Reply::start(&head, &mut out, 200, "t/t", Size::Unknown).unwrap();
            for piece in ["ab", "", "c"] {
                reply.send(piece.as_bytes()).unwrap();
            }
            reply.finish().unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
