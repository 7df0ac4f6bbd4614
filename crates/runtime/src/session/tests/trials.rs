//! A version's warm-up hook.

use super::*;
use crate::deployment::Warmup;
use domain::Origin;

fn warmup() -> Warmup {
    Warmup {
        path: "/warm".to_owned(),
        port: None,
    }
}

async fn trial(rig: &Rig) -> Result<(), Error> {
    rig.router.trial(&rig.target.deployment, &warmup()).await
}

/// Checks that a trial fails by the version's fault, with these words and this said by the agent, and leaves nothing.
async fn check_failure(agent: Agent, words: &[&str], said: Option<&str>) {
    let rig = Rig::new(agent);
    let error = trial(&rig).await.unwrap_err();
    assert_eq!(error.origin(), Origin::Agent, "{error}");
    for word in words {
        assert!(error.message.contains(word), "'{error}' lacks '{word}'");
    }
    assert_eq!(error.detail.as_deref(), said);
    assert_eq!((rig.driver.alive(), rig.router.count()), (0, 0));
}

#[tokio::test]
async fn a_hook_that_answers_well_is_called_once_with_an_empty_object() {
    let (sender, mut seen) = mpsc::channel(8);
    let agent = Agent::http(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            sender.try_send((head.method, head.uri, head.headers, body)).unwrap();
            status(204, "")
        }
    });
    let rig = Rig::new(agent);
    trial(&rig).await.unwrap();
    let (method, uri, headers, body) = seen.recv().await.unwrap();
    assert_eq!((method.as_str(), uri.path(), &*body), ("POST", "/warm", &b"{}"[..]));
    assert_eq!(headers["content-type"], "application/json");
    assert!(seen.try_recv().is_err(), "it is called once");
    assert_eq!(
        (rig.driver.started(), rig.driver.alive(), rig.router.count()),
        (1, 0, 0)
    );
    let labels = &rig.driver.sandbox(0).spec.labels;
    assert!(
        labels.contains_key("trial") && !labels.contains_key("session"),
        "{labels:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_does_not_answer_well_is_the_versions_fault() {
    let refuses = Agent::http(|_: Request<Incoming>| async { status(503, "the model is missing") });
    check_failure(
        refuses,
        &["POST /warm", "8080", "status 503 instead of 2xx"],
        Some("the model is missing"),
    )
    .await;
    let mut hangs = Agent::http(|_: Request<Incoming>| std::future::pending::<Response<Outgoing>>());
    hangs.log = "loading".to_owned();
    check_failure(hangs, &["did not answer within 120 s"], Some("loading")).await;
    let mut dies = Agent::echo();
    dies.exits_at_once = Some(CRASH);
    dies.log = "ImportError".to_owned();
    check_failure(dies, &["exited with code 3"], Some("ImportError")).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_the_hosts_fault_says_nothing_about_the_version() {
    let mut agent = Agent::echo();
    agent.cannot_start = Some(|| sandbox::Error::Host("no user namespaces".to_owned()));
    assert_eq!(trial(&Rig::new(agent)).await.unwrap_err().origin(), Origin::Platform);
}

#[tokio::test]
async fn a_trial_that_nobody_waits_for_ends_its_sandbox() {
    let (sender, mut called) = mpsc::channel(8);
    let release = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&release);
    let rig = Rig::new(Agent::http(move |_: Request<Incoming>| {
        let (sender, held) = (sender.clone(), Arc::clone(&held));
        async move {
            sender.try_send(()).unwrap();
            held.acquire().await.unwrap().forget();
            healthy()
        }
    }));
    tokio::select! {
        _ = trial(&rig) => panic!("its hook is held"),
        _ = called.recv() => {}
    }
    assert_eq!(rig.driver.alive(), 1);
    release.add_permits(1);
    while rig.driver.alive() > 0 {
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn the_sandbox_of_a_trial_that_was_killed_is_destroyed_by_the_next_server() {
    let rig = Rig::new(Agent::echo());
    let left = SandboxId::generate();
    let labels = [("trial", ""), ("runtime", "a-0123456789"), ("endpoint", "DEFAULT")];
    *rig.driver.left_over.lock().unwrap() = vec![Found {
        id: left.clone(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        alive: true,
    }];
    assert_eq!(rig.router.recover().await.unwrap().destroyed, 1);
    assert_eq!(*rig.driver.destroyed.lock().unwrap(), [left]);
}
