//! How a sandbox goes on over the life of its server: what it was assigned, adoption, fencing.

use super::bench::{Bench, listening};
use crate::Error;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NO_GRACE: Duration = Duration::ZERO;

fn labels(session: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("assigned".to_owned(), session.to_owned())])
}

pub(super) async fn it_is_assigned_once(bench: &Bench) {
    let sandbox = bench.driver.start(bench.shell("sleep 1000")).await.unwrap();
    let id = sandbox.id().clone();
    // Of many at a time one wins, and it is the winner's labels that are kept.
    let tries: Vec<_> = (0..8)
        .map(|number| {
            let sandbox = Arc::clone(&sandbox);
            tokio::spawn(async move { (number, sandbox.assign(labels(&format!("s{number}"))).await) })
        })
        .collect();
    let mut won = Vec::new();
    for attempt in tries {
        match attempt.await.unwrap() {
            (number, Ok(())) => won.push(format!("s{number}")),
            (_, Err(Error::Assigned)) => {}
            (_, Err(other)) => panic!("{other}"),
        }
    }
    assert_eq!(won.len(), 1);
    let mut wanted = labels(&won[0]);
    wanted.insert("session".into(), "s1".into());
    assert_eq!(sandbox.labels(), wanted);
    drop(sandbox);
    // A later server sees them, and does not assign again.
    let next = bench.restarted();
    assert_eq!(next.list().await.unwrap()[0].labels, wanted);
    let sandbox = next.adopt(&id).await.unwrap();
    assert_eq!(sandbox.labels(), wanted);
    assert!(matches!(sandbox.assign(labels("other")).await, Err(Error::Assigned)));
    drop(sandbox);
    // What cannot be read does not pass for unassigned.
    let file = bench.state_dir().join(id.as_str()).join("assigned.json");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let last = bench.restarted();
    let found = last.list().await.unwrap();
    assert_eq!((found[0].alive, found[0].labels.len()), (true, 0));
    let error = last.adopt(&id).await.unwrap_err().to_string();
    assert!(error.contains("cannot be taken over"), "{error}");
    last.destroy(&id).await.unwrap();

    let sandbox = bench.listening(bench.agent()).await;
    let at = Instant::now();
    sandbox.assign(labels("timed")).await.unwrap();
    println!("assign took {:?}", at.elapsed());
    listening(&*sandbox).await;
    let many = (0..65).map(|number| (number.to_string(), String::new())).collect();
    assert!(matches!(sandbox.assign(many).await, Err(Error::Host(_))));
    sandbox.stop(NO_GRACE).await.unwrap();
    assert!(matches!(sandbox.assign(labels("late")).await, Err(Error::Gone)));
}
