//! Whatever the SDK for Rust signs is believed; the same request with anything changed is not.

use super::{Refusal, key, verifier, verify};
use crate::auth::Verifier;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Method, Uri};
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SECONDS: u64 = 1_795_341_600;

#[derive(Debug, Clone)]
struct Sent {
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    token: Option<String>,
    declares_payload: bool,
    normalises: bool,
}

impl Sent {
    fn uri(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.path)
    }

    /// The request as it arrives, signed by the SDK's signer.
    fn signed(&self) -> Parts {
        let mut request = http::Request::builder().method(self.method.clone()).uri(self.uri());
        request = request.header("host", &self.host);
        for (name, value) in &self.headers {
            // On the wire, blanks around a value are lost.
            request = request.header(name, value.trim());
        }
        let mut request = request.body(()).unwrap();

        let token = self.token.clone();
        let identity = Credentials::new("AKIDEXAMPLE", SECRET, token, None, "test").into();
        let mut settings = SigningSettings::default();
        if self.declares_payload {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        settings.uri_path_normalization_mode = UriPathNormalizationMode::from(self.normalises);
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-west-2")
            .name("bedrock-agentcore")
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let uri = format!("http://{}{}", self.host, self.uri());
        let signable =
            SignableRequest::new(self.method.as_str(), uri, headers, SignableBody::Bytes(&self.body)).unwrap();
        sign(signable, &parameters)
            .unwrap()
            .into_parts()
            .0
            .apply_to_request_http1x(&mut request);
        request.into_parts().0
    }

    fn verifier(&self) -> Verifier {
        let own = key("AKIDEXAMPLE", SECRET, self.token.as_deref());
        verifier(own, "us-west-2", "bedrock-agentcore", "2026-11-22T10:00:00Z")
    }
}

fn text(pieces: &'static [&'static str], length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(pieces), length).prop_map(|pieces| pieces.concat())
}

fn path() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "/", "//", "/./", "/../", ".", "..", "a", "Z", "0", "-", "_", "~", ":", "@", "!", "$", "&", "'", "(", ")", "*",
        "+", ",", ";", "=", "%3A", "%2F", "%2f", "%25", "%20", "%41", "%c3%a9", "%", "%zz", "ሴ", "\"", "{", "}", "|",
    ];
    text(PIECES, 0..20).prop_map(|tail| format!("/{tail}"))
}

/// Without escapes that are not UTF-8: this signer replaces them, so that what it signs does not say what was sent.
fn query() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "=",
        "&",
        "+",
        "a",
        "b",
        "B",
        "1",
        "-",
        "_",
        ".",
        "~",
        "/",
        ":",
        "@",
        "?",
        "!",
        "$",
        "'",
        "(",
        ")",
        "*",
        ",",
        ";",
        "%3A",
        "%3a",
        "%2B",
        "%26",
        "%3D",
        "%20",
        "%41",
        "%c3%a9",
        "%-",
        "%zz",
        "%4",
        "é",
        "qualifier=DEFAULT",
    ];
    text(PIECES, 0..20)
}

fn header() -> impl Strategy<Value = (String, String)> {
    let names = prop::sample::select(vec![
        "x-one",
        "X-Two",
        "x-one-more",
        "Content-Type",
        "x-amz-meta",
        "accept",
    ]);
    let inner = prop_oneof![Just(String::new()), "[ -~]{0,20}", "[!-~][ -~\t]{0,20}[!-~]"];
    (names, inner).prop_map(|(name, value)| (name.to_owned(), value))
}

fn sent() -> impl Strategy<Value = Sent> {
    let methods = vec![
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::HEAD,
    ];
    let hosts = vec!["localhost", "127.0.0.1:8780", "[::1]:8780", "agents.example.org:443"];
    let what = (
        prop::sample::select(methods),
        prop::sample::select(hosts),
        path(),
        proptest::option::of(query()),
    );
    let more = (
        proptest::collection::vec(header(), 0..6),
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::option::of("[A-Za-z0-9+/=]{1,40}"),
        any::<bool>(),
        any::<bool>(),
    );
    (what, more).prop_map(
        |((method, host, path, query), (headers, body, token, declares_payload, normalises))| Sent {
            method,
            host: host.to_owned(),
            path,
            query,
            headers,
            body,
            token,
            declares_payload,
            normalises,
        },
    )
}

