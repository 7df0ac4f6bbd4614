//! Reading while it is written, in every order, and reading what nobody should have written.

use super::*;
use proptest::prelude::*;
use std::fs;

/// Writes as the guest does: the newer file's bytes go to the older one, whole, and then it begins anew.
struct Writer {
    dir: tempfile::TempDir,
    generation: u64,
    count: i64,
}

impl Writer {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOG), "").unwrap();
        fs::write(dir.path().join(OLD_LOG), "").unwrap();
        Self {
            dir,
            generation: 0,
            count: 0,
        }
    }

    fn line(&mut self) {
        let path = self.dir.path().join(LOG);
        let mut bytes = fs::read(&path).unwrap();
        if bytes.is_empty() {
            bytes = lines::header(self.generation);
        }
        let text = self.count.to_string();
        lines::encode(&mut bytes, self.count, lines::Stream::Stdout, text.as_bytes(), true);
        fs::write(path, bytes).unwrap();
        self.count += 1;
    }

    fn rotate(&mut self) {
        if fs::metadata(self.dir.path().join(LOG)).unwrap().len() == 0 {
            return;
        }
        fs::copy(self.dir.path().join(LOG), self.dir.path().join(OLD_LOG)).unwrap();
        fs::write(self.dir.path().join(LOG), "").unwrap();
        self.generation += 1;
    }

    fn reader(&self) -> Reader {
        Reader::open(self.dir.path(), lines::FORMAT).unwrap()
    }
}

fn all(reader: &mut Reader) -> (Vec<i64>, bool) {
    let (mut numbers, mut lost) = (Vec::new(), false);
    loop {
        let batch = reader.look().unwrap();
        lost |= batch.lost;
        numbers.extend(batch.lines.iter().map(|line| line.at));
        if !batch.more {
            return (numbers, lost);
        }
    }
}

#[test]
fn rotations_are_followed_and_what_is_missed_is_said() {
    let mut writer = Writer::new();
    let mut reader = writer.reader();
    assert_eq!(all(&mut reader), (vec![], false));
    writer.line();
    writer.line();
    assert_eq!(all(&mut reader), (vec![0, 1], false));
    writer.line();
    writer.rotate();
    assert_eq!(all(&mut reader), (vec![2], false));
    writer.line();
    assert_eq!(all(&mut reader), (vec![3], false));
    for _ in 0..3 {
        writer.line();
        writer.rotate();
    }
    writer.line();
    assert_eq!(all(&mut reader), (vec![6, 7], true));
    assert_eq!(all(&mut writer.reader()), (vec![6, 7], false));
    assert_eq!(tail(writer.dir.path(), lines::FORMAT, 100).unwrap(), "6\n7\n");
    assert_eq!(tail(writer.dir.path(), lines::FORMAT, 3).unwrap(), "7\n");
}

#[test]
fn a_log_of_before_the_format_is_plain_text() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(OLD_LOG), "one\n1764076654123456 e tw").unwrap();
    fs::write(dir.path().join(LOG), "o\nthree").unwrap();
    let mut reader = Reader::open(dir.path(), 0).unwrap();
    let mut found = Vec::new();
    loop {
        let batch = reader.look().unwrap();
        found.extend(batch.lines);
        if !batch.more {
            break;
        }
    }
    found.extend(reader.finish());
    let mut lines_of = Lines::default();
    let found: Vec<_> = found.into_iter().filter_map(|line| lines_of.line(line)).collect();
    assert!(found.iter().all(|line| line.stream == Stream::Stdout));
    let text: Vec<_> = found.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(text, ["one", "1764076654123456 e two", "three"]);
    assert_eq!(tail(dir.path(), 0, 9).unwrap(), "three");
    assert!(matches!(tail(&dir.path().join("x"), 0, 9), Err(Error::Gone)));
}

#[test]
fn a_line_in_pieces_ends_once() {
    let piece = |text: &str, whole| Line {
        at: 1,
        stream: lines::Stream::Stderr,
        text: text.into(),
        whole,
    };
    let mut made = Lines::default();
    let mut given = |text, whole| made.line(piece(text, whole)).map(|line| line.text);
    assert_eq!(given("", true).as_deref(), Some(""));
    assert_eq!(given("Password: ", false).as_deref(), Some("Password: "));
    assert_eq!(given("", true), None);
    assert_eq!(given("x\r", true).as_deref(), Some("x"));
    assert_eq!(
        made.line(Line {
            at: i64::MAX,
            ..piece("x", true)
        }),
        None
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// However lines, rotations and looks fall: lines come in order, none twice, and one is missing only where it is said.
    #[test]
    fn following_misses_nothing_in_silence(steps in proptest::collection::vec(0u8..8, 1..60)) {
        let mut writer = Writer::new();
        let mut reader = writer.reader();
        let mut next = 0;
        // It is there from the beginning.
        writer.line();
        reader.look().unwrap();
        writer.count = 0;
        for step in steps.into_iter().chain([7]) {
            match step {
                0..=3 => writer.line(),
                4 | 5 => writer.rotate(),
                _ => {
                    let (numbers, lost) = all(&mut reader);
                    let first = numbers.first().copied().unwrap_or(next);
                    prop_assert!(first == next || lost && first > next, "{} after {}", first, next);
                    prop_assert!(numbers.iter().copied().eq(first..first + numbers.len() as i64));
                    next = first + numbers.len() as i64;
                }
            }
        }
    }

    /// Any bytes in the files: an answer, within bounds.
    #[test]
    fn hostile_files_are_read(newer: Vec<u8>, older: Vec<u8>, headers: bool, format in 0u32..2, max in 0usize..100) {
        let dir = tempfile::tempdir().unwrap();
        let start = |number| if headers { lines::header(number) } else { Vec::new() };
        fs::write(dir.path().join(LOG), [start(2), newer].concat()).unwrap();
        fs::write(dir.path().join(OLD_LOG), [start(1), older].concat()).unwrap();
        // A byte that is none of UTF-8 becomes three.
        prop_assert!(tail(dir.path(), format, max).unwrap().len() <= 3 * max);
    }
}
