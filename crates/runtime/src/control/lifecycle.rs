//! How runtimes and endpoints move on, as pure functions of their records.
//!
//! ```text
//! runtime   create -> CREATING ──fit──> READY ──update──> UPDATING ──fit──> READY
//!                        └──unfit─> CREATE_FAILED ──update──┘   └──unfit─> UPDATE_FAILED ──update──> UPDATING
//!           any settled state ──delete──> DELETING ──> gone
//! endpoint  create -> CREATING ──target fit──> READY ──update──> UPDATING ──target fit──> READY
//!           and the same failures; `live` changes only when `target` is fit
//! ```
//!
//! A version is *fit* when its artifact was fetched, unpacked and can be run on this host. An endpoint moves to a fit
//! version when that is *warm* too: as many sandboxes as shall be ready for it are, or have had their time. `DEFAULT` gets
//! every new version as its target; other endpoints get a target only when they are told. A runtime is READY when
//! `DEFAULT` has followed, so that a client that reads READY is served by the new version. A failed update leaves `live`
//! alone.
//!
//! Invariant: an endpoint never loses its live version but by its own deletion.

use super::record::{Endpoint, Runtime, State};
use domain::id::Version;
use jiff::Timestamp;

/// Whether a version can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// It is being made ready.
    Preparing,
    /// It can serve on this host now.
    Fit,
    /// It cannot serve.
    Unfit {
        /// Why, for a person.
        reason: String,
    },
}

/// Moves a runtime and its endpoints on as far as their versions allow. `is_warm` is about an endpoint's target, and
/// asked only if that is fit. Answers whether anything changed; endpoints in [`State::Deleting`] are left to the caller,
/// who removes their records.
pub(crate) fn settle(
    runtime: &mut Runtime,
    endpoints: &mut [Endpoint],
    now: Timestamp,
    fitness: impl Fn(Version) -> Fitness,
    is_warm: impl Fn(&Endpoint) -> bool,
) -> bool {
    let mut changed = false;
    if let Some(pending) = runtime.pending {
        let follows_later = endpoints
            .iter()
            .any(|e| e.name.is_default() && is_moving(e) && e.target == Some(pending) && !is_warm(e));
        let next = match fitness(pending) {
            Fitness::Preparing => None,
            Fitness::Fit if follows_later => None,
            Fitness::Fit => Some(State::Ready),
            Fitness::Unfit { reason } => Some(runtime.state.failed(reason)),
        };
        if let Some(next) = next {
            runtime.state = next;
            runtime.pending = None;
            runtime.updated_at = now;
            changed = true;
        }
    }
    for endpoint in endpoints {
        changed |= settle_endpoint(endpoint, now, &fitness, &is_warm);
    }
    changed
}

fn is_moving(endpoint: &Endpoint) -> bool {
    matches!(endpoint.state, State::Creating | State::Updating)
}

fn settle_endpoint(
    endpoint: &mut Endpoint,
    now: Timestamp,
    fitness: impl Fn(Version) -> Fitness,
    is_warm: impl Fn(&Endpoint) -> bool,
) -> bool {
    if !is_moving(endpoint) {
        return false;
    }
    // An endpoint in transition without a target has nothing to wait for: its live version serves.
    let outcome = endpoint.target.map_or(Fitness::Fit, &fitness);
    match outcome {
        Fitness::Preparing => return false,
        Fitness::Fit if endpoint.target.is_some() && !is_warm(endpoint) => return false,
        Fitness::Fit => {
            endpoint.live = endpoint.target.take().or(endpoint.live);
            endpoint.state = State::Ready;
        }
        Fitness::Unfit { reason } => endpoint.state = endpoint.state.failed(reason),
    }
    endpoint.updated_at = now;
    true
}

/// Begins an update: the runtime gets a new version, which becomes the target of `DEFAULT`. Answers the new number.
pub(crate) fn begin_update(runtime: &mut Runtime, default: &mut Endpoint, now: Timestamp) -> Version {
    let version = runtime.next;
    runtime.next = version.next();
    runtime.latest = version;
    runtime.pending = Some(version);
    runtime.versions += 1;
    runtime.state = State::Updating;
    runtime.updated_at = now;
    begin_move(default, version, now);
    version
}

