//! What holds for all policies.

use super::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn statement_of(effect: &'static str) -> impl Strategy<Value = Json> {
    let action = select(vec!["*", INVOKE, "bedrock-agentcore:Get*", "s3:*", "*:Invoke*"]);
    let resource = select(vec![
        "*",
        RUNTIME,
        "arn:aws:s3:::*",
        "arn:aws:*:*:*:runtime/${aws:username}-*",
    ]);
    let condition = select(vec![
        json!({}),
        json!({"StringEquals": {"aws:username": "alice"}}),
        json!({"StringNotEquals": {"aws:username": ["alice", "${x:y}"]}}),
        json!({"ForAnyValue:StringLike": {"x:list": ["a*", "${aws:username}"]}}),
        json!({"ForAllValues:StringNotEquals": {"x:list": "b"}}),
        json!({"Null": {"aws:username": true}}),
    ]);
    (action, resource, condition, any::<[bool; 2]>()).prop_map(move |(action, resource, condition, not)| {
        let action_key = if not[0] { "NotAction" } else { "Action" };
        let resource_key = if not[1] { "NotResource" } else { "Resource" };
        json!({"Effect": effect, action_key: action, resource_key: resource, "Condition": condition})
    })
}

fn with_principal(statement: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    let principal = select(vec![
        json!("*"),
        json!({"AWS": "111111111111"}),
        json!({"AWS": "arn:aws:iam::111111111111:user/alice"}),
        json!({"AWS": ["222222222222", "arn:aws:iam::111111111111:role/builder"]}),
        json!({"AWS": "arn:aws:sts::111111111111:assumed-role/builder/s1"}),
    ]);
    (statement, principal, any::<bool>()).prop_map(|(mut statement, principal, not)| {
        // A resource's policy has no wildcards in ARNs; nobody is what is not "*".
        if let Some(object) = statement.as_object_mut() {
            object.remove("NotResource");
        }
        statement["Resource"] = json!("*");
        let key = if not && principal != "*" {
            "NotPrincipal"
        } else {
            "Principal"
        };
        statement[key] = principal;
        statement
    })
}

fn any_effect() -> impl Strategy<Value = Json> {
    prop_oneof![statement_of("Allow"), statement_of("Deny")]
}

fn case() -> impl Strategy<Value = Case> {
    let who = select(vec!["alice", "root", "role", "bearer", "b-bob", "b-root", "b-role"]);
    let statements = || prop::collection::vec(any_effect(), 1..4).prop_map(Json::from);
    let resource = prop::collection::vec(with_principal(any_effect()), 1..4).prop_map(Json::from);
    let context = select(vec![
        json!({}),
        json!({"aws:username": "alice"}),
        json!({"aws:username": "agent", "x:list": ["a", "b"]}),
        json!({"x:list": ["b"], "x:y": "bob"}),
    ]);
    let identity = prop::collection::vec(statements(), 0..3);
    let (session, resource) = (prop::option::of(statements()), prop::option::of(resource));
    (who, identity, session, resource, context).prop_map(|(who, identity, session, resource, context)| Case {
        who: who.to_owned(),
        action: None,
        on: None,
        identity,
        session,
        resource,
        context: context.as_object().unwrap().clone(),
        expect: String::new(),
        message: None,
    })
}

fn allowed(case: &Case) -> bool {
    decide_case(case).0.is_allowed()
}

/// Adds a statement to the policy that the number chooses, of those that the case has; false if it has none.
fn add(case: &mut Case, place: Index, plain: Json, with_principal: Json) -> bool {
    let of_resource = usize::from(case.resource.is_some());
    let mut all: Vec<&mut Json> = case.identity.iter_mut().collect();
    all.extend(case.session.as_mut());
    all.extend(case.resource.as_mut());
    if all.is_empty() {
        return false;
    }
    let index = place.index(all.len());
    let is_resource = index + of_resource == all.len() && of_resource == 1;
    let list = all[index].as_array_mut().unwrap();
    list.insert(
        place.index(list.len() + 1),
        if is_resource { with_principal } else { plain },
    );
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn an_explicit_deny_always_wins(mut case in case(), place in any::<Index>()) {
        let deny = json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
        let mut for_resource = deny.clone();
        for_resource["Principal"] = json!("*");
        if add(&mut case, place, deny, for_resource) {
            let denied = matches!(decide_case(&case).0, Decision::Denied(Denial::Explicit { .. }));
            prop_assert!(denied);
        }
    }

    #[test]
    fn adding_a_deny_never_allows(
        mut case in case(), place in any::<Index>(), plain in statement_of("Deny"), other in with_principal(statement_of("Deny")),
    ) {
        let before = allowed(&case);
        add(&mut case, place, plain, other);
        prop_assert!(before || !allowed(&case));
    }

    #[test]
    fn adding_an_allow_never_denies(
        mut case in case(), place in any::<Index>(), plain in statement_of("Allow"), other in with_principal(statement_of("Allow")),
    ) {
        let before = allowed(&case);
        add(&mut case, place, plain, other);
        prop_assert!(!before || allowed(&case));
    }

    #[test]
    fn the_order_of_statements_does_not_matter(mut case in case(), turn in any::<Index>()) {
        let before = allowed(&case);
        case.identity.reverse();
        let lists = case.identity.iter_mut().chain(&mut case.session).chain(&mut case.resource);
        for list in lists.filter_map(Json::as_array_mut) {
            let by = turn.index(list.len());
            list.rotate_left(by);
            list.get_mut(1..).unwrap_or_default().reverse();
        }
        prop_assert_eq!(before, allowed(&case));
    }

    #[test]
    fn a_session_policy_only_takes_away(mut case in case()) {
        let with = allowed(&case);
        case.session = None;
        prop_assert!(!with || allowed(&case));
    }

    #[test]
    fn reading_never_panics(text in ".{0,200}") {
        for kind in [Kind::Identity, Kind::Resource, Kind::Trust, Kind::Session] {
            let _ = Policy::parse(kind, &text);
        }
    }

    #[test]
    fn reading_something_like_a_policy_never_panics(
        mut statement in any_effect(), key in "[A-Z][A-Za-z]{0,9}|Condition|Principal|Resource|Action|Sid",
        text in "[a-z${}'*?:,/.0-9 -]{0,24}", operator in "(For(Any|All)Values?:)?(String|Arn|Date|Numeric|Bool|IpAddress|Null|Binary)(Not)?(Like|Equals|LessThan)?(IfExists)?",
    ) {
        statement[&key] = json!(text);
        let more = json!({"Effect": "Allow", "Action": "*", "Resource": text, "Condition": {operator: {"a:b": text}}});
        let text = json!({"Version": "2012-10-17", "Statement": [statement, more]}).to_string();
        for kind in [Kind::Identity, Kind::Resource, Kind::Trust, Kind::Session] {
            if let Err(error) = Policy::parse(kind, &text) {
                prop_assert!(!error.place.is_empty() && error.to_string().len() < 1_000);
            }
        }
    }
}
