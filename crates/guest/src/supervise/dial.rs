//! A connection to a port on the loopback of the sandbox, made without waiting.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, connect, getsockopt, setsockopt, socket,
    sockopt,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a knock may go unanswered. A busy kernel refuses a closed port late; a listener whose backlog is full never
/// answers.
pub(super) const ANSWER: Duration = Duration::from_millis(250);

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
    /// One without an answer yet, and when it was made.
    pending: Option<(OwnedFd, Instant)>,
}

/// What came of one knock.
enum Heard {
    Open,
    /// A socket that can be used again, unless it cannot.
    Refused(Option<OwnedFd>),
    Nothing(OwnedFd),
}

impl Knock {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            v4: None,
            v6: None,
            count: 0,
            pending: None,
        }
    }

    /// Whether something listens. IPv6 alone is rare and tried every fourth time.
    pub(crate) fn once(&mut self, now: Instant) -> bool {
        if let Some((socket, since)) = self.pending.take() {
            match answer(socket) {
                Heard::Open => return true,
                Heard::Nothing(_) if now.saturating_duration_since(since) >= ANSWER => return true,
                Heard::Nothing(socket) => {
                    self.pending = Some((socket, since));
                    return false;
                }
                // Its family is not known any more; the next one makes its own.
                Heard::Refused(_) => {}
            }
        }
        let v4 = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port));
        let v6 = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, self.port, 0, 0));
        self.count = self.count.wrapping_add(1);
        match knock(self.v4.take(), AddressFamily::Inet, &v4) {
            Heard::Open => return true,
            Heard::Nothing(socket) => {
                self.pending = Some((socket, now));
                return false;
            }
            Heard::Refused(socket) => self.v4 = socket,
        }
        if self.count % 4 != 1 {
            return false;
        }
        match knock(self.v6.take(), AddressFamily::Inet6, &v6) {
            Heard::Open => return true,
            Heard::Nothing(socket) => self.pending = Some((socket, now)),
            Heard::Refused(socket) => self.v6 = socket,
        }
        false
    }
}

fn knock(kept: Option<OwnedFd>, family: AddressFamily, address: &dyn SockaddrLike) -> Heard {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(socket) = kept.map_or_else(|| socket(family, SockType::Stream, flags, None), Ok) else {
        return Heard::Refused(None);
    };
    match connect_to(&socket, address) {
        Ok(()) => Heard::Open,
        Err(Errno::EINPROGRESS) => match answer(socket) {
            // The kernel says it a second time before it tries again.
            Heard::Refused(Some(socket)) => match connect_to(&socket, address) {
                Ok(()) => Heard::Open,
                Err(Errno::ECONNREFUSED) => Heard::Refused(Some(socket)),
                Err(_) => Heard::Refused(None),
            },
            heard => heard,
        },
        Err(Errno::ECONNREFUSED) => Heard::Refused(Some(socket)),
        Err(_) => Heard::Refused(None),
    }
}

/// Where a connection in progress stands now.
fn answer(socket: OwnedFd) -> Heard {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO) == Ok(0) {
        return Heard::Nothing(socket);
    }
    match getsockopt(&socket, sockopt::SocketError) {
        Ok(0) => Heard::Open,
        _ => Heard::Refused(Some(socket)),
    }
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
            let now = Instant::now();
            assert!((0..50).all(|_| !knock.once(now)), "{address}: nobody listens");
            let listener =
                TcpListener::bind((address.rsplit_once(':').unwrap().0.trim_matches(['[', ']']), port)).unwrap();
            assert!((0..5).any(|_| knock.once(now)), "{address}");
            assert!((0..5).any(|_| knock.once(now)), "{address}: a second time");
            drop(listener);
        }
    }
}
