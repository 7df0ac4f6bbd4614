use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

const POLICY: Policy = Policy {
    idle_timeout: Duration::from_secs(60),
    max_lifetime: Duration::from_secs(600),
    ping_interval: Duration::from_secs(2),
    ping_interval_quiet: Duration::from_secs(30),
    pause_after: None,
    pause_busy: false,
    unhealthy_threshold: 3,
    busy_needs_update_time: false,
    stop_grace: Duration::from_secs(15),
};

const CALM: Answer = Answer {
    busy: false,
    updated: None,
    odd_time: false,
};
const BUSY: Answer = Answer {
    busy: true,
    updated: None,
    odd_time: false,
};

/// A machine with the owner's part played by hand.
struct Play {
    machine: Machine,
    now: Duration,
    seen: Look,
}

impl Play {
    fn new(policy: Policy) -> Self {
        Self {
            machine: Machine::new(policy, 7),
            now: Duration::ZERO,
            seen: Look::open(0, Duration::ZERO),
        }
    }

    /// A session that became healthy one second after its sandbox was started.
    fn healthy(policy: Policy) -> Self {
        let mut play = Self::new(policy);
        play.step(Input::SandboxStarted);
        play.now = SECOND;
        play.step(Input::Healthy(CALM));
        play
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let (machine, effects) = self.machine.clone().step(input, self.now, self.seen);
        self.machine = machine;
        effects
    }

    /// Lets time run as the owner does, waking when the machine asks, answering pings by `answer`, until `end`.
    fn run(&mut self, end: Duration, answer: impl Fn(Duration) -> Ping) {
        while self.machine.phase().reason().is_none() {
            let Some(wake) = self.machine.wake_at(self.now, self.seen) else {
                break;
            };
            if wake > end {
                break;
            }
            self.now = self.now.max(wake);
            let mut effects = self.step(Input::Tick);
            while let Some(effect) = effects.pop() {
                let follows = match effect {
                    Effect::Ping => Input::Ping(answer(self.now)),
                    Effect::ShutIfUnchanged => Input::ShutWhileIdle,
                    Effect::PauseIfUnchanged => Input::Paused,
                    Effect::Resume => Input::Resumed,
                    Effect::Stop { .. } | Effect::Forget => continue,
                };
                effects.extend(self.step(follows));
            }
        }
        if self.machine.phase().reason().is_none() {
            self.now = end;
        }
    }

    fn ended(&self, reason: Reason, at: Duration) {
        assert_eq!((self.machine.phase(), self.now), (Phase::Terminating(reason), at));
    }
}

#[test]
fn idle_ends_exactly_after_its_timeout() {
    let mut play = Play::healthy(POLICY);
    play.run(600 * SECOND, |_| Ping::Answered(CALM));
    play.ended(Reason::IdleTimeout, 61 * SECOND);
}

#[test]
fn a_call_in_flight_stops_the_idle_clock_and_leaving_restarts_it() {
    let mut play = Play::healthy(POLICY);
    play.seen = Look::open(1, Duration::ZERO);
    play.run(200 * SECOND, |_| Ping::Answered(CALM));
    assert_eq!(play.machine.phase(), Phase::Active);
    play.seen = Look::open(0, 200 * SECOND);
    play.run(600 * SECOND, |_| Ping::Answered(CALM));
    play.ended(Reason::IdleTimeout, 260 * SECOND);
}

#[test]
fn an_entry_between_look_and_shutting_keeps_it_alive() {
    let mut play = Play::healthy(POLICY);
    play.now = 61 * SECOND;
    assert_eq!(
        play.step(Input::Tick),
        [Effect::Ping],
        "who was not heard for long is asked first"
    );
    assert_eq!(play.step(Input::Ping(Ping::Answered(CALM))), [Effect::ShutIfUnchanged]);
    // The owner could not shut the gate, so it reports nothing.
    assert_eq!(play.machine.phase(), Phase::Idle);
    play.seen = Look::open(0, 61 * SECOND);
    play.run(600 * SECOND, |_| Ping::Answered(CALM));
    play.ended(Reason::IdleTimeout, 121 * SECOND);
}

