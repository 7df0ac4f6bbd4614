use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// All ids of a list, page by page; `between` runs after each page.
async fn walk<F: Future<Output = ()>>(bed: &Bed, size: u32, mut between: impl FnMut(usize) -> F) -> Vec<String> {
    let mut ids = Vec::new();
    let mut input = json!({"maxResults": size});
    for page in 0.. {
        let answer = bed.call("ListAgentRuntimes", input.clone()).await.unwrap();
        let items = answer["agentRuntimes"].as_array().unwrap();
        assert!(items.len() <= size as usize);
        ids.extend(
            items
                .iter()
                .map(|item| item["agentRuntimeId"].as_str().unwrap().to_owned()),
        );
        let Some(next) = answer.get("nextToken") else { break };
        input["nextToken"] = next.clone();
        between(page).await;
    }
    ids
}

#[derive(Debug, Clone)]
enum Write {
    Create(String),
    Delete(usize),
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![3 => "[a-z]{1,4}".prop_map(Write::Create), 1 => (0usize..20).prop_map(Write::Delete)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Runtimes come and go between the pages: none is shown twice, and none that was there all along is missed.
    #[test]
    fn a_list_is_stable_under_writes(
        names in prop::collection::btree_set("[a-z]{1,4}", 1..20),
        size in 1u32..6,
        writes in prop::collection::vec(write(), 0..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ground = Ground::in_memory();
            let bed = ground.start().await;
            let mut stable = BTreeSet::new();
            for name in &names {
                stable.insert(bed.ready(name).await);
            }
            let victims: Vec<String> = stable.iter().cloned().collect();
            let (stable, bed_ref, writes_ref, victims) = (std::cell::RefCell::new(stable), &bed, &writes, &victims);
            let stable_ref = &stable;
            let shown = walk(&bed, size, |page| async move {
                for write in writes_ref.iter().skip(page * 3).take(3) {
                    match write {
                        Write::Create(name) => {
                            let _ = bed_ref.call("CreateAgentRuntime", create(name, "agent.zip")).await;
                        }
                        Write::Delete(which) => {
                            let id = &victims[which % victims.len()];
                            if bed_ref.call("DeleteAgentRuntime", json!({"agentRuntimeId": id})).await.is_ok() {
                                stable_ref.borrow_mut().remove(id);
                                bed_ref.gone(id).await;
                            }
                        }
                    }
                }
            })
            .await;
            let unique: BTreeSet<&String> = shown.iter().collect();
            assert_eq!(unique.len(), shown.len(), "an item is shown twice: {shown:?}");
            assert!(stable.borrow().iter().all(|id| unique.contains(id)), "an item is missed: {shown:?}");
        });
    }
}

#[tokio::test]
async fn tokens_belong_to_their_list() {
    let ground = Ground::in_memory();
    let bed = ground.start().await;
    let (a, b) = (bed.ready("a").await, bed.ready("b").await);
    for id in [&a, &b] {
        bed.call("UpdateAgentRuntime", update(id, "agent.zip")).await.unwrap();
        bed.settled(id).await;
        let endpoint = json!({"agentRuntimeId": id, "name": "prod"});
        bed.call("CreateAgentRuntimeEndpoint", endpoint).await.unwrap();
    }
    let one = |id: &str| json!({"agentRuntimeId": id, "maxResults": 1});
    let versions = bed.call("ListAgentRuntimeVersions", one(&a)).await.unwrap();
    let token = &versions["nextToken"];
    let second = bed
        .call("ListAgentRuntimeVersions", with(one(&a), json!({"nextToken": token})))
        .await
        .unwrap();
    assert_eq!(second["agentRuntimes"][0]["agentRuntimeVersion"], "2");
    assert!(second.get("nextToken").is_none());
    for (operation, input) in [
        ("ListAgentRuntimeVersions", one(&b)),
        ("ListAgentRuntimeEndpoints", one(&a)),
        ("ListAgentRuntimes", json!({})),
    ] {
        let foreign = with(input.clone(), json!({"nextToken": token}));
        refused(bed.call(operation, foreign).await, &invalid(), &["nextToken"]);
        let nonsense = with(input, json!({"nextToken": "AAAA"}));
        refused(bed.call(operation, nonsense).await, &invalid(), &["nextToken"]);
    }
    let endpoints = bed
        .call("ListAgentRuntimeEndpoints", json!({"agentRuntimeId": a}))
        .await
        .unwrap();
    let endpoints = endpoints["runtimeEndpoints"].as_array().unwrap();
    assert_eq!(
        (&endpoints[0]["name"], &endpoints[1]["name"]),
        (&json!("DEFAULT"), &json!("prod"))
    );
    assert!(endpoints.iter().all(|endpoint| endpoint["id"].is_string()));
}
