//! What happens to a verification when its key, or whom it belongs to, changes. The keys themselves are tested in `iam`.

use super::{Check, Refusal, key};
use crate::auth::{Directory, EMPTY_PAYLOAD, Pending, Verifier};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use domain::Clock;
use domain::id::AccountId;
use http::request::Parts;
use iam::directory::{self, NewRole};
use iam::names::Holder;
use iam::sts::{Issue, Revoke, Subject, Temporary};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::seal::MasterKey;
use storage::sqlite::Store;

const NOW: i64 = 1_795_341_600;

/// A directory on disk with user `alice` and role `agent`.
struct Home {
    directory: Arc<Directory>,
    alice: Holder,
    agent: Holder,
    _folder: tempfile::TempDir,
}

impl Home {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let account = AccountId::parse("123456789012").unwrap();
        let directory = Directory::open(directory::Parts {
            records: Arc::new(Store::open(folder.path().join("records.db")).unwrap()),
            master: Arc::new(MasterKey::generate().unwrap()),
            account: account.clone(),
            clock: clock(NOW),
        });
        let directory = Arc::new(directory.await.unwrap());
        let (alice, agent) = (Holder::user(account.clone(), "alice"), Holder::role(account, "agent"));
        directory.create_user(alice.clone()).await.unwrap();
        let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}]}"#;
        let role = NewRole {
            holder: agent.clone(),
            trust_policy: trust.to_owned(),
            max_session: None,
            description: None,
        };
        directory.create_role(role).await.unwrap();
        Self {
            directory,
            alice,
            agent,
            _folder: folder,
        }
    }

    fn temporary(&self) -> Temporary {
        let issue = Issue {
            subject: Subject::Role {
                role: self.agent.clone(),
                session: "work".to_owned(),
            },
            lifetime: Duration::from_secs(900),
            session_policy: None,
            source_identity: None,
            tags: BTreeMap::new(),
        };
        self.directory.issue(issue).unwrap()
    }
}

fn clock(now: i64) -> Clock {
    Clock::from_fn(move || Timestamp::from_second(now).unwrap())
}

fn verifier(directory: &Arc<Directory>, now: i64) -> Verifier {
    Verifier::new(Arc::clone(directory), "us-west-2", clock(now))
}

fn by(temporary: &Temporary, token: &str) -> Parts {
    signed(&temporary.access_key_id, &temporary.secret, Some(token), NOW)
}

/// A request without a body, signed by the SDK's signer.
fn signed(id: &str, secret: &str, token: Option<&str>, now: i64) -> Parts {
    let mut request = http::Request::get("http://localhost:8780/runtimes/").body(()).unwrap();
    let identity = Credentials::new(id, secret, token.map(str::to_owned), None, "test").into();
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(now.try_into().unwrap());
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-west-2")
        .name("bedrock-agentcore")
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let uri = request.uri().to_string();
    let signable = SignableRequest::new("GET", uri, std::iter::empty(), SignableBody::Bytes(b"")).unwrap();
    sign(signable, &parameters)
        .unwrap()
        .into_parts()
        .0
        .apply_to_request_http1x(&mut request);
    request.into_parts().0
}

fn verify(pending: &Pending<'_>) -> Option<Refusal> {
    pending.verify(&EMPTY_PAYLOAD).err()
}

