//! How single values are written on the wire, and how sensitive ones are kept out of `Debug` output.
//!
//! Used by the generated types through `#[serde(with = ...)]` and by `validate` and `encode` directly.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

use crate::shape::TimestampFormat;

/// Bytes that travel as base64 inside of JSON. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        base64_bytes(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom("not base64"))
    }
}

/// The bytes that a base64 text stands for.
pub(crate) fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Stands in `Debug` output for a member whose value is not shown; tells only whether there is one.
pub(crate) struct Redacted(pub(crate) bool);

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "***" } else { "None" })
    }
}

/// What a point in time looks like, for messages.
pub(crate) fn example(format: TimestampFormat) -> &'static str {
    match format {
        TimestampFormat::Iso8601 => "a string like 2026-11-22T10:00:00Z",
        TimestampFormat::EpochSeconds => "seconds since 1970 as a number",
        TimestampFormat::HttpDate => "a string like Sun, 22 Nov 2026 10:00:00 GMT",
    }
}

/// A point in time as text or number, in a given format.
pub(crate) fn timestamp_to_json(at: Timestamp, format: TimestampFormat) -> serde_json::Value {
    match format {
        TimestampFormat::EpochSeconds => epoch_seconds_value(at),
        _ => timestamp_to_text(at, format).into(),
    }
}

/// A point in time as text, in a given format.
pub(crate) fn timestamp_to_text(at: Timestamp, format: TimestampFormat) -> String {
    match format {
        // AWS writes microseconds, or none at all; some clients cannot read more digits than that.
        TimestampFormat::Iso8601 if at.subsec_nanosecond() / 1000 == 0 => format!("{at:.0}"),
        TimestampFormat::Iso8601 => format!("{at:.6}"),
        TimestampFormat::EpochSeconds => epoch_seconds_value(at).to_string(),
        TimestampFormat::HttpDate => at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
    }
}

/// Reads a point in time from JSON, in a given format.
pub(crate) fn timestamp_from_json(value: &serde_json::Value, format: TimestampFormat) -> Option<Timestamp> {
    match (format, value) {
        (TimestampFormat::EpochSeconds, serde_json::Value::Number(number)) => match number.as_i64() {
            Some(seconds) => Timestamp::from_second(seconds).ok(),
            None => from_fractional_seconds(number.as_f64()?),
        },
        (TimestampFormat::Iso8601, serde_json::Value::String(text)) => text.parse().ok(),
        (TimestampFormat::HttpDate, serde_json::Value::String(text)) => from_http_date(text),
        _ => None,
    }
}

/// Reads a point in time from a path, query or header. The three formats cannot be mistaken for each other.
pub(crate) fn timestamp_from_text(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return from_fractional_seconds(seconds);
    }
    from_http_date(text)
}

fn from_http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

fn epoch_seconds_value(at: Timestamp) -> serde_json::Value {
    if at.subsec_nanosecond() == 0 {
        return at.as_second().into();
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "microseconds of this age fit an f64 exactly enough"
    )]
    let seconds = at.as_microsecond() as f64 / 1e6;
    seconds.into()
}

fn from_fractional_seconds(seconds: f64) -> Option<Timestamp> {
    if !seconds.is_finite() || seconds.abs() > 1e12 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "the size was checked just above")]
    let micros = (seconds * 1e6).round() as i64;
    Timestamp::from_microsecond(micros).ok()
}

/// `serde(with)` modules, one pair per format: for a required member and for an optional one.
macro_rules! timestamp_format {
    ($required:ident, $optional:ident, $format:expr) => {
        #[allow(
            dead_code,
            reason = "which formats are used depends on the operations that are switched on"
        )]
        pub(crate) mod $required {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
                timestamp_to_json(*at, $format).serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
                let value = serde_json::Value::deserialize(deserializer)?;
                timestamp_from_json(&value, $format).ok_or_else(|| D::Error::custom("not a timestamp"))
            }
        }

        #[allow(
            dead_code,
            reason = "which formats are used depends on the operations that are switched on"
        )]
        pub(crate) mod $optional {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
                at.map(|at| timestamp_to_json(at, $format)).serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<Timestamp>, D::Error> {
                super::$required::deserialize(deserializer).map(Some)
            }
        }
    };
}

timestamp_format!(iso8601, iso8601_option, TimestampFormat::Iso8601);
timestamp_format!(epoch_seconds, epoch_seconds_option, TimestampFormat::EpochSeconds);
timestamp_format!(http_date, http_date_option, TimestampFormat::HttpDate);
