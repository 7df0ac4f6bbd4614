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

fn connect_to(socket: &OwnedFd, address: &dyn SockaddrLike) -> nix::Result<()> {
    connect(socket.as_raw_fd(), address)
}
