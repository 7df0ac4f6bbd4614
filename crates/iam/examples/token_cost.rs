//! What finding the key of a call costs: `cargo run --release -p eyot-iam --example token_cost`.
//!
//! Temporary credentials whose token was opened before, those whose token is new to the server, and a forged token. The
//! figures are wall time of one thread; the best round is the one with the least noise.
#![allow(clippy::print_stdout, reason = "a measurement for people")]

use domain::{Clock, id::AccountId};
use iam::directory::{Directory, Parts};
use iam::sts::{Issue, Subject, Temporary};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{seal::MasterKey, sqlite::Store};

const ROUNDS: usize = 10;
const CALLS: usize = 4000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let account = AccountId::parse("123456789012")?;
    let directory = Directory::open(Parts {
        records: Arc::new(Store::open(folder.path().join("state.db"))?),
        master: Arc::new(MasterKey::generate()?),
        account: account.clone(),
        clock: Clock::system(),
    })
    .await?;
    let issue = || {
        directory.issue(Issue {
            subject: Subject::Root(account.clone()),
            lifetime: Duration::from_secs(900),
            session_policy: None,
            source_identity: None,
            tags: BTreeMap::new(),
        })
    };
    let find = |id: &str, token: &[u8]| directory.find(id, Some(token)).is_ok();
    let good = |one: &Temporary| find(&one.access_key_id, one.session_token.as_bytes());

    let known = issue()?;
    let (mut cached, mut fresh, mut forged) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let new = (0..CALLS).map(|_| issue()).collect::<Result<Vec<_>, _>>()?;
        let begin = Instant::now();
        assert!(new.iter().all(|one| black_box(good(one))));
        fresh = fresh.min(begin.elapsed());
        assert!(good(&known));
        let begin = Instant::now();
        assert!((0..CALLS).all(|_| black_box(good(&known))));
        cached = cached.min(begin.elapsed());
        let begin = Instant::now();
        assert!(!(0..CALLS).any(|_| black_box(find("ASIAFORGED", known.session_token.as_bytes()))));
        forged = forged.min(begin.elapsed());
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / CALLS as f64;
    println!("opened before: {:.2} µs", each(cached));
    println!("new here:      {:.2} µs", each(fresh));
    println!("forged:        {:.2} µs", each(forged));
    println!("a token has {} characters", known.session_token.len());
    Ok(())
}
