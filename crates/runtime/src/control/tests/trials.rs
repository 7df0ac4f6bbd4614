use super::*;
use crate::session::testing::status;

fn hook() -> Value {
    json!({"build": {"warmup": {"action": {"httpPost": {"path": "/warm", "port": 9000}}}}})
}

#[tokio::test]
async fn a_version_serves_when_its_warm_up_hook_has_answered() {
    let ground = Ground::new();
    let bed = ground.start().await;
    bed.rig
        .driver
        .runs(Agent::http(|_| async { status(503, "the model is missing") }));
    let with_hook = |input: Value| with(input, json!({"hooksConfiguration": hook()}));
    let created = bed
        .call("CreateAgentRuntime", with_hook(create("a", "agent.zip")))
        .await
        .unwrap();
    let id = created["agentRuntimeId"].as_str().unwrap();
    let shown = bed.settled(id).await;
    assert_eq!(shown["status"], "CREATE_FAILED");
    assert_eq!(shown["hooksConfiguration"], hook());
    let reason = shown["failureReason"].as_str().unwrap();
    for part in ["POST /warm", "port 9000", "status 503", "the model is missing"] {
        assert!(reason.contains(part), "{reason}");
    }
    let refusal = bed.serves(id, "DEFAULT").unwrap_err();
    assert!(refusal.message.contains("status 503"), "{refusal}");
    assert!(
        !refusal.message.contains("the model is missing"),
        "callers are not told: {refusal}"
    );

    bed.rig.driver.runs(Agent::echo());
    bed.call("UpdateAgentRuntime", with_hook(update(id, "agent.zip")))
        .await
        .unwrap();
    assert_eq!(bed.settled(id).await["status"], "READY");
    assert_eq!(bed.serves(id, "DEFAULT").unwrap(), 2);
    assert_eq!((bed.rig.driver.started(), bed.rig.driver.alive()), (2, 0));

    // What was found fit is not tried again.
    drop(bed);
    let bed = ground.start().await;
    assert_eq!(bed.serves(id, "DEFAULT").unwrap(), 2);
    assert_eq!(bed.rig.driver.started(), 0);
}

#[tokio::test]
async fn a_trial_that_a_restart_cut_off_is_made_again() {
    let ground = Ground::new();
    let bed = ground.start().await;
    bed.rig.driver.runs(Agent::http(|_| {
        std::future::pending::<http::Response<body::Outgoing>>()
    }));
    let input = with(create("a", "agent.zip"), json!({"hooksConfiguration": hook()}));
    let created = bed.call("CreateAgentRuntime", input).await.unwrap();
    let id = created["agentRuntimeId"].as_str().unwrap();
    poll(|| async { (bed.rig.driver.started() == 1).then_some(()) }).await;
    drop(bed);
    let bed = ground.start().await;
    assert_eq!(bed.settled(id).await["status"], "READY");
    assert_eq!(bed.rig.driver.started(), 1);
}

#[tokio::test]
async fn session_storage_is_kept_shown_and_handed_to_sandboxes() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let mounts = json!({"filesystemConfigurations": [{"sessionStorage": {"mountPath": "/mnt/data/"}}]});
    let created = bed
        .call("CreateAgentRuntime", with(create("a", "agent.zip"), mounts.clone()))
        .await
        .unwrap();
    let id = created["agentRuntimeId"].as_str().unwrap();
    let shown = bed.settled(id).await;
    assert_eq!(shown["status"], "READY");
    assert_eq!(shown["filesystemConfigurations"], mounts["filesystemConfigurations"]);
    let mounted = |bed: &Bed| {
        let target = bed.catalog.resolve(&RuntimeId::parse(id).unwrap(), None).unwrap();
        target.deployment.storage.clone().map(|storage| storage.mount_path)
    };
    assert_eq!(mounted(&bed).as_deref(), Some("/mnt/data"));
    drop(bed);
    let bed = ground.start().await;
    assert_eq!(mounted(&bed).as_deref(), Some("/mnt/data"));
    bed.call("UpdateAgentRuntime", update(id, "agent.zip")).await.unwrap();
    assert_eq!(bed.settled(id).await["filesystemConfigurations"], Value::Null);
}
