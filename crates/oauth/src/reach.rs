//! Which addresses this server may be sent to by a URL that somebody else wrote.
//!
//! Whoever may create a runtime names a URL that the server then fetches. Without this check that is a way to ask the
//! server's own network things: a cloud's metadata service, a database's port, a neighbour.
//!
//! Invariant: what is not known to be public is refused. Metadata services stay refused whatever is allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is allowed beyond public addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Private networks: RFC 1918, shared address space, unique local addresses.
    pub private: bool,
    /// This machine itself, and then `http` to it.
    pub loopback: bool,
}

/// Where clouds answer questions about the machine that asks, outside the link-local range.
const METADATA: [IpAddr; 4] = [
    // Azure's, a public address.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba's, in shared address space.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // AWS's and Google's, unique local addresses.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

impl Reach {
    /// Whether a connection may go to an address; if not, what the address is.
    pub fn permits(self, address: IpAddr) -> Result<(), &'static str> {
        if METADATA.contains(&address) {
            return Err("a metadata service");
        }
        match address {
            IpAddr::V4(v4) => self.permits_v4(v4),
            IpAddr::V6(v6) => self.permits_v6(v6),
        }
    }

    fn permits_v4(self, address: Ipv4Addr) -> Result<(), &'static str> {
        let [a, b, c, _] = address.octets();
        match (a, b, c) {
            (127, ..) => self.loopback.then_some(()).ok_or("a loopback address"),
            (10, ..) | (172, 16..=31, _) | (192, 168, _) => self.private.then_some(()).ok_or("a private address"),
            (100, 64..=127, _) => self.private.then_some(()).ok_or("a shared address"),
            (169, 254, _) => Err("a link-local address"),
            (0, ..) => Err("an unspecified address"),
            (224..=239, ..) => Err("a multicast address"),
            (240.., ..) => Err("a reserved address"),
            // Protocol assignments, documentation, 6to4 relays, benchmarks.
            (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) | (198, 18..=19, _) => {
                Err("a reserved address")
            }
            _ => Ok(()),
        }
    }

    fn permits_v6(self, address: Ipv6Addr) -> Result<(), &'static str> {
        let segments = address.segments();
        let v4 = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            self.permits(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        };
        match segments {
            [0, 0, 0, 0, 0, 0, 0, 1] => self.loopback.then_some(()).ok_or("a loopback address"),
            [0, 0, 0, 0, 0, 0, 0, 0] => Err("an unspecified address"),
            // Forms that end at an IPv4 address: mapped, translated, 6to4.
            [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
            [0x2002, high, low, ..] => v4(high, low),
            [0xfc00..=0xfdff, ..] => self.private.then_some(()).ok_or("a unique local address"),
            [0xfe80..=0xfebf, ..] => Err("a link-local address"),
            [0xff00..=0xffff, ..] => Err("a multicast address"),
            // Teredo and other protocol assignments, documentation.
            [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Err("a reserved address"),
            [0x2000..=0x3fff, ..] => Ok(()),
            _ => Err("a reserved address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public() {
        let none = Reach::default();
        let private = Reach { private: true, ..none };
        let loopback = Reach { loopback: true, ..none };
        let all = Reach {
            private: true,
            loopback: true,
        };
        for (address, [by_default, with_private, with_loopback, with_all]) in [
            ("8.8.8.8", [true; 4]),
            ("1.1.1.1", [true; 4]),
            ("172.15.255.255", [true; 4]),
            ("172.32.0.0", [true; 4]),
            ("100.63.255.255", [true; 4]),
            ("100.128.0.0", [true; 4]),
            ("2606:4700::1111", [true; 4]),
            ("2a00:1450:4001::1", [true; 4]),
            ("10.0.0.1", [false, true, false, true]),
            ("10.255.255.255", [false, true, false, true]),
            ("172.16.0.0", [false, true, false, true]),
            ("172.31.255.255", [false, true, false, true]),
            ("192.168.1.1", [false, true, false, true]),
            ("100.64.0.1", [false, true, false, true]),
            ("fd12:3456::1", [false, true, false, true]),
            ("fc00::1", [false, true, false, true]),
            ("::ffff:10.0.0.1", [false, true, false, true]),
            ("64:ff9b::10.0.0.1", [false, true, false, true]),
            ("2002:0a00:0001::1", [false, true, false, true]),
            ("127.0.0.1", [false, false, true, true]),
            ("127.255.255.254", [false, false, true, true]),
            ("::1", [false, false, true, true]),
            ("::ffff:127.0.0.1", [false, false, true, true]),
            ("64:ff9b::127.0.0.1", [false, false, true, true]),
            ("::ffff:8.8.8.8", [true; 4]),
            ("64:ff9b::8.8.8.8", [true; 4]),
            ("0.0.0.0", [false; 4]),
            ("0.1.2.3", [false; 4]),
            ("169.254.169.254", [false; 4]),
            ("169.254.0.1", [false; 4]),
            ("::ffff:169.254.169.254", [false; 4]),
            ("64:ff9b::169.254.169.254", [false; 4]),
            ("2002:a9fe:a9fe::", [false; 4]),
            ("168.63.129.16", [false; 4]),
            ("::ffff:168.63.129.16", [false; 4]),
            ("100.100.100.200", [false; 4]),
            ("fd00:ec2::254", [false; 4]),
            ("fd20:ce::254", [false; 4]),
            ("192.0.0.192", [false; 4]),
            ("192.0.2.1", [false; 4]),
            ("192.88.99.1", [false; 4]),
            ("198.18.0.1", [false; 4]),
            ("198.19.255.255", [false; 4]),
            ("198.51.100.1", [false; 4]),
            ("203.0.113.1", [false; 4]),
            ("224.0.0.1", [false; 4]),
            ("239.255.255.255", [false; 4]),
            ("240.0.0.1", [false; 4]),
            ("255.255.255.255", [false; 4]),
            ("::", [false; 4]),
            ("::127.0.0.1", [false; 4]),
            ("::2", [false; 4]),
            ("fe80::1", [false; 4]),
            ("febf::1", [false; 4]),
            ("fec0::1", [false; 4]),
            ("ff02::1", [false; 4]),
            ("100::1", [false; 4]),
            ("64:ff9b:1::1", [false; 4]),
            ("2001::1", [false; 4]),
            ("2001:db8::1", [false; 4]),
            ("3fff::1", [false; 4]),
            ("4000::1", [false; 4]),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            for (reach, permitted) in [
                (none, by_default),
                (private, with_private),
                (loopback, with_loopback),
                (all, with_all),
            ] {
                assert_eq!(reach.permits(ip).is_ok(), permitted, "{address} {reach:?}");
            }
        }
    }
}
