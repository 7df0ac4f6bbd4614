//! AssumeRole at AWS: one signed POST of STS's query API.

use super::config::Role;
use super::{Keys, Temporary};
use crate::artifacts::Secret;
use crate::outbound::{Address, CHECK};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// The whole of one call.
const WHOLE: Duration = Duration::from_secs(15);
/// The longest answer that is read.
const ANSWER: usize = 64 * 1024;
const DURATION: RangeInclusive<u32> = 900..=43_200;
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// What is encoded in a form.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A role at AWS and where to assume it.
#[derive(Debug)]
pub(super) struct Assume {
    role: String,
    external_id: Option<String>,
    duration: u32,
    region: String,
    address: Address,
}

impl Assume {
    /// What a role's configuration says of it, if it says anything; the error says which setting is wrong.
    pub(super) fn of(role: &Role) -> Result<Option<Self>, String> {
        let Some(assumed) = &role.assume_role else {
            let alone = [
                ("external_id", role.external_id.is_some()),
                ("endpoint", role.endpoint.is_some()),
                ("ca_file", role.ca_file.is_some()),
            ];
            return match alone.iter().find(|(_, set)| *set) {
                Some((key, _)) => Err(format!("`{key}` is of no use without `assume_role`")),
                None => Ok(None),
            };
        };
        if !assumed.starts_with("arn:") {
            return Err("`assume_role` must be the ARN of a role at AWS".to_owned());
        }
        if !DURATION.contains(&role.duration_seconds) {
            return Err("`duration_seconds` must be from 900 to 43200".to_owned());
        }
        let ours = format!("https://sts.{}.amazonaws.com", role.region);
        let endpoint = role.endpoint.as_deref().unwrap_or(&ours);
        Ok(Some(Self {
            role: assumed.clone(),
            external_id: role.external_id.clone(),
            duration: role.duration_seconds,
            region: role.region.clone(),
            address: Address::new(endpoint, role.ca_file.as_deref())?,
        }))
    }

    /// Assumes the role; the error says why not, and no secret.
    pub(super) async fn call(&self, keys: &Keys, session_name: &str, now: Timestamp) -> Result<Temporary, String> {
        let calling = async {
            let request = self.request(keys, session_name, now)?;
            let mut connection = self.address.open(self.address.host()).await?;
            let answer = connection.send(request).await;
            let answer = answer.map_err(|e| format!("no answer of AssumeRole: {e}; {CHECK}"))?;
            let status = answer.status();
            let mut body = answer.into_body();
            let mut document = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| format!("the answer of AssumeRole broke off: {e}"))?;
                let Ok(data) = frame.into_data() else { continue };
                if document.len() + data.len() > ANSWER {
                    return Err(format!("AssumeRole answered with more than {ANSWER} bytes"));
                }
                document.extend_from_slice(&data);
            }
            read(status, &String::from_utf8_lossy(&document))
        };
        timeout(WHOLE, calling)
            .await
            .unwrap_or_else(|_| Err(format!("no answer of AssumeRole in {} s; {CHECK}", WHOLE.as_secs())))
    }

    fn request(&self, keys: &Keys, session_name: &str, now: Timestamp) -> Result<Request<Full<Bytes>>, String> {
        let duration = self.duration.to_string();
        let mut form = "Action=AssumeRole&Version=2011-06-15".to_owned();
        let fields = [
            ("RoleArn", Some(self.role.as_str())),
            ("RoleSessionName", Some(session_name)),
            ("DurationSeconds", Some(&duration)),
            ("ExternalId", self.external_id.as_deref()),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                form += &format!("&{name}={}", utf8_percent_encode(value, VALUE));
            }
        }
        let host = self.address.header(self.address.host());
        let token = keys.session_token.as_ref().map(|token| token.reveal().to_owned());
        let secret = keys.secret_access_key.reveal();
        let identity = Credentials::new(keys.access_key_id.as_str(), secret, token, None, "configuration").into();
        let cannot_sign = |e: &dyn std::fmt::Display| format!("AssumeRole cannot be signed: {e}");
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("sts")
            .time(SystemTime::from(now))
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| cannot_sign(&e))?
            .into();
        let headers = [("host", host.as_str()), ("content-type", FORM)].into_iter();
        let signable = SignableRequest::new("POST", "/", headers, SignableBody::Bytes(form.as_bytes()));
        let signable = signable.map_err(|e| cannot_sign(&e))?;
        let (instructions, _) = sign(signable, &params).map_err(|e| cannot_sign(&e))?.into_parts();
        let mut request = Request::post("/")
            .header(HOST, &host)
            .header(CONTENT_TYPE, FORM)
            .header(USER_AGENT, concat!("eyot/", env!("CARGO_PKG_VERSION")))
            .body(Full::from(form))
            .map_err(|e| cannot_sign(&e))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

