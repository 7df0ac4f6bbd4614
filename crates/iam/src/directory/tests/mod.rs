//! The directory through its own interface: what is written down, what is visible, what is refused and when.

use std::sync::Arc;
use std::time::Duration;

use domain::Clock;
use domain::id::AccountId;
use jiff::Timestamp;
use storage::seal::MasterKey;
use storage::sqlite::Store;
use storage::{Expect, Records, Write};

use super::*;
use crate::keys::Missing;
use crate::names::Holder;

mod crash;
mod upkeep;

pub(crate) const NOW: i64 = 1_795_341_600;
pub(crate) const POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"eyot:*","Resource":"*"}]}"#;
pub(crate) const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]}]}"#;

/// A data directory, and directories that are opened on it one after the other, as by restarts.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    pub(crate) records: Arc<Store>,
    master: Arc<MasterKey>,
    now: Arc<std::sync::atomic::AtomicI64>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let records = Arc::new(Store::open(folder.path().join("records.db")).unwrap());
        Self {
            folder,
            records,
            master: Arc::new(MasterKey::generate().unwrap()),
            now: Arc::new(NOW.into()),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Clock::from_fn(move || Timestamp::from_second(now.load(std::sync::atomic::Ordering::SeqCst)).unwrap())
    }

    pub(crate) fn wait(&self, time: Duration) {
        let seconds = time.as_secs().try_into().unwrap();
        self.now.fetch_add(seconds, std::sync::atomic::Ordering::SeqCst);
    }

    pub(crate) async fn open(&self) -> Directory {
        self.try_open(own(), Arc::clone(&self.master)).await.unwrap()
    }

    async fn try_open(&self, account: AccountId, master: Arc<MasterKey>) -> Result<Directory, Error> {
        Directory::open(Parts {
            records: Arc::clone(&self.records) as Arc<dyn Records>,
            master,
            account,
            clock: self.clock(),
        })
        .await
    }

    async fn write(&self, kind: &str, key: &str, value: Option<String>) {
        let write = Write {
            kind: kind.to_owned(),
            key: key.to_owned(),
            expect: Expect::Anything,
            value: value.map(Into::into),
        };
        self.records.commit(vec![write]).await.unwrap();
    }
}

pub(crate) fn own() -> AccountId {
    AccountId::parse("123456789012").unwrap()
}

pub(crate) fn alice() -> Holder {
    Holder::user(own(), "alice")
}

pub(crate) fn agent() -> Holder {
    Holder::role(own(), "agent")
}

pub(crate) fn new_role(holder: Holder) -> NewRole {
    NewRole {
        holder,
        trust_policy: TRUST.to_owned(),
        max_session: None,
        description: None,
    }
}

#[tokio::test]
async fn the_root_key_is_made_once_and_can_be_read_beside_the_server() {
    let home = Home::new();
    assert!(read_root(&*home.records, &home.master).await.unwrap().is_none());
    let (id, secret) = home.open().await.root().unwrap();
    assert!(id.len() == 20 && id.starts_with("AKIA") && secret.len() == 40, "{id}");
    let again = home.open().await;
    assert_eq!(again.root(), Some((id.clone(), secret.clone())));
    let beside = Store::open_read_only(home.records.path()).unwrap();
    assert_eq!(
        read_root(&beside, &home.master).await.unwrap(),
        Some((id.clone(), secret))
    );
    let key = again.find(&id, None).unwrap();
    assert_eq!(key.principal().arn, "arn:aws:iam::123456789012:root");
    assert!(again.policies(&key).identity.is_empty());
}

#[tokio::test]
async fn the_root_key_follows_the_configured_account() {
    let home = Home::new();
    let root = home.open().await.root().unwrap();
    let other = AccountId::parse("999999999999").unwrap();
    let again = home.try_open(other.clone(), Arc::clone(&home.master)).await.unwrap();
    assert_eq!(again.root().unwrap(), root);
    assert_eq!(again.find(&root.0, None).unwrap().principal().account, other);
}

#[tokio::test]
async fn of_two_first_starts_one_makes_the_root_key() {
    let home = Home::new();
    let open = || home.try_open(own(), Arc::clone(&home.master));
    let (one, two) = tokio::join!(open(), open());
    let made = [one, two]
        .into_iter()
        .flatten()
        .filter_map(|directory| directory.root());
    let made: std::collections::HashSet<_> = made.map(|(id, _)| id).collect();
    assert_eq!(made.len(), 1, "both have the same key, or one has none");
}

