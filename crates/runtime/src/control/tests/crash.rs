//! The process is stopped at every single step that it takes in storage, before and after the step's effect.

use super::*;
use crate::memory::{Memory, Mortal};

/// What a user does in the life of a runtime. Answers when all of it is done.
async fn life(bed: &Bed, tokens: &[Value; 2]) {
    let created = with(create("a", "agent.zip"), json!({"clientToken": tokens[0]}));
    let answer = bed.call("CreateAgentRuntime", created).await.unwrap();
    let id = answer["agentRuntimeId"].as_str().unwrap();
    bed.settled(id).await;
    let updated = with(update(id, "agent.zip"), json!({"clientToken": tokens[1]}));
    bed.call("UpdateAgentRuntime", updated).await.unwrap();
    bed.settled(id).await;
    let prod = json!({"agentRuntimeId": id, "endpointName": "prod"});
    bed.call(
        "CreateAgentRuntimeEndpoint",
        json!({"agentRuntimeId": id, "name": "prod"}),
    )
    .await
    .unwrap();
    bed.endpoint_settled(id, "prod").await;
    bed.call(
        "UpdateAgentRuntimeEndpoint",
        with(prod.clone(), json!({"agentRuntimeVersion": "1"})),
    )
    .await
    .unwrap();
    bed.endpoint_settled(id, "prod").await;
    bed.call("DeleteAgentRuntimeEndpoint", prod).await.unwrap();
    poll(|| async { bed.endpoint(id, "prod").await.err() }).await;
    bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": id}))
        .await
        .unwrap();
    bed.gone(id).await;
}

/// Lives on `records` until all is done or the process dies. Answers whether it died.
async fn live_and_maybe_die(ground: &Ground, mortal: Arc<Mortal>, tokens: &[Value; 2]) -> bool {
    let records = Arc::clone(&mortal) as Arc<dyn Records>;
    tokio::select! {
        biased;
        () = mortal.died.notified() => true,
        () = async {
            let bed = ground.start_on(records).await.unwrap();
            life(&bed, tokens).await;
        } => false,
    }
}

/// After a restart nothing stays half made, and the same calls can be made to their end.
async fn check_restart(ground: &Ground, memory: &Memory, tokens: &[Value; 2], step: u32) {
    let bed = ground.start().await;
    let listed = bed.call("ListAgentRuntimes", nothing()).await.unwrap();
    for item in listed["agentRuntimes"].as_array().unwrap() {
        let id = item["agentRuntimeId"].as_str().unwrap();
        // It settles, or its deletion ends.
        let left = poll(|| async {
            match bed.get(id).await {
                Err(error) => {
                    assert_eq!(error.kind, Kind::NotFound);
                    Some(None)
                }
                Ok(shown) => is_settled(&shown).then_some(Some(shown)),
            }
        })
        .await;
        let Some(shown) = left else { continue };
        assert_eq!(shown["status"], "READY", "step {step}: {shown}");
        let latest = shown["agentRuntimeVersion"].as_str().unwrap();
        assert_eq!(bed.serves(id, "DEFAULT").unwrap().to_string(), latest, "step {step}");
        let endpoints = bed
            .call("ListAgentRuntimeEndpoints", json!({"agentRuntimeId": id}))
            .await
            .unwrap();
        for endpoint in endpoints["runtimeEndpoints"].as_array().unwrap() {
            let name = endpoint["name"].as_str().unwrap();
            poll(|| async {
                match bed.endpoint(id, name).await {
                    Err(_) => Some(()),
                    Ok(shown) => (shown["status"] == "READY").then_some(()),
                }
            })
            .await;
        }
        // The client that lost the answer asks again with its token, and gets the same runtime.
        let again = with(create("a", "agent.zip"), json!({"clientToken": tokens[0]}));
        assert_eq!(
            bed.call("CreateAgentRuntime", again).await.unwrap()["agentRuntimeId"],
            id,
            "step {step}"
        );
        bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": id}))
            .await
            .unwrap();
        bed.gone(id).await;
    }
    // Nothing is left but the counter, at zero: the quota is whole again.
    let census = memory.census();
    let left: Vec<_> = census
        .keys()
        .filter(|kind| *kind != "runtime-usage" && *kind != "runtime-client-token")
        .collect();
    assert!(left.is_empty(), "step {step}: {census:?}");
    bed.ready("b").await;
}

/// Runs one process: when it ends, its tasks are dropped wherever they stand and its threads are gone.
fn process<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(life)
}

fn die_at_every_step(last_is_done: bool) {
    // One disk for all lives, so that the artifact is uploaded once. One runtime, so that a lost count shows.
    let quotas = Quotas {
        runtimes: 1,
        rates: Rates::unlimited(),
        ..Quotas::default()
    };
    let disk = Ground {
        quotas,
        ..Ground::in_memory()
    };
    process(async { drop(disk.start().await) });
    for step in 1.. {
        let memory = Arc::new(Memory::default());
        let ground = disk.with_records(Arc::clone(&memory) as Arc<dyn Records>);
        let tokens = [token(), token()];
        let mortal = Arc::new(Mortal::new(Arc::clone(&memory), step, last_is_done));
        let died = process(live_and_maybe_die(&ground, mortal, &tokens));
        process(check_restart(&ground, &memory, &tokens, step));
        if !died {
            assert!(step > 60, "a life has only {step} steps?");
            return;
        }
    }
}

#[test]
fn killed_before_every_step() {
    die_at_every_step(false);
}

#[test]
fn killed_after_every_step() {
    die_at_every_step(true);
}

#[tokio::test]
async fn a_server_that_is_restarted_while_it_prepares_goes_on() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let ready = bed.ready("ready").await;
    ground.blobs.hold(true);
    let creating = bed.create("creating").await;
    bed.call("UpdateAgentRuntime", update(&ready, "agent.zip"))
        .await
        .unwrap();
    bed.control.shutdown().await;
    drop(bed);

    let bed = ground.start_on(Arc::clone(&ground.records)).await.unwrap();
    assert_eq!(
        bed.serves(&ready, "DEFAULT").unwrap(),
        1,
        "what served goes on serving, before any preparation"
    );
    assert_eq!(bed.get(&creating).await.unwrap()["status"], "CREATING");
    ground.blobs.hold(false);
    assert_eq!(bed.settled(&creating).await["status"], "READY");
    assert_eq!(bed.settled(&ready).await["agentRuntimeVersion"], "2");
    assert_eq!(bed.serves(&ready, "DEFAULT").unwrap(), 2);
}