#[test]
fn business_keeps_it_alive_until_max_lifetime() {
    let mut play = Play::healthy(POLICY);
    play.run(1000 * SECOND, |_| Ping::Answered(BUSY));
    play.ended(Reason::MaxLifetime, 600 * SECOND);
}

#[test]
fn the_idle_clock_runs_from_the_end_of_business() {
    let mut play = Play::healthy(POLICY);
    play.run(600 * SECOND, |now| {
        Ping::Answered(if now < 300 * SECOND { BUSY } else { CALM })
    });
    assert_eq!(play.machine.phase(), Phase::Terminating(Reason::IdleTimeout));
    // The last busy answer came within one interval, and its jitter, before 300 s.
    assert!(play.now > 357 * SECOND && play.now < 360 * SECOND, "{:?}", play.now);
}

#[test]
fn the_time_of_last_update_counts() {
    let advancing = |now| {
        Ping::Answered(Answer {
            busy: false,
            updated: Some(now),
            odd_time: false,
        })
    };
    let mut play = Play::healthy(POLICY);
    play.run(1000 * SECOND, advancing);
    play.ended(Reason::MaxLifetime, 600 * SECOND);

    let mut play = Play::healthy(POLICY);
    play.run(1000 * SECOND, |_| {
        Ping::Answered(Answer {
            busy: false,
            updated: Some(SECOND * 30),
            odd_time: false,
        })
    });
    assert_eq!(play.machine.phase(), Phase::Terminating(Reason::IdleTimeout));
    assert_eq!(play.now, 90 * SECOND);

    // A time in the future is nonsense.
    let mut play = Play::healthy(POLICY);
    play.run(1000 * SECOND, |now| {
        Ping::Answered(Answer {
            busy: false,
            updated: Some(now + SECOND),
            odd_time: false,
        })
    });
    play.ended(Reason::IdleTimeout, 61 * SECOND);
}

#[test]
fn business_without_a_time_does_not_count_when_measured_semantics_are_wanted() {
    let mut play = Play::healthy(Policy {
        busy_needs_update_time: true,
        ..POLICY
    });
    play.run(1000 * SECOND, |_| Ping::Answered(BUSY));
    play.ended(Reason::IdleTimeout, 61 * SECOND);
}

#[test]
fn bad_pings_in_a_row_end_it() {
    for bad in [Ping::Bad, Ping::Silent] {
        let mut play = Play::healthy(POLICY);
        play.run(
            600 * SECOND,
            |now| if now > 10 * SECOND { bad } else { Ping::Answered(CALM) },
        );
        assert_eq!(play.machine.phase(), Phase::Terminating(Reason::Unhealthy), "{bad:?}");
        assert!(play.now < 20 * SECOND, "{:?}", play.now);
    }
}

#[test]
fn a_quiet_session_is_asked_less_and_less_often() {
    let asked = std::cell::RefCell::new(Vec::new());
    let policy = Policy {
        idle_timeout: 900 * SECOND,
        max_lifetime: 10_000 * SECOND,
        ..POLICY
    };
    let mut play = Play::healthy(policy);
    let answer = |now: Duration| {
        asked.borrow_mut().push(now.as_secs());
        Ping::Answered(CALM)
    };
    play.run(800 * SECOND, answer);
    let first = asked.borrow().iter().filter(|at| **at < 60).count();
    let later = asked.borrow().iter().filter(|at| (200..800).contains(*at)).count();
    assert!((4..8).contains(&first), "{asked:?}");
    assert!((18..23).contains(&later), "every 30 s: {asked:?}");
    // A call brings the short interval back.
    play.seen = Look::open(0, 800 * SECOND);
    play.run(840 * SECOND, answer);
    let after = asked.borrow().iter().filter(|at| (800..840).contains(*at)).count();
    assert!(after >= 2, "{asked:?}");
}