#[tokio::test]
async fn a_key_of_an_earlier_build_still_works() {
    let home = Home::new();
    let sealed = home.master.seal("access-key/root/secret", b"old secret").unwrap();
    let old = format!(
        r#"{{"schema":1,"data":{{"id":"AKIAOLD","account":"123456789012","secret":"{sealed}","enabled":true}}}}"#
    );
    home.write("access-key", "root", Some(old)).await;
    let (id, secret) = home.open().await.root().unwrap();
    assert_eq!((id.as_str(), secret.as_str()), ("AKIAOLD", "old secret"));
}

#[tokio::test]
async fn users_keys_and_policies_are_there_after_a_restart() {
    let home = Home::new();
    let directory = home.open().await;
    let user = directory.create_user(alice()).await.unwrap();
    assert!(user.user_id.starts_with("AIDA") && user.arn == "arn:aws:iam::123456789012:user/alice");
    let (view, access) = directory.create_key(alice()).await.unwrap();
    directory
        .put_policy(alice(), "mine".to_owned(), POLICY.to_owned())
        .await
        .unwrap();
    for directory in [directory, home.open().await] {
        let key = directory.find(&view.access_key_id, None).unwrap();
        assert_eq!(key.principal().id, user.user_id);
        assert_eq!(key.access().secret, access.secret);
        let held = directory.policies(&key);
        assert_eq!((held.identity.len(), held.session.is_none()), (1, true));
        assert_eq!(&**held.identity[0].name(), "mine", "decisions can say which");
        assert_eq!(directory.policy(&alice(), "mine").unwrap(), POLICY);
        assert_eq!(
            directory.users(&own(), None, 10).items,
            [directory.user(&alice()).unwrap()]
        );
        assert_eq!(
            directory.find(&view.access_key_id, Some(b"token")).err(),
            Some(Missing::Unknown)
        );
    }
}

#[tokio::test]
async fn what_is_refused_says_what_and_why() {
    let home = Home::new();
    let directory = home.open().await;
    directory.create_user(alice()).await.unwrap();
    directory.create_role(new_role(agent())).await.unwrap();
    let nobody = Holder::user(own(), "bob");
    let said = |result: Result<(), Error>| result.unwrap_err().to_string();
    let check = |text: String, word: &str| assert!(text.contains(word), "{text:?} lacks {word:?}");

    check(
        said(directory.create_user(Holder::user(own(), "Alice")).await.map(drop)),
        "already the user 'alice'",
    );
    check(
        said(directory.create_user(Holder::user(own(), "a/b")).await.map(drop)),
        "userName: 'a/b' is no name",
    );
    check(
        said(directory.create_key(nobody.clone()).await.map(drop)),
        "no user 'bob' in account 123456789012",
    );
    check(said(directory.delete_user(nobody.clone()).await), "no user 'bob'");
    check(
        said(directory.delete_policy(alice(), "none".to_owned()).await),
        "has no policy 'none'",
    );
    check(
        said(directory.delete_key(alice(), "AKIANONE".to_owned()).await),
        "has no access key 'AKIANONE'",
    );
    check(
        said(directory.create_role(new_role(agent())).await.map(drop)),
        "already the role 'agent'",
    );
    let broken = POLICY.replace("Allow", "Perhaps");
    check(
        said(directory.put_policy(alice(), "x".to_owned(), broken.clone()).await),
        "policy: Statement[0].Effect",
    );
    let role = NewRole {
        trust_policy: broken,
        ..new_role(Holder::role(own(), "other"))
    };
    check(
        said(directory.create_role(role).await.map(drop)),
        "trustPolicy: Statement[0]",
    );
    let change = RoleChange {
        max_session: Some(60),
        ..RoleChange::default()
    };
    check(
        said(directory.update_role(agent(), change).await.map(drop)),
        "maxSessionDuration: 60 seconds",
    );
    assert_eq!(
        directory.role(&agent()).unwrap().max_session_duration,
        3600,
        "nothing was changed"
    );
}

