//! Free ports. They lie below those that the kernel gives to outgoing connections, so that only another server could take
//! one between our look and the agent's bind, and each is one sandbox's alone for as long as it exists.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// How many ports there are to choose from.
pub(super) const COUNT: u32 = 12_000;
/// The first one.
const FIRST: u16 = 20_000;

/// The port of a slot.
pub(super) fn of(slot: u32) -> u16 {
    FIRST + u16::try_from(slot % COUNT).unwrap_or(0)
}

/// Whether it can be bound now.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// The ports that the kernel gives out itself.
pub(super) fn ephemeral() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        // A host that gives out nearly all of them leaves us no better ones.
        (Some(first), Some(last)) if first > FIRST + 100 => first..=last,
        _ => 32_768..=60_999,
    }
}