#[test]
fn business_that_began_by_itself_is_noticed_before_the_end() {
    let mut play = Play::healthy(POLICY);
    // The last regular ping before the idle timeout may be 15 s old.
    play.run(100 * SECOND, |now| {
        Ping::Answered(if now >= 60 * SECOND { BUSY } else { CALM })
    });
    assert_eq!(play.machine.phase(), Phase::Active);
}

/// A call that answers at once and leaves work behind, in a session that is asked every 30 s by then.
#[test]
fn work_that_a_call_leaves_behind_is_noticed_soon_and_never_paused() {
    let policy = Policy {
        idle_timeout: 900 * SECOND,
        max_lifetime: 10_000 * SECOND,
        pause_after: Some(300 * SECOND),
        ..POLICY
    };
    let mut play = Play::healthy(policy);
    play.run(250 * SECOND, |_| Ping::Answered(CALM));
    assert!(play.machine.looks_rarely());
    let left = play.now;
    play.seen = Look::open(0, left);
    assert_eq!(play.step(Input::Woken), []);
    assert_eq!(play.machine.wake_at(play.now, play.seen), Some(left + 2 * SECOND));
    play.run(left + 3 * SECOND, |_| Ping::Answered(BUSY));
    assert_eq!(play.machine.phase(), Phase::Active);
    // Also where pausing comes before the next ping would.
    let mut play = Play::healthy(Policy {
        pause_after: Some(SECOND),
        ..policy
    });
    play.seen = Look::open(0, play.now);
    play.run(100 * SECOND, |_| Ping::Answered(BUSY));
    assert_eq!(play.machine.phase(), Phase::Active);
}

fn pausing() -> Policy {
    Policy {
        pause_after: Some(10 * SECOND),
        ..POLICY
    }
}

#[test]
fn an_idle_session_is_paused_and_its_idle_clock_runs_on() {
    let mut play = Play::healthy(pausing());
    play.run(30 * SECOND, |now| {
        assert!(now <= 11 * SECOND, "a paused session is not asked");
        Ping::Answered(CALM)
    });
    assert_eq!(play.machine.phase(), Phase::Paused);
    play.run(600 * SECOND, |_| Ping::Bad);
    play.ended(Reason::IdleTimeout, 61 * SECOND);
}

#[test]
fn a_call_wakes_a_paused_session_once() {
    let mut play = Play::healthy(pausing());
    play.run(30 * SECOND, |_| Ping::Answered(CALM));
    assert_eq!(play.step(Input::Woken), [], "nobody is there");
    play.seen = Look::open(1, Duration::ZERO);
    assert_eq!(play.step(Input::Woken), [Effect::Resume]);
    assert_eq!(play.step(Input::Woken), [], "it is being resumed");
    play.step(Input::Resumed);
    assert_eq!(play.machine.phase(), Phase::Active);
    play.seen = Look::open(0, 31 * SECOND);
    play.run(42 * SECOND, |_| Ping::Answered(CALM));
    assert_eq!(play.machine.phase(), Phase::Paused);
}

#[test]
fn a_call_that_comes_while_it_is_being_paused_wakes_it() {
    let mut play = Play::healthy(pausing());
    play.now = 11 * SECOND;
    assert_eq!(
        play.step(Input::Tick),
        [Effect::Ping],
        "who was not heard lately is asked first"
    );
    assert_eq!(play.step(Input::Ping(Ping::Answered(CALM))), [Effect::PauseIfUnchanged]);
    play.seen = Look::open(1, Duration::ZERO);
    assert_eq!(play.step(Input::Woken), []);
    assert_eq!(play.step(Input::Paused), [Effect::Resume]);
    play.step(Input::Resumed);
    assert_eq!(play.machine.phase(), Phase::Active);
}

