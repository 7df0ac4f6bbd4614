//! Requests as bytes, ready before the clock starts: for the agent as the platform sends them, for Eyot as boto3 does.

use anyhow::Context as _;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use jiff::Timestamp;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::SystemTime;
use uuid::Uuid;

/// Both planes are signed for this name.
const SERVICE: &str = "bedrock-agentcore";
const SESSION: &str = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id";
pub(crate) const JSON: &str = "application/json";

/// How a request reaches the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Straight to the agent.
    Direct,
    /// Through Eyot, signed as boto3 signs: the server must hash the body to know whether the signature is right.
    Boto,
    /// Through Eyot with a signed `x-amz-content-sha256`, as many other SDKs do.
    Declared,
}

impl Way {
    pub(crate) const ALL: &[Self] = &[Self::Direct, Self::Boto, Self::Declared];

    /// How a table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Boto => "Eyot, signed as boto3 does",
            Self::Declared => "Eyot, body hash in a signed header",
        }
    }
}

/// What the server says that a client needs.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) address: SocketAddr,
    pub(crate) region: String,
    pub(crate) key_id: String,
    pub(crate) secret: String,
    /// The agent's ARN.
    pub(crate) arn: String,
}

/// The head of a request straight to the agent.
pub(crate) fn direct(address: SocketAddr, session: &str, kind: &str, size: usize) -> Vec<u8> {
    format!(
        "POST /invocations HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nAccept: */*\r\n{SESSION}: {session}\r\n\
         Content-Length: {size}\r\n\r\n"
    )
    .into_bytes()
}

impl Account {
    /// The head of an invocation, signed now.
    pub(crate) fn invocation(&self, way: Way, session: &str, kind: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.signed(way, "invocations", session, kind, body)
    }

    /// A whole StopRuntimeSession, signed now.
    pub(crate) fn stop(&self, session: &str) -> anyhow::Result<Vec<u8>> {
        let body = b"{}";
        let mut request = self.signed(Way::Boto, "stopruntimesession", session, JSON, body)?;
        request.extend_from_slice(body);
        Ok(request)
    }

    fn signed(&self, way: Way, call: &str, session: &str, kind: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let identity = Credentials::new(&self.key_id, &self.secret, None, None, "eyot-bench").into();
        let mut settings = SigningSettings::default();
        if way == Way::Declared {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(SystemTime::from(Timestamp::now()))
            .settings(settings)
            .build()?
            .into();
        let host = self.address.to_string();
        let target = format!("/runtimes/{}/{call}", encode(&self.arn));
        let url = format!("http://{host}{target}");
        let headers = [("host", host.as_str()), ("content-type", kind), (SESSION, session)];
        let signable = SignableRequest::new("POST", &url, headers.into_iter(), SignableBody::Bytes(body))?;
        let (instructions, _) = sign(signable, &parameters).context("signing a request")?.into_parts();

        let mut head = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\nContent-Type: {kind}\r\n\
             {SESSION}: {session}\r\n\
             User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11.2 cfg/retry-mode#legacy\r\n"
        );
        for (name, value) in instructions.headers() {
            write!(head, "{name}: {value}\r\n")?;
        }
        write!(
            head,
            "amz-sdk-invocation-id: {}\r\namz-sdk-request: attempt=1\r\nContent-Length: {}\r\n\r\n",
            Uuid::new_v4(),
            body.len()
        )?;
        Ok(head.into_bytes())
    }
}

/// An ARN as one segment of a path.
fn encode(arn: &str) -> String {
    arn.replace(':', "%3A").replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_declared_way_says_the_hash() {
        let account = Account {
            address: "127.0.0.1:1".parse().unwrap(),
            region: "us-west-2".into(),
            key_id: "AKIA".into(),
            secret: "secret".into(),
            arn: "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a".into(),
        };
        for (way, says) in [(Way::Boto, false), (Way::Declared, true)] {
            let head = String::from_utf8(account.invocation(way, "s", JSON, b"{}").unwrap()).unwrap();
            assert_eq!(head.contains("x-amz-content-sha256: 44136fa355b3678a"), says, "{head}");
            assert!(head.starts_with("POST /runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fa/invocations HTTP/1.1\r\n"), "{head}");
            assert!(head.ends_with("Content-Length: 2\r\n\r\n"), "{head}");
        }
    }
}
