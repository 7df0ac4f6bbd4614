//! Sockets inside on which the server listens: how a sandbox reaches what the server offers to it, and nobody else does.
//!
//! The guest binds them before the agent's process exists, so that no other process can have taken their addresses, and
//! keeps them to the sandbox's end. A listening socket stays in the network that it was made in: whoever has a copy of it
//! accepts from there, wherever it runs. So the server asks for copies (`Request::Listener`) and accepts itself, a later
//! server asks again, and connections wait in the backlog while there is none.
//!
//! Invariant: the guest never accepts, so that it reads nothing that an agent sends there.

use crate::failure::Context;
use crate::sys;
use guest::protocol::Failure;
use nix::sys::stat::fstat;
use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// All of a sandbox.
#[derive(Default)]
pub(crate) struct Listening(Vec<One>);

struct One {
    address: SocketAddrV4,
    socket: OwnedFd,
    inode: u64,
}

impl Listening {
    /// Listens on addresses that are there.
    pub(crate) fn on(addresses: &[SocketAddrV4]) -> Result<Self, Failure> {
        let one = |address: &SocketAddrV4| {
            let what = || format!("listening on {address}");
            let socket = TcpListener::bind(address).on_host(what())?;
            socket.set_nonblocking(true).on_host(what())?;
            let inode = fstat(&socket).on_host(what())?.st_ino;
            Ok(One {
                address: *address,
                socket: OwnedFd::from(socket),
                inode,
            })
        };
        addresses.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// The same in a network of its own, to whose loopback the addresses are added first.
    pub(crate) fn on_own_loopback(addresses: &[SocketAddrV4]) -> Result<Self, Failure> {
        for (index, address) in addresses.iter().enumerate() {
            if !address.ip().is_loopback() {
                sys::add_loopback_address(index, *address.ip())
                    .on_host(format!("adding {} to the loopback", address.ip()))?;
            }
        }
        Self::on(addresses)
    }

    /// The socket at an address.
    pub(crate) fn at(&self, address: SocketAddrV4) -> Option<BorrowedFd<'_>> {
        self.0
            .iter()
            .find(|one| one.address == address)
            .map(|one| one.socket.as_fd())
    }

    /// Whether a socket, by its inode, is one of these.
    pub(crate) fn has(&self, inode: u64) -> bool {
        self.0.iter().any(|one| one.inode == inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest::listeners;

    #[test]
    fn sockets_are_found_by_address_and_by_inode() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let Ok(std::net::SocketAddr::V4(address)) = free.local_addr() else {
            panic!("not IPv4")
        };
        drop(free);
        let listening = Listening::on(&[address]).unwrap();
        assert!(listening.at(address).is_some());
        assert!(listening.at(SocketAddrV4::new(*address.ip(), 1)).is_none());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let found: Vec<_> = listeners::parse(&table).filter(|l| listening.has(l.inode)).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].port, address.port());
        // Nobody else can have it meanwhile.
        let failure = Listening::on(&[address]).err().unwrap();
        assert!(failure.what.contains(&address.to_string()), "{failure:?}");
    }
}