#[tokio::test]
async fn there_is_an_end_to_keys_and_policies() {
    let home = Home::new();
    let directory = home.open().await;
    directory.create_user(alice()).await.unwrap();
    for _ in 0..MAX_KEYS {
        directory.create_key(alice()).await.unwrap();
    }
    let refused = directory.create_key(alice()).await.map(drop).unwrap_err();
    assert!(
        matches!(&refused, Error::Quota(text) if text.contains("2 access keys")),
        "{refused}"
    );
    // One in the place of another is no third one.
    let first = directory.keys(&alice()).unwrap().remove(0).access_key_id;
    directory.rotate_key(alice(), first.clone()).await.unwrap();
    assert!(
        directory
            .keys(&alice())
            .unwrap()
            .iter()
            .all(|key| key.access_key_id != first)
    );

    for number in 0..MAX_POLICIES {
        directory
            .put_policy(alice(), format!("p{number}"), POLICY.to_owned())
            .await
            .unwrap();
    }
    directory
        .put_policy(alice(), "p0".to_owned(), POLICY.to_owned())
        .await
        .unwrap();
    let refused = directory
        .put_policy(alice(), "more".to_owned(), POLICY.to_owned())
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Error::Quota(text) if text.contains("10 policies")),
        "{refused}"
    );
    let long = POLICY.replace("eyot:*", &format!("eyot:{}", "x".repeat(10_000)));
    directory
        .put_policy(alice(), "p1".to_owned(), long.clone())
        .await
        .unwrap();
    directory
        .put_policy(alice(), "p2".to_owned(), long.clone())
        .await
        .unwrap_err();
}

#[tokio::test]
async fn users_of_other_accounts_are_others() {
    let home = Home::new();
    let directory = home.open().await;
    let other = AccountId::parse("999999999999").unwrap();
    directory.create_user(alice()).await.unwrap();
    let twin = directory
        .create_user(Holder::user(other.clone(), "alice"))
        .await
        .unwrap();
    assert_eq!(twin.arn, "arn:aws:iam::999999999999:user/alice");
    directory.delete_user(alice()).await.unwrap();
    assert_eq!(directory.users(&own(), None, 10).items, []);
    assert_eq!(directory.users(&other, None, 10).items, [twin]);
}

