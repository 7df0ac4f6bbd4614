use super::*;
use crate::deployment::Target;
use crate::switches::Switches;
use futures_util::future::BoxFuture;
use std::sync::Mutex;

/// A judge of what is warm that does as a test says.
#[derive(Debug)]
pub(in super::super) struct Script {
    asked: Mutex<Vec<(String, u32)>>,
    warm: watch::Sender<bool>,
}

impl Script {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            warm: watch::Sender::new(false),
        })
    }

    pub(in super::super) fn look(&self, target: &Target) -> Option<BoxFuture<'static, ()>> {
        let asked = (target.endpoint.to_string(), target.deployment.version.0);
        self.asked.lock().unwrap().push(asked);
        let mut warm = self.warm.subscribe();
        let waits = !*warm.borrow();
        waits.then(|| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                let _ = warm.wait_for(|warm| *warm).await;
            })
        })
    }
}

fn switches(bed: &Bed, id: &str) -> Arc<Switches> {
    let id = RuntimeId::parse(id).unwrap();
    bed.catalog.resolve(&id, None).unwrap().switches
}

#[tokio::test]
async fn an_endpoint_moves_when_its_warm_sandboxes_stand() {
    let script = Script::new();
    let mut ground = Ground::new();
    ground.warm = Some(Arc::clone(&script));
    let bed = ground.start().await;
    let id = bed.create("a").await;
    poll(|| async { (!script.asked.lock().unwrap().is_empty()).then_some(()) }).await;
    assert_eq!(bed.get(&id).await.unwrap()["status"], "CREATING");
    refused(bed.serves(&id, "DEFAULT"), &Kind::SessionBusy, &["being made ready"]);
    script.warm.send_replace(true);
    assert_eq!(bed.settled(&id).await["status"], "READY");
    assert_eq!(bed.serves(&id, "DEFAULT").unwrap(), 1);

    script.warm.send_replace(false);
    bed.call("UpdateAgentRuntime", update(&id, "agent.zip")).await.unwrap();
    poll(|| async { (script.asked.lock().unwrap().len() == 2).then_some(()) }).await;
    assert_eq!(bed.get(&id).await.unwrap()["status"], "UPDATING");
    assert_eq!(bed.serves(&id, "DEFAULT").unwrap(), 1, "the old one serves meanwhile");

    // A restart asks again, and what served goes on serving.
    drop(bed);
    let bed = ground.start().await;
    assert_eq!(bed.serves(&id, "DEFAULT").unwrap(), 1);
    assert_eq!(bed.get(&id).await.unwrap()["status"], "UPDATING");
    script.warm.send_replace(true);
    assert_eq!(bed.settled(&id).await["status"], "READY");
    assert_eq!(bed.serves(&id, "DEFAULT").unwrap(), 2);
    let asked = script.asked.lock().unwrap().clone();
    let default = |version| ("DEFAULT".to_owned(), version);
    assert_eq!(asked, [default(1), default(2), default(2)], "once in each process");
}

#[tokio::test]
async fn switches_follow_the_tags_at_once_and_over_a_restart() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let tags = json!({"tags": {"eyot:warm": "2", "team": "x"}});
    let created = bed
        .call("CreateAgentRuntime", with(create("a", "agent.zip"), tags))
        .await
        .unwrap();
    let arn = created["agentRuntimeArn"].as_str().unwrap();
    let id = created["agentRuntimeId"].as_str().unwrap();
    bed.settled(id).await;
    assert_eq!(switches(&bed, id).warm, Some(2));
    let set = json!({"resourceArn": arn, "tags": {"eyot:agent-errors": "on"}});
    bed.call("TagResource", set).await.unwrap();
    let expected = Switches {
        warm: Some(2),
        agent_errors: Some(true),
        ..Switches::default()
    };
    assert_eq!(*switches(&bed, id), expected);

    drop(bed);
    let bed = ground.start().await;
    assert_eq!(*switches(&bed, id), expected);
    let unset = json!({"resourceArn": arn, "tagKeys": ["eyot:warm", "eyot:agent-errors"]});
    bed.call("UntagResource", unset).await.unwrap();
    assert_eq!(*switches(&bed, id), Switches::default());
    bed.call("UpdateAgentRuntime", update(id, "agent.zip")).await.unwrap();
    bed.settled(id).await;
    assert_eq!(*switches(&bed, id), Switches::default());
}

#[tokio::test]
async fn a_wrong_switch_is_refused_by_name() {
    let ground = Ground::new();
    let bed = ground.start().await;
    let wrong = json!({"tags": {"eyot:wram": "2"}});
    let refusal = bed
        .call("CreateAgentRuntime", with(create("a", "agent.zip"), wrong))
        .await;
    refused(refusal, &invalid(), &["eyot:wram", "eyot:warm"]);
    let id = bed.ready("a").await;
    let arn = bed.get(&id).await.unwrap()["agentRuntimeArn"]
        .as_str()
        .unwrap()
        .to_owned();
    let wrong = json!({"resourceArn": arn, "tags": {"eyot:pause-after": "soon"}});
    refused(
        bed.call("TagResource", wrong).await,
        &invalid(),
        &["eyot:pause-after", "30s"],
    );
    assert_eq!(*switches(&bed, &id), Switches::default());

    let endpoint = json!({"agentRuntimeId": id, "name": "prod", "tags": {"eyot:warm": "2"}});
    let refusal = bed.call("CreateAgentRuntimeEndpoint", endpoint).await;
    refused(refusal, &invalid(), &["eyot:warm", "tags of the runtime"]);
    let tags = json!({"resourceArn": format!("{arn}/runtime-endpoint/DEFAULT"), "tags": {"eyot:warm": "2"}});
    refused(
        bed.call("TagResource", tags).await,
        &invalid(),
        &["tags of the runtime"],
    );
}
