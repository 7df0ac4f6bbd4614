//! The server's side of the guest's control socket.

use crate::Error;
use crate::sys;
use guest::frame::{self, Decoder};
use guest::protocol::{CONTROL_SOCKET, Hello, Reply, Request, VERSION};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// How long a guest may take to answer anything but a stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A sandbox's directory, held open: a socket's path has no more than 108 bytes, and this one is short.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    epoch: u64,
}

/// A connection on which a request has been sent.
pub(super) struct Exchange {
    stream: UnixStream,
    decoder: Decoder,
    greeted: bool,
    /// A descriptor that came with a reply.
    received: Option<OwnedFd>,
}

impl Dir {
    /// Every request will be of this epoch.
    pub(super) fn open(path: &Path, epoch: u64) -> Result<Self, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|error| Error::Io {
            what: format!("opening {}", path.display()),
            source: error.into(),
        })?;
        Ok(Self { fd, epoch })
    }

    /// Sends a request. [`Error::Gone`] if nobody listens any more.
    pub(super) async fn request(&self, request: &Request) -> Result<Exchange, Error> {
        let path = format!("/proc/self/fd/{}/{CONTROL_SOCKET}", self.fd.as_raw_fd());
        let mut stream = UnixStream::connect(path).await.map_err(|error| channel(&error))?;
        let mut bytes = encode(&Hello {
            version: VERSION,
            epoch: self.epoch,
        })?;
        bytes.extend(encode(request)?);
        stream.write_all(&bytes).await.map_err(|error| channel(&error))?;
        Ok(Exchange {
            stream,
            decoder: Decoder::default(),
            greeted: false,
            received: None,
        })
    }

    /// Sends a request and waits for its one reply.
    pub(super) async fn ask(&self, request: &Request, patience: Duration) -> Result<(Reply, Option<OwnedFd>), Error> {
        let exchange = async {
            let mut exchange = self.request(request).await?;
            let reply = exchange.next().await?;
            Ok((reply, exchange.received))
        };
        match tokio::time::timeout(patience, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Protocol(format!("no answer within {} s", patience.as_secs()))),
        }
    }
}

impl Exchange {
    /// The next reply; [`Error::Gone`] at the stream's end.
    pub(super) async fn next(&mut self) -> Result<Reply, Error> {
        loop {
            if self.greeted {
                match self.decoder.take::<Reply>() {
                    Ok(Some(Reply::Invalid(text))) => return Err(Error::Protocol(text)),
                    Ok(Some(Reply::Fenced(epoch))) => return Err(Error::Fenced(epoch)),
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(error) => return Err(Error::Protocol(error.to_string())),
                }
            } else {
                match self.decoder.take::<Hello>() {
                    Ok(Some(hello)) if hello.version == VERSION => {
                        self.greeted = true;
                        continue;
                    }
                    Ok(Some(hello)) => {
                        return Err(Error::Protocol(format!(
                            "the guest speaks version {}, not {VERSION}",
                            hello.version
                        )));
                    }
                    Ok(None) => {}
                    Err(error) => return Err(Error::Protocol(error.to_string())),
                }
            }
            let mut buffer = [0; 4096];
            let stream = &self.stream;
            let read = stream
                .async_io(Interest::READABLE, || sys::receive(stream.as_fd(), &mut buffer))
                .await;
            match read {
                Ok((0, _)) => return Err(Error::Gone),
                Ok((count, received)) => {
                    self.received = received.or(self.received.take());
                    self.decoder.push(&buffer[..count]);
                }
                Err(error) => return Err(channel(&error)),
            }
        }
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    frame::encode(value).map_err(|error| Error::Protocol(error.to_string()))
}

/// A socket that is gone or refuses belongs to a guest that has ended.
fn channel(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => Error::Gone,
        _ => Error::Protocol(error.to_string()),
    }
}
