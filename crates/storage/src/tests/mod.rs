//! Tests in which the whole process takes part: killed at any moment, or on a device that is full.
//!
//! Each starts this test program again as a child, told by an environment variable to play the other part of the
//! same test.

mod crash;
mod full_disk;

use crate::records::{Expect, Write};
use bytes::Bytes;
use std::ffi::OsString;
use std::process::Command;

const CHILD: &str = "EYOT_STORAGE_TEST_CHILD";

/// What the parent told this process, if it is a child.
fn told() -> Option<OsString> {
    std::env::var_os(CHILD)
}

/// Makes a command run the test of this name as a child; `what` is what it is told.
fn play(command: &mut Command, test: &str, what: impl Into<OsString>) {
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, what.into());
}

fn put(key: &str, value: impl Into<Bytes>) -> Write {
    Write {
        kind: "thing".to_owned(),
        key: key.to_owned(),
        expect: Expect::Anything,
        value: Some(value.into()),
    }
}
