//! The guest shares a sandbox with the agent: what comes from it is read as a stranger's. Frames must be the same
//! however the bytes are cut, and no more than one frame may be held.

#![no_main]

use guest::frame::{Decoder, MAX, encode, read};
use guest::protocol::Reply;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let mut decoder = Decoder::default();
    let mut replies = Vec::new();
    let mut broken = false;
    'stream: for piece in bytes.chunks(usize::from(size).max(1)) {
        decoder.push(piece);
        loop {
            match decoder.take::<Reply>() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(_) => {
                    broken = true;
                    break 'stream;
                }
            }
        }
        assert!(decoder.held() <= MAX + 4 + usize::from(size));
    }

    // The blocking reader must tell the same story about the same bytes.
    let mut stream = bytes;
    for reply in &replies {
        let same = read::<Reply>(&mut stream).expect("the decoder read this frame").expect("it is there");
        assert_eq!(encode(&same).expect("it was a frame"), encode(reply).expect("it was a frame"));
    }
    if broken {
        assert!(read::<Reply>(&mut stream).is_err());
    }
});
