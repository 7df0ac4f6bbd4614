//! When keys were last used, and revocations that are over.

use std::time::Duration;

use super::{Home, NOW, agent, alice, new_role};
use crate::sts::Revoke;
use jiff::Timestamp;
use storage::Records;

#[tokio::test(start_paused = true)]
async fn the_last_use_is_written_once_a_minute_and_not_on_the_way() {
    let home = Home::new();
    let directory = home.open().await;
    directory.create_user(alice()).await.unwrap();
    let (view, _) = directory.create_key(alice()).await.unwrap();
    let id = view.access_key_id;
    let key = directory.find(&id, None).unwrap();
    let last = |directory: &super::Directory| directory.keys(&alice()).unwrap()[0].last_used_at;
    let record = async || home.records.get("access-key-used", &id).await.unwrap();
    assert_eq!(last(&directory), None);

    for second in 0..10 {
        key.used(Timestamp::from_second(NOW + second).unwrap());
    }
    assert_eq!(last(&directory).unwrap().as_second(), NOW + 9, "seen at once");
    assert!(record().await.is_none(), "and not written");
    tokio::time::sleep(Duration::from_secs(61)).await;
    let settled = async |than: u64| loop {
        if let Some(found) = record().await
            && found.revision > than
        {
            break found.revision;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let revision = settled(0).await;
    tokio::time::sleep(Duration::from_secs(180)).await;
    assert_eq!(
        record().await.unwrap().revision,
        revision,
        "nothing new, nothing written"
    );

    key.used(Timestamp::from_second(NOW + 100).unwrap());
    // The rest is written at the end.
    directory.close().await;
    assert_ne!(record().await.unwrap().revision, revision);
    let again = home.open().await;
    assert_eq!(last(&again).unwrap().as_second(), NOW + 100);
    // It stays when the key is disabled, and goes with it.
    again.set_key_enabled(alice(), id.clone(), false).await.unwrap();
    assert_eq!(last(&again).unwrap().as_second(), NOW + 100);
    again.delete_key(alice(), id.clone()).await.unwrap();
    assert!(record().await.is_none());
}

fn credential(id: &str, expires: Option<i64>) -> Revoke {
    Revoke::Credential {
        id: id.to_owned(),
        expires: expires.map(|second| Timestamp::from_second(second).unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_lives_as_long_as_what_it_is_about() {
    let home = Home::new();
    let directory = home.open().await;
    let hour = NOW + 3600;
    directory.revoke(credential("ASIAHOUR", Some(hour))).await.unwrap();
    // Whoever knows the end for certain does not cut short what another knew less of, nor the other way round.
    directory.revoke(credential("ASIAONCE", None)).await.unwrap();
    directory.revoke(credential("ASIAONCE", Some(hour))).await.unwrap();
    directory
        .revoke(credential("ASIAFAR", Some(i64::from(i32::MAX))))
        .await
        .unwrap();
    let there = async || {
        let mut there = Vec::new();
        for id in ["ASIAHOUR", "ASIAONCE", "ASIAFAR"] {
            there.push(home.records.get("iam-revoked", id).await.unwrap().is_some());
        }
        there
    };
    home.wait(Duration::from_secs(3600 + 299));
    directory.close().await;
    assert_eq!(there().await, [true, true, true], "a clock may be set back a little");
    let directory = home.open().await;
    home.wait(Duration::from_secs(2));
    directory.close().await;
    assert_eq!(there().await, [false, true, true]);
    let directory = home.open().await;
    home.wait(Duration::from_secs(36 * 3600));
    directory.close().await;
    assert_eq!(there().await, [false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn revocations_go_when_nothing_is_left_that_they_are_about() {
    let home = Home::new();
    let directory = home.open().await;
    directory.create_role(new_role(agent())).await.unwrap();
    directory.revoke(credential("ASIAONE", None)).await.unwrap();
    let record = async || home.records.get("iam-revoked", "ASIAONE").await.unwrap();
    assert!(record().await.is_some());
    home.wait(Duration::from_secs(35 * 3600));
    tokio::time::sleep(Duration::from_secs(121)).await;
    assert!(record().await.is_some(), "credentials may live for 36 hours");
    home.wait(Duration::from_secs(2 * 3600));
    directory.close().await;
    assert!(record().await.is_none());
}
