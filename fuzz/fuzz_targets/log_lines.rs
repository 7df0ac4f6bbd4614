//! A sandbox's log files hold what an agent wrote, and an agent that has taken its guest over writes them itself. However
//! the bytes are cut, the records must be the same, no record may contain a newline, and little may be held.

#![no_main]

use guest::lines::{Decoder, HEADER_LENGTH, Line, TEXT, encode, generation};
use libfuzzer_sys::fuzz_target;

fn read(mut decoder: Decoder, bytes: &[u8], piece: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        while let Some(line) = decoder.take() {
            assert!(line.text.len() <= TEXT && !line.text.contains(&b'\n'));
            lines.push(line);
        }
        assert!(decoder.held() <= TEXT + 64);
    }
    lines.extend(decoder.finish());
    lines
}

fuzz_target!(|input: (u16, &[u8])| {
    let (size, bytes) = input;
    if let Some((_, length)) = generation(bytes) {
        assert!(length <= HEADER_LENGTH);
    }
    let lines = read(Decoder::new(), bytes, usize::from(size).max(1));
    assert_eq!(lines, read(Decoder::new(), bytes, bytes.len().max(1)));

    // What was read once is read again.
    let mut again = Vec::new();
    for line in &lines {
        encode(&mut again, line.at, line.stream, &line.text, line.whole);
    }
    assert_eq!(lines, read(Decoder::new(), &again, 4096));

    // Plain text loses nothing but its line ends.
    let text = |piece| -> Vec<u8> { read(Decoder::plain(0), bytes, piece).into_iter().flat_map(|line| line.text).collect() };
    let kept: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\n').collect();
    assert_eq!(text(usize::from(size).max(1)), kept);
});
