//! Which trace a call belongs to: the `traceparent` header of W3C Trace Context, read and written.
//!
//! A header that breaks the grammar counts as no header, as the standard says: what is wrong with it is its sender's
//! matter, and a call must not fail for it.
//!
//! Invariant: an id is never zero, which the standard keeps for "none".

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// Length of a header of version 00, and of what later versions must begin with.
const LENGTH: usize = 55;
const SAMPLED: u8 = 0b01;
/// The flags that version 00 knows: sampled, and that the trace's id is random. Others must be sent as zero.
const KNOWN_FLAGS: u8 = 0b11;

/// One trace, over all services that a call passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// One span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// A span as its children are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span within it.
    pub span: SpanId,
    flags: u8,
}

impl TraceId {
    /// An id, unless it is zero.
    #[must_use]
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    /// As bytes, the most significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// The last seven bytes, which the standard wants to be random: by them it is drawn which traces belong to a share.
    #[must_use]
    pub fn lot(self) -> u64 {
        let [.., a, b, c, d, e, f, g] = self.to_bytes();
        u64::from_be_bytes([0, a, b, c, d, e, f, g])
    }
}

impl SpanId {
    /// An id, unless it is zero.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
        // The variant of a UUID is in its low half and is not zero.
        Self(NonZeroU64::new(low).unwrap_or(NonZeroU64::MIN))
    }

    /// As bytes, the most significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl TraceParent {
    /// The first span of a trace that is recorded.
    #[must_use]
    pub fn first(trace: TraceId) -> Self {
        Self {
            trace,
            span: SpanId::random(),
            flags: SAMPLED,
        }
    }

    /// A new span below this one, with the same flags.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span: SpanId::random(),
            ..self
        }
    }

    /// Whether the sender records the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags, as the header has them.
    #[must_use]
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// Reads a header. Of versions after 00 it takes what they share with it; a broken header is none.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let bytes = header.as_bytes();
        let (known, rest) = bytes.split_at_checked(LENGTH)?;
        if [2, 35, 52].iter().any(|&at| known[at] != b'-') {
            return None;
        }
        let version = hex(&known[..2])?;
        match (version, rest) {
            (0, []) => {}
            (1..=0xfe, [] | [b'-', ..]) => {}
            _ => return None,
        }
        let span = u64::try_from(hex(&known[36..52])?).ok()?;
        let flags = u8::try_from(hex(&known[53..])?).ok()?;
        Some(Self {
            trace: TraceId::new(hex(&known[3..35])?)?,
            span: SpanId::new(span)?,
            flags: flags & KNOWN_FLAGS,
        })
    }
}

/// As a header of version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span, flags) = (self.trace.0, self.span.0, self.flags);
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

/// At most 32 digits, of which the standard allows the lower-case ones only.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_header_of_this_version() {
        let header = format!("00-{TRACE}-{SPAN}-01");
        let read = TraceParent::parse(&header).unwrap();
        assert_eq!(read.trace.to_bytes()[..2], [0x0a, 0xf7]);
        assert_eq!(read.span.to_bytes()[..2], [0xb7, 0xad]);
        assert!(read.is_sampled());
        assert_eq!(read.to_string(), header);
        let unsampled = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-00")).unwrap();
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn flags_that_this_version_does_not_know_are_not_sent_on() {
        for (flags, sampled, sent) in [
            ("ff", true, "03"),
            ("fe", false, "02"),
            ("02", false, "02"),
            ("09", true, "01"),
        ] {
            let read = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            assert_eq!(read.is_sampled(), sampled, "{flags}");
            assert_eq!(read.to_string(), format!("00-{TRACE}-{SPAN}-{sent}"));
        }
    }

    #[test]
    fn later_versions_may_be_longer() {
        for later in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-"),
            format!("fe-{TRACE}-{SPAN}-01-what-the-future-will-be-like"),
        ] {
            let read = TraceParent::parse(&later).unwrap_or_else(|| panic!("{later}"));
            assert_eq!(read.to_string(), format!("00-{TRACE}-{SPAN}-01"), "{later}");
        }
    }

    #[test]
    fn a_broken_header_is_none() {
        let upper = TRACE.to_uppercase();
        for broken in [
            String::new(),
            "00".to_owned(),
            "00-a-b-01".to_owned(),
            // The version that never will be.
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-001"),
            format!("0x-{TRACE}-{SPAN}-01"),
            // Only later versions may be longer, and only after a dash.
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("01-{TRACE}-{SPAN}-01more"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{upper}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}{SPAN}--01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "é".repeat(16)),
            format!("00-{TRACE}-{SPAN}-+1"),
        ] {
            assert_eq!(TraceParent::parse(&broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace() {
        let parent = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-03")).unwrap();
        let child = parent.child();
        assert_eq!((child.trace, child.flags()), (parent.trace, 3));
        assert_ne!(child.span, parent.span);
        let first = TraceParent::first(parent.trace);
        assert_eq!((first.trace, first.is_sampled()), (parent.trace, true));
    }

    #[test]
    fn a_lot_is_the_end_of_the_id() {
        let id = TraceId::new(0xffff_ffff_ffff_ffff_ff01_0203_0405_0607).unwrap();
        assert_eq!(id.lot(), 0x01_0203_0405_0607);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}|[0-9a-f]{2}-[0-9a-fg]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,4}") {
            if let Some(read) = TraceParent::parse(&text) {
                let written = read.to_string();
                prop_assert_eq!(TraceParent::parse(&written), Some(read));
                prop_assert_eq!(&written[2..53], &text[2..53]);
            }
        }
    }
}
