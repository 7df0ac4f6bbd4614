//! Wallets on roles that count, by a clock that the test moves.

use super::*;
use crate::artifacts::Secret;
use async_trait::async_trait;
use std::sync::atomic::{AtomicI64, Ordering};

const START: i64 = 1_800_000_000;

/// Issues `key-1`, `key-2` and so on, or fails as it is told.
#[derive(Debug, Default)]
struct Fake {
    now: AtomicI64,
    life: AtomicI64,
    issued: Mutex<Vec<String>>,
    revoked: Mutex<Vec<String>>,
    fails: Mutex<Option<Error>>,
    cannot_revoke: Mutex<Option<String>>,
}

#[async_trait]
impl Roles for Fake {
    async fn issue(&self, wanted: &Wanted<'_>) -> Result<Temporary, Error> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if let Some(error) = self.fails.lock().unwrap().clone() {
            return Err(error);
        }
        let mut issued = self.issued.lock().unwrap();
        issued.push(format!("{} {}", wanted.role_arn, wanted.session_name));
        Ok(Temporary {
            access_key_id: format!("key-{}", issued.len()),
            secret_access_key: Secret::new("secret"),
            session_token: Secret::new("token"),
            expires_at: self.at() + SignedDuration::from_secs(self.life.load(Ordering::SeqCst)),
        })
    }

    async fn revoke(&self, access_key_id: &str, _: Timestamp) -> Result<(), Error> {
        if self.cannot_revoke.lock().unwrap().as_deref() == Some(access_key_id) {
            return Err(Error::Unavailable("the disk is full".to_owned()));
        }
        self.revoked.lock().unwrap().push(access_key_id.to_owned());
        Ok(())
    }
}

impl Fake {
    fn at(&self) -> Timestamp {
        Timestamp::from_second(START + self.now.load(Ordering::SeqCst)).unwrap()
    }

    fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    fn revoked(&self) -> Vec<String> {
        self.revoked.lock().unwrap().clone()
    }
}

fn wallet(life: i64) -> (Arc<Wallet>, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    fake.life.store(life, Ordering::SeqCst);
    let clock = Arc::clone(&fake);
    let clock = Clock::from_fn(move || clock.at());
    let wallet = Wallet::new(Of {
        role: "role".to_owned(),
        name: "name".to_owned(),
        source: crate::session::testing::deployment().arn,
        roles: Arc::clone(&fake) as Arc<dyn Roles>,
        clock,
        issued: Arc::default(),
    });
    (wallet, fake)
}

async fn key(wallet: &Arc<Wallet>) -> String {
    wallet.credentials().await.unwrap().credentials.access_key_id.clone()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_who_ask_at_once_make_one_issue() {
    let (wallet, fake) = wallet(3600);
    let all: Vec<_> = (0..100)
        .map(|_| {
            let wallet = Arc::clone(&wallet);
            tokio::spawn(async move { key(&wallet).await })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), "key-1");
    }
    assert_eq!(*fake.issued.lock().unwrap(), ["role name"]);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_before_an_sdk_wants_new_ones() {
    // Life, and when a new one is given at the latest and not before.
    for (life, at) in [(3600, 2400), (43_200, 28_800), (900, 450), (60, 30)] {
        let (wallet, fake) = wallet(life);
        key(&wallet).await;
        fake.pass(at - 1);
        assert_eq!(key(&wallet).await, "key-1", "{life} s of life, {at} s old");
        fake.pass(1);
        assert_eq!(key(&wallet).await, "key-2", "{life} s of life, {at} s old");
        assert_eq!(key(&wallet).await, "key-2");
        assert_eq!(wallet.outstanding().len(), 2, "the old ones may be in use");
        fake.pass(life - at);
        assert_eq!(wallet.outstanding()[0].access_key_id, "key-2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_rests_and_does_not_take_away_what_there_is() {
    let (wallet, fake) = wallet(3600);
    let down = Error::Unavailable("down".to_owned());
    *fake.fails.lock().unwrap() = Some(down.clone());
    assert_eq!(wallet.credentials().await.unwrap_err(), down);
    *fake.fails.lock().unwrap() = None;
    fake.pass(1);
    assert_eq!(
        wallet.credentials().await.unwrap_err(),
        down,
        "it is not asked at once again"
    );
    fake.pass(1);
    assert_eq!(key(&wallet).await, "key-1");
    *fake.fails.lock().unwrap() = Some(down.clone());
    fake.pass(3500);
    assert_eq!(key(&wallet).await, "key-1", "they are good for 100 s");
    fake.pass(1);
    assert_eq!(key(&wallet).await, "key-1");
    fake.pass(99);
    assert_eq!(
        wallet.credentials().await.unwrap_err(),
        down,
        "expired ones are never given"
    );
    *fake.fails.lock().unwrap() = None;
    fake.pass(2);
    assert_eq!(key(&wallet).await, "key-2");
}

#[tokio::test(start_paused = true)]
async fn a_close_takes_back_all_that_have_not_expired() {
    let (wallet, fake) = wallet(3600);
    wallet.resume(vec![
        Outstanding {
            access_key_id: "earlier".to_owned(),
            expires_at: fake.at() + SignedDuration::from_secs(5000),
        },
        Outstanding {
            access_key_id: "expired".to_owned(),
            expires_at: fake.at(),
        },
    ]);
    key(&wallet).await;
    fake.pass(3000);
    key(&wallet).await;
    *fake.cannot_revoke.lock().unwrap() = Some("key-1".to_owned());
    wallet.close().await;
    assert_eq!(fake.revoked(), ["earlier", "key-2"]);
    assert_eq!(wallet.outstanding()[0].access_key_id, "key-1", "what is left is known");
    let refused = wallet.credentials().await.unwrap_err();
    assert_eq!(refused, Error::Refused("the session has ended".to_owned()));
    assert_eq!(fake.issued.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_close_in_the_middle_of_an_issue_takes_that_back_too() {
    let (wallet, fake) = wallet(3600);
    let asking = Arc::clone(&wallet);
    let asked = tokio::spawn(async move { asking.credentials().await });
    tokio::time::sleep(Duration::from_millis(5)).await;
    // As a client that hangs up does.
    asked.abort();
    wallet.close().await;
    assert_eq!(fake.issued.lock().unwrap().len(), 1);
    assert_eq!(fake.revoked(), ["key-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_name_gives_new_credentials_and_forgets_none() {
    let (wallet, fake) = wallet(3600);
    wallet.rename("first".to_owned());
    key(&wallet).await;
    wallet.rename("second".to_owned());
    assert_eq!(key(&wallet).await, "key-2");
    assert_eq!(key(&wallet).await, "key-2");
    assert_eq!(*fake.issued.lock().unwrap(), ["role first", "role second"]);
    wallet.close().await;
    assert_eq!(fake.revoked(), ["key-1", "key-2"]);
}
