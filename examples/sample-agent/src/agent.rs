//! What the agent does with a request.
//!
//! | body of `POST /invocations` | answer |
//! |---|---|
//! | `{"prompt": "…"}` | `{"answer", "session", "turn"}`; turns are counted by this process, so by its session |
//! | `{"stream": true, "chunks": n, "delay_ms": d}` | `text/event-stream`, one event for each chunk, with or without a prompt |
//! | `{"bytes": n, "chunked": bool}` | n bytes, the one at offset i being `i % 251` |
//! | `{"echo": value}` | that value |
//! | `{"busy": bool}` | from now on `/ping` says `HealthyBusy`, or `Healthy` again |
//! | `{"env": true}` | environment, headers and working directory as seen from inside |
//! | `{"status": n}` | an answer with that status |
//! | `{"crash": true}` | none: the process aborts |
//! | `application/octet-stream` | `{"received": n, "checksum"}` (FNV-1a, 64 bits) |
//! | `text/plain` | the same bytes, sent back while they come in |
//!
//! `"sleep_ms": n` beside any of the JSON members delays the answer.

use crate::http::{Body, Head, Reply, Size};
use crate::json::Value;
use crate::say;
use std::io::{self, BufReader, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const JSON: &str = "application/json";
const SESSION: &str = "x-amzn-bedrock-agentcore-runtime-session-id";

/// A JSON document is read into memory, so it has a limit; uploads of other types have none.
const MAX_JSON: u64 = 8 << 20;

/// Bytes moved at a time; a multiple of [`PATTERN`].
const PIECE: usize = 256 * PATTERN;
const PATTERN: usize = 251;

/// What the process remembers: one session's state, since every session has a process of its own.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    turns: AtomicU64,
    busy: AtomicBool,
    /// Answers that broke off because the caller went away.
    broken: AtomicU64,
}

impl Agent {
    /// Answers the requests of a connection until the client closes it.
    pub(crate) fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        // Events of a stream are small and must leave when they are written.
        stream.set_nodelay(true)?;
        let mut input = BufReader::with_capacity(PIECE, stream);
        let mut output = stream;
        loop {
            let head = match Head::read(&mut input) {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                Err(error) => return refuse(&mut output, error),
            };
            let mut body = match Body::new(&head, &mut input) {
                Ok(body) => body,
                Err(error) => return refuse(&mut output, error),
            };
            if head
                .header("expect")
                .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
            {
                io::Write::write_all(&mut output, b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let answered = self.answer(&head, &mut body, &mut output);
            if answered.is_err() {
                self.broken.fetch_add(1, Ordering::Relaxed);
            }
            answered?;
            // What the answer did not need must be read all the same: the next request stands behind it.
            io::copy(&mut body, &mut io::sink())?;
            if !head.persistent {
                return Ok(());
            }
        }
    }

    fn answer(&self, head: &Head, body: &mut impl Read, output: &mut &TcpStream) -> io::Result<()> {
        match (head.method.as_str(), head.path.as_str()) {
            ("GET", "/ping") => {
                let status = if self.busy.load(Ordering::Relaxed) {
                    "HealthyBusy"
                } else {
                    "Healthy"
                };
                send(head, output, 200, &Value::object([("status", status.into())]))
            }
            ("POST", "/invocations") => {
                let kind = head
                    .header("content-type")
                    .unwrap_or(JSON)
                    .split(';')
                    .next()
                    .unwrap_or(JSON)
                    .trim();
                match kind {
                    "application/octet-stream" => receive(head, body, output),
                    "text/plain" => echo(head, body, output),
                    _ => self.invoke(head, body, output),
                }
            }
            (_, "/ping" | "/invocations") => {
                fail(head, output, 405, "GET /ping and POST /invocations are all there is")
            }
            _ => fail(
                head,
                output,
                404,
                "there is no such path; try GET /ping or POST /invocations",
            ),
        }
    }

    fn invoke(&self, head: &Head, body: &mut impl Read, output: &mut &TcpStream) -> io::Result<()> {
        let mut text = Vec::new();
        body.take(MAX_JSON + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_JSON {
            return fail(
                head,
                output,
                413,
                "a JSON document may have 8 MiB; send more as application/octet-stream",
            );
        }
        let ask = match String::from_utf8(text)
            .map_err(|e| e.to_string())
            .and_then(|text| Value::parse(&text))
        {
            Ok(ask) => ask,
            Err(why) => return fail(head, output, 400, &format!("the body is not JSON: {why}")),
        };
        if let Some(delay) = ask.whole("sleep_ms") {
            thread::sleep(Duration::from_millis(delay));
        }
        if ask.is_true("stream") {
            let (chunks, delay) = (ask.whole("chunks").unwrap_or(5), ask.whole("delay_ms").unwrap_or(0));
            stream(head, output, chunks, delay)
        } else if let Some(Value::Text(prompt)) = ask.get("prompt") {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
            let answer = format!("You said: {prompt}");
            let session = head.header(SESSION).unwrap_or_default();
            let reply = Value::object([
                ("answer", answer.as_str().into()),
                ("session", session.into()),
                ("turn", turn.into()),
            ]);
            send(head, output, 200, &reply)
        } else if let Some(count) = ask.whole("bytes") {
            bytes(head, output, count, ask.is_true("chunked"))
        } else if let Some(value) = ask.get("echo") {
            send(head, output, 200, value)
        } else if let Some(Value::Bool(busy)) = ask.get("busy") {
            self.busy.store(*busy, Ordering::Relaxed);
            send(head, output, 200, &Value::object([("busy", Value::Bool(*busy))]))
        } else if ask.is_true("env") {
            send(head, output, 200, &self.surroundings(head))
        } else if let Some(status) = ask
            .whole("status")
            .and_then(|s| u16::try_from(s).ok())
            .filter(|s| (200..600).contains(s))
        {
            fail(head, output, status, "failing as asked")
        } else if ask.is_true("crash") {
            say("crashing as asked");
            std::process::abort()
        } else if ask.whole("sleep_ms").is_some() {
            send(head, output, 200, &Value::object([("slept", Value::Bool(true))]))
        } else {
            fail(head, output, 400, "send {\"prompt\": \"…\"}")
        }
    }

    fn surroundings(&self, head: &Head) -> Value {
        let text = |os: std::ffi::OsString| Value::Text(os.to_string_lossy().into_owned());
        let env = std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), text(value)));
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()));
        let directory = std::env::current_dir().map_or(Value::Null, |dir| text(dir.into()));
        Value::object([
            ("env", Value::Object(env.collect())),
            ("headers", Value::Object(headers.collect())),
            ("directory", directory),
            ("arguments", Value::List(std::env::args_os().map(text).collect())),
            ("pid", u64::from(std::process::id()).into()),
            ("broken_answers", self.broken.load(Ordering::Relaxed).into()),
        ])
    }
}

