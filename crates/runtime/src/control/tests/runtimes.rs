use super::*;

#[tokio::test]
async fn a_runtime_is_created_shown_listed_and_deleted() {
    let ground = Ground::new();
    let bed = ground.start().await;
    ground.blobs.hold(true);
    let more = json!({
        "description": "counts",
        "environmentVariables": {"MODEL": "small"},
        "lifecycleConfiguration": {"maxLifetime": 600},
        "protocolConfiguration": {"serverProtocol": "HTTP", "port": 9001, "path": "/run"},
        "requestHeaderConfiguration": {"requestHeaderAllowlist": ["X-Tenant"]},
        "networkConfiguration": {"networkMode": "PUBLIC"},
        "tags": {"team": "a"},
    });
    let answer = bed
        .call("CreateAgentRuntime", with(create("counter", "agent.zip"), more))
        .await
        .unwrap();
    let id = answer["agentRuntimeId"].as_str().unwrap().to_owned();
    let arn = format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/{id}");
    assert!(RuntimeId::parse(&id).is_ok() && id.starts_with("counter-"), "{id}");
    assert_eq!(answer["agentRuntimeArn"], arn.as_str());
    assert_eq!(
        (&answer["status"], &answer["agentRuntimeVersion"]),
        (&json!("CREATING"), &json!("1"))
    );

    // Not ready: visible, not invocable, not to be touched.
    assert_eq!(bed.get(&id).await.unwrap()["status"], "CREATING");
    assert_eq!(bed.endpoint(&id, "DEFAULT").await.unwrap()["status"], "CREATING");
    refused(bed.serves(&id, "DEFAULT"), &Kind::SessionBusy, &["being made ready"]);
    refused(
        bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await,
        &Kind::Conflict,
        &["CREATING"],
    );
    refused(
        bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": id})).await,
        &Kind::Conflict,
        &["CREATING"],
    );

    ground.blobs.hold(false);
    let shown = bed.settled(&id).await;
    assert_eq!(
        (&shown["status"], &shown["description"], &shown["roleArn"]),
        (
            &json!("READY"),
            &json!("counts"),
            &json!(format!("arn:aws:iam::{ACCOUNT}:role/agent"))
        )
    );
    assert_eq!(shown["environmentVariables"], json!({"MODEL": "small"}));
    assert_eq!(
        shown["lifecycleConfiguration"],
        json!({"idleRuntimeSessionTimeout": 600, "maxLifetime": 600})
    );
    assert_eq!(
        shown["protocolConfiguration"],
        json!({"serverProtocol": "HTTP", "port": 9001, "path": "/run"})
    );
    assert_eq!(
        shown["requestHeaderConfiguration"],
        json!({"requestHeaderAllowlist": ["X-Tenant"]})
    );
    assert_eq!(
        shown["agentRuntimeArtifact"],
        configuration(BUCKET, "agent.zip")["agentRuntimeArtifact"]
    );
    assert!(
        shown.get("failureReason").is_none() && shown.get("tags").is_none(),
        "{shown}"
    );

    let default = bed.endpoint(&id, "DEFAULT").await.unwrap();
    assert_eq!(
        (&default["status"], &default["liveVersion"]),
        (&json!("READY"), &json!("1"))
    );
    assert!(default.get("targetVersion").is_none() && default["id"].as_str().unwrap().starts_with("DEFAULT-"));

    let target = bed
        .catalog
        .resolve(&RuntimeId::parse(&id).unwrap(), None)
        .unwrap()
        .deployment;
    assert_eq!(
        (target.port, target.path.as_str(), target.arn.to_string()),
        (9001, "/run", arn.clone())
    );
    assert_eq!(target.command, ["./agent"]);
    assert!(target.environment.contains(&("MODEL".into(), "small".into())));
    assert_eq!(target.header_allowlist, ["x-tenant"]);
    assert_eq!(
        (target.idle_timeout.as_secs(), target.max_lifetime.as_secs()),
        (600, 600)
    );
    assert!(target.package.join("agent").is_file());

    let listed = bed.call("ListAgentRuntimes", nothing()).await.unwrap();
    assert_eq!(listed["agentRuntimes"][0]["agentRuntimeArn"], arn.as_str());
    assert_eq!(listed["agentRuntimes"][0]["description"], "counts");

    let deleted = bed
        .call("DeleteAgentRuntime", json!({"agentRuntimeId": id}))
        .await
        .unwrap();
    assert_eq!(deleted, json!({"agentRuntimeId": id, "status": "DELETING"}));
    refused(bed.serves(&id, "DEFAULT"), &Kind::NotFound, &[&id]);
    bed.gone(&id).await;
    refused(bed.endpoint(&id, "DEFAULT").await, &Kind::NotFound, &[&id]);
    assert_eq!(
        bed.call("ListAgentRuntimes", nothing()).await.unwrap(),
        json!({"agentRuntimes": []})
    );
    // The name is free again, and the package is nobody's.
    bed.ready("counter").await;
}

