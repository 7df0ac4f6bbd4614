//! Temporary credentials: who gets some, what they may, and what ends them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cache::Cache;
use super::*;
use crate::Error;
use crate::directory::tests::{Home, POLICY, TRUST, agent, alice, new_role, own};
use crate::directory::{Assume, AssumeWithToken, Directory, NewRole, Wanted};
use crate::keys::{AccessKey, Key, Missing};
use crate::policy::NoContext;

const MAY_ASSUME: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:*","Resource":"arn:aws:iam::*:role/*"}]}"#;

fn issue(subject: Subject) -> Issue {
    Issue {
        subject,
        lifetime: Duration::from_secs(900),
        session_policy: None,
        source_identity: None,
        tags: BTreeMap::new(),
    }
}

fn work() -> Subject {
    Subject::Role {
        role: agent(),
        session: "work".to_owned(),
    }
}

fn find(directory: &Directory, temporary: &Temporary) -> Result<Arc<Key>, Missing> {
    directory.find(&temporary.access_key_id, Some(temporary.session_token.as_bytes()))
}

fn wanted<'a>(role_arn: &'a str, tags: &'a BTreeMap<String, String>) -> Wanted<'a> {
    Wanted {
        role_arn,
        session: "work",
        lifetime: None,
        policy: None,
        source_identity: None,
        tags,
    }
}

async fn home_with_role() -> (Home, Directory) {
    let home = Home::new();
    let directory = home.open().await;
    directory.create_role(new_role(agent())).await.unwrap();
    directory
        .put_policy(agent(), "p".to_owned(), POLICY.to_owned())
        .await
        .unwrap();
    (home, directory)
}

#[tokio::test]
async fn credentials_survive_a_restart_and_end_with_their_time() {
    let (home, directory) = home_with_role().await;
    let mut asked = issue(work());
    asked.session_policy = Some(POLICY.to_owned());
    asked.source_identity = Some("someone".to_owned());
    asked.tags.insert("team".to_owned(), "red".to_owned());
    let temporary = directory.issue(asked).unwrap();
    assert!(temporary.access_key_id.starts_with("ASIA") && temporary.access_key_id.len() == 20);
    home.wait(Duration::from_secs(899));
    let again = home.open().await;
    for directory in [&directory, &again] {
        for _ in 0..2 {
            let key = find(directory, &temporary).unwrap();
            assert_eq!(key.principal().arn, "arn:aws:sts::123456789012:assumed-role/agent/work");
            assert_eq!(*key.principal().as_ref(), temporary.principal);
            assert_eq!(key.access().secret.as_str(), temporary.secret.as_str());
            assert_eq!(key.source_identity(), Some("someone"));
            assert_eq!(key.tags().unwrap()["team"], "red");
            let held = directory.policies(&key);
            assert!(held.identity.len() == 1 && held.session.is_some());
        }
    }
    home.wait(Duration::from_secs(1));
    assert_eq!(
        find(&directory, &temporary).err(),
        Some(Missing::Expired),
        "from the cache"
    );
    assert_eq!(
        find(&directory, &temporary).err(),
        Some(Missing::Expired),
        "and not from it"
    );
    assert_eq!(find(&again, &temporary).err(), Some(Missing::Expired));
}

#[tokio::test]
async fn a_token_that_was_touched_is_unknown_also_when_it_is_cached() {
    let (_home, directory) = home_with_role().await;
    let temporary = directory.issue(issue(work())).unwrap();
    let other = directory.issue(issue(work())).unwrap();
    let id = &temporary.access_key_id;
    for cached in [false, true] {
        if cached {
            find(&directory, &temporary).unwrap();
        }
        let token = temporary.session_token.as_bytes();
        for at in 0..token.len() {
            let mut touched = token.to_vec();
            touched[at] = if touched[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(directory.find(id, Some(&touched)).err(), Some(Missing::Unknown), "{at}");
        }
        for token in [
            &other.session_token[..],
            "",
            "AQ",
            &"A".repeat(100_000),
            &"é".repeat(50),
        ] {
            assert_eq!(directory.find(id, Some(token.as_bytes())).err(), Some(Missing::Unknown));
        }
        assert_eq!(directory.find(id, None).err(), Some(Missing::Unknown));
        assert_eq!(directory.find("ASIAOTHER", Some(token)).err(), Some(Missing::Unknown));
    }
    let stranger = Home::new().open().await;
    assert_eq!(
        find(&stranger, &temporary).err(),
        Some(Missing::Unknown),
        "of another master key"
    );
}

#[tokio::test]
async fn a_revocation_counts_at_once_and_after_a_restart_and_only_for_what_was() {
    let (home, directory) = home_with_role().await;
    let (one, two) = (
        directory.issue(issue(work())).unwrap(),
        directory.issue(issue(work())).unwrap(),
    );
    let cached = find(&directory, &one).unwrap();
    directory
        .revoke(Revoke::Credential {
            id: one.access_key_id.clone(),
            expires: Some(one.expires),
        })
        .await
        .unwrap();
    assert!(cached.is_retired());
    assert!(find(&directory, &one).is_err() && find(&directory, &two).is_ok());
    let session = || Revoke::Session {
        role_arn: agent().arn(),
        session_name: "work".to_owned(),
    };
    directory.revoke(session()).await.unwrap();
    assert_eq!(find(&directory, &two).err(), Some(Missing::Unknown));
    // Within the same millisecond.
    let three = directory.issue(issue(work())).unwrap();
    let again = home.open().await;
    for directory in [&directory, &again] {
        assert!(find(directory, &one).is_err() && find(directory, &two).is_err() && find(directory, &three).is_ok());
    }
}

#[tokio::test]
async fn credentials_go_with_whom_they_are_of() {
    let (home, directory) = home_with_role().await;
    directory.create_user(alice()).await.unwrap();
    let of_role = directory.issue(issue(work())).unwrap();
    let of_user = directory.issue(issue(Subject::User(alice()))).unwrap();
    let of_root = directory.issue(issue(Subject::Root(own()))).unwrap();
    let found: Vec<_> = [&of_role, &of_user].map(|one| find(&directory, one).unwrap()).into();
    directory.delete_role(agent()).await.unwrap();
    directory.delete_user(alice()).await.unwrap();
    assert!(found.iter().all(|key| key.is_retired()));
    directory.create_role(new_role(agent())).await.unwrap();
    directory.create_user(alice()).await.unwrap();
    for directory in [&directory, &home.open().await] {
        assert!(find(directory, &of_role).is_err(), "a role of the same name is another");
        assert!(find(directory, &of_user).is_err());
        assert!(find(directory, &of_root).is_ok());
    }
}

#[tokio::test]
async fn what_is_asked_for_has_bounds() {
    let (_home, directory) = home_with_role().await;
    let check = |change: &dyn Fn(&mut Issue), word: &str| {
        let mut asked = issue(work());
        change(&mut asked);
        let said = directory.issue(asked).unwrap_err().to_string();
        assert!(said.contains(word), "{said:?} lacks {word:?}");
    };
    check(
        &|asked| asked.lifetime = Duration::from_secs(899),
        "DurationSeconds: 899 seconds is less than 900",
    );
    check(
        &|asked| asked.lifetime = Duration::from_secs(3601),
        "exceeds the MaxSessionDuration set for this role",
    );
    check(&|asked| asked.session_policy = Some("{".to_owned()), "Policy: line 1");
    check(&|asked| asked.session_policy = Some(" ".repeat(2049)), "more than 2048");
    check(
        &|asked| asked.source_identity = Some("a b".to_owned()),
        "SourceIdentity: 'a b' is no name",
    );
    check(
        &|asked| drop(asked.tags.insert("k".to_owned(), "v".repeat(257))),
        "Tags: a key has",
    );
    check(
        &|asked| {
            asked.tags = (0..50).map(|n| (format!("k{n}"), "v".repeat(200))).collect();
        },
        "more than the 6144 bytes",
    );
    let session = Subject::Role {
        role: agent(),
        session: "a:b".to_owned(),
    };
    check(
        &|asked| asked.subject = session.clone(),
        "RoleSessionName: 'a:b' is no name",
    );
}

/// The least that a caller needs, by where it comes from and how the trust policy names it.
#[tokio::test]
async fn a_role_is_for_whom_its_trust_policy_lets() {
    let (_home, directory) = home_with_role().await;
    directory.create_user(alice()).await.unwrap();
    let (view, _) = directory.create_key(alice()).await.unwrap();
    let key = directory.find(&view.access_key_id, None).unwrap();
    let (arn, none) = (agent().arn(), BTreeMap::new());
    let assume = |key: &Key, wanted: Wanted<'_>| {
        let assume = Assume {
            caller: key,
            context: &NoContext,
            role: wanted,
        };
        let mut judged = Vec::new();
        let given = directory.assume(&assume, &mut judged);
        let denied = judged.last().is_some_and(|last| !last.decision.is_allowed());
        assert_eq!(denied, matches!(given, Err(Error::Denied(_))), "{judged:?}");
        given
    };
    // The trust policy names the account, so the account must let the user.
    let refused = assume(&key, wanted(&arn, &none)).unwrap_err();
    let text = "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: sts:AssumeRole on resource: \
                arn:aws:iam::123456789012:role/agent because no identity-based policy allows the sts:AssumeRole action";
    assert!(matches!(&refused, Error::Denied(said) if said == text), "{refused}");
    directory
        .put_policy(alice(), "may".to_owned(), MAY_ASSUME.to_owned())
        .await
        .unwrap();
    let given = assume(&key, wanted(&arn, &none)).unwrap();
    let of_role = find(&directory, &given).unwrap();

    // A role that is not there, and one that is for others.
    let missing = assume(&key, wanted("arn:aws:iam::123456789012:role/none", &none))
        .unwrap_err()
        .to_string();
    let role = NewRole {
        trust_policy: TRUST.replace("123456789012", "999999999999"),
        ..new_role(crate::names::Holder::role(own(), "none"))
    };
    directory.create_role(role).await.unwrap();
    let others = assume(&key, wanted("arn:aws:iam::123456789012:role/none", &none))
        .unwrap_err()
        .to_string();
    assert_eq!(
        missing, others,
        "who may not have it does not learn whether it is there"
    );

    // From role to role: an hour at most, and the source identity stays.
    directory
        .put_policy(agent(), "may".to_owned(), MAY_ASSUME.to_owned())
        .await
        .unwrap();
    let long = Wanted {
        lifetime: Some(Duration::from_secs(3601)),
        ..wanted(&arn, &none)
    };
    let said = assume(&of_role, long).unwrap_err().to_string();
    assert!(said.contains("at most 3600 seconds"), "{said}");
    let named = Wanted {
        source_identity: Some("someone"),
        ..wanted(&arn, &none)
    };
    let first = find(&directory, &assume(&key, named).unwrap()).unwrap();
    let second = find(&directory, &assume(&first, wanted(&arn, &none)).unwrap()).unwrap();
    assert_eq!(second.source_identity(), Some("someone"));
    let other = Wanted {
        source_identity: Some("other"),
        ..wanted(&arn, &none)
    };
    assert!(
        assume(&first, other)
            .unwrap_err()
            .to_string()
            .contains("stays for the whole chain")
    );

    // A session policy without sts takes that away, too.
    let narrow = Wanted {
        policy: Some(POLICY),
        ..wanted(&arn, &none)
    };
    let narrow = find(&directory, &assume(&key, narrow).unwrap()).unwrap();
    let said = assume(&narrow, wanted(&arn, &none)).unwrap_err().to_string();
    assert!(said.contains("no session policy allows"), "{said}");
}

#[tokio::test]
async fn the_runtime_and_identity_providers_need_to_be_named() {
    let (_home, directory) = home_with_role().await;
    let asked = ForSession {
        role_arn: agent().arn(),
        session_name: "session-1".to_owned(),
        lifetime: Duration::from_secs(7200),
        tags: BTreeMap::from([("runtime".to_owned(), "x".to_owned())]),
        source_arn: Some("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a-0123456789".to_owned()),
    };
    let said = directory.issue_for_session(&asked).unwrap_err();
    assert!(
        matches!(&said, Error::Denied(text) if text == "Not authorized to perform sts:AssumeRole"),
        "{said}"
    );
    let provider = "arn:aws:iam::123456789012:oidc-provider/id.example";
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Principal":{{"Service":"bedrock-agentcore.amazonaws.com"}},"Action":"sts:AssumeRole",
              "Condition":{{"StringEquals":{{"aws:SourceAccount":"123456789012"}},"ArnLike":{{"aws:SourceArn":"arn:aws:bedrock-agentcore:*:123456789012:*"}}}}}},
            {{"Effect":"Allow","Principal":{{"Federated":"{provider}"}},"Action":"sts:AssumeRoleWithWebIdentity"}}]}}"#
    );
    let change = crate::directory::RoleChange {
        trust_policy: Some(trust),
        ..Default::default()
    };
    directory.update_role(agent(), change).await.unwrap();
    let given = directory.issue_for_session(&asked).unwrap();
    let key = find(&directory, &given).unwrap();
    assert_eq!(
        key.principal().arn,
        "arn:aws:sts::123456789012:assumed-role/agent/session-1"
    );
    let lives = given.expires.as_second() - crate::directory::tests::NOW;
    assert_eq!(lives, 3600, "cut to what the role allows");
    let elsewhere = ForSession {
        source_arn: None,
        ..asked
    };
    assert!(directory.issue_for_session(&elsewhere).is_err());

    let (arn, none) = (agent().arn(), BTreeMap::new());
    let by = |provider: &str| {
        let assume = AssumeWithToken {
            provider,
            context: &NoContext,
            role: wanted(&arn, &none),
        };
        directory.assume_with_token(&assume, &mut Vec::new())
    };
    assert!(find(&directory, &by(provider).unwrap()).is_ok());
    assert!(matches!(
        by("arn:aws:iam::123456789012:oidc-provider/other"),
        Err(Error::Denied(_))
    ));
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_used() {
    let cache = Cache::bounded(10);
    let key = |id: &str| {
        Arc::new(Key::root(AccessKey {
            id: id.to_owned(),
            ..AccessKey::generate(own()).unwrap()
        }))
    };
    cache.put(key("used"));
    for number in 0..1000 {
        cache.put(key(&number.to_string()));
        assert!(cache.get("used").is_some(), "{number}");
        assert!(cache.len() <= 10);
    }
    cache.remove("used");
    assert!(cache.get("used").is_none() && cache.get("3").is_none());
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let temporary = Temporary {
        access_key_id: "ASIA".to_owned(),
        secret: "the-secret".to_owned().into(),
        session_token: "the-token".to_owned().into(),
        expires: Timestamp::UNIX_EPOCH,
        principal: Principal::root(own(), "ASIA".to_owned()),
        packed_percent: 1,
    };
    let shown = format!("{temporary:?}");
    assert!(!shown.contains("the-secret") && !shown.contains("the-token"), "{shown}");
}
