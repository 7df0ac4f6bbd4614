//! What a sandbox reaches of this server: its metadata service and the API, each on an address of its own network.
//!
//! The sandbox's driver gives the listening sockets; what is accepted from the one is answered by [`Metadata`], from the
//! other it goes through the front door's [`Inlet`] as any client's. Both are there from the sandbox's start, warm or not:
//! AWS's SDKs look for credentials once, when a client is made, and that is often while the agent's program is being loaded.
//!
//! Invariant: nothing is read here of what an agent sends. Invariant: what one agent opens costs the others nothing: its
//! connections are few, and it waits for its own.

use super::router::Shared;
use crate::credentials::wallet::{Of, Outstanding, Wallet};
use crate::metadata::Metadata;
use domain::id::{Region, SandboxId};
use domain::{Clock, RuntimeArn};
use front_door::Inlet;
use sandbox::{Listen, Sandbox};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Where AWS's SDKs look for the metadata service.
const METADATA: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);
/// The API. An address of our own: the well-known ones (169.254.170.2, 169.254.170.23) are those of other services, which SDKs
/// would take it for.
const API: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 171, 1), 80);
/// Whatever the SDKs' own default is: without walls the service is elsewhere.
const METADATA_VARIABLES: [&str; 1] = ["AWS_EC2_METADATA_SERVICE_ENDPOINT"];
/// By these AWS's SDKs find a service that is not at AWS.
const API_VARIABLES: [&str; 3] = [
    "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE",
    "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL",
    "AWS_ENDPOINT_URL_STS",
];

/// Connections of one sandbox at a time; more wait in its own network.
const METADATA_CONNECTIONS: usize = 8;
const API_CONNECTIONS: usize = 64;
/// After a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After a failure to get a listening socket, doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// For a line in a session's log.
const NOTE: Duration = Duration::from_secs(1);

/// What one sandbox reaches of this server. Dropped, nobody answers there any more, until somebody opens it again; its
/// credentials stay good.
#[derive(Debug)]
pub(super) struct Inside {
    wallet: Arc<Wallet>,
    serving: [AbortOnDropHandle<()>; 2],
}

/// Where a sandbox's server listens in it.
pub(super) fn listen() -> Vec<Listen> {
    let one = |address, variables: &[&str]| Listen {
        address,
        variables: variables.iter().map(|&name| name.to_owned()).collect(),
    };
    vec![one(METADATA, &METADATA_VARIABLES), one(API, &API_VARIABLES)]
}

impl Inside {
    /// Opens it for a sandbox of a runtime with this role. `name` is what the role's session is called.
    pub(super) fn open(
        shared: &Arc<Shared>,
        sandbox: &Arc<dyn Sandbox>,
        arn: &RuntimeArn,
        role: &str,
        name: String,
    ) -> Self {
        let clock = shared.clock.clone();
        let wallet = Wallet::new(Of {
            role: role.to_owned(),
            name,
            source: arn.clone(),
            roles: Arc::clone(&shared.roles),
            clock: clock.clone(),
            issued: Arc::clone(&shared.issued),
        });
        let metadata = serve_metadata(Arc::clone(sandbox), Arc::clone(&wallet), arn.region.clone(), clock);
        let api = serve_api(Arc::clone(sandbox), shared.inlet.subscribe());
        Self {
            wallet,
            serving: [tokio::spawn(metadata), tokio::spawn(api)].map(AbortOnDropHandle::new),
        }
    }

    /// The sandbox's credentials.
    pub(super) fn wallet(&self) -> &Arc<Wallet> {
        &self.wallet
    }

    /// Takes credentials over that an earlier server process has issued.
    pub(super) fn resume(&self, outstanding: Vec<Outstanding>) {
        self.wallet.resume(outstanding);
    }

    /// The sandbox has ended: its credentials are taken back.
    pub(super) async fn end(self) {
        let Self { wallet, serving } = self;
        drop(serving);
        wallet.close().await;
    }
}

async fn serve_metadata(sandbox: Arc<dyn Sandbox>, wallet: Arc<Wallet>, region: Region, clock: Clock) {
    let Ok(metadata) = Metadata::new(wallet, region, clock) else {
        tracing::error!(sandbox = %sandbox.id(), "the system has no randomness: a sandbox has no metadata service");
        return;
    };
    let Some(listener) = listener(&*sandbox, METADATA).await else {
        return;
    };
    let noted = Arc::new(AtomicBool::new(false));
    accept(&listener, METADATA_CONNECTIONS, |stream, _| {
        let (metadata, sandbox, noted) = (Arc::clone(&metadata), Arc::clone(&sandbox), Arc::clone(&noted));
        metadata.serve(stream, move |why| {
            // Once: an agent may ask for ever.
            if !noted.swap(true, Ordering::Relaxed) {
                note(Arc::clone(&sandbox), format!("no credentials: {why}"));
            }
        })
    })
    .await;
}

async fn serve_api(sandbox: Arc<dyn Sandbox>, mut inlet: watch::Receiver<Option<Inlet>>) {
    // While the server starts nobody is answered; what comes waits.
    let inlet = match inlet.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(inlet)) => inlet.clone(),
        _ => return,
    };
    let Some(listener) = listener(&*sandbox, API).await else {
        return;
    };
    let accepting = accept(&listener, API_CONNECTIONS, |stream, peer| {
        let inlet = inlet.clone();
        async move { inlet.serve(stream, peer).await }
    });
    tokio::select! {
        () = accepting => {}
        // What comes now is the next server's.
        () = inlet.closed() => {}
    }
}

/// Accepts for ever, so many at once; those that are served end with the future.
async fn accept<F>(listener: &TcpListener, most: usize, serve: impl Fn(TcpStream, std::net::SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    let mut serving = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let served = serve(stream, peer);
                serving.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection from a sandbox could not be accepted; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while serving.try_join_next().is_some() {}
    }
}

/// A sandbox's listening socket; nothing if it has none or has ended.
async fn listener(sandbox: &dyn Sandbox, address: SocketAddrV4) -> Option<TcpListener> {
    let mut pause = FIRST_RETRY;
    loop {
        match sandbox.listener(address).await {
            Ok(listener) => return Some(listener),
            // Ended, another server's, or started by a server that knew nothing of this.
            Err(sandbox::Error::Gone | sandbox::Error::Fenced(_) | sandbox::Error::Refused(_)) => return None,
            Err(error) => {
                tracing::warn!(sandbox = %sandbox.id(), %address, %error, "a sandbox does not reach its server; trying again");
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_RETRY);
    }
}

/// Writes a line into a sandbox's log, in the background.
fn note(sandbox: Arc<dyn Sandbox>, line: String) {
    tokio::spawn(async move {
        let _ = timeout(NOTE, sandbox.note(&line)).await;
    });
}

/// What the role's session of a sandbox is called that has no session yet.
pub(super) fn unassigned(sandbox: &SandboxId) -> String {
    crate::credentials::sandbox_name(sandbox)
}
