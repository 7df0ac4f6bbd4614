//! Small pieces of a message joined into one before they are written.
//!
//! A head and a short body come as two pieces. The system takes one buffer with less work than a list of them, and
//! copying a few hundred bytes once more costs less than that. Large bodies stay where they are.

use std::io::IoSlice;

/// The most bytes that are joined.
pub const MOST: usize = 1024;

/// All pieces as one, if they are several and small.
pub fn join<'b>(pieces: &[IoSlice<'_>], buffer: &'b mut [u8; MOST]) -> Option<&'b [u8]> {
    if pieces.len() < 2 {
        return None;
    }
    let mut end = 0;
    for piece in pieces {
        let start = end;
        end += piece.len();
        buffer.get_mut(start..end)?.copy_from_slice(piece);
    }
    Some(&buffer[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&[u8]], joined: Option<&[u8]>) {
        let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        assert_eq!(join(&pieces, &mut [0; MOST]), joined);
    }

    #[test]
    fn joins_what_is_small_and_in_pieces() {
        check(&[], None);
        check(&[b"one"], None);
        check(&[b"head ", b"", b"body"], Some(b"head body"));
        check(
            &[b"head", &[b'x'; MOST - 4]],
            Some(&[b"head".as_slice(), &[b'x'; MOST - 4]].concat()),
        );
        check(&[b"head", &[b'x'; MOST - 3]], None);
    }
}
