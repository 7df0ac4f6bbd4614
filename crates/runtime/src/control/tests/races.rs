use super::*;
use futures_util::future::join_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_concurrent_updates_are_gapless_and_unique() {
    const CALLERS: usize = 24;
    let ground = Ground::in_memory();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    let updates = (0..CALLERS).map(|_| async {
        poll(|| async {
            match bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await {
                Ok(answer) => Some(
                    answer["agentRuntimeVersion"]
                        .as_str()
                        .unwrap()
                        .parse::<usize>()
                        .unwrap(),
                ),
                Err(error) => {
                    assert_eq!(error.kind, Kind::Conflict, "{error}");
                    None
                }
            }
        })
        .await
    });
    let mut versions = join_all(updates).await;
    versions.sort_unstable();
    assert_eq!(versions, (2..CALLERS + 2).collect::<Vec<_>>());
    let shown = bed.settled(&id).await;
    assert_eq!(
        (&shown["status"], &shown["agentRuntimeVersion"]),
        (&json!("READY"), &json!((CALLERS + 1).to_string()))
    );
    assert_eq!(bed.serves(&id, "DEFAULT").unwrap() as usize, CALLERS + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_creations_of_a_name_wins_and_the_quota_is_exact() {
    let ground = Ground {
        quotas: Quotas {
            runtimes: 5,
            rates: Rates::unlimited(),
            ..Quotas::default()
        },
        ..Ground::in_memory()
    };
    let bed = ground.start().await;
    let same = join_all((0..20).map(|_| bed.call("CreateAgentRuntime", create("same", "agent.zip")))).await;
    assert_eq!(same.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        same.into_iter()
            .filter_map(Result::err)
            .all(|error| error.kind == Kind::Conflict)
    );

    let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    let others = join_all(
        names
            .iter()
            .map(|name| bed.call("CreateAgentRuntime", create(name, "agent.zip"))),
    )
    .await;
    assert_eq!(others.iter().filter(|result| result.is_ok()).count(), 4);
    assert!(
        others
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.kind == Kind::QuotaExceeded)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_used_by_many_calls_at_once_makes_one_runtime() {
    let ground = Ground::in_memory();
    let bed = ground.start().await;
    let input = with(create("a", "agent.zip"), json!({"clientToken": token()}));
    let answers = join_all((0..20).map(|_| bed.call("CreateAgentRuntime", input.clone()))).await;
    let first = answers[0].as_ref().unwrap();
    assert!(
        answers.iter().all(|answer| answer.as_ref().unwrap() == first),
        "{answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_and_updates_at_once_lose_nothing() {
    let ground = Ground::in_memory();
    let bed = ground.start().await;
    let id = bed.ready("a").await;
    let arn = format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/{id}");
    let tags = (0..30).map(|n| {
        let input = json!({"resourceArn": arn, "tags": {format!("k{n}"): "v"}});
        bed.call("TagResource", input)
    });
    let (tagged, updated) = tokio::join!(join_all(tags), bed.call("UpdateAgentRuntime", update(&id, "agent.zip")));
    assert!(tagged.iter().all(Result::is_ok), "{tagged:?}");
    updated.unwrap();
    assert_eq!(bed.settled(&id).await["status"], "READY");
    let listed = bed
        .call("ListTagsForResource", json!({"resourceArn": arn}))
        .await
        .unwrap();
    assert_eq!(listed["tags"].as_object().unwrap().len(), 30);
}

#[tokio::test]
async fn a_call_that_is_given_up_still_has_its_effect() {
    let ground = Ground::in_memory();
    let bed = ground.start().await;
    // Polled once, then dropped: the client went away.
    let call = bed.call("CreateAgentRuntime", create("a", "agent.zip"));
    assert!(futures_util::FutureExt::now_or_never(call).is_none());
    let id = poll(|| async {
        let listed = bed.call("ListAgentRuntimes", nothing()).await.unwrap();
        listed["agentRuntimes"][0]["agentRuntimeId"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(bed.settled(&id).await["status"], "READY");
}
