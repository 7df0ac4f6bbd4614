//! Versions that ask for a bearer token.

use super::*;
use domain::Bearer;

fn authorizer(audience: &str) -> Value {
    json!({"authorizerConfiguration": {"customJWTAuthorizer": {
        "discoveryUrl": "https://idp.example.com/.well-known/openid-configuration", "allowedAudience": [audience],
    }}})
}

fn holder(rules: [u8; 32]) -> Arc<Principal> {
    let bearer = Bearer {
        issuer: "https://idp.example.com".to_owned(),
        subject: Some("user".to_owned()),
        claims: BTreeMap::new(),
        rules,
    };
    Arc::new(Principal::bearer(AccountId::parse(ACCOUNT).unwrap(), Arc::new(bearer)))
}

impl Bed {
    async fn call_as(&self, who: Arc<Principal>, operation: &str, input: Value) -> Result<Reply, Error> {
        let Value::Object(input) = input else {
            panic!("an object")
        };
        let mut all = self.service.operations().iter().copied();
        let call = Call {
            operation: all.find(|known| known.name == operation).unwrap(),
            input,
            body: body::full(""),
            headers: HeaderMap::new(),
            caller: who,
            request_id: uuid::Uuid::nil(),
            received: tokio::time::Instant::now(),
        };
        self.service.call(call).await
    }

    fn deployed(&self, id: &str) -> Arc<crate::deployment::Deployment> {
        let id = RuntimeId::parse(id).unwrap();
        self.catalog.resolve(&id, None).unwrap().deployment
    }
}

#[tokio::test]
async fn an_authorizer_belongs_to_its_version() {
    let ground = Ground::new();
    let bed = ground.start().await;
    bed.call("CreateAgentRuntime", with(create("a", "agent.zip"), authorizer("one")))
        .await
        .unwrap();
    let listed = bed.call("ListAgentRuntimes", json!({})).await.unwrap();
    let id = listed["agentRuntimes"][0]["agentRuntimeId"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(bed.settled(&id).await["status"], "READY");
    let member = "authorizerConfiguration";
    assert_eq!(bed.get(&id).await.unwrap()[member], authorizer("one")[member]);
    let config = bed.deployed(&id).authorizer.clone().unwrap();
    assert_eq!(config.spec().allowed_audience, ["one"]);

    // What is kept with a sandbox for the next process has it, too.
    let kept = serde_json::to_string(&*bed.deployed(&id)).unwrap();
    let read: crate::deployment::Deployment = serde_json::from_str(&kept).unwrap();
    assert_eq!(read.authorizer, Some(config));

    // An update replaces it, or takes it away.
    bed.call("UpdateAgentRuntime", with(update(&id, "agent.zip"), authorizer("two")))
        .await
        .unwrap();
    assert_eq!(bed.settled(&id).await[member], authorizer("two")[member]);
    bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await.unwrap();
    assert!(bed.settled(&id).await.get(member).is_none());
    assert_eq!(bed.deployed(&id).authorizer, None);
    let first = bed
        .call(
            "GetAgentRuntime",
            json!({"agentRuntimeId": id, "agentRuntimeVersion": "1"}),
        )
        .await
        .unwrap();
    assert_eq!(first[member], authorizer("one")[member]);

    // A later process reads it from the records.
    bed.call(
        "UpdateAgentRuntime",
        with(update(&id, "agent.zip"), authorizer("three")),
    )
    .await
    .unwrap();
    bed.settled(&id).await;
    drop(bed);
    let bed = ground.start().await;
    assert_eq!(
        bed.deployed(&id).authorizer.as_ref().unwrap().spec().allowed_audience,
        ["three"]
    );
}

#[tokio::test]
async fn nobody_calls_in_the_wrong_way() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let signed = bed.ready("a").await;
    bed.call("CreateAgentRuntime", with(create("b", "agent.zip"), authorizer("one")))
        .await
        .unwrap();
    let listed = bed.call("ListAgentRuntimes", json!({})).await.unwrap();
    let all = listed["agentRuntimes"].as_array().unwrap();
    let tokens = all.iter().find(|runtime| runtime["agentRuntimeName"] == "b").unwrap();
    let tokens = tokens["agentRuntimeId"].as_str().unwrap().to_owned();
    bed.settled(&tokens).await;
    let session = "s".repeat(33);
    let rules = *bed.deployed(&tokens).authorizer.as_ref().unwrap().identity();
    for (who, id) in [(caller(), &tokens), (holder(rules), &signed)] {
        for operation in ["InvokeAgentRuntime", "StopRuntimeSession"] {
            let input = json!({"agentRuntimeArn": id, "accountId": ACCOUNT, "runtimeSessionId": session});
            let answer = bed.call_as(Arc::clone(&who), operation, input).await.map(|_| ());
            refused(answer, &Kind::Denied, &["Authorization method mismatch."]);
        }
    }
    let answer = bed
        .call_as(holder(rules), "ListAgentRuntimes", json!({}))
        .await
        .map(|_| ());
    refused(answer, &Kind::Denied, &["Authorization method mismatch."]);
    let input = json!({"agentRuntimeArn": tokens, "accountId": ACCOUNT, "runtimeSessionId": session});
    for operation in ["InvokeAgentRuntime", "StopRuntimeSession"] {
        let other = bed.call_as(holder([7; 32]), operation, input.clone()).await.map(|_| ());
        refused(other, &Kind::Denied, &["other rules"]);
    }
    let answer = bed
        .call_as(holder(rules), "StopRuntimeSession", input)
        .await
        .map(|_| ());
    refused(answer, &Kind::NotFound, &[]);
}