#[tokio::test]
async fn what_was_withdrawn_counts_no_more_for_a_body_that_is_still_arriving() {
    let home = Home::new().await;
    let (directory, ours) = (&home.directory, verifier(&home.directory, NOW));
    let (view, access) = directory.create_key(home.alice.clone()).await.unwrap();
    let sent = signed(&access.id, &access.secret, None, NOW);
    let signer = ours.check(&sent).unwrap().verify(&EMPTY_PAYLOAD).unwrap();
    assert_eq!(signer.principal().arn, "arn:aws:iam::123456789012:user/alice");

    let pending = ours.check(&sent).unwrap();
    assert_eq!(verify(&pending), None);
    let id = view.access_key_id;
    directory
        .set_key_enabled(home.alice.clone(), id.clone(), false)
        .await
        .unwrap();
    assert_eq!(verify(&pending), Some(Refusal::UnrecognizedClient));
    assert_eq!(ours.check(&sent).err(), Some(Refusal::UnrecognizedClient));
    directory
        .set_key_enabled(home.alice.clone(), id.clone(), true)
        .await
        .unwrap();

    let pending = ours.check(&sent).unwrap();
    let (_, new) = directory.rotate_key(home.alice.clone(), id).await.unwrap();
    assert_eq!(verify(&pending), Some(Refusal::UnrecognizedClient));

    let sent = signed(&new.id, &new.secret, None, NOW);
    let pending = ours.check(&sent).unwrap();
    directory.delete_user(home.alice.clone()).await.unwrap();
    assert_eq!(verify(&pending), Some(Refusal::UnrecognizedClient));
    assert_eq!(ours.check(&sent).err(), Some(Refusal::UnrecognizedClient));
}

#[tokio::test]
async fn temporary_credentials_end_with_their_time_their_role_and_a_revocation() {
    let home = Home::new().await;
    let ours = verifier(&home.directory, NOW);
    let temporary = home.temporary();
    let sent = by(&temporary, &temporary.session_token);
    let signer = ours.check(&sent).unwrap().verify(&EMPTY_PAYLOAD).unwrap();
    assert_eq!(
        signer.principal().arn,
        "arn:aws:sts::123456789012:assumed-role/agent/work"
    );

    // The token belongs to its key, whole, and to no other.
    let other = home.temporary();
    for token in [&other.session_token, &temporary.session_token[1..], "", "x"] {
        assert_eq!(
            ours.check(&by(&temporary, token)).err(),
            Some(Refusal::UnrecognizedClient)
        );
    }
    let bare = signed(&temporary.access_key_id, &temporary.secret, None, NOW);
    assert_eq!(ours.check(&bare).err(), Some(Refusal::UnrecognizedClient));

    let pending = ours.check(&sent).unwrap();
    let revoke = Revoke::Credential {
        id: temporary.access_key_id.clone(),
        expires: Some(temporary.expires),
    };
    home.directory.revoke(revoke).await.unwrap();
    assert_eq!(verify(&pending), Some(Refusal::UnrecognizedClient));
    assert_eq!(ours.check(&sent).err(), Some(Refusal::UnrecognizedClient));

    let sent = by(&other, &other.session_token);
    let pending = ours.check(&sent).unwrap();
    assert_eq!(verify(&pending), None);
    home.directory.delete_role(home.agent.clone()).await.unwrap();
    assert_eq!(verify(&pending), Some(Refusal::UnrecognizedClient));
    assert_eq!(ours.check(&sent).err(), Some(Refusal::UnrecognizedClient));
}

#[test]
fn around_midnight_both_days_verify() {
    let directory = Arc::new(Directory::fixed([key("AKIDEXAMPLE", "secret", None)]).unwrap());
    let midnight = 1_795_305_600;
    assert_eq!(midnight % 86_400, 0);
    let ours = verifier(&directory, midnight);
    for _ in 0..3 {
        for now in [midnight - 1, midnight, midnight + 1] {
            let sent = signed("AKIDEXAMPLE", "secret", None, now);
            assert!(ours.check(&sent).unwrap().verify(&EMPTY_PAYLOAD).is_ok(), "{now}");
        }
    }
    // One set of keys may serve verifiers of several scopes; what is cached for one does not count for another.
    let other = Verifier::new(Arc::clone(&directory), "eu-west-1", clock(midnight));
    let sent = signed("AKIDEXAMPLE", "secret", None, midnight);
    assert!(matches!(other.check(&sent), Err(Refusal::ScopeRegion { .. })));
}
