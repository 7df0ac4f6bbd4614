//! How answers are read: heads and framings, cut in every way.

use crate::upstream::Fault;
use crate::upstream::head::{self, Head, MOST};
use bytes::BytesMut;
use http::StatusCode;
use proptest::prelude::*;

/// What came of an answer: its status, its body and what was left over, or why it was refused.
type Outcome = Result<(u16, Vec<u8>, Vec<u8>), String>;

/// Reads an answer that comes in pieces of such a size and ends with the connection.
fn read(bytes: &[u8], piece: usize) -> Outcome {
    let (mut input, mut seen, mut body) = (BytesMut::new(), 0, Vec::new());
    let mut head: Option<Head> = None;
    let mut pieces = bytes.chunks(piece.max(1));
    let told = |fault: Fault| fault.to_string();
    loop {
        let came = pieces.next();
        input.extend_from_slice(came.unwrap_or_default());
        if head.is_none() {
            head = head::take(&mut input, &mut seen, false).map_err(told)?;
        }
        if let Some(Head { framing, status, .. }) = &mut head {
            while let Some(piece) = framing.take(&mut input).map_err(told)? {
                body.extend_from_slice(&piece);
            }
            if came.is_none() {
                framing.closed().map_err(told)?;
            }
            if framing.is_end() {
                input.extend(pieces.flatten());
                return Ok((status.as_u16(), body, input.to_vec()));
            }
        } else if came.is_none() {
            return Err(told(Fault::Ended));
        }
    }
}

#[track_caller]
fn check(answer: &str, expected: Result<(u16, &str, &str), &str>) {
    for piece in [1, 2, 3, 7, answer.len()] {
        match (read(answer.as_bytes(), piece), expected) {
            (Ok((status, body, left)), Ok((wanted, text, over))) => {
                assert_eq!(
                    (status, &*body, &*left),
                    (wanted, text.as_bytes(), over.as_bytes()),
                    "{answer:?}"
                );
            }
            (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{answer:?}: {error}"),
            (outcome, _) => panic!("{answer:?} in pieces of {piece}: {outcome:?}"),
        }
    }
}

/// Only the framing matters: a head of such lines, then such a body.
#[track_caller]
fn check_framing(lines: &str, body: &str, expected: Result<(&str, &str), &str>) {
    let expected = expected.map(|(body, left)| (200, body, left));
    check(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}"), expected);
}

#[test]
fn a_body_ends_where_its_head_says() {
    check_framing("content-length: 2\r\n", "okmore", Ok(("ok", "more")));
    check_framing("content-length: 2, 2\r\nContent-Length: 2\r\n", "ok", Ok(("ok", "")));
    check_framing("content-length: 0\r\n", "more", Ok(("", "more")));
    check_framing("", "all of it", Ok(("all of it", "")));
    check_framing(
        "Transfer-Encoding: Chunked\r\n",
        "2\r\nok\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nmore",
        Ok(("ok0123456789", "more")),
    );
    check_framing(
        "transfer-encoding: chunked\r\n",
        "0\r\nx-a: b\r\nx-c: d\r\n\r\n",
        Ok(("", "")),
    );
    for status in ["204 No Content", "304 Not Modified"] {
        let code = status[..3].parse().unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nmore");
        check(&answer, Ok((code, "", "more")));
    }
}

#[test]
fn a_body_with_two_ends_has_none() {
    for lines in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2, 3\r\n",
        "content-length: 2\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 2\r\n",
    ] {
        check_framing(lines, "2\r\nok\r\n0\r\n\r\n", Err("two"));
    }
    for lines in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
    ] {
        check_framing(lines, "", Err("transfer coding"));
    }
    for length in ["+2", "-2", "0x2", "", "2 2", "18446744073709551616", "２"] {
        check_framing(&format!("content-length: {length}\r\n"), "ok", Err("not a number"));
    }
    check("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Err("two ways"));
}

#[test]
fn chunks_are_as_they_should_be() {
    let long = format!("1;{}\r\n", "x".repeat(5000));
    let trailers = format!("0\r\n{}", "x: 0123456789\r\n".repeat(1000));
    for body in [
        "\r\n",
        "g\r\n",
        " 2\r\n",
        "2\nok",
        "2\r\nokay\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        ";\r\n",
        "1;a\rb\r\n",
        "10000000000000000\r\n",
        "2\r\nok\n0\r\n\r\n",
        "0\r\n\n",
        &long,
        &trailers,
    ] {
        check_framing("transfer-encoding: chunked\r\n", body, Err("chunks"));
    }
}

#[test]
fn what_ends_early_is_not_whole() {
    check("", Err("ended"));
    check("HTTP/1.1 200 OK\r\nx: y\r\n", Err("ended"));
    check_framing("content-length: 5\r\n", "four", Err("ended"));
    for body in [
        "",
        "5",
        "5\r\n",
        "5\r\nfour",
        "4\r\nfour",
        "4\r\nfour\r\n",
        "0\r\n",
        "0\r\nx: y\r\n",
    ] {
        check_framing("transfer-encoding: chunked\r\n", body, Err("ended"));
    }
}

#[test]
fn provisional_answers_are_read_over() {
    check(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 201 Made\r\ncontent-length: 2\r\n\r\nok",
        Ok((201, "ok", "")),
    );
    let switched = read(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", 1);
    assert_eq!(switched, Ok((101, Vec::new(), Vec::new())), "nobody asked for it");
}

#[test]
fn heads_are_strict_and_of_bounded_size() {
    for head in [
        "garbage\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: y\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
    ] {
        assert!(read(head.as_bytes(), head.len()).is_err(), "{head:?}");
        assert!(read(head.as_bytes(), 1).is_err(), "{head:?}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert!(read(many.as_bytes(), 1000).unwrap_err().contains("too many"));
    let large = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MOST));
    assert!(read(large.as_bytes(), 10_000).unwrap_err().contains("too large"));
}

#[test]
fn only_an_agent_that_says_so_keeps_its_connection() {
    for (answer, keeps) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n\r\n", true),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
    ] {
        let head = head::take(&mut BytesMut::from(answer), &mut 0, false).unwrap().unwrap();
        assert_eq!(head.keeps, keeps, "{answer:?}");
    }
}

#[test]
fn an_answer_to_head_has_no_body() {
    let mut input = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    let head = head::take(&mut input, &mut 0, true).unwrap().unwrap();
    assert_eq!((head.status, head.framing.is_end()), (StatusCode::OK, true));
    assert_eq!(head.headers["content-length"], "5");
}

proptest! {
    #[test]
    fn chunks_come_back_however_they_are_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 0..6),
        left in prop::collection::vec(any::<u8>(), 0..20),
        piece in 1usize..5000,
    ) {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            answer.extend(format!("{:X}\r\n", chunk.len()).bytes());
            answer.extend(chunk);
            answer.extend(b"\r\n");
        }
        answer.extend(b"0\r\n\r\n");
        answer.extend(&left);
        prop_assert_eq!(read(&answer, piece), Ok((200, chunks.concat(), left)));
    }

    #[test]
    fn nothing_panics_and_cuts_change_nothing(
        lines in "(content-length: [0-9]{0,2}\r\n|transfer-encoding: chunked\r\n|[a-z]: \\PC{0,3}\r\n){0,3}",
        body in "([0-9a-f]{0,2}(;a)?\r?\n?[a-z]{0,3}){0,6}",
        piece in 1usize..40,
    ) {
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}");
        prop_assert_eq!(read(answer.as_bytes(), piece), read(answer.as_bytes(), answer.len()));
    }
}
