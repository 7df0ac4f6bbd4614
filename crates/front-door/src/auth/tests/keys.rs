//! Keys on disk and in memory, and what happens to a verification when its key changes.

use super::{Check, Refusal, key};
use crate::auth::{AccessKey, EMPTY_PAYLOAD, Keys, Verifier};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use domain::Clock;
use domain::id::AccountId;
use http::request::Parts;
use iam::keys::{Error, read_root};
use jiff::Timestamp;
use std::sync::Arc;
use storage::seal::MasterKey;
use storage::sqlite::Store;
use storage::{Expect, Records};

const NOW: i64 = 1_795_341_600;

struct Home {
    folder: tempfile::TempDir,
    records: Arc<Store>,
    master: Arc<MasterKey>,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let records = Arc::new(Store::open(folder.path().join("records.db")).unwrap());
        Self {
            folder,
            records,
            master: Arc::new(MasterKey::generate().unwrap()),
        }
    }

    async fn keys(&self) -> Result<Keys, Error> {
        Keys::open(Arc::clone(&self.records) as Arc<dyn Records>, Arc::clone(&self.master)).await
    }
}

fn account(digits: &str) -> AccountId {
    AccountId::parse(digits).unwrap()
}

fn verifier(keys: &Arc<Keys>, now: i64) -> Verifier {
    Verifier::new(
        Arc::clone(keys),
        "us-west-2",
        Clock::from_fn(move || Timestamp::from_second(now).unwrap()),
    )
}

/// A request without a body, signed by the SDK's signer.
fn signed(id: &str, secret: &str, now: i64) -> Parts {
    let mut request = http::Request::get("http://localhost:8780/runtimes/").body(()).unwrap();
    let identity = Credentials::new(id, secret, None, None, "test").into();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(now.try_into().unwrap());
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

#[tokio::test]
async fn the_root_key_is_made_once_and_can_be_read_beside_the_server() {
    let home = Home::new();
    assert!(read_root(&*home.records, &home.master).await.unwrap().is_none());

    let keys = home.keys().await.unwrap();
    assert!(keys.root().is_none());
    keys.ensure_root(&account("123456789012")).await.unwrap();
    let (id, secret) = keys.root().unwrap();
    assert!(id.len() == 20 && id.starts_with("AKIA"), "{id}");
    assert!(
        id.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b)),
        "{id}"
    );
    assert_eq!(secret.len(), 40);

    keys.ensure_root(&account("123456789012")).await.unwrap();
    assert_eq!(keys.root().unwrap().0, id);
    let beside = Store::open_read_only(home.records.path()).unwrap();
    assert_eq!(
        read_root(&beside, &home.master).await.unwrap(),
        Some((id.clone(), secret.clone()))
    );

    let again = Arc::new(home.keys().await.unwrap());
    assert_eq!(again.root(), Some((id.clone(), secret.clone())));
    let sent = signed(&id, &secret, NOW);
    let caller = verifier(&again, NOW)
        .check(&sent)
        .unwrap()
        .verify(&EMPTY_PAYLOAD)
        .unwrap();
    assert_eq!(caller.arn, "arn:aws:iam::123456789012:root");
    assert_eq!(caller.access_key_id, id);
}

#[tokio::test]
async fn the_root_key_follows_the_configured_account() {
    let home = Home::new();
    let keys = home.keys().await.unwrap();
    keys.ensure_root(&account("123456789012")).await.unwrap();
    let credentials = keys.root().unwrap();
    let again = Arc::new(home.keys().await.unwrap());
    again.ensure_root(&account("999999999999")).await.unwrap();
    assert_eq!(again.root().unwrap(), credentials);
    let sent = signed(&credentials.0, &credentials.1, NOW);
    let caller = verifier(&again, NOW)
        .check(&sent)
        .unwrap()
        .verify(&EMPTY_PAYLOAD)
        .unwrap();
    assert_eq!(caller.account, account("999999999999"));
}

#[tokio::test]
async fn of_two_first_starts_one_makes_the_root_key() {
    let home = Home::new();
    let (first, second) = (home.keys().await.unwrap(), home.keys().await.unwrap());
    let number = account("123456789012");
    let (one, two) = tokio::join!(first.ensure_root(&number), second.ensure_root(&number));
    assert_eq!(
        [&one, &two].iter().filter(|done| done.is_ok()).count(),
        1,
        "{one:?} {two:?}"
    );
}

#[tokio::test]
async fn no_secret_is_on_disk_or_in_debug_output() {
    let home = Home::new();
    let keys = home.keys().await.unwrap();
    keys.ensure_root(&account("123456789012")).await.unwrap();
    let temporary = key("ASIATEMPORARY", "a-very-secret-secret", Some("a-very-secret-token"));
    keys.put(temporary.clone()).await.unwrap();
    let (_, secret) = keys.root().unwrap();
    let hidden = [secret.as_str(), "a-very-secret-secret", "a-very-secret-token"];

    let mut texts = vec![format!("{keys:?} {temporary:?} {:?}", keys.find("ASIATEMPORARY"))];
    for entry in std::fs::read_dir(home.folder.path()).unwrap() {
        texts.push(String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned());
    }
    assert!(
        texts.len() > 1 && texts.iter().skip(1).any(|text| text.contains("ASIATEMPORARY")),
        "looked at the wrong files"
    );
    for text in &texts {
        assert!(hidden.iter().all(|secret| !text.contains(secret)));
    }
}