#[test]
fn who_cannot_or_must_not_be_paused_is_not() {
    let mut play = Play::healthy(pausing());
    play.now = 11 * SECOND;
    play.step(Input::Tick);
    assert_eq!(play.step(Input::Ping(Ping::Answered(CALM))), [Effect::PauseIfUnchanged]);
    play.step(Input::NotPaused { for_good: true });
    play.run(50 * SECOND, |_| Ping::Answered(CALM));
    assert_eq!(play.machine.phase(), Phase::Idle);

    let busy_once = |now: Duration| Ping::Answered(if now < 4 * SECOND { BUSY } else { CALM });
    let mut play = Play::healthy(pausing());
    play.run(50 * SECOND, busy_once);
    assert_eq!(play.machine.phase(), Phase::Idle, "it may work without saying so");
    let mut play = Play::healthy(Policy {
        pause_busy: true,
        ..pausing()
    });
    play.run(50 * SECOND, busy_once);
    assert_eq!(play.machine.phase(), Phase::Paused);
}

#[test]
fn a_session_that_was_taken_over_keeps_its_deadlines() {
    let mut play = Play::new(POLICY);
    play.now = 500 * SECOND;
    play.machine = Machine::adopted(POLICY, 7, Duration::ZERO, 490 * SECOND, play.now);
    let mut other = Play {
        machine: play.machine.clone(),
        ..play
    };
    play.run(700 * SECOND, |_| Ping::Answered(CALM));
    play.ended(Reason::IdleTimeout, 550 * SECOND);
    other.run(700 * SECOND, |_| Ping::Answered(BUSY));
    other.ended(Reason::MaxLifetime, 600 * SECOND);
}

#[test]
fn a_good_answer_forgives_bad_ones() {
    let mut play = Play::healthy(POLICY);
    for ping in [Ping::Bad, Ping::Bad, Ping::Answered(CALM), Ping::Bad, Ping::Bad] {
        play.now += SECOND;
        play.step(Input::Ping(ping));
    }
    assert_eq!(play.machine.phase(), Phase::Idle);
    play.step(Input::Ping(Ping::Bad));
    assert_eq!(play.machine.phase(), Phase::Terminating(Reason::Unhealthy));
}

#[test]
fn silence_is_forgiven_only_while_a_call_is_in_flight() {
    let mut play = Play::healthy(POLICY);
    play.seen = Look::open(1, Duration::ZERO);
    play.run(300 * SECOND, |_| Ping::Silent);
    assert_eq!(play.machine.phase(), Phase::Active);
    play.run(310 * SECOND, |_| Ping::Bad);
    assert_eq!(play.machine.phase(), Phase::Terminating(Reason::Unhealthy));
}

#[test]
fn recent_answers_replace_pings() {
    let mut play = Play::healthy(POLICY);
    play.now = 10 * SECOND;
    play.seen = Look::open(0, 9 * SECOND);
    assert_eq!(play.step(Input::Tick), []);
    assert_eq!(play.machine.wake_at(play.now, play.seen), Some(11 * SECOND));
    play.now = 11 * SECOND;
    assert_eq!(play.step(Input::Tick), [Effect::Ping]);
    assert_eq!(play.step(Input::Tick), [], "one ping at a time");
}

#[test]
fn max_lifetime_counts_from_the_sandboxs_start_even_before_it_is_healthy() {
    let mut play = Play::new(POLICY);
    assert_eq!(play.machine.wake_at(play.now, play.seen), None);
    play.now = 5 * SECOND;
    play.step(Input::SandboxStarted);
    assert_eq!(play.machine.wake_at(play.now, play.seen), Some(605 * SECOND));
    play.now = 605 * SECOND;
    play.step(Input::Tick);
    play.ended(Reason::MaxLifetime, 605 * SECOND);
}

#[test]
fn a_failed_start_is_ended_quickly() {
    let mut play = Play::new(POLICY);
    play.step(Input::SandboxStarted);
    assert_eq!(
        play.step(Input::StartFailed),
        [Effect::Stop {
            grace: FAILED_START_GRACE
        }]
    );
}

