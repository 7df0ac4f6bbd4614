//! Reading and comparing values that are not just texts: addresses, moments, numbers, yes or no, bytes.
//!
//! Each reader serves both sides, the policy's text and the call's value, so that both have one grammar.

use crate::policy::context::Value;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use std::net::IpAddr;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Net {
    V4 { network: u32, mask: u32 },
    V6 { network: u128, mask: u128 },
}

impl Net {
    /// `ADDRESS` or `ADDRESS/BITS`. Bits behind the prefix do not count, as at AWS.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(short_number(bits)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(full);
        if bits > full {
            return None;
        }
        // An IPv4 address written as an IPv6 one is the same address.
        let (address, bits) = match (address.to_canonical(), bits) {
            (v4 @ IpAddr::V4(_), bits) if address.is_ipv6() && bits >= 96 => (v4, bits - 96),
            (IpAddr::V4(_), bits) if address.is_ipv6() => (address, bits),
            (same, bits) => (same, bits),
        };
        Some(match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                Self::V4 {
                    network: u32::from(address) & mask,
                    mask,
                }
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                Self::V6 {
                    network: u128::from(address) & mask,
                    mask,
                }
            }
        })
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match (self, ip.to_canonical()) {
            (Self::V4 { network, mask }, IpAddr::V4(ip)) => u32::from(ip) & mask == *network,
            (Self::V6 { network, mask }, IpAddr::V6(ip)) => u128::from(ip) & mask == *network,
            _ => false,
        }
    }
}

/// Up to three digits.
fn short_number(text: &str) -> Option<u32> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

pub(super) fn ip(value: &Value<'_>) -> Option<IpAddr> {
    match value {
        Value::Ip(ip) => Some(*ip),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

pub(super) fn boolean(value: &Value<'_>) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Text(text) => read_boolean(text),
        _ => None,
    }
}

pub(super) fn read_boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

pub(super) fn moment(value: &Value<'_>) -> Option<Timestamp> {
    match value {
        Value::Time(time) => Some(*time),
        Value::Integer(seconds) => Timestamp::from_second(*seconds).ok(),
        Value::Text(text) => read_moment(text),
        _ => None,
    }
}

/// `2026-11-25T16:00:00Z`, with an offset, without one (UTC), a day alone (its beginning, UTC), or seconds since 1970.
pub(super) fn read_moment(text: &str) -> Option<Timestamp> {
    if text.len() > 40 || !text.bytes().all(|b| b.is_ascii_digit() || b"-:+.TZ".contains(&b)) {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // Four digits might be a year.
        let seconds = (text.len() != 4).then(|| text.parse().ok()).flatten()?;
        return Timestamp::from_second(seconds).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let shape = text.split_once('T').map_or(text, |(day, _)| day);
    let full = shape.len() == 10 && !text.ends_with('Z') && !text.contains('+');
    let local = full.then(|| match text.contains('T') {
        true => text.parse::<DateTime>().ok(),
        false => text.parse::<Date>().ok().map(|day| day.at(0, 0, 0, 0)),
    });
    TimeZone::UTC.to_timestamp(local??).ok()
}

#[allow(clippy::cast_precision_loss, reason = "policies compare quantities, not identities")]
pub(super) fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Time(time) => Some(time.as_second() as f64),
        Value::Text(text) => read_number(text),
        _ => None,
    }
}

/// A decimal number: an optional sign, digits, and a fraction.
pub(super) fn read_number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = plain.then(|| text.parse().ok()).flatten()?;
    number.is_finite().then_some(number)
}

pub(super) fn binary(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// Equal but for upper and lower case.
pub(super) fn same_letters(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    lower(a) == lower(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, ip, expected) in [
            ("203.0.113.0/24", "203.0.113.255", true),
            ("203.0.113.0/24", "203.0.114.0", false),
            ("203.0.113.77/24", "203.0.113.1", true),
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.8", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("::ffff:10.0.0.0/40", "10.1.2.3", false),
        ] {
            let net = Net::parse(range).unwrap();
            assert_eq!(net.contains(ip.parse().unwrap()), expected, "{range} {ip}");
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0",
            "010.0.0.1",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "*",
        ] {
            assert_eq!(Net::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments() {
        let second = |text| read_moment(text).map(Timestamp::as_second);
        for good in [
            "2026-11-25T16:00:00Z",
            "2026-11-25T17:00:00+01:00",
            "2026-11-25T16:00:00",
            "2026-11-25T16:00:00.000Z",
            "2026-11-25T11:00:00-05:00",
            "1795622400",
        ] {
            assert_eq!(second(good), Some(1_795_622_400), "{good}");
        }
        assert_eq!(second("2026-11-25"), Some(1_795_564_800));
        for bad in [
            "",
            "2026",
            "now",
            "2026-11-25Z",
            "2026-13-01",
            "2026-11-25T25:00:00Z",
            "1795622400000",
            "-5",
            "25.11.2026",
        ] {
            assert_eq!(read_moment(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers() {
        for (text, number) in [("5", 5.0), ("-0.5", -0.5), ("+12", 12.0), ("007", 7.0)] {
            assert_eq!(read_number(text), Some(number), "{text}");
        }
        for bad in ["", "-", ".5", "5.", "1.2.3", "1e3", "inf", "NaN", "0x10", " 5", "1_000"] {
            assert_eq!(read_number(bad), None, "{bad}");
        }
    }
}
