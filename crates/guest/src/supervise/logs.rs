//! The agent's output, in two files of which the older is thrown away whole.
//!
//! The guest can open nothing in the sandbox's directory any more, so it does not rename: when the newer file is half
//! the limit long, its bytes are copied over the older one and it starts again.
//!
//! Invariant: both files together never exceed the limit. A file that cannot be written (a full disk) loses output, and
//! never stops the agent.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// The least that is kept, however small the limit.
const LEAST: u64 = 4096;

/// The log's two files.
pub(crate) struct Log {
    newer: File,
    older: File,
    /// Length of the newer file.
    length: u64,
    half: u64,
}

impl Log {
    /// Goes on with files as they are. Both must be open for reading and appending.
    pub(crate) fn new(newer: File, older: File, limit: u64) -> Self {
        let length = newer.metadata().map_or(0, |data| data.len());
        Self {
            newer,
            older,
            length,
            half: (limit / 2).max(LEAST),
        }
    }

    /// Adds bytes at the end.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.length >= self.half {
                self.rotate();
            }
            let room = usize::try_from(self.half.saturating_sub(self.length)).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            match self.newer.write_all(now) {
                Ok(()) => self.length += now.len() as u64,
                Err(_) => {
                    self.length = self.newer.metadata().map_or(self.length, |data| data.len());
                    return;
                }
            }
            bytes = later;
        }
    }

    fn rotate(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let mut at = 0;
        let _ = self.older.set_len(0);
        while let Ok(count @ 1..) = self.newer.read_at(&mut buffer, at) {
            if self.older.write_all(&buffer[..count]).is_err() {
                break;
            }
            at += count as u64;
        }
        if self.newer.set_len(0).is_ok() {
            self.length = 0;
        } else {
            // Cannot happen with a file of ours; forget the room rather than grow.
            self.half = self.half.max(self.length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};

    #[test]
    fn the_last_part_is_kept_and_the_limit_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (newer, older) = (dir.path().join("log"), dir.path().join("log.1"));
        let open = |path| {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(path)
                .unwrap()
        };
        let limit = 4 * LEAST;
        let mut log = Log::new(open(&newer), open(&older), limit);
        let mut all = Vec::new();
        for number in 0..5000 {
            let line = format!("line {number}\n");
            log.append(line.as_bytes());
            all.extend(line.into_bytes());
            let size = fs::metadata(&newer).unwrap().len() + fs::metadata(&older).unwrap().len();
            assert!(size <= limit, "{size}");
        }
        let mut kept = fs::read(&older).unwrap();
        kept.extend(fs::read(&newer).unwrap());
        assert!(kept.len() as u64 >= limit / 2);
        assert!(all.ends_with(&kept));
    }

    #[test]
    fn one_piece_longer_than_the_limit_keeps_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (newer, older) = (dir.path().join("log"), dir.path().join("log.1"));
        let open = |path| {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(path)
                .unwrap()
        };
        let piece: Vec<u8> = (0u32..50_000).flat_map(u32::to_be_bytes).collect();
        Log::new(open(&newer), open(&older), 0).append(&piece);
        let mut kept = fs::read(&older).unwrap();
        kept.extend(fs::read(&newer).unwrap());
        assert!(piece.ends_with(&kept) && kept.len() as u64 <= 2 * LEAST && !kept.is_empty());
    }
}