/// Points an endpoint at another version. What it serves changes when that version is fit.
pub(crate) fn begin_move(endpoint: &mut Endpoint, target: Version, now: Timestamp) {
    endpoint.target = Some(target);
    endpoint.state = State::Updating;
    endpoint.updated_at = now;
}

/// Whether an endpoint serves a version or is about to.
pub(crate) fn uses(endpoint: &Endpoint, version: Version) -> bool {
    endpoint.live == Some(version) || (is_moving(endpoint) && endpoint.target == Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::{EndpointName, RuntimeId, RuntimeName};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashMap, HashSet};

    fn runtime() -> Runtime {
        Runtime {
            id: RuntimeId::parse("a-0123456789").unwrap(),
            name: RuntimeName::parse("a").unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            state: State::Creating,
            latest: Version::FIRST,
            description: None,
            next: Version::FIRST.next(),
            pending: Some(Version::FIRST),
            versions: 1,
            endpoints: 1,
            tags: BTreeMap::new(),
            created_by: None,
            policy: None,
        }
    }

    fn endpoint(name: &str, target: Version) -> Endpoint {
        Endpoint {
            runtime: RuntimeId::parse("a-0123456789").unwrap(),
            name: EndpointName::parse(name).unwrap(),
            id: format!("{name}-0123456789"),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            description: None,
            state: State::Creating,
            live: None,
            target: Some(target),
            tags: BTreeMap::new(),
            policy: None,
        }
    }

    fn unfit() -> Fitness {
        Fitness::Unfit {
            reason: "no such object".into(),
        }
    }

    /// Settles with the same answer for every version, and all of them warm.
    fn settle_all(runtime: &mut Runtime, endpoints: &mut [Endpoint], fitness: impl Fn(Version) -> Fitness) -> bool {
        settle(runtime, endpoints, Timestamp::UNIX_EPOCH, fitness, |_| true)
    }

    #[test]
    fn a_first_version_that_is_fit_makes_runtime_and_default_ready() {
        let (mut runtime, mut endpoints) = (runtime(), [endpoint("DEFAULT", Version(1))]);
        assert!(!settle_all(&mut runtime, &mut endpoints, |_| { Fitness::Preparing }));
        assert!(settle_all(&mut runtime, &mut endpoints, |_| { Fitness::Fit }));
        assert_eq!((runtime.state, runtime.pending), (State::Ready, None));
        let [default] = endpoints;
        assert_eq!(
            (default.state, default.live, default.target),
            (State::Ready, Some(Version(1)), None)
        );
    }

    #[test]
    fn a_failed_update_leaves_the_live_version_serving() {
        let (mut runtime, mut endpoints) = (runtime(), [endpoint("DEFAULT", Version(1))]);
        settle_all(&mut runtime, &mut endpoints, |_| Fitness::Fit);
        begin_update(&mut runtime, &mut endpoints[0], Timestamp::UNIX_EPOCH);
        assert_eq!((&runtime.state, runtime.latest), (&State::Updating, Version(2)));
        settle_all(&mut runtime, &mut endpoints, |_| unfit());
        assert_eq!(runtime.state.word(), "UPDATE_FAILED");
        assert_eq!(endpoints[0].state.word(), "UPDATE_FAILED");
        assert_eq!(endpoints[0].live, Some(Version(1)));
    }

    #[test]
    fn a_failed_creation_can_be_mended_by_an_update() {
        let (mut runtime, mut endpoints) = (runtime(), [endpoint("DEFAULT", Version(1))]);
        settle_all(&mut runtime, &mut endpoints, |_| unfit());
        assert_eq!(
            (runtime.state.word(), endpoints[0].state.word()),
            ("CREATE_FAILED", "CREATE_FAILED")
        );
        begin_update(&mut runtime, &mut endpoints[0], Timestamp::UNIX_EPOCH);
        settle_all(&mut runtime, &mut endpoints, |_| Fitness::Fit);
        assert_eq!((&runtime.state, endpoints[0].live), (&State::Ready, Some(Version(2))));
    }

    #[test]
    fn an_endpoint_waits_for_its_warm_sandboxes_and_the_runtime_for_default() {
        let mut runtime = runtime();
        let mut endpoints = [endpoint("DEFAULT", Version(1)), endpoint("prod", Version(1))];
        let fit = |_| Fitness::Fit;
        let now = Timestamp::UNIX_EPOCH;
        assert!(settle(&mut runtime, &mut endpoints, now, fit, |e| e.name.as_str() == "prod"));
        assert_eq!((&runtime.state, runtime.pending), (&State::Creating, Some(Version(1))));
        assert_eq!((endpoints[0].live, endpoints[1].live), (None, Some(Version(1))));
        assert!(!settle(&mut runtime, &mut endpoints, now, fit, |_| false));
        assert!(settle(&mut runtime, &mut endpoints, now, fit, |_| true));
        assert_eq!((&runtime.state, endpoints[0].live), (&State::Ready, Some(Version(1))));

        // What is unfit fails at once, warm or not.
        begin_update(&mut runtime, &mut endpoints[0], now);
        assert!(settle(&mut runtime, &mut endpoints, now, |_| unfit(), |_| false));
        assert_eq!(runtime.state.word(), "UPDATE_FAILED");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Update,
        Move(usize, u32),
        Decide(u32, bool),
        Warm(usize, u32),
        Settle,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Update),
            (0usize..3, 1u32..6).prop_map(|(e, v)| Step::Move(e, v)),
            (1u32..6, any::<bool>()).prop_map(|(v, fit)| Step::Decide(v, fit)),
            (0usize..3, 1u32..6).prop_map(|(e, v)| Step::Warm(e, v)),
            Just(Step::Settle),
        ]
    }

    proptest! {
        /// Whatever happens: only fit and warm versions are live, a live version is never lost, a runtime is READY only
        /// when DEFAULT has its version, and once every version is decided and warm, settling leaves nothing in
        /// transition.
        #[test]
        fn live_versions_are_fit_and_nothing_hangs(steps in prop::collection::vec(step(), 0..40)) {
            let mut runtime = runtime();
            let mut endpoints =
                [endpoint("DEFAULT", Version(1)), endpoint("prod", Version(1)), endpoint("test", Version(1))];
            let mut decided: HashMap<u32, bool> = HashMap::new();
            let mut warm: HashSet<(String, Version)> = HashSet::new();
            let look = |decided: &HashMap<u32, bool>, v: Version| match decided.get(&v.0) {
                None => Fitness::Preparing,
                Some(true) => Fitness::Fit,
                Some(false) => unfit(),
            };
            for step in steps {
                let had: Vec<bool> = endpoints.iter().map(|e| e.live.is_some()).collect();
                match step {
                    Step::Update if runtime.state.is_settled() => {
                        begin_update(&mut runtime, &mut endpoints[0], Timestamp::UNIX_EPOCH);
                    }
                    Step::Move(which, version) if which > 0 && version < runtime.next.0 => {
                        begin_move(&mut endpoints[which], Version(version), Timestamp::UNIX_EPOCH);
                    }
                    Step::Decide(version, fit) if version < runtime.next.0 => {
                        decided.entry(version).or_insert(fit);
                    }
                    Step::Warm(which, version) => {
                        warm.insert((endpoints[which].name.to_string(), Version(version)));
                    }
                    Step::Settle => {
                        settle(&mut runtime, &mut endpoints, Timestamp::UNIX_EPOCH, |v| look(&decided, v), |e| {
                            e.target.is_some_and(|target| warm.contains(&(e.name.to_string(), target)))
                        });
                    }
                    _ => {}
                }
                for (endpoint, had) in endpoints.iter().zip(had) {
                    prop_assert!(endpoint.live.is_some() || !had);
                    let is_good = |v: Version| {
                        decided.get(&v.0) == Some(&true) && warm.contains(&(endpoint.name.to_string(), v))
                    };
                    prop_assert!(endpoint.live.is_none_or(is_good));
                }
                prop_assert!(runtime.state != State::Ready || endpoints[0].live == Some(runtime.latest));
            }
            for version in 1..runtime.next.0 {
                decided.entry(version).or_insert(true);
            }
            settle_all(&mut runtime, &mut endpoints, |v| look(&decided, v));
            prop_assert!(runtime.state.is_settled() && runtime.pending.is_none());
            prop_assert!(endpoints.iter().all(|e| e.state.is_settled()));
        }
    }
}
