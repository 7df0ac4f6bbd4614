//! When a request says that it was signed.

use http::{HeaderMap, HeaderName, header::DATE};
use jiff::{Timestamp, civil::DateTime, fmt::rfc2822, tz::TimeZone};

use super::Refusal;
use super::authorization::quote;

/// How far the caller's clock and ours may be apart, either way.
pub(super) const MAX_SKEW_SECONDS: i64 = 5 * 60;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const ISO_BASIC: &str = "%Y%m%dT%H%M%SZ";

/// The moment of signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signed {
    /// Seconds since 1970.
    seconds: i64,
    /// `20150830T123600Z`, part of what is signed.
    iso: [u8; 16],
}

impl Signed {
    /// From `X-Amz-Date`, or from `Date` where that is absent. botocore sends only `Date`, in the form of RFC 9110,
    /// when its caller has set one.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Refusal> {
        let name = if headers.contains_key(&X_AMZ_DATE) {
            X_AMZ_DATE
        } else {
            DATE
        };
        let mut values = headers.get_all(&name).iter();
        let value = values.next().ok_or(Refusal::NoDate)?;
        let text = String::from_utf8_lossy(value.as_bytes());
        match (Self::parse(text.trim_matches(' ')), values.next()) {
            (Some(signed), None) => Ok(signed),
            (None, None) => Err(Refusal::BadDate(quote(&text))),
            (_, Some(_)) => Err(Refusal::BadDate(format!("two {name} headers"))),
        }
    }

    /// From `X-Amz-Date` of a presigned query.
    pub(super) fn from_query(text: &str) -> Result<Self, Refusal> {
        let signed = Self::parse(text).filter(|_| text.ends_with('Z'));
        signed.ok_or_else(|| Refusal::BadDate(quote(text)))
    }

    /// Refuses a moment after which more than `expires` seconds have passed, or that is still too far away.
    pub(super) fn check_presigned(&self, expires: u32, now: Timestamp) -> Result<(), Refusal> {
        let (signed, now) = (self.seconds, now.as_second());
        if now > signed.saturating_add(i64::from(expires)) {
            return Err(Refusal::PresignedExpired { signed, expires, now });
        }
        if signed > now + MAX_SKEW_SECONDS {
            return Err(Refusal::NotYetCurrent { signed, now });
        }
        Ok(())
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(seconds) = iso_basic(text.as_bytes()) {
            return Some(Self {
                seconds,
                iso: text.as_bytes().try_into().ok()?,
            });
        }
        let moment = rfc2822::parse(text).ok()?.timestamp();
        let iso = moment.strftime(ISO_BASIC).to_string();
        Some(Self {
            seconds: moment.as_second(),
            iso: iso.as_bytes().try_into().ok()?,
        })
    }

    /// `20150830T123600Z`.
    pub(super) fn iso(&self) -> &[u8; 16] {
        &self.iso
    }

    /// `20150830`.
    pub(super) fn day(&self) -> &[u8; 8] {
        self.iso.first_chunk().expect("16 bytes begin with 8")
    }

    /// Days since 1970.
    pub(super) fn day_number(&self) -> i64 {
        self.seconds.div_euclid(24 * 60 * 60)
    }

    /// Refuses a moment that is more than [`MAX_SKEW_SECONDS`] away from `now`.
    pub(super) fn check_skew(&self, now: Timestamp) -> Result<(), Refusal> {
        let (signed, now) = (self.seconds, now.as_second());
        if signed < now - MAX_SKEW_SECONDS {
            return Err(Refusal::Expired { signed, now });
        }
        if signed > now + MAX_SKEW_SECONDS {
            return Err(Refusal::NotYetCurrent { signed, now });
        }
        Ok(())
    }
}

/// Seconds since 1970 in the one form that `X-Amz-Date` has.
pub(super) fn iso(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |moment| moment.strftime(ISO_BASIC).to_string())
}

fn iso_basic(text: &[u8]) -> Option<i64> {
    let &[y1, y2, y3, y4, mo1, mo2, d1, d2, b'T', h1, h2, mi1, mi2, s1, s2, b'Z'] = text else {
        return None;
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i8::try_from(byte - b'0').ok()).flatten();
    let two = |tens: u8, ones: u8| Some(digit(tens)? * 10 + digit(ones)?);
    let year = i16::from(two(y1, y2)?) * 100 + i16::from(two(y3, y4)?);
    let civil = DateTime::new(
        year,
        two(mo1, mo2)?,
        two(d1, d2)?,
        two(h1, h2)?,
        two(mi1, mi2)?,
        two(s1, s2)?,
        0,
    )
    .ok()?;
    Some(TimeZone::UTC.to_timestamp(civil).ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_iso_basic_or_of_http() {
        let check = |text: &str, seconds: Option<i64>| {
            assert_eq!(Signed::parse(text).map(|signed| signed.seconds), seconds, "{text}");
        };
        check("20150830T123600Z", Some(1_440_938_160));
        check("Sun, 30 Aug 2015 12:36:00 GMT", Some(1_440_938_160));
        check("19700101T000000Z", Some(0));
        check("20240229T235959Z", Some(1_709_251_199));
        for bad in [
            "",
            "20150830",
            "20150830T123600",
            "20150830t123600Z",
            "2015-08-30T12:36:00Z",
            "20150830T123600ZZ",
            "20151330T123600Z",
            "20150229T123600Z",
            "20150830T243600Z",
            "20150830T126000Z",
            "20150830T123661Z",
            "+0150830T123600Z",
            "20150830T12 600Z",
            "Mon, 30 Aug 2015 12:36:00 GMT",
            "yesterday",
        ] {
            check(bad, None);
        }
        assert_eq!(
            Signed::parse("Sun, 30 Aug 2015 12:36:00 GMT").unwrap().iso(),
            b"20150830T123600Z"
        );
        assert_eq!(iso(1_440_938_160), "20150830T123600Z");
    }

    #[test]
    fn the_clock_may_be_five_minutes_off_either_way() {
        let signed = Signed::parse("20150830T123600Z").unwrap();
        let check = |offset: i64, good: bool| {
            let now = Timestamp::new(signed.seconds + offset, 999_999_999).unwrap();
            assert_eq!(signed.check_skew(now).is_ok(), good, "{offset}");
        };
        check(0, true);
        check(300, true);
        check(301, false);
        check(-300, true);
        check(-301, false);
    }
}
