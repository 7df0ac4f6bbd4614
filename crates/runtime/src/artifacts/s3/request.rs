//! Builds a GET of one object and signs it for S3.
//!
//! S3 signs the path as it is sent, encoded once and never normalised, unlike every other service.

use crate::artifacts::config::S3;
use crate::control::record::Code;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http::Request;
use http::header::{HOST, USER_AGENT};
use http_body_util::Full;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::time::SystemTime;

/// What is encoded in a query value; a key keeps its slashes as well.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const KEY: &AsciiSet = &VALUE.remove(b'/');

/// The signed request, in origin form.
pub(super) fn build(s3: &S3, host: &str, code: &Code, now: Timestamp) -> Result<Request<Full<Bytes>>, String> {
    let target = target(s3, code);
    let mut request = Request::get(&target)
        .header(HOST, host)
        .header(USER_AGENT, concat!("eyot/", env!("CARGO_PKG_VERSION")))
        .body(Full::default())
        .map_err(|e| format!("'{target}' cannot be requested: {e}"))?;

    let token = s3.session_token.as_ref().map(|token| token.reveal().to_owned());
    let secret = s3.secret_access_key.reveal();
    let identity = Credentials::new(s3.access_key_id.as_str(), secret, token, None, "configuration").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let cannot_sign = |e: &dyn std::fmt::Display| format!("the request cannot be signed: {e}");
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&s3.region)
        .name("s3")
        .time(SystemTime::from(now))
        .settings(settings)
        .build()
        .map_err(|e| cannot_sign(&e))?
        .into();
    let headers = [("host", host)].into_iter();
    let signable = SignableRequest::new("GET", &target, headers, SignableBody::Bytes(b""));
    let signable = signable.map_err(|e| cannot_sign(&e))?;
    let (instructions, _) = sign(signable, &params).map_err(|e| cannot_sign(&e))?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    Ok(request)
}

fn target(s3: &S3, code: &Code) -> String {
    let key = utf8_percent_encode(&code.key, KEY);
    let path = if s3.force_path_style {
        format!("/{}/{key}", code.bucket)
    } else {
        format!("/{key}")
    };
    match &code.version_id {
        Some(version) => format!("{path}?versionId={}", utf8_percent_encode(version, VALUE)),
        None => path,
    }
}
