//! What runtimes have used, by days.

use crate::session::report::{Report, RuntimeArnText, Usage};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Sums over ended sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Sessions that ended.
    pub sessions: u64,
    /// Calls.
    pub requests: u64,
    /// CPU time.
    pub cpu_seconds: f64,
    /// Memory over time, in gigabytes (10^9 bytes) times seconds.
    pub memory_gb_seconds: f64,
    /// Payload that agents received.
    pub bytes_in: u64,
    /// Payload that agents sent.
    pub bytes_out: u64,
}

/// What one runtime used on one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DayUsage {
    /// The runtime.
    pub agent_runtime_arn: RuntimeArnText,
    /// The day, UTC.
    pub day: Date,
    /// What it used.
    #[serde(flatten)]
    pub totals: Totals,
}

impl Totals {
    /// With one more session.
    pub(super) fn add_session(&mut self, usage: &Usage) {
        self.add(&Self {
            sessions: 1,
            requests: usage.requests,
            cpu_seconds: usage.cpu_seconds,
            memory_gb_seconds: usage.memory_gb_seconds,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
        });
    }

    /// With those of another sum.
    pub fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.requests += other.requests;
        // What is not a number would stay one for ever.
        self.cpu_seconds += finite(other.cpu_seconds);
        self.memory_gb_seconds += finite(other.memory_gb_seconds);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// The day on which an ended session counts.
pub(super) fn day(report: &Report) -> Date {
    let at = report.ended_at.unwrap_or(report.last_active_at);
    TimeZone::UTC.to_datetime(at).date()
}