#[tokio::test]
async fn what_cannot_be_prepared_fails_with_a_reason_and_is_mended_by_an_update() {
    let ground = Ground::new();
    let bed = ground.start().await;
    bed.upload("text.zip", b"not a zip".to_vec()).await;
    bed.upload("empty.zip", package(&[("readme", b"x".to_vec())])).await;
    let versioned = with(
        configuration(BUCKET, "agent.zip"),
        json!({"agentRuntimeArtifact": {"codeConfiguration": {
            "code": {"s3": {"bucket": BUCKET, "prefix": "agent.zip", "versionId": "abc"}},
            "runtime": "PYTHON_3_11", "entryPoint": ["agent"],
        }}}),
    );
    for (name, input, words) in [
        ("a", configuration(BUCKET, "absent.zip"), ["absent.zip", "upload"]),
        (
            "b",
            configuration("elsewhere", "agent.zip"),
            ["elsewhere", "[runtime.s3.NAME]"],
        ),
        ("c", configuration(BUCKET, "text.zip"), ["zip", ""]),
        ("d", configuration(BUCKET, "empty.zip"), ["entry point", "agent"]),
        (
            "e",
            configuration(BUCKET, "../agent.zip"),
            ["no object", "../agent.zip"],
        ),
        ("f", versioned, ["versionId", "leave"]),
    ] {
        let answer = bed
            .call("CreateAgentRuntime", with(input, json!({"agentRuntimeName": name})))
            .await
            .unwrap();
        let id = answer["agentRuntimeId"].as_str().unwrap();
        let shown = bed.settled(id).await;
        assert_eq!(shown["status"], "CREATE_FAILED", "{name}");
        let reason = shown["failureReason"].as_str().unwrap();
        assert!(words.iter().all(|word| reason.contains(word)), "{name}: {reason}");
        let default = bed.endpoint(id, "DEFAULT").await.unwrap();
        assert_eq!(
            (&default["status"], &default["failureReason"]),
            (&json!("CREATE_FAILED"), &json!(reason))
        );
        refused(bed.serves(id, "DEFAULT"), &Kind::Agent, &[reason, "version 1"]);

        let answer = bed.call("UpdateAgentRuntime", update(id, "agent.zip")).await.unwrap();
        assert_eq!(
            (&answer["agentRuntimeVersion"], &answer["status"]),
            (&json!("2"), &json!("UPDATING"))
        );
        assert_eq!(bed.settled(id).await["status"], "READY");
        assert_eq!(bed.serves(id, "DEFAULT").unwrap(), 2);
    }
}

#[tokio::test]
async fn an_update_replaces_everything_and_default_follows_only_when_it_is_fit() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let more = json!({"description": "one", "environmentVariables": {"A": "1"}, "lifecycleConfiguration": {"maxLifetime": 60}});
    let answer = bed
        .call("CreateAgentRuntime", with(create("a", "agent.zip"), more))
        .await
        .unwrap();
    let id = answer["agentRuntimeId"].as_str().unwrap();
    bed.settled(id).await;

    ground.blobs.hold(true);
    bed.call("UpdateAgentRuntime", update(id, "agent.zip")).await.unwrap();
    let default = bed.endpoint(id, "DEFAULT").await.unwrap();
    assert_eq!(
        (&default["status"], &default["liveVersion"], &default["targetVersion"]),
        (&json!("UPDATING"), &json!("1"), &json!("2"))
    );
    assert_eq!(bed.serves(id, "DEFAULT").unwrap(), 1);
    refused(
        bed.call("UpdateAgentRuntime", update(id, "agent.zip")).await,
        &Kind::Conflict,
        &["UPDATING"],
    );
    ground.blobs.hold(false);

    let shown = bed.settled(id).await;
    assert_eq!(
        (&shown["status"], &shown["agentRuntimeVersion"]),
        (&json!("READY"), &json!("2"))
    );
    assert!(
        shown.get("description").is_none() && shown.get("environmentVariables").is_none(),
        "{shown}"
    );
    assert_eq!(
        shown["lifecycleConfiguration"],
        json!({"idleRuntimeSessionTimeout": 900, "maxLifetime": 28800})
    );
    assert_eq!(bed.serves(id, "DEFAULT").unwrap(), 2);

    // The old version is as it was.
    let first = bed
        .call(
            "GetAgentRuntime",
            json!({"agentRuntimeId": id, "agentRuntimeVersion": "1"}),
        )
        .await
        .unwrap();
    assert_eq!(
        (&first["description"], &first["status"]),
        (&json!("one"), &json!("READY"))
    );
    let third = json!({"agentRuntimeId": id, "agentRuntimeVersion": "3"});
    refused(
        bed.call("GetAgentRuntime", third).await,
        &Kind::NotFound,
        &["version 3"],
    );

    // A failed update leaves the old version serving, and says why.
    bed.call(
        "UpdateAgentRuntime",
        with(update(id, "absent.zip"), json!({"description": "bad"})),
    )
    .await
    .unwrap();
    let shown = bed.settled(id).await;
    assert_eq!(
        (&shown["status"], &shown["agentRuntimeVersion"]),
        (&json!("UPDATE_FAILED"), &json!("3"))
    );
    assert!(shown["failureReason"].as_str().unwrap().contains("absent.zip"));
    let default = bed.endpoint(id, "DEFAULT").await.unwrap();
    assert_eq!(
        (&default["status"], &default["liveVersion"]),
        (&json!("UPDATE_FAILED"), &json!("2"))
    );
    assert_eq!(bed.serves(id, "DEFAULT").unwrap(), 2);

    let versions = bed
        .call("ListAgentRuntimeVersions", json!({"agentRuntimeId": id}))
        .await
        .unwrap();
    let shown: Vec<(&str, &str, &str)> = versions["agentRuntimes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| {
            let text = |member: &str| v[member].as_str().unwrap();
            (text("agentRuntimeVersion"), text("status"), text("description"))
        })
        .collect();
    assert_eq!(
        shown,
        [("1", "READY", "one"), ("2", "READY", ""), ("3", "UPDATE_FAILED", "bad")]
    );
}

