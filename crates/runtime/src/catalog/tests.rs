use super::*;
use domain::RuntimeArn;
use domain::id::{AccountId, Region, RuntimeName};
use std::time::Duration;

fn deployment(id: &RuntimeId, version: u32) -> Arc<Deployment> {
    Arc::new(Deployment {
        arn: RuntimeArn {
            region: Region::parse("us-west-2").unwrap(),
            account: AccountId::parse("123456789012").unwrap(),
            id: id.clone(),
        },
        name: RuntimeName::parse("a").unwrap(),
        version: Version(version),
        package: "/packages/x".into(),
        read_only: Vec::new(),
        command: vec!["main".into()],
        environment: Vec::new(),
        port: 8080,
        path: "/invocations".into(),
        idle_timeout: Duration::from_secs(900),
        max_lifetime: Duration::from_secs(28_800),
        header_allowlist: Vec::new(),
        storage: None,
        authorizer: None,
        role: String::new(),
    })
}

#[test]
fn each_endpoint_answers_for_itself() {
    let catalog = Catalog::default();
    let id = RuntimeId::parse("a-0123456789").unwrap();
    let name = |text: &str| EndpointName::parse(text).unwrap();
    let unfit = Serving::Unfit {
        version: Version(3),
        reason: "no such object\nand what an agent said".into(),
    };
    let endpoints = HashMap::from([
        (EndpointName::default_endpoint(), Serving::Live(deployment(&id, 2))),
        (name("soon"), Serving::NotYet),
        (name("bad"), unfit),
    ]);
    catalog.publish(
        &id,
        Entry {
            endpoints,
            guarded: Guarded::default(),
            switches: Arc::default(),
        },
    );

    let target = catalog.resolve(&id, None).unwrap();
    assert_eq!(
        (target.endpoint.as_str(), target.deployment.version),
        ("DEFAULT", Version(2))
    );
    let kind = |endpoint: &str| catalog.resolve(&id, Some(&name(endpoint))).unwrap_err();
    assert_eq!(kind("soon").kind, Kind::SessionBusy);
    assert_eq!(kind("bad").kind, Kind::Agent);
    assert!(kind("bad").message.ends_with("no such object"), "{}", kind("bad"));
    assert_eq!(kind("absent").kind, Kind::NotFound);

    catalog.remove(&id);
    assert_eq!(catalog.resolve(&id, None).unwrap_err().kind, Kind::NotFound);
}
