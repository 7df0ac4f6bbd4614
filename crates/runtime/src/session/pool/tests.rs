use super::*;
use crate::session::testing::{config, deployment, key};

const SECOND: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn demand_is_the_largest_burst_of_late() {
    let begin = Instant::now();
    let mut demand = Demand::default();
    assert_eq!(demand.now(begin, IDLE), 0);
    for second in [0, 1, 2, 20, 21] {
        demand.note(begin + SECOND * second);
    }
    assert_eq!(demand.now(begin + 30 * SECOND, IDLE), 3);
    assert_eq!(demand.cools_at(IDLE), Some(begin + 302 * SECOND));
    assert_eq!(
        demand.now(begin + 310 * SECOND, IDLE),
        1,
        "half as many, while sessions come"
    );
    assert_eq!(demand.now(begin + 700 * SECOND, IDLE), 0, "none have come for long");
    assert_eq!(demand.cools_at(IDLE), None);
    for _ in 0..5000 {
        demand.note(begin + 800 * SECOND);
    }
    assert_eq!(demand.recent.len(), MOST_RECENT);
}

fn lanes(config: &Config, endpoints: &[&str]) -> Lanes {
    let mut lanes = Lanes::default();
    for endpoint in endpoints {
        let target = Target {
            endpoint: EndpointName::parse(endpoint).unwrap(),
            deployment: Arc::new(deployment()),
            switches: Arc::default(),
        };
        let lane = Lane::new(target.clone(), false, Instant::now());
        lanes.lanes.entry(name(&target)).or_default().push(lane);
    }
    assert!(config.warm.max > 0);
    lanes
}

#[tokio::test(start_paused = true)]
async fn no_more_are_started_than_at_once_and_than_memory_allows() {
    let mut config = config();
    (config.warm.min, config.warm.max, config.warm.at_once) = (10, 10, 3);
    config.memory_request = 100 << 20;
    config.warm.memory = 250 << 20;
    let room = Room::new(&config);
    let mut lanes = lanes(&config, &["a", "b"]);
    let plan = lanes.plan(Instant::now(), &config, &room);
    assert_eq!(plan.start.len(), 2, "a third would not fit");
    assert_eq!(
        lanes.plan(Instant::now(), &config, &room).start.len(),
        0,
        "they are being started"
    );
    config.warm.memory = 10 << 30;
    assert_eq!(lanes.plan(Instant::now(), &config, &room).start.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_gone_and_a_move_that_never_came_leave_nothing() {
    let mut config = config();
    config.warm.max = 1;
    let room = Room::new(&config);
    let pool = Pool::default();
    let target = Target {
        endpoint: key("a").endpoint,
        deployment: Arc::new(deployment()),
        switches: Arc::default(),
    };
    let runtime = target.deployment.arn.id.clone();
    pool.serving(&runtime, std::slice::from_ref(&target), &config);
    config.warm.min = 1;
    let mut newer = target.clone();
    Arc::make_mut(&mut newer.deployment).version = target.deployment.version.next();
    assert!(!pool.is_warm(&newer, &config));
    assert_eq!(pool.lock().lanes[&name(&target)].len(), 2);
    pool.serving(&runtime, &[], &config);
    config.warm.min = 0;
    pool.plan(Instant::now(), &config, &room);
    assert_eq!(pool.lock().lanes[&name(&target)].len(), 1, "the move may still come");
    pool.plan(Instant::now() + config.start_deadline * 2, &config, &room);
    assert!(pool.lock().lanes.is_empty());
}