fn any_input() -> impl Strategy<Value = Input> {
    let answer = (any::<bool>(), proptest::option::of(0u64..2000)).prop_map(|(busy, updated)| Answer {
        busy,
        updated: updated.map(Duration::from_secs),
        odd_time: false,
    });
    let reason = prop_oneof![
        Just(Reason::Stopped),
        Just(Reason::RuntimeDeleted),
        Just(Reason::Draining)
    ];
    prop_oneof![
        2 => Just(Input::SandboxStarted),
        2 => answer.clone().prop_map(Input::Healthy),
        1 => Just(Input::StartFailed),
        8 => Just(Input::Tick),
        4 => answer.prop_map(|answer| Input::Ping(Ping::Answered(answer))),
        2 => Just(Input::Ping(Ping::Bad)),
        2 => Just(Input::Ping(Ping::Silent)),
        1 => Just(Input::AgentExited),
        1 => reason.prop_map(Input::End),
        1 => Just(Input::Gone),
        2 => Just(Input::Woken),
    ]
}

proptest! {
    /// Whatever comes in whatever order: the diagram holds, and every effect is asked for when it may be.
    #[test]
    fn the_diagram_holds(
        idle in 1u64..100, lifetime in 1u64..1000, threshold in 1u32..5, strict: bool,
        pause_after in proptest::option::of(1u64..50), pause_busy: bool,
        script in proptest::collection::vec((any_input(), 0u64..60, 0u32..3), 1..80),
    ) {
        let policy = Policy {
            idle_timeout: SECOND * u32::try_from(idle).unwrap(),
            max_lifetime: SECOND * u32::try_from(lifetime).unwrap(),
            unhealthy_threshold: threshold,
            busy_needs_update_time: strict,
            pause_after: pause_after.map(Duration::from_secs),
            pause_busy,
            ..POLICY
        };
        let mut play = Play::new(policy);
        let mut ever_busy = false;
        let (mut stops, mut forgets) = (0, 0);
        let mut begun: Option<Duration> = None;
        let mut inside = 0u32;
        let mut last_exit = Duration::ZERO;
        for (input, later, calls) in script {
            play.now += Duration::from_secs(later);
            if calls < inside {
                last_exit = play.now;
            }
            inside = calls;
            play.seen = Look::open(inside, last_exit);
            let before = play.machine.phase();
            if matches!(input, Input::SandboxStarted | Input::Healthy(_)) && before.reason().is_none() {
                begun.get_or_insert(play.now);
            }
            // What is heard: the first answer of a start, and answers to pings while it runs.
            ever_busy |= match (before, input) {
                (Phase::Provisioning, Input::Healthy(answer)) => answer.busy,
                (Phase::Active | Phase::Idle, Input::Ping(Ping::Answered(answer))) => answer.busy,
                _ => false,
            };
            let mut effects = play.step(input);
            // The owner's answers, as they come in time.
            while matches!(effects.as_slice(), [Effect::PauseIfUnchanged | Effect::Resume]) {
                let pausing = effects == [Effect::PauseIfUnchanged];
                if pausing {
                    prop_assert!(policy.pause_after.is_some() && (pause_busy || !ever_busy) && inside == 0);
                    prop_assert_eq!(play.machine.phase(), Phase::Idle);
                } else {
                    prop_assert_eq!(play.machine.phase(), Phase::Paused);
                    prop_assert!(inside > 0);
                }
                effects = play.step(match (pausing, later % 3) {
                    (false, _) => Input::Resumed,
                    (true, 0) => Input::NotPaused { for_good: true },
                    (true, _) => Input::Paused,
                });
            }
            let after = play.machine.phase();
            match (before, after) {
                (Phase::Terminated(_), _) => prop_assert!(after == before && effects.is_empty()),
                (Phase::Terminating(first), _) => {
                    let gone = input == Input::Gone;
                    let expected = if gone { Phase::Terminated(first) } else { before };
                    prop_assert_eq!(after, expected);
                    prop_assert_eq!(effects.as_slice(), if gone { &[Effect::Forget][..] } else { &[] });
                }
                (_, Phase::Terminated(_)) => prop_assert!(false, "skipped Terminating"),
                (Phase::Active | Phase::Idle | Phase::Paused, Phase::Provisioning) => prop_assert!(false, "went back"),
                (Phase::Provisioning | Phase::Active, Phase::Paused) => {
                    // Through Idle, in one step.
                    prop_assert!(inside == 0 && policy.pause_after.is_some());
                }
                (_, Phase::Paused) => prop_assert!(policy.pause_after.is_some()),
                (_, Phase::Terminating(reason)) => {
                    let stopped = matches!(effects.as_slice(), [Effect::Stop { .. }]);
                    prop_assert!(stopped);
                    let due = begun.is_some_and(|at| play.now >= at + policy.max_lifetime);
                    prop_assert!(reason != Reason::MaxLifetime || due, "too early");
                    prop_assert!(reason != Reason::IdleTimeout, "only after the gate was shut");
                }
                (_, Phase::Idle) => prop_assert_eq!(inside, 0),
                (_, Phase::Active | Phase::Provisioning) => {}
            }
            // A tick never leaves a session alive beyond its life.
            if input == Input::Tick && after.reason().is_none() {
                prop_assert!(begun.is_none_or(|at| play.now < at + policy.max_lifetime));
            }
            for effect in &effects {
                match effect {
                    Effect::Stop { .. } => stops += 1,
                    Effect::Forget => forgets += 1,
                    Effect::ShutIfUnchanged => {
                        prop_assert!(matches!(after, Phase::Idle | Phase::Paused));
                        prop_assert!(play.now >= last_exit + policy.idle_timeout);
                    }
                    Effect::Ping => prop_assert!(matches!(after, Phase::Active | Phase::Idle)),
                    Effect::PauseIfUnchanged | Effect::Resume => prop_assert!(false, "answered above"),
                }
            }
            // While it lives there is always something to wake for, and after a tick it is not in the past.
            if matches!(after, Phase::Active | Phase::Idle | Phase::Paused) {
                let wake = play.machine.wake_at(play.now, play.seen);
                prop_assert!(wake.is_some());
                if input == Input::Tick && effects.is_empty() {
                    prop_assert!(wake > Some(play.now), "{:?} at {:?}", wake, play.now);
                }
            }
            // Sometimes the owner succeeds in shutting the gate.
            if effects.contains(&Effect::ShutIfUnchanged) && later % 2 == 0 {
                let effects = play.step(Input::ShutWhileIdle);
                prop_assert_eq!(play.machine.phase(), Phase::Terminating(Reason::IdleTimeout));
                stops += effects.len();
            }
        }
        prop_assert!(stops <= 1 && forgets <= stops);
        prop_assert_eq!(stops == 1, play.machine.phase().reason().is_some());
    }

    /// However calls and business come: idle ends a session neither early nor late.
    #[test]
    fn idle_is_punctual(calls in proptest::collection::vec((1u64..50, 0u64..100), 0..6)) {
        let mut play = Play::healthy(Policy { max_lifetime: SECOND * 100_000, ..POLICY });
        let mut last_exit = Duration::ZERO;
        for (pause, lasts) in calls {
            let enters = play.now + Duration::from_secs(pause);
            play.run(enters, |_| Ping::Answered(CALM));
            prop_assert!(play.machine.phase().reason().is_none(), "ended early at {:?}", play.now);
            play.now = enters;
            play.seen = Look::open(1, last_exit);
            last_exit = enters + Duration::from_secs(lasts);
            play.run(last_exit, |_| Ping::Silent);
            prop_assert!(play.machine.phase().reason().is_none(), "ended in flight at {:?}", play.now);
            play.now = last_exit;
            play.seen = Look::open(0, last_exit);
        }
        play.run(SECOND * 100_000, |_| Ping::Answered(CALM));
        let due = last_exit.max(SECOND) + POLICY.idle_timeout;
        prop_assert_eq!((play.machine.phase(), play.now), (Phase::Terminating(Reason::IdleTimeout), due));
    }
}
