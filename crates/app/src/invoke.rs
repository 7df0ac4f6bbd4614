//! `eyot invoke`: one call of an agent, its answer printed as it arrives.
//!
//! Standard output gets the answer and nothing else; the session id goes to standard error, to be used again.

use crate::client::{Answer, Call, Client, Connection, Payload, Plane, encode};
use anyhow::{Context, bail};
use bytes::Bytes;
use domain::arn::ResourceArn;
use domain::id::SessionId;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::io::{IsTerminal, Write};
use std::time::Duration;

const SESSION: &str = "x-amzn-bedrock-agentcore-runtime-session-id";

/// An agent may take 15 minutes before it begins to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(16 * 60);

/// Arguments of `eyot invoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id or ARN of the runtime.
    runtime: String,
    /// What to send: the text itself, @FILE for a file's content, or - for standard input.
    payload: String,
    /// Session to use, 33 to 256 characters; the same id reaches the same sandbox [default: a new one].
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Endpoint of the runtime [default: DEFAULT].
    #[arg(long, value_name = "ENDPOINT")]
    qualifier: Option<String>,
    /// Type of what is sent.
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    content_type: String,
}

/// What an invocation needs.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) arn: String,
    pub(crate) qualifier: Option<String>,
    pub(crate) session: SessionId,
    pub(crate) content_type: HeaderValue,
    pub(crate) payload: Payload,
}

impl Invocation {
    /// A JSON document for the DEFAULT endpoint.
    pub(crate) fn json(arn: &str, session: &SessionId, document: &serde_json::Value) -> Self {
        Self {
            arn: arn.to_owned(),
            qualifier: None,
            session: session.clone(),
            content_type: HeaderValue::from_static("application/json"),
            payload: Payload::Memory(document.to_string().into()),
        }
    }

    /// Invokes; the answer's body is still coming.
    pub(crate) async fn send(self, client: &Client) -> Result<Answer, crate::client::Error> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, self.content_type);
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream, */*"),
        );
        let session = HeaderValue::from_str(self.session.as_str()).expect("a session id is visible ASCII");
        headers.insert(HeaderName::from_static(SESSION), session);
        let qualifier = self
            .qualifier
            .map(|q| format!("?qualifier={}", encode(&q)))
            .unwrap_or_default();
        let call = Call {
            plane: Plane::Data,
            method: Method::POST,
            target: format!("/runtimes/{}/invocations{qualifier}", encode(&self.arn)),
            headers,
            payload: self.payload,
            deadline: ANSWER_DEADLINE,
        };
        client.send(call).await
    }
}

/// Invokes and prints.
pub(crate) async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let session = match &args.session {
        Some(id) => SessionId::parse(id).context("--session")?,
        None => SessionId::generate(),
    };
    let content_type = HeaderValue::from_str(&args.content_type).context("--content-type")?;
    let payload = tokio::task::spawn_blocking(move || payload(&args.payload)).await??;
    let client = Client::new(connection);
    let (arn, of_arn) = find(&client, &args.runtime).await?;
    let invocation = Invocation {
        arn,
        qualifier: args.qualifier.or(of_arn),
        session,
        content_type,
        payload,
    };
    let asked = invocation.session.clone();
    let answer = match invocation.send(&client).await {
        Ok(answer) => answer,
        Err(error) => {
            // The session may have been started all the same.
            note(asked.as_str());
            return Err(error.into());
        }
    };
    note(match answer.header(SESSION) {
        "" => asked.as_str(),
        id => id,
    });
    print(answer).await
}

/// The ARN of a runtime that is named in any way, and the endpoint if the ARN names one.
async fn find(client: &Client, runtime: &str) -> anyhow::Result<(String, Option<String>)> {
    if runtime.starts_with("arn:") {
        return Ok(match ResourceArn::parse(runtime)? {
            ResourceArn::Runtime(arn) => (arn.to_string(), None),
            ResourceArn::Endpoint(arn) => (arn.runtime.to_string(), Some(String::from(arn.endpoint))),
        });
    }
    let all = client.runtimes().await?;
    if let Some(found) = all.iter().find(|found| found.name == runtime || found.id == runtime) {
        return Ok((found.arn.clone(), None));
    }
    let names: Vec<&str> = all.iter().map(|found| found.name.as_str()).take(20).collect();
    let there = if names.is_empty() {
        "there are none; `eyot deploy` makes one".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    bail!("there is no runtime {runtime}; {there}")
}

fn payload(text: &str) -> anyhow::Result<Payload> {
    if let Some(path) = text.strip_prefix('@') {
        let context = || format!("cannot read the payload from {path}");
        let file = std::fs::File::open(path).with_context(context)?;
        return Payload::from_file(file).with_context(context);
    }
    if text == "-" {
        // The signature covers the digest, so everything must be there before the first byte is sent.
        let context = "cannot read the payload from standard input";
        let mut file = tempfile::tempfile().context("cannot make a temporary file for the payload")?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file).context(context)?;
        return Payload::from_file(file).context(context);
    }
    Ok(Payload::Memory(Bytes::from(text.to_owned())))
}

/// JSON for a person is indented; everything else goes out byte by byte as it came.
async fn print(mut answer: Answer) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let is_json = answer.header("content-type").starts_with("application/json");
    if is_json && terminal {
        let bytes = answer.bytes().await?;
        let document = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let pretty = document.and_then(|document| serde_json::to_vec_pretty(&document).ok());
        write(&pretty.unwrap_or(bytes))?;
        return write(b"\n").map(|_| ());
    }
    let mut last = b'\n';
    while let Some(piece) = answer.piece().await? {
        last = piece.last().copied().unwrap_or(last);
        if write(&piece)? == Reader::Gone {
            return Ok(());
        }
    }
    if last != b'\n' && (terminal || is_json) {
        write(b"\n")?;
    }
    Ok(())
}

/// Whether anybody still reads the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    There,
    Gone,
}

/// Written and flushed at once: the next piece may be minutes away.
fn write(bytes: &[u8]) -> anyhow::Result<Reader> {
    let mut output = std::io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(e) => Err(e).context("cannot write the answer"),
    }
}

#[expect(clippy::print_stderr, reason = "beside the answer, for a person")]
fn note(session: &str) {
    eprintln!("session {session}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_from_the_argument_or_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        let inline = payload("{}").unwrap().digest();
        assert_eq!(
            payload(&format!("@{}", file.path().display())).unwrap().digest(),
            inline
        );
        let error = format!("{:#}", payload("@/no/such/file").unwrap_err());
        assert!(error.contains("/no/such/file"), "{error}");
    }
}
