//! The suite that every driver passes, and what only walls can pass.
//!
//! [`cases`] are the promises of [`crate::Sandbox`] and [`crate::Driver`]; [`lives`] is the
//! part of them about its server's successors; [`listen`], [`logs`], [`rest`] (pausing) and [`storage`] are about what their names say; [`walls`] looks at a container from inside;
//! [`server`] kills the process that started a sandbox. [`bench`] is what they stand on, and [`user`] runs all of it again as
//! an ordinary user.

mod bench;
mod cases;
mod listen;
mod lives;
mod logs;
mod measure;
mod ports;
mod rest;
mod server;
mod storage;
mod user;
mod walls;

use bench::{Bench, Which};

/// Runs a case and then looks for anything left over.
async fn check(which: Which, case: impl AsyncFnOnce(&Bench)) {
    let bench = Bench::new(which);
    if which == Which::Container
        && let Err(error) = bench.driver.probe().await
    {
        assert!(bench::limits_wanted().is_none(), "containers cannot run here: {error}");
        println!("skipped: containers cannot run here: {error}");
        return;
    }
    case(&bench).await;
    bench.assert_nothing_left().await;
}

macro_rules! suite {
    ($module:ident, $which:expr, $($case:path => $name:ident),* $(,)?) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    check($which, $case).await;
                }
            )*
        }
    };
}

macro_rules! both {
    ($($module:ident::$name:ident),* $(,)?) => {
        suite!(process, Which::Process, $($module::$name => $name),*);
        suite!(container, Which::Container, $($module::$name => $name),*);
    };
}

suite! { process_only, Which::Process,
    ports::a_fixed_port_is_moved => a_fixed_port_is_moved,
    ports::another_sitecustomize_still_runs => another_sitecustomize_still_runs,
}

suite! { process_and_its_server, Which::Process,
    server::a_sandbox_outlives_its_server => a_sandbox_outlives_its_server,
    server::a_server_killed_at_any_moment_leaves_only_what_can_be_found => killed_at_any_moment,
}

suite! { container_and_its_server, Which::Container,
    server::a_sandbox_outlives_its_server => a_sandbox_outlives_its_server,
    server::a_server_killed_at_any_moment_leaves_only_what_can_be_found => killed_at_any_moment,
}

suite! { container_from_inside, Which::Container,
    walls::the_kernel_says_that_every_wall_stands => the_kernel_says_that_every_wall_stands,
    walls::nothing_of_the_host_is_seen => nothing_of_the_host_is_seen,
    walls::only_private_places_are_writable => only_private_places_are_writable,
    walls::dangerous_calls_are_refused => dangerous_calls_are_refused,
    walls::limits_hold => limits_hold,
    walls::two_sandboxes_do_not_meet => two_sandboxes_do_not_meet,
    walls::the_end_of_the_agent_is_the_end_of_all => the_end_of_the_agent_is_the_end_of_all,
    listen::nobody_else_has_the_address => nobody_else_has_the_address,
}

suite! { process_storage, Which::Process,
    storage::storage_outlives_its_sandbox_and_keeps_its_size => there_is_none,
}

suite! { container_storage, Which::Container,
    storage::storage_outlives_its_sandbox_and_keeps_its_size => storage_outlives_its_sandbox_and_keeps_its_size,
    storage::storage_leaves_nothing_when_all_is_killed => storage_leaves_nothing_when_all_is_killed,
    storage::two_storages_do_not_meet => two_storages_do_not_meet,
    storage::storage_that_cannot_be_used_says_why => storage_that_cannot_be_used_says_why,
}

both![
    cases::listens_and_answers,
    cases::dials_are_concurrent,
    cases::reports_how_it_ended,
    cases::a_wrong_port_is_refused_and_the_right_one_named,
    cases::keeps_the_end_of_the_log_within_its_bound,
    cases::a_deaf_agent_is_killed_after_its_grace,
    cases::descendants_die_with_the_agent,
    cases::stop_is_idempotent_and_concurrent,
    cases::a_dropped_start_leaves_nothing,
    cases::a_killed_guest_takes_all_with_it,
    cases::the_environment_is_as_given,
    cases::the_package_stays_as_it_is,
    cases::what_cannot_be_run_is_the_artifacts_fault,
    cases::a_leftover_is_found_adopted_and_destroyed,
    listen::a_sandbox_reaches_its_server,
    listen::who_calls_between_two_servers_waits,
    listen::two_sandboxes_reach_their_own,
    lives::it_is_assigned_once,
    lives::a_server_that_was_succeeded_can_do_nothing,
    lives::an_orphan_ends_by_itself,
    lives::a_slow_agent_is_noticed_soon_and_cheaply,
    logs::lines_have_a_time_and_a_stream,
    logs::a_log_is_followed_through_rotations_to_its_end,
    logs::hostile_output_stays_the_agents_own,
    rest::a_paused_sandbox_rests,
    rest::a_call_that_meets_a_pause_does_not_hang,
    rest::a_paused_sandbox_can_be_ended,
    rest::a_paused_sandbox_is_adopted,
];