#[tokio::test]
async fn single_versions_are_deleted_unless_they_are_needed() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    let delete = |version: &str| {
        bed.call(
            "DeleteAgentRuntime",
            json!({"agentRuntimeId": id, "agentRuntimeVersion": version}),
        )
    };
    refused(delete("1").await, &Kind::Conflict, &["in use", "DEFAULT"]);
    refused(delete("2").await, &Kind::NotFound, &["version 2"]);
    bed.call(
        "UpdateAgentRuntime",
        with(update(&id, "agent.zip"), json!({"description": "two"})),
    )
    .await
    .unwrap();
    bed.settled(&id).await;
    bed.call("UpdateAgentRuntime", update(&id, "absent.zip")).await.unwrap();
    assert_eq!(bed.settled(&id).await["status"], "UPDATE_FAILED");

    // The failed latest version goes, and the runtime shows the one before again.
    let answer = delete("3").await.unwrap();
    assert_eq!(
        answer,
        json!({"agentRuntimeId": id, "agentRuntimeVersion": "3", "status": "DELETING"})
    );
    let shown = bed.settled(&id).await;
    assert_eq!(
        (&shown["agentRuntimeVersion"], &shown["status"], &shown["description"]),
        (&json!("2"), &json!("READY"), &json!("two"))
    );
    assert_eq!(bed.endpoint(&id, "DEFAULT").await.unwrap()["status"], "READY");
    let listed = bed.call("ListAgentRuntimes", nothing()).await.unwrap();
    assert_eq!(listed["agentRuntimes"][0]["description"], "two");

    delete("1").await.unwrap();
    refused(delete("1").await, &Kind::NotFound, &["version 1"]);
    // Numbers are never used again.
    let answer = bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await.unwrap();
    assert_eq!(answer["agentRuntimeVersion"], "4");
    assert_eq!(bed.settled(&id).await["status"], "READY");
}

