//! From a reply, or a failure, to what goes out.
//!
//! A complete answer is one piece with a known length, so that head and body leave in one write. A stream is passed on
//! piece by piece as it comes. Either way the request's [`Context`] travels inside of the body and ends with it.

use crate::body::{BodyError, Outgoing};
use crate::context::Context;
use crate::error::{Dialect, Failure, JSON, Written};
use crate::service::{OwnReply, Reply};
use api::{Encoded, Operation};
use bytes::Bytes;
use domain::Error;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{self, Poll};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// What goes out, before its last headers.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Content,
}

/// The body of every answer.
pub(crate) struct AnswerBody {
    content: Content,
    context: Context,
}

enum Content {
    Whole(Bytes),
    Stream(Outgoing),
}

impl Answer {
    /// A document that is already written.
    pub(super) fn document(status: StatusCode, kind: HeaderValue, body: Bytes) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, kind);
        Self {
            status,
            headers,
            body: Content::Whole(body),
        }
    }

    /// Headers alone.
    pub(super) fn empty(status: StatusCode, headers: HeaderMap) -> Self {
        Self {
            status,
            headers,
            body: Content::Whole(Bytes::new()),
        }
    }

    /// An error.
    pub(super) fn failure(failure: &Failure, context: &Context) -> Self {
        let Written { status, headers, body } = match context.dialect {
            Dialect::Json => failure.write(context.operation),
            Dialect::Sts => failure.write_sts(context.request_id),
        };
        Self {
            status,
            headers,
            body: Content::Whole(body),
        }
    }

    /// A service's reply to a call.
    pub(super) fn reply(operation: &'static Operation, reply: Reply) -> Result<Self, Failure> {
        match reply {
            Reply::Document(output) => Self::encoded(operation, api::encode(operation, &output)),
            Reply::Stream { headers, body } => {
                let status = StatusCode::from_u16(operation.status).unwrap_or(StatusCode::OK);
                Ok(Self {
                    status,
                    headers,
                    body: Content::Stream(body),
                })
            }
        }
    }

    /// A service's reply to a call of its own route.
    pub(super) fn own(reply: OwnReply) -> Self {
        Self {
            status: reply.status,
            headers: reply.headers,
            body: Content::Stream(reply.body),
        }
    }

    fn encoded(operation: &Operation, encoded: Encoded) -> Result<Self, Failure> {
        let wrong = |what: &str| {
            tracing::error!(operation = operation.name, what, "a service's output cannot be sent");
            Failure::from(Error::internal("The server made an answer that cannot be sent."))
        };
        let status = StatusCode::from_u16(encoded.status).map_err(|_| wrong("status"))?;
        let mut headers = HeaderMap::with_capacity(encoded.headers.len() + 4);
        if !encoded.body.is_empty() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        for (name, value) in encoded.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(name))?;
            let value = HeaderValue::try_from(value).map_err(|_| wrong(name.as_str()))?;
            headers.insert(name, value);
        }
        Ok(Self {
            status,
            headers,
            body: Content::Whole(encoded.body.into()),
        })
    }

    /// The response; `is_http1` decides what happens to a body that the client is still sending.
    pub(super) fn into_response(mut self, mut context: Context, is_http1: bool) -> Response<AnswerBody> {
        self.headers.insert(REQUEST_ID, request_id(context.request_id));
        if let Some(grant) = &context.cors {
            grant.add_to(&mut self.headers);
        }
        if is_http1 && context.unread {
            context.busy.watch().linger();
            // A service may still be reading a body while it streams its answer; a refusal never is.
            if matches!(self.body, Content::Whole(_)) {
                self.headers.insert(CONNECTION, CLOSE);
            }
        }
        context.status = Some(self.status);
        let mut response = Response::new(AnswerBody {
            content: self.body,
            context,
        });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match &mut this.content {
            Content::Whole(bytes) => {
                this.context.complete = true;
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Content::Stream(body) => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                match &polled {
                    Poll::Ready(None) => this.context.complete = true,
                    Poll::Ready(Some(Ok(_))) => this.context.complete = body.is_end_stream(),
                    Poll::Ready(Some(Err(error))) => {
                        tracing::info!(
                            request_id = %this.context.request_id,
                            operation = this.context.metrics.name,
                            %error,
                            "an answer broke off after it had begun"
                        );
                    }
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(body) => body.size_hint(),
        }
    }
}

fn request_id(id: Uuid) -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let text: &str = id.hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).expect("a UUID is visible ASCII")
}
