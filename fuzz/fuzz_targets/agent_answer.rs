//! An agent's answer is written by whoever wrote the agent. However the bytes are cut, they must be read the same, little
//! may be held, and no body may be longer than what came.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use runtime::upstream::Fault;
use runtime::upstream::head::{self, MOST};

fn read(bytes: &[u8], piece: usize) -> Result<(u16, Vec<u8>, bool), String> {
    let told = |fault: Fault| fault.to_string();
    let (mut input, mut seen, mut body) = (BytesMut::new(), 0, Vec::new());
    let mut answer = None;
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        if answer.is_none() {
            answer = head::take(&mut input, &mut seen, false).map_err(told)?;
        }
        if let Some(head) = &mut answer {
            while let Some(piece) = head.framing.take(&mut input).map_err(told)? {
                body.extend_from_slice(&piece);
            }
            if head.framing.is_end() {
                return Ok((head.status.as_u16(), body, head.keeps));
            }
        }
        assert!(input.len() <= MOST);
    }
    let mut head = answer.ok_or_else(|| told(Fault::Ended))?;
    head.framing.closed().map_err(told)?;
    Ok((head.status.as_u16(), body, head.keeps))
}

fuzz_target!(|input: (u16, &[u8])| {
    let (size, bytes) = input;
    let cut = read(bytes, usize::from(size).max(1));
    assert!(cut.as_ref().is_ok_and(|(_, body, _)| body.len() <= bytes.len()) || cut.is_err());
    // Why it was refused may differ: what is wrong with a head is looked for once it seems to be whole.
    assert_eq!(cut.ok(), read(bytes, bytes.len().max(1)).ok());
});
