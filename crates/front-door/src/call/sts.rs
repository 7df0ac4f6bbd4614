//! A call of STS: parameters in the query or in a form, signed for `sts` or not signed at all.

use super::answer::Answer;
use super::authenticate::Proof;
use super::prove::{Allowance, ProvenBody, prove, take};
use super::{Door, admit, check_head, shown};
use crate::auth::{Service, Shown};
use crate::body::source::{Limits, Source};
use crate::context::Context;
use crate::error::{Failure, body_failure};
use crate::route::Own;
use crate::service::{StsCall, StsReply};
use domain::Error;
use http::request::Parts;
use percent_encoding::percent_decode_str;

/// Parameters of a presigned query, which are about the signature and not about the call.
const PRESIGNED: &str = "X-Amz-";

/// Answers one call.
pub(super) async fn call(
    door: &Door,
    context: &mut Context,
    sts: &Own,
    parts: Parts,
    body: hyper::body::Incoming,
) -> Result<Answer, Failure> {
    let allowance = Allowance {
        most: door.config.max_document_bytes,
        in_memory: door.config.max_document_bytes,
        member: "body",
        may_stream: false,
    };
    let shown = shown(door, context, &parts).await?;
    let (key, form) = if shown == Shown::Nothing {
        admit(door, context)?;
        let limits = Limits {
            bytes: allowance.most,
            stall: door.config.body_stall_timeout,
            total: Some(door.config.body_total_timeout),
        };
        let mut source = Source::new(body, limits).map_err(|fault| body_failure(&fault, allowance.member))?;
        let form = take(door, &mut source, allowance).await?;
        context.unread = false;
        (None, form)
    } else {
        let pending = check_head(door, context, &parts, &shown, Service::Sts).await?;
        admit(door, context)?;
        let proven = prove(door, context, Proof::Signed(pending), body, allowance).await?;
        match proven.body {
            ProvenBody::Whole(form) => (proven.caller.key, form),
            ProvenBody::Streaming(..) => return Err(Error::internal("A form was not read to its end.").into()),
        }
    };
    let mut parameters = form_pairs(parts.uri.query().unwrap_or_default())?;
    parameters.retain(|(name, _)| !name.starts_with(PRESIGNED));
    let form = form.bytes().cloned().unwrap_or_default();
    let form = std::str::from_utf8(&form).map_err(|_| Error::cannot_parse("The form is not UTF-8."))?;
    parameters.extend(form_pairs(form)?);
    let call = StsCall {
        parameters,
        key: key.clone(),
        origin: context.origin,
        request_id: context.request_id,
    };
    let StsReply { reply, record } = sts.service.call_sts(call).await?;
    door.authority.record_sts(context, key.as_deref(), &record).await;
    Ok(Answer::own(reply))
}

/// The pairs of a form; `+` is a space.
fn form_pairs(form: &str) -> Result<Vec<(String, String)>, Error> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8();
        let not_utf8 = |_| Error::cannot_parse("A parameter is not UTF-8 once percent-decoded.");
        decoded.map(|text| text.into_owned()).map_err(not_utf8)
    };
    let pairs = form.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_once() {
        let check = |form: &str, expected: &[(&str, &str)]| {
            let pairs = form_pairs(form).unwrap();
            let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(pairs, expected);
        };
        check("", &[]);
        check(
            "Action=AssumeRole&Version=2011-06-15",
            &[("Action", "AssumeRole"), ("Version", "2011-06-15")],
        );
        check("Policy=%7B%0A%7D+x%2B", &[("Policy", "{\n} x+")]);
        check("a&&b=", &[("a", ""), ("b", "")]);
        check("a=b=c", &[("a", "b=c")]);
        assert!(form_pairs("a=%ff").is_err());
    }
}
