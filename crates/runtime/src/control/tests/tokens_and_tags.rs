use super::*;
use front_door::service::Resource;

#[tokio::test]
async fn a_client_token_does_a_call_once() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let same = with(create("a", "agent.zip"), json!({"clientToken": token()}));
    let first = bed.call("CreateAgentRuntime", same.clone()).await.unwrap();
    let id = first["agentRuntimeId"].as_str().unwrap();
    bed.settled(id).await;
    assert_eq!(bed.call("CreateAgentRuntime", same.clone()).await.unwrap(), first);
    let other = with(same.clone(), json!({"description": "other"}));
    refused(
        bed.call("CreateAgentRuntime", other).await,
        &Kind::Conflict,
        &["clientToken", "other parameters"],
    );

    let same_update = with(update(id, "agent.zip"), json!({"clientToken": token()}));
    let answer = bed.call("UpdateAgentRuntime", same_update.clone()).await.unwrap();
    assert_eq!(
        bed.call("UpdateAgentRuntime", same_update.clone()).await.unwrap(),
        answer
    );
    bed.settled(id).await;
    assert_eq!(bed.get(id).await.unwrap()["agentRuntimeVersion"], "2");

    // It survives a restart, but not a day.
    drop(bed);
    let bed = ground.start().await;
    assert_eq!(
        bed.call("UpdateAgentRuntime", same_update.clone()).await.unwrap(),
        answer
    );
    ground.ahead.store(24 * 3600 + 1, Ordering::Relaxed);
    assert_eq!(
        bed.call("UpdateAgentRuntime", same_update).await.unwrap()["agentRuntimeVersion"],
        "3"
    );
    bed.settled(id).await;

    let same_delete = json!({"agentRuntimeId": id, "clientToken": token()});
    let answer = bed.call("DeleteAgentRuntime", same_delete.clone()).await.unwrap();
    bed.gone(id).await;
    assert_eq!(bed.call("DeleteAgentRuntime", same_delete).await.unwrap(), answer);
    refused(
        bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": id})).await,
        &Kind::NotFound,
        &[],
    );
    // The creation's token went with the runtime, so the same call makes a new one.
    let second = bed.call("CreateAgentRuntime", same).await.unwrap();
    assert_ne!(second["agentRuntimeId"], first["agentRuntimeId"]);
}

#[tokio::test]
async fn client_tokens_are_forgotten_after_a_day() {
    let memory = Arc::new(crate::memory::Memory::default());
    let ground = Ground::with(TempDir::new().unwrap(), Arc::clone(&memory) as Arc<dyn Records>);
    let bed = ground.start().await;
    let create = |name: &str| with(create(name, "agent.zip"), json!({"clientToken": token()}));
    bed.call("CreateAgentRuntime", create("a")).await.unwrap();
    drop(bed);
    ground.ahead.store(24 * 3600 + 1, Ordering::Relaxed);
    let bed = ground.start().await;
    bed.call("CreateAgentRuntime", create("b")).await.unwrap();
    poll(|| async { (memory.census()["runtime-client-token"] == 1).then_some(()) }).await;
    assert_eq!(memory.census()["runtime"], 2);
}

#[tokio::test]
async fn tags_are_set_listed_and_removed_on_runtimes_and_endpoints() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let created = bed
        .call(
            "CreateAgentRuntime",
            with(create("a", "agent.zip"), json!({"tags": {"a": "1"}})),
        )
        .await
        .unwrap();
    let arn = created["agentRuntimeArn"].as_str().unwrap().to_owned();
    let id = created["agentRuntimeId"].as_str().unwrap();
    bed.settled(id).await;
    for arn in [arn.clone(), format!("{arn}/runtime-endpoint/DEFAULT")] {
        let set = json!({"resourceArn": arn, "tags": {"b": "2", "c": ""}});
        assert_eq!(bed.call("TagResource", set).await.unwrap(), nothing());
        let unset = json!({"resourceArn": arn, "tagKeys": ["a", "c", "absent"]});
        assert_eq!(bed.call("UntagResource", unset).await.unwrap(), nothing());
        let listed = bed
            .call("ListTagsForResource", json!({"resourceArn": arn}))
            .await
            .unwrap();
        assert_eq!(listed, json!({"tags": {"b": "2"}}));
        let many: Map<String, Value> = (0..50).map(|n| (format!("k{n}"), json!(""))).collect();
        let many = bed.call("TagResource", json!({"resourceArn": arn, "tags": many})).await;
        refused(many, &Kind::QuotaExceeded, &["50 tags"]);
    }
    for (arn, kind, word) in [
        (arn.replace(id, "no-0123456789"), Kind::NotFound, "no-0123456789"),
        (format!("{arn}/runtime-endpoint/no"), Kind::NotFound, "'no'"),
        (arn.replace(ACCOUNT, "999999999999"), Kind::Denied, ACCOUNT),
        (arn.replace("us-west-2", "eu-west-1"), Kind::NotFound, "us-west-2"),
        (
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:gateway/x".to_owned(),
            invalid(),
            "resourceArn",
        ),
    ] {
        let tags = json!({"resourceArn": arn, "tags": {"a": "b"}});
        refused(bed.call("TagResource", tags).await, &kind, &[word]);
    }
}

#[tokio::test]
async fn policies_see_the_tags_from_the_call_on_that_sets_them() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let red = json!({"tags": {"team": "red"}});
    let made = bed
        .call("CreateAgentRuntime", with(create("a", "agent.zip"), red.clone()))
        .await
        .unwrap();
    let id = made["agentRuntimeId"].as_str().unwrap();
    let seen = |resource: Option<Resource>| resource.and_then(|resource| resource.tags.get("team").cloned());
    assert_eq!(seen(bed.catalog.runtime_resource(id)).as_deref(), Some("red"));
    bed.settled(id).await;
    let endpoint = with(json!({"agentRuntimeId": id, "name": "prod"}), red);
    bed.call("CreateAgentRuntimeEndpoint", endpoint).await.unwrap();
    assert_eq!(seen(bed.catalog.endpoint_resource(id, "prod")).as_deref(), Some("red"));
}