#[tokio::test]
async fn a_creation_that_failed_keeps_its_only_version() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let answer = bed.call("CreateAgentRuntime", create("a", "absent.zip")).await.unwrap();
    let id = answer["agentRuntimeId"].as_str().unwrap();
    bed.settled(id).await;
    let only = json!({"agentRuntimeId": id, "agentRuntimeVersion": "1"});
    refused(
        bed.call("DeleteAgentRuntime", only).await,
        &Kind::Conflict,
        &["only one"],
    );
    bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": id}))
        .await
        .unwrap();
    bed.gone(id).await;
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused() {
    let ground = Ground {
        quotas: Quotas {
            runtimes: 2,
            versions_per_runtime: 2,
            rates: Rates::unlimited(),
            ..Quotas::default()
        },
        ..Ground::new()
    };
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    let again = bed.call("CreateAgentRuntime", create("a", "agent.zip")).await;
    refused(
        again,
        &Kind::Conflict,
        &["'a' exists already", &id, "UpdateAgentRuntime"],
    );

    let bad = with(
        create("b", "agent.zip"),
        json!({"platformVersion": "V2", "allowedPorts": [{"port": 9000}]}),
    );
    refused(
        bed.call("CreateAgentRuntime", bad).await,
        &invalid(),
        &["2 validation errors", "platformVersion", "allowedPorts"],
    );
    let bad = with(create("b", "agent.zip"), json!({"tags": {"AWS:x": "y"}}));
    refused(bed.call("CreateAgentRuntime", bad).await, &invalid(), &["AWS:x"]);
    let bad = with(
        update(&id, "agent.zip"),
        json!({"metadataConfiguration": {"requireMMDSV2": false}}),
    );
    refused(
        bed.call("UpdateAgentRuntime", bad).await,
        &invalid(),
        &["requireMMDSV2"],
    );

    for operation in [
        "GetAgentRuntime",
        "DeleteAgentRuntime",
        "ListAgentRuntimeVersions",
        "ListAgentRuntimeEndpoints",
    ] {
        refused(
            bed.call(operation, json!({"agentRuntimeId": "no-0123456789"})).await,
            &Kind::NotFound,
            &["no-0123456789"],
        );
    }
    refused(
        bed.call("UpdateAgentRuntime", update("no-0123456789", "agent.zip"))
            .await,
        &Kind::NotFound,
        &[],
    );

    bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await.unwrap();
    bed.settled(&id).await;
    refused(
        bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await,
        &Kind::QuotaExceeded,
        &["2 versions"],
    );
    bed.ready("b").await;
    refused(
        bed.call("CreateAgentRuntime", create("c", "agent.zip")).await,
        &Kind::QuotaExceeded,
        &["2 agent runtimes"],
    );
    bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": id}))
        .await
        .unwrap();
    bed.gone(&id).await;
    bed.ready("c").await;
}

#[tokio::test]
async fn an_invocation_finds_its_runtime_and_a_deletion_ends_its_session() {
    use crate::session::testing::streamed;
    use http_body_util::BodyExt;
    let ground = Ground::new();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    let arn = format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/{id}");
    let session = "s".repeat(40);
    let invoke = |path: String, more: Value| {
        let input = with(json!({"agentRuntimeArn": path, "runtimeSessionId": session}), more);
        bed.reply("InvokeAgentRuntime", input, "hello")
    };
    for (path, more) in [
        (arn.clone(), json!({})),
        (arn.clone(), json!({"qualifier": "DEFAULT"})),
        (format!("{arn}/runtime-endpoint/DEFAULT"), json!({})),
        (id.clone(), json!({"accountId": ACCOUNT})),
    ] {
        let (_, body) = streamed(invoke(path, more).await.unwrap());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
    }
    assert_eq!(bed.rig.driver.started(), 1, "all of them are one session");

    for (path, more, kind, word) in [
        (id.clone(), json!({}), invalid(), "accountId"),
        (id.clone(), json!({"accountId": "999999999999"}), Kind::Denied, ACCOUNT),
        (
            "?".to_owned(),
            json!({"accountId": ACCOUNT}),
            invalid(),
            "agentRuntimeArn",
        ),
        ("arn:aws:s3:::b".to_owned(), json!({}), invalid(), "agentRuntimeArn"),
        (arn.replace(ACCOUNT, "999999999999"), json!({}), Kind::Denied, ACCOUNT),
        (
            arn.replace("us-west-2", "eu-west-1"),
            json!({}),
            Kind::NotFound,
            "us-west-2",
        ),
        (
            arn.replace(&id, "no-0123456789"),
            json!({}),
            Kind::NotFound,
            "no-0123456789",
        ),
        (arn.clone(), json!({"qualifier": "no"}), Kind::NotFound, "'no'"),
        (arn.clone(), json!({"qualifier": "1"}), Kind::NotFound, "'1'"),
        (
            format!("{arn}/runtime-endpoint/DEFAULT"),
            json!({"qualifier": "prod"}),
            invalid(),
            "qualifier",
        ),
    ] {
        refused(invoke(path, more).await, &kind, &[word]);
    }

    let stop = |session: &str| {
        bed.call(
            "StopRuntimeSession",
            json!({"agentRuntimeArn": arn, "runtimeSessionId": session, "clientToken": token()}),
        )
    };
    refused(stop(&"x".repeat(40)).await, &Kind::NotFound, &[]);
    assert_eq!(stop(&session).await.unwrap()["runtimeSessionId"], session.as_str());
    assert_eq!(bed.rig.driver.alive(), 0);

    let (_, body) = streamed(invoke(arn.clone(), json!({})).await.unwrap());
    body.collect().await.unwrap();
    assert_eq!(bed.rig.driver.alive(), 1);
    bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": id}))
        .await
        .unwrap();
    bed.gone(&id).await;
    assert_eq!(bed.rig.driver.alive(), 0);
    refused(stop(&session).await, &Kind::NotFound, &[&id]);
}
