use super::*;

fn endpoint(id: &str, name: &str, more: Value) -> Value {
    with(json!({"agentRuntimeId": id, "name": name}), more)
}

fn moved(id: &str, name: &str, more: Value) -> Value {
    with(json!({"agentRuntimeId": id, "endpointName": name}), more)
}

#[tokio::test]
async fn custom_endpoints_move_only_when_they_are_told() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    let answer = bed
        .call(
            "CreateAgentRuntimeEndpoint",
            endpoint(&id, "prod", json!({"description": "p"})),
        )
        .await
        .unwrap();
    let arn = format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/{id}");
    assert_eq!(
        (&answer["targetVersion"], &answer["status"], &answer["endpointName"]),
        (&json!("1"), &json!("CREATING"), &json!("prod"))
    );
    assert_eq!(
        answer["agentRuntimeEndpointArn"],
        format!("{arn}/runtime-endpoint/prod")
    );
    let shown = bed.endpoint_settled(&id, "prod").await;
    assert_eq!(
        (&shown["status"], &shown["liveVersion"], &shown["description"]),
        (&json!("READY"), &json!("1"), &json!("p"))
    );

    bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await.unwrap();
    bed.settled(&id).await;
    assert_eq!(
        (bed.serves(&id, "DEFAULT").unwrap(), bed.serves(&id, "prod").unwrap()),
        (2, 1)
    );

    let answer = bed
        .call(
            "UpdateAgentRuntimeEndpoint",
            moved(&id, "prod", json!({"agentRuntimeVersion": "2"})),
        )
        .await
        .unwrap();
    assert_eq!(
        (&answer["status"], &answer["liveVersion"], &answer["targetVersion"]),
        (&json!("UPDATING"), &json!("1"), &json!("2"))
    );
    let shown = bed.endpoint_settled(&id, "prod").await;
    assert_eq!(
        (&shown["liveVersion"], &shown["description"]),
        (&json!("2"), &json!("p"))
    );
    assert_eq!(bed.serves(&id, "prod").unwrap(), 2);

    // Roll back, then describe anew without moving.
    bed.call(
        "UpdateAgentRuntimeEndpoint",
        moved(&id, "prod", json!({"agentRuntimeVersion": "1"})),
    )
    .await
    .unwrap();
    bed.endpoint_settled(&id, "prod").await;
    assert_eq!(bed.serves(&id, "prod").unwrap(), 1);
    let answer = bed
        .call(
            "UpdateAgentRuntimeEndpoint",
            moved(&id, "prod", json!({"description": "q"})),
        )
        .await
        .unwrap();
    assert_eq!(
        (&answer["status"], &answer["liveVersion"]),
        (&json!("READY"), &json!("1"))
    );
    assert_eq!(bed.endpoint(&id, "prod").await.unwrap()["description"], "q");

    let in_use = json!({"agentRuntimeId": id, "agentRuntimeVersion": "1"});
    refused(
        bed.call("DeleteAgentRuntime", in_use.clone()).await,
        &Kind::Conflict,
        &["in use by endpoint prod"],
    );
    let answer = bed
        .call("DeleteAgentRuntimeEndpoint", moved(&id, "prod", json!({})))
        .await
        .unwrap();
    assert_eq!(
        answer,
        json!({"agentRuntimeId": id, "endpointName": "prod", "status": "DELETING"})
    );
    poll(|| async {
        bed.endpoint(&id, "prod")
            .await
            .err()
            .filter(|e| e.kind == Kind::NotFound)
    })
    .await;
    refused(bed.serves(&id, "prod"), &Kind::NotFound, &["'prod'"]);
    bed.call("DeleteAgentRuntime", in_use).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_waits_for_a_version_that_is_being_prepared() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    ground.blobs.hold(true);
    bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await.unwrap();
    bed.call(
        "CreateAgentRuntimeEndpoint",
        endpoint(&id, "old", json!({"agentRuntimeVersion": "1"})),
    )
    .await
    .unwrap();
    bed.call("CreateAgentRuntimeEndpoint", endpoint(&id, "new", json!({})))
        .await
        .unwrap();
    // The one that can serve does not wait for the other.
    assert_eq!(bed.endpoint_settled(&id, "old").await["liveVersion"], "1");
    let waiting = bed.endpoint(&id, "new").await.unwrap();
    assert_eq!(
        (&waiting["status"], &waiting["targetVersion"]),
        (&json!("CREATING"), &json!("2"))
    );
    refused(bed.serves(&id, "new"), &Kind::SessionBusy, &[]);
    let update = moved(&id, "new", json!({"agentRuntimeVersion": "1"}));
    refused(
        bed.call("UpdateAgentRuntimeEndpoint", update).await,
        &Kind::Conflict,
        &["CREATING"],
    );
    refused(
        bed.call("DeleteAgentRuntimeEndpoint", moved(&id, "new", json!({})))
            .await,
        &Kind::Conflict,
        &["CREATING"],
    );
    ground.blobs.hold(false);
    assert_eq!(bed.endpoint_settled(&id, "new").await["liveVersion"], "2");
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused() {
    let ground = Ground {
        quotas: Quotas {
            endpoints_per_runtime: 2,
            rates: Rates::unlimited(),
            ..Quotas::default()
        },
        ..Ground::new()
    };
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    bed.call("UpdateAgentRuntime", update(&id, "absent.zip")).await.unwrap();
    bed.settled(&id).await;

    let create = |more: Value| {
        bed.call(
            "CreateAgentRuntimeEndpoint",
            with(endpoint(&id, "prod", json!({})), more),
        )
    };
    refused(
        create(json!({"name": "DEFAULT"})).await,
        &Kind::Conflict,
        &["DEFAULT", "already"],
    );
    refused(
        create(json!({"agentRuntimeVersion": "9"})).await,
        &Kind::NotFound,
        &["version 9"],
    );
    refused(
        create(json!({"agentRuntimeVersion": "2"})).await,
        &Kind::Conflict,
        &["absent.zip"],
    );
    // The latest version is the failed one.
    refused(create(json!({})).await, &Kind::Conflict, &["Version 2", "absent.zip"]);
    refused(
        create(json!({"agentRuntimeId": "no-0123456789"})).await,
        &Kind::NotFound,
        &["no-0123456789"],
    );
    create(json!({"agentRuntimeVersion": "1"})).await.unwrap();
    bed.endpoint_settled(&id, "prod").await;
    refused(
        create(json!({"agentRuntimeVersion": "1"})).await,
        &Kind::Conflict,
        &["'prod' already"],
    );
    refused(
        create(json!({"name": "more", "agentRuntimeVersion": "1"})).await,
        &Kind::QuotaExceeded,
        &["2 endpoints"],
    );

    let update = |name: &str, version: &str| {
        bed.call(
            "UpdateAgentRuntimeEndpoint",
            moved(&id, name, json!({"agentRuntimeVersion": version})),
        )
    };
    refused(update("prod", "2").await, &Kind::Conflict, &["absent.zip"]);
    refused(update("prod", "9").await, &Kind::NotFound, &["version 9"]);
    refused(update("no", "1").await, &Kind::NotFound, &["'no'"]);
    refused(
        update("DEFAULT", "1").await,
        &Kind::Conflict,
        &["DEFAULT", "endpoint of your own"],
    );
    assert_eq!(bed.serves(&id, "prod").unwrap(), 1);

    let delete = |name: &str| bed.call("DeleteAgentRuntimeEndpoint", moved(&id, name, json!({})));
    refused(delete("DEFAULT").await, &Kind::Conflict, &["DEFAULT"]);
    refused(delete("no").await, &Kind::NotFound, &["'no'"]);
    refused(bed.endpoint(&id, "no").await, &Kind::NotFound, &["'no'"]);
}

#[tokio::test]
async fn a_client_token_makes_one_endpoint() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    let same = endpoint(&id, "prod", json!({"clientToken": token()}));
    let first = bed.call("CreateAgentRuntimeEndpoint", same.clone()).await.unwrap();
    assert_eq!(
        bed.call("CreateAgentRuntimeEndpoint", same.clone()).await.unwrap(),
        first
    );
    let other = with(same, json!({"name": "other"}));
    refused(
        bed.call("CreateAgentRuntimeEndpoint", other).await,
        &Kind::Conflict,
        &["clientToken"],
    );

    bed.endpoint_settled(&id, "prod").await;
    let same = moved(&id, "prod", json!({"clientToken": token()}));
    let first = bed.call("DeleteAgentRuntimeEndpoint", same.clone()).await.unwrap();
    poll(|| async { bed.endpoint(&id, "prod").await.err() }).await;
    assert_eq!(bed.call("DeleteAgentRuntimeEndpoint", same).await.unwrap(), first);
}