#[tokio::test]
async fn lists_come_in_parts_that_fit_together() {
    let home = Home::new();
    let directory = home.open().await;
    for name in ["c", "a", "e", "b", "d"] {
        directory.create_user(Holder::user(own(), name)).await.unwrap();
    }
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = directory.users(&own(), after.as_deref(), 2);
        names.extend(page.items.into_iter().map(|user| user.user_name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_user_made_again_is_another() {
    let home = Home::new();
    let directory = home.open().await;
    let first = directory.create_user(alice()).await.unwrap();
    let (key, _) = directory.create_key(alice()).await.unwrap();
    let found = directory.find(&key.access_key_id, None).unwrap();
    directory.delete_user(alice()).await.unwrap();
    assert!(found.is_retired(), "also for a body that is still arriving");
    let second = directory.create_user(alice()).await.unwrap();
    assert_ne!(first.user_id, second.user_id);
    assert_eq!(second.access_keys, []);
    assert_eq!(
        home.open().await.find(&key.access_key_id, None).err(),
        Some(Missing::Unknown)
    );
}

/// A caller that goes away leaves nothing that is durable and not visible.
#[tokio::test]
async fn a_change_whose_caller_went_away_is_made_wholly() {
    let home = Home::new();
    let directory = home.open().await;
    directory.create_user(alice()).await.unwrap();
    let (view, _) = directory.create_key(alice()).await.unwrap();
    let found = directory.find(&view.access_key_id, None).unwrap();
    {
        let change = directory.set_key_enabled(alice(), view.access_key_id.clone(), false);
        let mut change = Box::pin(change);
        assert!(futures_poll(&mut change).await.is_none(), "it has only begun");
    }
    directory.close().await;
    assert!(found.is_retired());
    assert_eq!(directory.find(&view.access_key_id, None).err(), Some(Missing::Unknown));
    assert_eq!(
        home.open().await.find(&view.access_key_id, None).err(),
        Some(Missing::Unknown)
    );
    assert!(matches!(directory.create_user(alice()).await, Err(Error::Closed)));
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn no_secret_is_on_disk_or_in_debug_output() {
    let home = Home::new();
    let directory = home.open().await;
    directory.create_user(alice()).await.unwrap();
    let (view, access) = directory.create_key(alice()).await.unwrap();
    let (_, root) = directory.root().unwrap();
    let key = directory.find(&view.access_key_id, None).unwrap();
    let mut texts = vec![format!("{directory:?} {access:?} {view:?} {key:?}")];
    for entry in std::fs::read_dir(home.folder.path()).unwrap() {
        texts.push(String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned());
    }
    assert!(
        texts.iter().skip(1).any(|text| text.contains(&view.access_key_id)),
        "looked at the wrong files"
    );
    for text in &texts {
        assert!(!text.contains(access.secret.as_str()) && !text.contains(root.as_str()));
    }
}

#[tokio::test]
async fn a_record_that_is_not_ours_to_read_stops_the_start() {
    let home = Home::new();
    home.open().await;
    let other = Arc::new(MasterKey::generate().unwrap());
    let opened = home.try_open(own(), other).await;
    assert!(
        matches!(opened, Err(Error::Storage(storage::Error::Sealed(_)))),
        "{opened:?}"
    );

    // A sealed secret that is copied to another record does not open there.
    let root = home.records.get("access-key", "root").await.unwrap().unwrap();
    let whole = String::from_utf8(root.value.to_vec()).unwrap();
    home.write("access-key", "AKIDCOPY", Some(whole.clone())).await;
    let opened = home.try_open(own(), Arc::clone(&home.master)).await;
    assert!(
        matches!(opened, Err(Error::Storage(storage::Error::Sealed(_)))),
        "{opened:?}"
    );
    home.write("access-key", "AKIDCOPY", None).await;

    assert!(whole.starts_with(r#"{"schema":2,"data":{"#), "{whole}");
    for (text, word) in [
        ("{}".to_owned(), "missing field `schema`"),
        (r#"{"schema":1}"#.to_owned(), "missing field `data`"),
        (whole.replace(r#""enabled""#, r#""allowed""#), "unknown field `allowed`"),
        (
            whole.replace(r#""schema":2"#, r#""schema":3"#),
            "has schema 3, this program knows 2",
        ),
        (
            r#"{"schema":3,"other":"form"}"#.to_owned(),
            "use the Eyot that wrote it",
        ),
    ] {
        home.write("access-key", "root", Some(text)).await;
        let said = home
            .try_open(own(), Arc::clone(&home.master))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("access key record 'root'") && said.contains(word),
            "{said}"
        );
    }
    home.write("access-key", "root", Some(whole)).await;
    let user = r#"{"schema":1,"data":{"account":"123456789012","name":"a","id":"AIDA","created":"2026-01-01T00:00:00Z","policies":{"p":"{}"}}}"#;
    home.write("iam-user", "123456789012/a", Some(user.to_owned())).await;
    let said = home
        .try_open(own(), Arc::clone(&home.master))
        .await
        .unwrap_err()
        .to_string();
    assert!(said.contains("user record '123456789012/a': policy 'p': "), "{said}");
}

#[tokio::test]
async fn a_change_under_our_feet_is_noticed() {
    let home = Home::new();
    let directory = home.open().await;
    directory.create_user(alice()).await.unwrap();
    home.write("iam-user", "123456789012/alice", Some("{}".to_owned()))
        .await;
    let refused = directory.create_key(alice()).await.map(drop).unwrap_err();
    assert!(matches!(refused, Error::Changed), "{refused}");
    assert_eq!(directory.keys(&alice()).unwrap(), [], "nothing of it is visible");
}

#[tokio::test]
async fn more_keys_than_one_page_are_read() {
    let home = Home::new();
    let directory = home.open().await;
    let mut ids = Vec::new();
    for number in 0..260 {
        let user = Holder::user(own(), &format!("u{number}"));
        directory.create_user(user.clone()).await.unwrap();
        for _ in 0..2 {
            ids.push(directory.create_key(user.clone()).await.unwrap().0.access_key_id);
        }
    }
    let again = home.open().await;
    assert!(ids.len() > 500 && ids.iter().all(|id| again.find(id, None).is_ok()));
}
