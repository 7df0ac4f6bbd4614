//! Routing: every template to itself, odd paths to nowhere, and never a panic.

use super::label;
use super::table::{Tree, label_names};
use super::*;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use std::sync::LazyLock;

static ROUTER: LazyLock<Router> =
    LazyLock::new(|| Router::new(&[], &Metrics::register(&mut Registry::default())).unwrap());

/// The operation and the decoded labels of a path.
fn find(method: &str, path: &str) -> Option<(&'static str, Vec<(&'static str, String)>)> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    match ROUTER.find(&method, path, None) {
        Route::Operation(endpoint, raw) => {
            let labels = endpoint
                .labels
                .iter()
                .copied()
                .zip(raw.iter().map(|raw| label::decode(raw).unwrap()));
            Some((endpoint.operation.name, labels.collect()))
        }
        _ => None,
    }
}

#[track_caller]
fn check(method: &str, path: &str, expected: Option<(&str, &[&str])>) {
    let found = find(method, path);
    let found = found
        .as_ref()
        .map(|(name, labels)| (*name, labels.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>()));
    assert_eq!(
        found,
        expected.map(|(name, labels)| (name, labels.to_vec())),
        "{method} {path}"
    );
}

#[test]
fn arns_are_read_in_every_spelling() {
    let arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a-0123456789";
    let endpoint = &format!("{arn}/runtime-endpoint/prod");
    let encoded = arn.replace(':', "%3A").replace('/', "%2F");
    for (spelling, label) in [
        (arn.to_owned(), arn),
        (encoded.clone(), arn),
        (arn.replace('/', "%2f"), arn),
        (endpoint.clone(), endpoint),
        (format!("{encoded}/runtime-endpoint/prod"), endpoint),
        (endpoint.replace('/', "%2F"), endpoint),
    ] {
        check(
            "POST",
            &format!("/runtimes/{spelling}/invocations"),
            Some(("InvokeAgentRuntime", &[label])),
        );
        check(
            "POST",
            &format!("/runtimes/{spelling}/invocations/"),
            Some(("InvokeAgentRuntime", &[label])),
        );
        check(
            "POST",
            &format!("/runtimes/{spelling}/stopruntimesession"),
            Some(("StopRuntimeSession", &[label])),
        );
        check(
            "GET",
            &format!("/runtimes/{spelling}/invocations/.well-known/agent-card.json"),
            Some(("GetAgentCard", &[label])),
        );
        check(
            "GET",
            &format!("/tags/{spelling}"),
            Some(("ListTagsForResource", &[label])),
        );
        check(
            "PUT",
            &format!("/resourcepolicy/{spelling}"),
            Some(("PutResourcePolicy", &[label])),
        );
        // A verb behind an ARN is never taken for a part of it.
        check("GET", &format!("/runtimes/{spelling}/invocations"), None);
        check("POST", &format!("/runtimes/{spelling}/no-such-verb"), None);
    }
}

#[test]
fn odd_paths_lead_nowhere() {
    for path in [
        "",
        "/",
        "//",
        "/runtimes//",
        "/runtimes//invocations",
        "//runtimes/",
        "/runtimes/a//invocations",
        "/runtimes/a/b/invocations",
        "/runtimes/a/invocations//",
        "/RUNTIMES/",
    ] {
        check("POST", path, None);
    }
    check("POST", &format!("/{}", "a/".repeat(10_000)), None);
    check(
        "POST",
        &format!("/runtimes/arn:{}/invocations", "/a".repeat(10_000)),
        None,
    );
    check("BREW", "/runtimes/", None);
}

#[test]
fn a_literal_wins_over_a_label_and_another_method_is_told() {
    check(
        "PUT",
        "/gateways/g/rate-limits/batch",
        Some(("BatchPutGatewayRateLimits", &["g"])),
    );
    check(
        "GET",
        "/gateways/g/rate-limits/batch",
        Some(("GetGatewayRateLimit", &["g", "batch"])),
    );
    let Route::Unknown(methods) = ROUTER.find(&Method::DELETE, "/runtimes", None) else {
        panic!("DELETE /runtimes is a route")
    };
    assert_eq!(methods, [&Method::POST, &Method::PUT]);
}

