//! Bodies and parameters: read strictly, so that a typing mistake never silently leaves something out.

use domain::error::FieldError;
use domain::{Error, Kind};
use front_door::body::{Incoming, full};
use front_door::service::OwnReply;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use iam::names::HolderKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Bytes of a body; the longest policy has fewer.
const MAX_BODY: usize = 128 * 1024;

/// `maxResults` unless said, and at most.
const PAGE: (usize, usize) = (100, 1000);

/// A user to be made.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewUser {
    pub(crate) user_name: String,
}

/// A role to be made.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewRole {
    pub(crate) role_name: String,
    pub(crate) trust_policy: Box<RawValue>,
    pub(crate) max_session_duration: Option<u32>,
    pub(crate) description: Option<String>,
}

/// What changes of a role.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoleChange {
    pub(crate) trust_policy: Option<Box<RawValue>>,
    pub(crate) max_session_duration: Option<u32>,
    pub(crate) description: Option<String>,
}

/// What changes of a key.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeyChange {
    pub(crate) enabled: bool,
}

/// What is revoked.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Revocation {
    pub(crate) access_key_id: Option<String>,
    pub(crate) role_arn: Option<String>,
    pub(crate) session_name: Option<String>,
}

/// The whole body as text.
pub(crate) async fn text(body: Incoming) -> Result<String, Error> {
    let whole = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Error::invalid_field("body", format!("has more than {MAX_BODY} bytes"))
        } else {
            Error::cannot_parse("The body broke off.")
        }
    })?;
    String::from_utf8(whole.to_bytes().into()).map_err(|_| Error::cannot_parse("The body is not UTF-8."))
}

/// The body as a JSON document of a form.
pub(crate) async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Error> {
    let text = text(body).await?;
    serde_json::from_str(&text)
        .map_err(|error| Error::cannot_parse(format!("The body is not what it should be: {error}")))
}

/// A policy inside of a document: the document itself, or as AWS has it a text that holds it.
pub(crate) fn policy(raw: &RawValue) -> String {
    serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Result<OwnReply, Error> {
    let bytes = serde_json::to_vec(document).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        Error::internal("The server made an answer that cannot be sent.")
    })?;
    Ok(reply(status, "application/json", bytes))
}

pub(crate) fn nothing() -> OwnReply {
    OwnReply {
        status: StatusCode::NO_CONTENT,
        headers: HeaderMap::new(),
        body: full(Vec::new()),
    }
}

pub(crate) fn reply(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> OwnReply {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    OwnReply {
        status,
        headers,
        body: full(bytes),
    }
}

/// Reads parameters and collects what is wrong with them.
#[derive(Debug)]
pub(crate) struct Params<'a> {
    query: &'a [(String, String)],
    wrong: Vec<FieldError>,
}

impl<'a> Params<'a> {
    /// Of a request that knows these names.
    pub(crate) fn new(query: &'a [(String, String)], known: &[&str]) -> Self {
        let mut params = Self {
            query,
            wrong: Vec::new(),
        };
        for (at, (name, _)) in query.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                params.refuse(
                    name,
                    format!("is no parameter of this request; it has {}", known.join(", ")),
                );
            } else if query.iter().take(at).any(|(earlier, _)| earlier == name) {
                params.refuse(name, "is given more than once");
            }
        }
        params
    }

    fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.wrong.push(FieldError {
            name: name.to_owned(),
            message: message.into(),
        });
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.query
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// `maxResults`, and the name that a page begins after.
    pub(crate) fn page(mut self) -> Result<(usize, Option<String>), Error> {
        use base64::Engine as _;
        let most = match self.get("maxResults").map(str::parse::<usize>) {
            None => PAGE.0,
            Some(Ok(most)) if (1..=PAGE.1).contains(&most) => most,
            Some(_) => {
                self.refuse("maxResults", format!("must be a number from 1 to {}", PAGE.1));
                PAGE.0
            }
        };
        let after = self.get("nextToken").and_then(|token| {
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).ok();
            let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            if name.is_none() {
                self.refuse("nextToken", "is none that a list has given");
            }
            name
        });
        self.finish()?;
        Ok((most, after))
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.wrong.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid_fields(self.wrong))
        }
    }
}

/// The token that a list goes on with.
pub(crate) fn token(next: Option<String>) -> Option<String> {
    use base64::Engine as _;
    next.map(|name| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(name))
}

/// What a list calls its items.
pub(crate) fn plural(kind: HolderKind) -> &'static str {
    match kind {
        HolderKind::User => "users",
        HolderKind::Role => "roles",
    }
}

/// In the words of the domain; what is for the operator alone goes to the log.
pub(crate) fn told(error: iam::Error) -> Error {
    match error {
        iam::Error::NotFound(text) => Error::not_found(text),
        iam::Error::Exists(text) => Error::conflict(text),
        iam::Error::Quota(text) => Error::new(Kind::QuotaExceeded, text),
        iam::Error::Denied(text) => Error::denied(text),
        iam::Error::Invalid { field, problem } => Error::invalid_field(field, problem),
        iam::Error::Closed => Error::new(
            Kind::Draining,
            "The server is stopping and takes no changes. Try again.",
        ),
        iam::Error::Storage(error) => {
            tracing::error!(%error, "a change of users or keys could not be written");
            let text = match error {
                storage::Error::Full(_) => {
                    "The change could not be written: no space left on the server's disk. Nothing was changed."
                }
                _ => "The change could not be written, and nothing was changed; the server's log says why.",
            };
            Error::internal(text)
        }
        error @ (iam::Error::Record { .. } | iam::Error::Schema { .. } | iam::Error::Random | iam::Error::Changed) => {
            tracing::error!(%error, "users or keys could not be changed");
            Error::internal("Nothing was changed; the server's log says why.")
        }
    }
}
