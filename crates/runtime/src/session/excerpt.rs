//! What an agent says in an answer that is not a success: the start of its body, for a person.

use super::wording::{EXCERPT, head};
use crate::upstream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::timeout;

/// Bytes of an answer that are read for the excerpt.
const EXCERPT_BYTES: usize = 4096;
const EXCERPT_DEADLINE: Duration = Duration::from_secs(2);

/// What comes soon of the body's start, if it is text. Empty if it says nothing.
pub(crate) async fn excerpt(response: Response<upstream::Body>) -> String {
    if !is_text(response.headers()) {
        return String::new();
    }
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    let reading = async {
        while bytes.len() < EXCERPT_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data[..data.len().min(EXCERPT_BYTES - bytes.len())]);
            }
        }
    };
    // What has come until then will do.
    let _ = timeout(EXCERPT_DEADLINE, reading).await;
    // The cut may have split a character; nothing else can make it one that is not there.
    let text = String::from_utf8_lossy(&bytes);
    head(text.trim_end_matches(char::REPLACEMENT_CHARACTER), EXCERPT)
}

fn is_text(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let media = value.split(';').next().unwrap_or_default().trim();
    media.starts_with("text/") || ["json", "xml"].iter().any(|kind| media.ends_with(kind))
}
