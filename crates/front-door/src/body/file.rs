//! A spool file: unlinked from the moment it is made, written in large pieces, read back in large pieces.
//!
//! File calls run on the blocking pool, so that a slow disk never holds up a connection's thread. The file has no name:
//! whatever happens to the process, nothing is left behind.

use super::BodyError;
use crate::admit::Held;
use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes that are gathered before one trip to the blocking pool, and read back at once.
pub(crate) const PIECE: usize = 256 * 1024;

/// A spool file that is being written; hashes on the way, off the connection's thread.
pub(crate) struct Writer {
    file: File,
    hash: digest::Context,
    written: u64,
}

impl Writer {
    /// A new file without a name in `dir`.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(dir)?;
        Ok(Self {
            file,
            hash: digest::Context::new(&digest::SHA256),
            written: 0,
        })
    }

    /// Hashes and appends; blocks.
    pub(crate) fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.hash.update(piece);
            self.file.write_all(piece)?;
            self.written += piece.len() as u64;
        }
        Ok(())
    }

    /// The finished file and its digest.
    pub(crate) fn finish(self) -> (File, u64, digest::Digest) {
        (self.file, self.written, self.hash.finish())
    }
}

/// A body that is read back from a spool file with constant memory. Keeps its room in the budget until it is dropped.
pub(crate) struct FileBody {
    /// `None` while a read is under way.
    file: Option<File>,
    reading: Option<JoinHandle<io::Result<(File, Bytes)>>>,
    offset: u64,
    size: u64,
    _held: Held,
}

impl FileBody {
    /// Reads `file` from its start.
    pub(crate) fn new(file: File, size: u64, held: Held) -> Self {
        Self {
            file: Some(file),
            reading: None,
            offset: 0,
            size,
            _held: held,
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let done = std::task::ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                return match done.map_err(io::Error::other).and_then(|read| read) {
                    Ok((file, piece)) => {
                        self.file = Some(file);
                        self.offset += piece.len() as u64;
                        Poll::Ready(Some(Ok(Frame::data(piece))))
                    }
                    Err(error) => Poll::Ready(Some(Err(BodyError::Spool(error)))),
                };
            }
            let left = self.size - self.offset;
            let Some(file) = self.file.take().filter(|_| left > 0) else {
                return Poll::Ready(None);
            };
            let (offset, length) = (self.offset, usize::try_from(left).unwrap_or(usize::MAX).min(PIECE));
            self.reading = Some(spawn_blocking(move || {
                let mut piece = BytesMut::zeroed(length);
                file.read_exact_at(&mut piece, offset)?;
                Ok((file, piece.freeze()))
            }));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.offset == self.size
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size - self.offset)
    }
}
