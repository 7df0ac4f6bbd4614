//! What versions run: pinned content, lost packages, packages that nobody needs.

use super::*;
use http_body_util::BodyExt;

#[tokio::test]
async fn a_version_runs_what_it_was_made_with() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    let serving = || {
        bed.catalog
            .resolve(&RuntimeId::parse(&id).unwrap(), None)
            .unwrap()
            .deployment
    };
    let before = serving().package.clone();
    bed.upload("agent.zip", package(&[("agent", program()), ("new", b"x".to_vec())]))
        .await;
    assert!(!before.join("new").exists());
    bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await.unwrap();
    bed.settled(&id).await;
    let after = serving();
    assert_eq!(after.version.0, 2);
    assert!(after.package.join("new").exists() && before.is_dir() && before != after.package);
}

#[tokio::test]
async fn a_lost_package_is_made_again_but_only_from_the_same_content() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    drop(bed);
    std::fs::remove_dir_all(ground.packages()).unwrap();
    let bed = ground.start().await;
    assert_eq!(poll(|| async { bed.serves(&id, "DEFAULT").ok() }).await, 1);
    assert_eq!(ground.unpacked(), 1);

    bed.upload("agent.zip", package(&[("agent", program()), ("new", b"x".to_vec())]))
        .await;
    drop(bed);
    std::fs::remove_dir_all(ground.packages()).unwrap();
    let bed = ground.start().await;
    let error = poll(|| async { bed.serves(&id, "DEFAULT").err().filter(|e| e.kind == Kind::Agent) }).await;
    for word in ["lost", "replaced", "SHA-256", "UpdateAgentRuntime"] {
        assert!(error.message.contains(word), "{error}");
    }
    // The way out that the message names.
    bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await.unwrap();
    assert_eq!(bed.settled(&id).await["status"], "READY");
    assert_eq!(bed.serves(&id, "DEFAULT").unwrap(), 2);
}

#[tokio::test]
async fn packages_that_nobody_uses_are_removed() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let (a, b) = (bed.ready("a").await, bed.ready("b").await);
    assert_eq!(ground.unpacked(), 1, "the same content is unpacked once");
    bed.upload("other.zip", package(&[("agent", program()), ("other", b"x".to_vec())]))
        .await;
    bed.call("UpdateAgentRuntime", update(&a, "other.zip")).await.unwrap();
    bed.settled(&a).await;
    assert_eq!(ground.unpacked(), 2);
    let target = bed.catalog.resolve(&RuntimeId::parse(&a).unwrap(), None).unwrap();

    bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": a}))
        .await
        .unwrap();
    bed.gone(&a).await;
    bed.call("DeleteAgentRuntime", json!({"agentRuntimeId": b}))
        .await
        .unwrap();
    bed.gone(&b).await;
    // A call that is under way still holds what it was given.
    poll(|| async { (ground.unpacked() == 1).then_some(()) }).await;
    assert!(target.deployment.package.is_dir());
    drop(target);
    drop(bed);
    let bed = ground.start().await;
    poll(|| async { (ground.unpacked() == 0).then_some(()) }).await;
    drop(bed);
}

#[tokio::test]
async fn a_silent_service_holds_up_nobody_else() {
    // Takes connections in, never says a word.
    let silence = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ground = Ground::new();
    let service = json!({
        "endpoint": format!("http://{}", silence.local_addr().unwrap()),
        "access_key_id": "AK",
        "secret_access_key": "hush",
    });
    ground.s3 = BTreeMap::from([("silent".to_owned(), serde_json::from_value(service).unwrap())]);
    let bed = ground.start().await;
    let mut waiting = Vec::new();
    for n in 0..20 {
        let name = json!({"agentRuntimeName": format!("a{n}")});
        let input = with(configuration("silent-bucket", "agent.zip"), name);
        let answer = bed.call("CreateAgentRuntime", input).await.unwrap();
        waiting.push(answer["agentRuntimeId"].as_str().unwrap().to_owned());
    }
    let (_connection, _) = silence.accept().await.unwrap();
    bed.ready("z").await;
    for id in waiting {
        let shown = bed
            .call("GetAgentRuntime", json!({"agentRuntimeId": id}))
            .await
            .unwrap();
        assert_eq!(shown["status"], "CREATING");
    }
}

#[tokio::test]
async fn the_artifact_route_says_where_to_upload() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let got = bed.own(Method::GET, "artifacts", body::full("")).await.unwrap();
    let answer: Value = serde_json::from_slice(&got.body.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(answer, json!({"bucket": BUCKET, "maxObjectBytes": 262_144_000}));
    refused(
        bed.own(Method::PUT, "artifacts", body::full("")).await.map(|_| ()),
        &invalid(),
        &["PUT", "BUCKET/KEY"],
    );
}

#[tokio::test]
async fn the_artifact_route_keeps_whole_objects() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let path = format!("artifacts/{BUCKET}/some/dir/a.zip");
    let stored = bed.own(Method::PUT, &path, body::full("content")).await.unwrap();
    let answer: Value = serde_json::from_slice(&stored.body.collect().await.unwrap().to_bytes()).unwrap();
    let sha256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    assert_eq!(answer, json!({"size": 7, "sha256": sha256}));

    let got = bed.own(Method::GET, &path, body::full("")).await.unwrap();
    assert_eq!(
        (got.status.as_u16(), got.headers["content-length"].to_str().unwrap()),
        (200, "7")
    );
    assert_eq!(got.body.collect().await.unwrap().to_bytes(), "content");
    let head = bed.own(Method::HEAD, &path, body::full("")).await.unwrap();
    assert_eq!(&head.headers["content-length"], "7");
    assert!(head.body.collect().await.unwrap().to_bytes().is_empty());

    // A body that breaks off, or whose signature does not match, changes nothing.
    for (error, kind) in [
        (body::BodyError::Digest, Kind::Denied),
        (body::BodyError::Client("gone".into()), invalid()),
    ] {
        let frames = [Ok(http_body::Frame::data(bytes::Bytes::from("new"))), Err(error)];
        let broken = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        refused(
            bed.own(Method::PUT, &path, BodyExt::boxed_unsync(broken))
                .await
                .map(|_| ()),
            &kind,
            &[],
        );
    }
    let got = bed.own(Method::GET, &path, body::full("")).await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().to_bytes(), "content");

    for (path, kind) in [
        ("artifacts/other/a.zip".to_owned(), Kind::NotFound),
        (format!("artifacts/{BUCKET}/absent"), Kind::NotFound),
        (format!("artifacts/{BUCKET}"), invalid()),
        (format!("artifacts/{BUCKET}/a/../b"), invalid()),
        (format!("artifacts/{BUCKET}/a//b"), invalid()),
    ] {
        refused(
            bed.own(Method::GET, &path, body::full("")).await.map(|_| ()),
            &kind,
            &[],
        );
    }
    assert_eq!(
        bed.own(Method::DELETE, &path, body::full(""))
            .await
            .unwrap()
            .status
            .as_u16(),
        204
    );
    refused(
        bed.own(Method::DELETE, &path, body::full("")).await.map(|_| ()),
        &Kind::NotFound,
        &["some/dir/a.zip"],
    );
    refused(
        bed.own(Method::POST, &path, body::full("")).await.map(|_| ()),
        &invalid(),
        &["POST"],
    );
}