/// Server-sent events, each sent when it is due.
fn stream(head: &Head, output: &mut &TcpStream, chunks: u64, delay: u64) -> io::Result<()> {
    let mut reply = Reply::start(head, output, 200, "text/event-stream", Size::Unknown)?;
    for chunk in 1..=chunks {
        if delay > 0 && chunk > 1 {
            thread::sleep(Duration::from_millis(delay));
        }
        reply.send(format!("data: {{\"chunk\":{chunk},\"of\":{chunks}}}\n\n").as_bytes())?;
    }
    reply.finish()
}

fn bytes(head: &Head, output: &mut &TcpStream, count: u64, chunked: bool) -> io::Result<()> {
    let size = if chunked { Size::Unknown } else { Size::Known(count) };
    let mut reply = Reply::start(head, output, 200, "application/octet-stream", size)?;
    let piece: Vec<u8> = (0..PIECE).map(|i| u8::try_from(i % PATTERN).unwrap_or(0)).collect();
    let mut left = count;
    while left > 0 {
        let now = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        reply.send(&piece[..now])?;
        left -= now as u64;
    }
    reply.finish()
}

fn receive(head: &Head, body: &mut impl Read, output: &mut &TcpStream) -> io::Result<()> {
    let mut checksum: u64 = 0xcbf2_9ce4_8422_2325;
    let mut received: u64 = 0;
    let mut buffer = vec![0; PIECE];
    loop {
        let n = body.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        received += n as u64;
        for byte in &buffer[..n] {
            checksum = (checksum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    let checksum = format!("{checksum:016x}");
    send(
        head,
        output,
        200,
        &Value::object([("received", received.into()), ("checksum", checksum.as_str().into())]),
    )
}

fn echo(head: &Head, body: &mut impl Read, output: &mut &TcpStream) -> io::Result<()> {
    let size = head
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .map_or(Size::Unknown, Size::Known);
    let mut reply = Reply::start(head, output, 200, "text/plain", size)?;
    let mut buffer = vec![0; PIECE];
    loop {
        match body.read(&mut buffer)? {
            0 => return reply.finish(),
            n => reply.send(&buffer[..n])?,
        }
    }
}

fn send(head: &Head, output: &mut &TcpStream, status: u16, value: &Value) -> io::Result<()> {
    Reply::whole(head, output, status, JSON, &value.to_string())
}

fn fail(head: &Head, output: &mut &TcpStream, status: u16, why: &str) -> io::Result<()> {
    send(head, output, status, &Value::object([("error", why.into())]))
}

/// The last answer on a connection on which no request can be told from the next.
fn refuse(output: &mut &TcpStream, error: io::Error) -> io::Result<()> {
    if error.kind() != io::ErrorKind::InvalidData {
        return Err(error);
    }
    let head = Head {
        method: String::new(),
        path: String::new(),
        headers: Vec::new(),
        persistent: false,
    };
    fail(&head, output, 400, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::Arc;

    /// Sends raw requests over one connection and reads until the agent closes it.
    fn exchange(agent: &Arc<Agent>, requests: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let agent = Arc::clone(agent);
        let thread = thread::spawn(move || agent.serve(&server));
        client.write_all(requests).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        thread.join().unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn post(kind: &str, body: &str) -> String {
        format!(
            "POST /invocations HTTP/1.1\r\nX-Amzn-Bedrock-AgentCore-Runtime-Session-Id: s1\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn turns_are_counted_over_one_kept_connection() {
        let requests = [post(JSON, r#"{"prompt":"a"}"#), post(JSON, r#"{"prompt":"b"}"#)].concat();
        let answer = exchange(&Arc::default(), requests.as_bytes());
        let want = |prompt, turn| format!(r#"{{"answer":"You said: {prompt}","session":"s1","turn":{turn}}}"#);
        assert!(
            answer.contains(&want('a', 1)) && answer.contains(&want('b', 2)),
            "{answer}"
        );
    }

    #[test]
    fn every_kind_of_request_is_answered_as_the_table_says() {
        let agent: Arc<Agent> = Arc::default();
        for (request, wants) in [
            (
                "GET /ping HTTP/1.1\r\n\r\n".to_owned(),
                &["200 OK", r#"{"status":"Healthy"}"#][..],
            ),
            (post(JSON, r#"{"busy":true}"#), &[r#"{"busy":true}"#]),
            (
                "GET /ping HTTP/1.1\r\n\r\n".to_owned(),
                &[r#"{"status":"HealthyBusy"}"#],
            ),
            (
                post(JSON, r#"{"stream":true,"chunks":2}"#),
                &["text/event-stream", "data: {\"chunk\":1,\"of\":2}\n\n", "\r\n0\r\n\r\n"],
            ),
            (
                post(JSON, r#"{"prompt":"x","stream":true,"chunks":1}"#),
                &["data: {\"chunk\":1,\"of\":1}\n\n"],
            ),
            (post(JSON, r#"{"bytes":3}"#), &["Content-Length: 3\r\n\r\n\0\u{1}\u{2}"]),
            (
                post(JSON, r#"{"bytes":3,"chunked":true}"#),
                &["chunked\r\n\r\n3\r\n\0\u{1}\u{2}\r\n0\r\n\r\n"],
            ),
            (post(JSON, r#"{"echo":[1,{"a":"b"}]}"#), &["\r\n\r\n[1,{\"a\":\"b\"}]"]),
            (
                post(JSON, r#"{"env":true}"#),
                &[r#""x-amzn-bedrock-agentcore-runtime-session-id":"s1""#, r#""PATH":"#],
            ),
            (
                post(JSON, r#"{"status":503}"#),
                &["HTTP/1.1 503 Error", "failing as asked"],
            ),
            (post(JSON, r#"{"sleep_ms":1}"#), &[r#"{"slept":true}"#]),
            (post(JSON, "{"), &["HTTP/1.1 400", "not JSON"]),
            (post(JSON, "{}"), &["HTTP/1.1 400"]),
            (
                post("application/octet-stream", "foobar"),
                &[r#"{"checksum":"85944171f73967e8","received":6}"#],
            ),
            (
                post("text/plain; charset=utf-8", "back"),
                &["text/plain", "\r\n\r\nback"],
            ),
            ("GET /invocations HTTP/1.1\r\n\r\n".to_owned(), &["HTTP/1.1 405"]),
            ("GET /other HTTP/1.1\r\n\r\n".to_owned(), &["HTTP/1.1 404"]),
            ("nonsense\r\n\r\n".to_owned(), &["HTTP/1.1 400", "Connection: close"]),
            (
                "POST /x HTTP/1.1\r\nContent-Length: 4\r\n\r\nrestGET /ping HTTP/1.1\r\n\r\n".to_owned(),
                &["404", "HealthyBusy"],
            ),
        ] {
            let answer = exchange(&agent, request.as_bytes());
            for want in wants {
                assert!(answer.contains(want), "{request}\n--\n{answer}\n-- lacks {want:?}");
            }
        }
    }

    #[test]
    fn large_bodies_pass_in_pieces() {
        let count = 3 * PIECE + 7;
        let answer = exchange(
            &Arc::default(),
            post(JSON, &format!("{{\"bytes\":{count}}}")).as_bytes(),
        );
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body.chars().count(), count);
        let upload = post("application/octet-stream", &"x".repeat(count));
        let answer = exchange(&Arc::default(), upload.as_bytes());
        assert!(answer.contains(&format!("\"received\":{count}")), "{answer}");
    }
}
