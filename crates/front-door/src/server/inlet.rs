//! Connections that were accepted elsewhere, served like those of the server's own address.
//!
//! A sandbox reaches the API through a socket in a network of its own; whoever accepts there hands the connection in here.
//! There may be [`Config::max_connections`](crate::Config) of them beside as many from outside, so that agents cannot lock
//! anybody out. They have the same deadlines and are drained with the others.
//!
//! Invariant: never TLS. The bytes do not leave this machine's memory, which counts as a secure transport, and no certificate is
//! made out to an address inside. Invariant: an agent is no proxy, whatever address it has: what it says of forwarding is not
//! looked at. Nor is it shown what is open to whoever watches the server.

use super::connection::{self, Wire};
use super::{Open, Shared};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Takes connections for a [`Server`](super::Server). Cheap to clone; also before the server runs.
#[derive(Debug, Clone)]
pub struct Inlet(Arc<Shared>);

impl Inlet {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Serves a connection to its end. Waits while there are as many as there may be; closes it unserved when the server
    /// stops. A connection that has begun to be served goes on when the future is dropped: the other end's closing ends it.
    pub async fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let Self(shared) = self;
        let place = tokio::select! {
            biased;
            () = shared.closing.cancelled() => return,
            place = Arc::clone(&shared.inside).acquire_owned() => place,
        };
        let Ok(place) = place else { return };
        let open = Open::count(&shared.door.metrics.connections);
        let serving = Arc::clone(shared);
        let task = shared.tasks.spawn(async move {
            connection::serve(serving, stream, peer, Wire::Inside).await;
            drop((place, open));
        });
        // A panic has been logged, and ended the connection.
        let _ = task.await;
    }

    /// Resolves when the server takes no connections any more.
    pub async fn closed(&self) {
        self.0.closing.cancelled().await;
    }
}