#[test]
fn our_own_paths_are_never_the_models() {
    let at = |method: &Method, path: &str| format!("{:?}", ROUTER.find(method, path, None));
    assert_eq!(at(&Method::GET, "/_eyot/healthz"), "Builtin(Health)");
    assert_eq!(at(&Method::HEAD, "/_eyot/readyz"), "Builtin(Ready)");
    assert_eq!(at(&Method::GET, "/_eyot/metrics"), "Builtin(Metrics)");
    assert_eq!(at(&Method::GET, "/_eyot/healthz/more"), "Unknown([])");
    assert_eq!(at(&Method::GET, "/_eyot/"), "Unknown([])");
    assert_eq!(at(&Method::POST, "/_eyot/metrics"), "Unknown([GET])");
}

#[test]
fn every_operation_of_the_model_is_routed() {
    assert!(api::OPERATIONS.len() >= 250);
    for operation in api::OPERATIONS {
        let path = filled(operation.uri, |name| format!("x-{name}"));
        let (name, labels) = find(operation.method, &path).unwrap_or_else(|| panic!("{operation:?}"));
        assert_eq!(name, operation.name);
        assert_eq!(labels.len(), label_names(operation.uri).len());
        assert!(
            labels.iter().all(|(name, text)| *text == format!("x-{name}")),
            "{labels:?}"
        );
    }
}

/// A template with its labels filled in.
fn filled(template: &'static str, mut text: impl FnMut(&'static str) -> String) -> String {
    label_names(template)
        .into_iter()
        .fold(template.to_owned(), |path, name| {
            path.replace(&format!("{{{name}}}"), &text(name))
        })
}

/// Segments that some template of the same method has as a literal: the documented ambiguity.
fn is_literal(text: &str) -> bool {
    api::OPERATIONS
        .iter()
        .any(|operation| operation.uri.split('/').any(|segment| segment == text))
}

proptest! {
    #[test]
    fn every_template_with_any_labels_is_itself(
        index in 0..api::OPERATIONS.len(),
        texts in proptest::collection::vec("[^\\p{Cc}]{1,20}", 6),
        with_slash in any::<bool>(),
    ) {
        let operation = &api::OPERATIONS[index];
        let mut texts = texts.into_iter();
        let mut given = Vec::new();
        let path = filled(operation.uri, |name| {
            let text = texts.next().unwrap();
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
            given.push((name, text));
            encoded
        });
        prop_assume!(!given.iter().any(|(_, text)| is_literal(text)));
        let path = if with_slash { format!("{}/", path.trim_end_matches('/')) } else { path };
        prop_assert_eq!(find(operation.method, &path), Some((operation.name, given)));
    }

    #[test]
    fn routing_never_panics(method in "GET|PUT|POST|DELETE|PATCH|X", path in "(/|[a-z{}%.:-]|arn:|%2F|runtimes|invocations|tags|\\PC){0,60}") {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        if let Route::Operation(endpoint, raw) = ROUTER.find(&method, &path, None) {
            prop_assert_eq!(endpoint.labels.len(), raw.iter().count());
            for text in raw.iter() {
                prop_assert!(!text.is_empty());
                let _ = label::decode(text);
            }
        }
    }

    #[test]
    fn paths_that_look_like_routes_never_panic(index in 0..api::OPERATIONS.len(), label in "(arn(:|%3A)|/|%2F|%zz|[a-z-]){0,12}", tail in "/{0,3}") {
        let operation = &api::OPERATIONS[index];
        let path = filled(operation.uri, |_| label.clone()) + &tail;
        let method = Method::from_bytes(operation.method.as_bytes()).unwrap();
        let _ = ROUTER.find(&method, &path, None);
    }
}

#[test]
fn the_first_of_two_equal_templates_stays() {
    let mut tree = Tree::new();
    tree.add("/a/{x}", 1);
    tree.add("/a/{y}/", 2);
    assert_eq!(tree.find("/a/b").map(|(leaf, _)| *leaf), Some(1));
}

#[test]
fn no_two_operations_of_the_model_share_a_route() {
    let mut seen = std::collections::HashSet::new();
    for operation in api::OPERATIONS {
        let shape: Vec<_> = operation
            .uri
            .trim_end_matches('/')
            .split('/')
            .map(|s| if s.starts_with('{') { "{}" } else { s })
            .collect();
        assert!(
            seen.insert((operation.method, shape)),
            "{operation:?} has another operation's route"
        );
    }
}