/// Puts an `x` into a text; it then means another thing, whatever it was.
fn with_x(text: &str, at: prop::sample::Index) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    chars.insert(at.index(chars.len() + 1), 'x');
    chars.into_iter().collect()
}

proptest! {
    #[test]
    fn what_the_sdk_signs_is_believed(sent in sent()) {
        let parts = sent.signed();
        let caller = verify(&sent.verifier(), &parts, &sent.body);
        prop_assert!(caller.is_ok(), "{:?} {:?}", caller, parts);
    }

    #[test]
    fn any_single_change_is_refused(sent in sent(), at in any::<prop::sample::Index>(), digit in 0_usize..64) {
        let good = sent.signed();
        let check = |what: &str, changed: &Parts, body: &[u8]| {
            let answer = verify(&sent.verifier(), changed, body);
            prop_assert!(answer.is_err(), "{}: {:?} was {:?}", what, changed, good);
            Ok(())
        };
        let change = |what: &str, edit: &dyn Fn(&mut Parts)| {
            let mut changed = good.clone();
            edit(&mut changed);
            check(what, &changed, &sent.body)
        };

        change("method", &|parts| parts.method = Method::OPTIONS)?;
        // What precedes `..` is no part of the path.
        if !sent.path.contains("..") {
            let path = format!("/{}", with_x(&sent.path[1..], at));
            let uri: Uri = Sent { path, ..sent.clone() }.uri().parse().unwrap();
            change("path", &|parts| parts.uri = uri.clone())?;
        }
        let query = sent.query.as_ref().map_or_else(|| "x".to_owned(), |query| with_x(query, at));
        let uri: Uri = Sent { query: Some(query), ..sent.clone() }.uri().parse().unwrap();
        change("query", &|parts| parts.uri = uri.clone())?;

        for name in good.headers.keys() {
            if name == "authorization" {
                continue;
            }
            change("header gone", &|parts| drop(parts.headers.remove(name)))?;
            // Of several hosts any may be the signed one; that is tested with botocore's requests.
            if name != "host" {
                change("header twice", &|parts| {
                    parts.headers.append(name, HeaderValue::from_static("x"));
                })?;
            }
            change("header's value", &|parts| {
                let value = [parts.headers[name].as_bytes(), b"x"].concat();
                // Replaces all values by one.
                parts.headers.insert(name, HeaderValue::from_bytes(&value).unwrap());
            })?;
        }
        change("header added", &|parts| {
            parts.headers.insert(HeaderName::from_static("x-amz-new"), HeaderValue::from_static(""));
        })?;
        let values: Vec<_> = good.headers.get_all("x-one").iter().cloned().collect();
        // What is signed is one text of all values, in which some orders look alike: `,` before nothing, for one.
        let joined = |values: &[&HeaderValue]| {
            let folded = values.iter().map(|value| {
                let words = value.as_bytes().split(|byte| byte.is_ascii_whitespace());
                words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(&b' ')
            });
            folded.collect::<Vec<_>>().join(&b',')
        };
        let (ahead, back): (Vec<_>, Vec<_>) = (values.iter().collect(), values.iter().rev().collect());
        if joined(&ahead) != joined(&back) {
            change("values' order", &|parts| {
                parts.headers.remove("x-one");
                for value in values.iter().rev() {
                    parts.headers.append("x-one", value.clone());
                }
            })?;
        }
        check("body", &good, &[sent.body.as_slice(), b"x"].concat())?;
        change("date", &|parts| drop(parts.headers.insert("x-amz-date", HeaderValue::from_static("20261122T100001Z"))))?;
        change("signature", &|parts| {
            let mut header = parts.headers["authorization"].as_bytes().to_vec();
            let at = header.len() - 64 + digit;
            header[at] = if header[at] == b'0' { b'1' } else { b'0' };
            parts.headers.insert("authorization", HeaderValue::from_bytes(&header).unwrap());
        })?;
        let mut other = key("AKIDEXAMPLE", SECRET, sent.token.as_deref());
        other.secret.push('x');
        let other = verifier(other, "us-west-2", "bedrock-agentcore", "2026-11-22T10:00:00Z");
        prop_assert_eq!(verify(&other, &good, &sent.body), Err(Refusal::SignatureDoesNotMatch));
    }
}