/// Reads the answer: AWS's XML, of which only plain texts are needed.
fn read(status: StatusCode, document: &str) -> Result<Temporary, String> {
    if status != StatusCode::OK {
        let code = element(document, "Code").unwrap_or("no code");
        return Err(format!(
            "AWS refused AssumeRole (HTTP {}, {code}): check the keys, and that the role at AWS trusts them",
            status.as_u16()
        ));
    }
    let part = |name: &str| element(document, name).ok_or_else(|| format!("AssumeRole answered without {name}"));
    let expiration = part("Expiration")?;
    Ok(Temporary {
        access_key_id: part("AccessKeyId")?.to_owned(),
        secret_access_key: Secret::new(part("SecretAccessKey")?),
        session_token: Secret::new(part("SessionToken")?),
        expires_at: expiration
            .parse()
            .map_err(|_| "AssumeRole answered with an Expiration that is no time".to_owned())?,
    })
}

/// The text of the first element of this name, when nothing in it needs decoding.
fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.trim();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+/=-_.:".contains(&b);
    (!text.is_empty() && text.bytes().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: &str = r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
        <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/n</Arn></AssumedRoleUser><Credentials>
        <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>a/b+c=</SecretAccessKey>
        <SessionToken>
          tok/en+==
        </SessionToken><Expiration>2026-11-25T13:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"#;

    #[test]
    fn an_answer_of_aws_is_read_and_a_refusal_quoted_by_its_code_only() {
        let credentials = read(StatusCode::OK, ANSWERED).unwrap();
        assert_eq!(credentials.access_key_id, "ASIA1");
        assert_eq!(credentials.secret_access_key.reveal(), "a/b+c=");
        assert_eq!(credentials.session_token.reveal(), "tok/en+==");
        assert_eq!(credentials.expires_at.to_string(), "2026-11-25T13:00:00Z");
        for (name, with) in [
            ("AccessKeyId", "<AccessKeyId></AccessKeyId>"),
            ("SessionToken", "<SessionToken>&lt;</SessionToken>"),
            ("Expiration", "<Expiration>soon</Expiration>"),
        ] {
            let (before, rest) = ANSWERED.split_once(&format!("<{name}>")).unwrap();
            let (_, after) = rest.split_once(&format!("</{name}>")).unwrap();
            let said = read(StatusCode::OK, &format!("{before}{with}{after}")).unwrap_err();
            assert!(said.contains(name) && !said.contains("a/b+c"), "{said}");
        }
        let refused =
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>key AKIA not authorised</Message></Error>";
        let said = read(StatusCode::FORBIDDEN, refused).unwrap_err();
        assert!(
            said.contains("HTTP 403, AccessDenied") && !said.contains("AKIA"),
            "{said}"
        );
        assert!(
            read(StatusCode::BAD_GATEWAY, "<html>")
                .unwrap_err()
                .contains("HTTP 502, no code")
        );
    }
}
