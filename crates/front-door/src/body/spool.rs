//! Taking in a whole body whose signature can be verified only with its hash.
//!
//! Small bodies stay in memory, usually as the one piece that came from the socket, without a copy. Larger ones go to
//! an unlinked [`file`](super::file) in batches; while one batch is hashed and written, the next one is received.
//! Memory per body is at most the in-memory bound plus two batches.
//!
//! Invariant: every byte held here is accounted for in [`Admission`](crate::admit::Admission).

use super::file::{FileBody, PIECE, Writer};
use super::source::{Fault, Source};
use super::{Incoming, full};
use crate::admit::{Admission, Held};
use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

/// A whole body and its SHA-256.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// SHA-256 of all bytes.
    pub(crate) digest: [u8; 32],
    /// Number of bytes.
    pub(crate) size: u64,
    store: Store,
    held: Held,
}

#[derive(Debug)]
enum Store {
    Memory(Bytes),
    File(File),
}

/// Why a body could not be taken in.
#[derive(Debug)]
pub(crate) enum SpoolError {
    /// The client's fault.
    Client(Fault),
    /// The budget for held bodies is used up.
    Busy,
    /// The spool directory failed.
    Disk(io::Error),
}

impl From<Fault> for SpoolError {
    fn from(fault: Fault) -> Self {
        Self::Client(fault)
    }
}

/// Takes in all of `source`: up to `in_memory` bytes in memory, more of them in a file in `dir`.
///
/// Cancellation safe: what was held is given back.
pub(crate) async fn take(
    source: &mut Source,
    in_memory: u64,
    dir: &Path,
    admission: &Arc<Admission>,
) -> Result<Spooled, SpoolError> {
    let mut held = admission.hold(source.promised().unwrap_or(0)).ok_or(SpoolError::Busy)?;
    if source.is_end() {
        return Ok(Spooled::memory(Bytes::new(), held));
    }
    let mut timer = pin!(tokio::time::sleep_until(source.deadline()));
    let mut batch = Batch::default();
    let mut size = 0;
    while let Some(piece) = source.piece(timer.as_mut()).await {
        let piece = piece?;
        size += piece.len() as u64;
        if !held.grow_to(size) {
            return Err(SpoolError::Busy);
        }
        batch.push(piece);
        if size > in_memory {
            return Spooling::begin(dir, batch).rest(source, timer, size, held).await;
        }
    }
    Ok(Spooled::memory(batch.join(), held))
}

impl Spooled {
    fn memory(bytes: Bytes, held: Held) -> Self {
        Self {
            digest: sha256(&bytes),
            size: bytes.len() as u64,
            store: Store::Memory(bytes),
            held,
        }
    }

    /// The bytes of a body that was small enough to stay in memory.
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        match &self.store {
            Store::Memory(bytes) => Some(bytes),
            Store::File(_) => None,
        }
    }

    /// As a body for a service.
    pub(crate) fn into_body(self) -> Incoming {
        match self.store {
            // Its room is given back now: what a service may hold of it is bounded by the number of calls.
            Store::Memory(bytes) => full(bytes),
            Store::File(file) => FileBody::new(file, self.size, self.held).boxed_unsync(),
        }
    }
}

/// A body on its way into a file.
struct Spooling {
    writing: JoinHandle<io::Result<Writer>>,
}

impl Spooling {
    /// Makes the file and writes what has come so far.
    fn begin(dir: &Path, first: Batch) -> Self {
        let dir = dir.to_owned();
        let writing = spawn_blocking(move || {
            let mut writer = Writer::create(&dir)?;
            writer.append(&first.pieces)?;
            Ok(writer)
        });
        Self { writing }
    }

    /// Takes in the rest.
    async fn rest(
        mut self,
        source: &mut Source,
        mut timer: std::pin::Pin<&mut tokio::time::Sleep>,
        mut size: u64,
        mut held: Held,
    ) -> Result<Spooled, SpoolError> {
        let mut batch = Batch::default();
        while let Some(piece) = source.piece(timer.as_mut()).await {
            let piece = piece?;
            size += piece.len() as u64;
            if !held.grow_to(size) {
                return Err(SpoolError::Busy);
            }
            batch.push(piece);
            if batch.size >= PIECE {
                self.write(std::mem::take(&mut batch)).await.map_err(SpoolError::Disk)?;
            }
        }
        self.write(batch).await.map_err(SpoolError::Disk)?;
        let writer = settle(&mut self.writing).await.map_err(SpoolError::Disk)?;
        let (file, size, hash) = writer.finish();
        Ok(Spooled {
            digest: to_array(&hash),
            size,
            store: Store::File(file),
            held,
        })
    }

    /// Hands a batch to the blocking pool once the one before is written.
    async fn write(&mut self, batch: Batch) -> io::Result<()> {
        let mut writer = settle(&mut self.writing).await?;
        self.writing = spawn_blocking(move || {
            writer.append(&batch.pieces)?;
            Ok(writer)
        });
        Ok(())
    }
}

/// Waits until a batch is written. Has no deadline of its own: a batch is small, and a write to a file either ends or
/// fails.
async fn settle(writing: &mut JoinHandle<io::Result<Writer>>) -> io::Result<Writer> {
    writing.await.map_err(io::Error::other)?
}

/// Pieces that are gathered before they are written or joined.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    size: usize,
}

impl Batch {
    fn push(&mut self, piece: Bytes) {
        self.size += piece.len();
        self.pieces.push(piece);
    }

    /// All pieces as one; without a copy when there is only one.
    fn join(mut self) -> Bytes {
        if self.pieces.len() == 1 {
            return self.pieces.swap_remove(0);
        }
        let mut all = BytesMut::with_capacity(self.size);
        for piece in &self.pieces {
            all.extend_from_slice(piece);
        }
        all.freeze()
    }
}

/// SHA-256 of bytes in memory.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    to_array(&digest::digest(&digest::SHA256, bytes))
}

/// A SHA-256 digest as an array.
pub(crate) fn to_array(hash: &digest::Digest) -> [u8; 32] {
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
