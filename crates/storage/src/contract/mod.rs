//! What every implementation of the storage traits must do; run with [`records_contract!`](crate::records_contract),
//! [`blobs_contract!`](crate::blobs_contract) and [`leases_contract!`](crate::leases_contract).
//!
//! Each check gets a new, empty store. The property checks compare with [`model`], which is the plainest thing that
//! could be right.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code, in the library only to be shared"
)]

pub mod blobs;
pub mod leases;
mod model;
pub mod records;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An empty store, and what must live as long as it does (such as its temporary folder).
pub struct Fresh<T: ?Sized> {
    store: Arc<T>,
    keep: Box<dyn Any>,
}

impl<T: ?Sized> Fresh<T> {
    /// An empty store and what to keep.
    pub fn new(store: Arc<T>, keep: impl Any) -> Self {
        Self {
            store,
            keep: Box::new(keep),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fresh")
    }
}

/// Runs one check to its end, on several threads, so that what is concurrent truly is.
///
/// # Panics
/// If the check fails, or does not end within a minute.
pub fn run<T: ?Sized, F: Future<Output = ()>>(fresh: Fresh<T>, check: impl FnOnce(Arc<T>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let Fresh { store, keep } = fresh;
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), check(store))
            .await
            .expect("the check ends within a minute");
    });
    drop(keep);
}

/// Makes one `#[test]` of each check of [`records`]; `$fresh` is a function that answers [`Fresh`].
#[macro_export]
macro_rules! records_contract {
    ($fresh:expr) => {
        $crate::contract_tests! { records, $fresh;
            reads_what_was_written
            a_condition_that_does_not_hold_changes_nothing
            a_condition_sees_the_writes_before_it
            revisions_never_come_back
            names_that_are_none_are_refused
            lists_page_through_in_order
            behaves_like_the_model
            increments_by_many_lose_nothing
            one_list_is_one_moment
            a_conflict_fails_alone
            a_dropped_commit_happens_wholly_or_not
            pages_hold_still_under_writes
        }
    };
}

/// Makes one `#[test]` of each check of [`blobs`]; `$fresh` is a function that answers [`Fresh`].
#[macro_export]
macro_rules! blobs_contract {
    ($fresh:expr) => {
        $crate::contract_tests! { blobs, $fresh;
            reads_what_was_written
            nothing_shows_before_finish
            replacing_and_deleting_leave_readers_alone
            a_key_may_begin_another
            keys_that_are_none_are_refused
            behaves_like_the_model
            of_uploads_to_one_key_one_wins_whole
            deleting_beside_uploading_disturbs_nothing
        }
    };
}

/// Makes one `#[test]` of each check of [`leases`]; `$fresh` is a function that answers a [`Fresh`] of
/// [`leases::Nodes`].
#[macro_export]
macro_rules! leases_contract {
    ($fresh:expr) => {
        $crate::contract_tests! { leases, $fresh;
            one_holder_at_a_time
            the_epoch_rises_with_every_acquisition
            a_holder_takes_over_from_itself_at_once
            a_late_holder_keeps_what_nobody_took
            a_stale_holder_is_refused
            names_are_apart
            of_many_who_want_it_one_gets_it
            a_holder_that_starts_many_times_at_once_is_one_in_the_end
            renewing_beside_acquiring_loses_nothing
            a_clock_that_runs_ahead_takes_early_and_the_epoch_says_so
            a_clock_that_fell_back_waits_no_longer_than_the_lease_is_long
            the_longest_lease_never_ends
        }
    };
}

/// The shared part of the macros above.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($area:ident, $fresh:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::contract::run($fresh(), $crate::contract::$area::$name);
            }
        )*
    };
}
