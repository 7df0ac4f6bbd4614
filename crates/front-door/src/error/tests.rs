//! Every kind of failure as the bytes that a client reads.

use super::*;
use api::Plane;
use std::time::Duration;

fn operation(plane: Plane, name: &str) -> &'static Operation {
    api::operation(plane, name).unwrap()
}

#[track_caller]
fn check(failure: impl Into<Failure>, operation: Option<&Operation>, status: u16, name: &str, body: &str) {
    let written = failure.into().write(operation);
    assert_eq!(
        (written.status.as_u16(), written.headers[ERROR_TYPE].to_str().unwrap()),
        (status, name)
    );
    assert_eq!(written.headers[CONTENT_TYPE], "application/json");
    assert!(!written.headers.contains_key(http::header::WWW_AUTHENTICATE));
    assert_eq!(std::str::from_utf8(&written.body).unwrap(), body);
}

#[test]
fn every_kind_on_an_operation_of_each_plane() {
    let invoke = operation(Plane::Data, "InvokeAgentRuntime");
    let create = operation(Plane::Control, "CreateAgentRuntime");
    let stop = operation(Plane::Data, "StopRuntimeSession");
    let said = |kind| Error::new(kind, "said \"so\"");
    let plain = r#"{"message":"said \"so\""}"#;
    for (kind, operation, status, name) in [
        (Kind::Denied, invoke, 403, "AccessDeniedException"),
        (Kind::Denied, create, 403, "AccessDeniedException"),
        (Kind::NotFound, invoke, 404, "ResourceNotFoundException"),
        // CreateAgentRuntime models no ResourceNotFoundException; the usual name and status stay.
        (Kind::NotFound, create, 404, "ResourceNotFoundException"),
        (Kind::Conflict, create, 409, "ConflictException"),
        (Kind::Conflict, stop, 409, "ConflictException"),
        // Not RetryableConflictException, which is all that InvokeAgentRuntime models.
        (Kind::Conflict, invoke, 409, "ConflictException"),
        (Kind::SessionBusy, invoke, 409, "RetryableConflictException"),
        (Kind::SessionBusy, stop, 409, "RetryableConflictException"),
        (Kind::SessionBusy, create, 409, "ConflictException"),
        (Kind::QuotaExceeded, invoke, 402, "ServiceQuotaExceededException"),
        (Kind::QuotaExceeded, create, 402, "ServiceQuotaExceededException"),
        (Kind::Throttled, invoke, 429, "ThrottlingException"),
        (Kind::Throttled, create, 429, "ThrottlingException"),
        (Kind::Agent, invoke, 424, "RuntimeClientError"),
        (Kind::Agent, create, 424, "RuntimeClientError"),
        (Kind::AgentTimeout, invoke, 504, "GatewayTimeoutException"),
        (Kind::Unsupported, invoke, 501, "NotImplementedException"),
        (Kind::Draining, invoke, 503, "ServiceUnavailableException"),
        (Kind::Internal, invoke, 500, "InternalServerException"),
        (Kind::Internal, create, 500, "InternalServerException"),
    ] {
        check(said(kind), Some(operation), status, name, plain);
    }
    check(
        Error::internal("x"),
        None,
        500,
        "InternalServerException",
        r#"{"message":"x"}"#,
    );
}

#[test]
fn siblings_names_are_used_where_a_model_has_only_those() {
    let event = api::OPERATIONS
        .iter()
        .find(|op| op.errors.contains(&"ThrottledException") && !op.errors.contains(&"ThrottlingException"));
    check(
        Error::new(Kind::Throttled, "x"),
        Some(event.unwrap()),
        429,
        "ThrottledException",
        r#"{"message":"x"}"#,
    );
    let service = api::OPERATIONS
        .iter()
        .find(|op| op.errors.contains(&"ServiceException") && !op.errors.contains(&"InternalServerException"));
    check(
        Error::internal("x"),
        Some(service.unwrap()),
        500,
        "ServiceException",
        r#"{"message":"x"}"#,
    );
}

#[test]
fn a_validation_error_lists_its_fields_as_the_model_says() {
    let create = Some(operation(Plane::Control, "CreateAgentRuntime"));
    check(
        Error::invalid_field("roleArn", "must match"),
        create,
        400,
        "ValidationException",
        r#"{"message":"1 validation error detected: roleArn: must match","reason":"FieldValidationFailed","fieldList":[{"name":"roleArn","message":"must match"}]}"#,
    );
    check(
        Error::cannot_parse("not JSON"),
        create,
        400,
        "ValidationException",
        r#"{"message":"not JSON","reason":"CannotParse"}"#,
    );
}

#[test]
fn what_may_succeed_later_says_when() {
    let plain = |kind| Error::new(kind, "x");
    let throttled = |milliseconds| plain(Kind::Throttled).retry_in(Duration::from_millis(milliseconds));
    for (error, seconds) in [
        (plain(Kind::Draining), Some("1")),
        (plain(Kind::Throttled), Some("1")),
        (throttled(0), Some("1")),
        (throttled(200), Some("1")),
        (throttled(1000), Some("1")),
        (throttled(1001), Some("2")),
        (plain(Kind::SessionBusy), None),
        (plain(Kind::SessionBusy).retry_in(Duration::from_secs(5)), Some("5")),
        (plain(Kind::Internal), None),
    ] {
        let written = Failure::from(error.clone()).write(None);
        let said = written.headers.get(RETRY_AFTER).map(|value| value.to_str().unwrap());
        assert_eq!(said, seconds, "{error:?}");
    }
}

#[test]
fn what_an_agent_said_is_a_header_and_not_in_the_document() {
    let error = Error::agent("Received error (500) from runtime.").with_detail("boom\nbang");
    let written = Failure::from(error).write(None);
    assert_eq!(written.headers[AGENT_ERROR], "boom%0Abang");
    assert_eq!(&*written.body, br#"{"message":"Received error (500) from runtime."}"#);
    let written = Failure::from(Error::agent("x")).write(None);
    assert!(!written.headers.contains_key(AGENT_ERROR));
}

#[test]
fn the_agents_fault_never_looks_like_ours() {
    for operation in api::OPERATIONS {
        let (_, status) = exception(&Kind::Agent, Some(operation));
        assert_eq!(status, 424, "{operation:?}");
    }
}

#[test]
fn what_is_wrong_with_a_body_is_said_in_numbers() {
    let broken = Fault::Broken {
        cause: "eof".to_owned(),
        received: 5,
        promised: Some(9),
    };
    check(
        body_failure(&broken, "payload"),
        None,
        400,
        "ValidationException",
        r#"{"message":"The request body ended after 5 bytes, but 9 bytes were announced: eof.","reason":"CannotParse"}"#,
    );
    let large = Fault::TooLarge {
        limit: 10,
        size: Some(11),
    };
    check(
        body_failure(&large, "payload"),
        None,
        400,
        "ValidationException",
        r#"{"message":"1 validation error detected: payload: must be at most 10 bytes long, but has 11 bytes","reason":"FieldValidationFailed","fieldList":[{"name":"payload","message":"must be at most 10 bytes long, but has 11 bytes"}]}"#,
    );
    check(
        body_failure(&Fault::Stalled(Duration::from_secs(30)), "body"),
        None,
        408,
        "RequestTimeoutException",
        r#"{"message":"The request body was not complete, and nothing more of it came for 30 seconds."}"#,
    );
    let (_, denied) = exception(&Kind::Denied, None);
    assert_eq!(body_failure(&Fault::Digest, "body").write(None).status, denied);
}
