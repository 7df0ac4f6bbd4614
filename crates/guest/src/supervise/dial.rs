//! A connection to a port on the loopback of the sandbox, made without waiting.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, connect, getsockopt, setsockopt, socket,
    sockopt,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// How a connection attempt stands.
pub(crate) enum Attempt {
    /// Connected.
    Connected(OwnedFd),
    /// Not known yet; ask [`Attempt::check`] when the socket is writable.
    Pending {
        socket: OwnedFd,
        port: u16,
        family: AddressFamily,
    },
    /// Nothing listens there, on IPv4 or IPv6.
    Refused,
}

impl Attempt {
    /// Tries IPv4, then IPv6.
    pub(crate) fn start(port: u16) -> Self {
        Self::try_family(port, AddressFamily::Inet)
    }

    fn try_family(port: u16, family: AddressFamily) -> Self {
        let v4 = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        let v6 = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0));
        let address: &dyn SockaddrLike = if family == AddressFamily::Inet { &v4 } else { &v6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let result = socket(family, SockType::Stream, flags, None).and_then(|socket| {
            // Small answers must not wait for more; a refusal of the option costs latency only.
            let _ = setsockopt(&socket, sockopt::TcpNoDelay, &true);
            match connect_to(&socket, address) {
                Ok(()) => Ok(Self::Connected(socket)),
                // On a loopback the answer is there by now, though `connect` could not see it yet.
                Err(Errno::EINPROGRESS) => Ok(Self::Pending { socket, port, family }.check()),
                Err(error) => Err(error),
            }
        });
        result.unwrap_or_else(|_| Self::next(port, family))
    }

    /// Where a pending attempt stands now.
    pub(crate) fn check(self) -> Self {
        let Self::Pending { socket, port, family } = self else {
            return self;
        };
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, PollTimeout::ZERO) == Ok(0) {
            return Self::Pending { socket, port, family };
        }
        match getsockopt(&socket, sockopt::SocketError) {
            Ok(0) => Self::Connected(socket),
            _ => Self::next(port, family),
        }
    }

    fn next(port: u16, failed: AddressFamily) -> Self {
        if failed == AddressFamily::Inet {
            Self::try_family(port, AddressFamily::Inet6)
        } else {
            Self::Refused
        }
    }
}

/// Asks again and again whether a port accepts connections, more cheaply than an [`Attempt`] does: a refused socket is used
/// again.
pub(crate) struct Knock {
    port: u16,
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
    count: u32,
}

impl Knock {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            v4: None,
            v6: None,
            count: 0,
        }
    }

    /// Whether something listens. IPv6 alone is rare and tried every fourth time.
    pub(crate) fn once(&mut self) -> bool {
        let v4 = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port));
        let v6 = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, self.port, 0, 0));
        self.count = self.count.wrapping_add(1);
        let listens = knock(&mut self.v4, AddressFamily::Inet, &v4)
            || self.count % 4 == 1 && knock(&mut self.v6, AddressFamily::Inet6, &v6);
        if listens {
            (self.v4, self.v6) = (None, None);
        }
        listens
    }
}

fn knock(kept: &mut Option<OwnedFd>, family: AddressFamily, address: &dyn SockaddrLike) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = kept
        .take()
        .map_or_else(|| socket(family, SockType::Stream, flags, None), Ok);
    let Ok(socket) = socket else { return false };
    match connect_to(&socket, address) {
        Ok(()) => return true,
        Err(Errno::EINPROGRESS) => {
            // No error: connected, or still pending, as with a listener whose backlog is full.
            if getsockopt(&socket, sockopt::SocketError) == Ok(0) {
                return true;
            }
            // The kernel says it a second time before it tries again.
            match connect_to(&socket, address) {
                Ok(()) => return true,
                Err(Errno::ECONNREFUSED) => *kept = Some(socket),
                Err(_) => {}
            }
        }
        Err(Errno::ECONNREFUSED) => *kept = Some(socket),
        Err(_) => {}
    }
    false
}

fn connect_to(socket: &OwnedFd, address: &dyn SockaddrLike) -> nix::Result<()> {
    connect(socket.as_raw_fd(), address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_knock_hears_each_family_when_it_listens_and_not_before() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let mut knock = Knock::new(port);
            assert!((0..50).all(|_| !knock.once()), "{address}: nobody listens");
            let listener =
                TcpListener::bind((address.rsplit_once(':').unwrap().0.trim_matches(['[', ']']), port)).unwrap();
            assert!((0..5).any(|_| knock.once()), "{address}");
            assert!((0..5).any(|_| knock.once()), "{address}: a second time");
            drop(listener);
        }
    }
}