#[tokio::test]
async fn a_changed_key_stops_working_at_once_and_stays_so_after_a_restart() {
    let home = Home::new();
    let keys = Arc::new(home.keys().await.unwrap());
    let old = key("AKIDEXAMPLE", "old secret", None);
    keys.put(old.clone()).await.unwrap();
    let (by_old, by_new) = (
        signed("AKIDEXAMPLE", "old secret", NOW),
        signed("AKIDEXAMPLE", "new secret", NOW),
    );
    let check = |keys: &Arc<Keys>, parts: &Parts| {
        verifier(keys, NOW)
            .check(parts)
            .and_then(|pending| pending.verify(&EMPTY_PAYLOAD))
            .err()
    };
    assert_eq!(check(&keys, &by_old), None);
    assert_eq!(check(&keys, &by_new), Some(Refusal::SignatureDoesNotMatch));

    // One request has passed its head check and is still sending its body while the secret changes.
    let ours = verifier(&keys, NOW);
    let pending = ours.check(&by_old).unwrap();
    let new = AccessKey {
        secret: "new secret".to_owned().into(),
        ..old
    };
    keys.put(new.clone()).await.unwrap();
    assert_eq!(pending.verify(&EMPTY_PAYLOAD), Err(Refusal::UnrecognizedClient));
    assert_eq!(check(&keys, &by_old), Some(Refusal::SignatureDoesNotMatch));
    assert_eq!(check(&keys, &by_new), None);

    let pending = ours.check(&by_new).unwrap();
    keys.put(AccessKey { enabled: false, ..new }).await.unwrap();
    assert_eq!(pending.verify(&EMPTY_PAYLOAD), Err(Refusal::UnrecognizedClient));
    assert_eq!(check(&keys, &by_new), Some(Refusal::UnrecognizedClient));
    let again = Arc::new(home.keys().await.unwrap());
    assert_eq!(check(&again, &by_new), Some(Refusal::UnrecognizedClient));
}

#[test]
fn around_midnight_both_days_verify() {
    let keys = Arc::new(Keys::in_memory([key("AKIDEXAMPLE", "secret", None)]).unwrap());
    let midnight = 1_795_305_600;
    assert_eq!(midnight % 86_400, 0);
    let ours = verifier(&keys, midnight);
    for _ in 0..3 {
        for now in [midnight - 1, midnight, midnight + 1] {
            let sent = signed("AKIDEXAMPLE", "secret", now);
            assert!(ours.check(&sent).unwrap().verify(&EMPTY_PAYLOAD).is_ok(), "{now}");
        }
    }
    // One set of keys may serve verifiers of several scopes; what is cached for one does not count for another.
    let other = Verifier::new(
        Arc::clone(&keys),
        "eu-west-1",
        Clock::from_fn(move || Timestamp::from_second(midnight).unwrap()),
    );
    let sent = signed("AKIDEXAMPLE", "secret", midnight);
    assert!(matches!(other.check(&sent), Err(Refusal::ScopeRegion { .. })));
}

#[tokio::test]
async fn a_record_that_is_not_ours_to_read_stops_the_start() {
    let home = Home::new();
    home.keys()
        .await
        .unwrap()
        .ensure_root(&account("123456789012"))
        .await
        .unwrap();
    let other = Arc::new(MasterKey::generate().unwrap());
    let opened = Keys::open(Arc::clone(&home.records) as Arc<dyn Records>, other).await;
    assert!(
        matches!(opened, Err(Error::Storage(storage::Error::Sealed(_)))),
        "{opened:?}"
    );

    // A sealed secret that is copied to another record does not open there.
    let root = home.records.get("access-key", "root").await.unwrap().unwrap();
    let write = |key: &str, value| storage::Write {
        kind: "access-key".to_owned(),
        key: key.to_owned(),
        expect: Expect::Anything,
        value,
    };
    home.records
        .commit(vec![write("AKIDCOPY", Some(root.value.clone()))])
        .await
        .unwrap();
    assert!(matches!(
        home.keys().await,
        Err(Error::Storage(storage::Error::Sealed(_)))
    ));

    let whole = String::from_utf8(root.value.to_vec()).unwrap();
    assert!(whole.starts_with(r#"{"schema":1,"data":{"#), "{whole}");
    let bare = serde_json::from_str::<serde_json::Value>(&whole).unwrap()["data"].to_string();
    home.records.commit(vec![write("AKIDCOPY", None)]).await.unwrap();
    for (text, word) in [
        ("{}".to_owned(), "missing field `schema`"),
        (bare, "missing field `schema`"),
        (r#"{"schema":1}"#.to_owned(), "missing field `data`"),
        (whole.replace(r#""enabled""#, r#""allowed""#), "unknown field `allowed`"),
        (
            whole.replace(r#""schema":1"#, r#""schema":2"#),
            "has schema 2, this program knows 1",
        ),
        (
            r#"{"schema":2,"other":"form"}"#.to_owned(),
            "use the Eyot that wrote it",
        ),
    ] {
        home.records
            .commit(vec![write("root", Some(text.into()))])
            .await
            .unwrap();
        let said = home.keys().await.unwrap_err().to_string();
        assert!(
            said.contains("access key record 'root'") && said.contains(word),
            "{said}"
        );
    }
}

#[tokio::test]
async fn more_keys_than_one_page_are_read() {
    let home = Home::new();
    let keys = home.keys().await.unwrap();
    let all: Vec<_> = (0..501).map(|n| key(&format!("AKID{n:04}"), "s", None)).collect();
    futures_util::future::try_join_all(all.iter().map(|access| keys.put(access.clone())))
        .await
        .unwrap();
    let again = home.keys().await.unwrap();
    assert!(all.iter().all(|access| again.find(&access.id).is_some()));
}
