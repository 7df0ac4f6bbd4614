//! Text patterns: `*` is any number of characters, `?` is exactly one.
//!
//! A pattern is compiled into the parts between its stars. The first and the last are anchored; each part between is
//! looked for from the left, and its first place is as good as any other, so nothing is ever tried twice. A part
//! without `?` is found in linear time, a short one by plain search; one with `?` by bit-parallel search, 64 characters
//! of pattern at a time.
//!
//! Invariant: matching costs at most (text × pattern / 64) steps plus text × [`SHORT`] plus pattern, whatever both are,
//! and a compiled pattern is a small multiple of its text.

use memchr::arch::all::{is_prefix, is_suffix};
use memchr::memmem::Finder;
use std::collections::BTreeMap;

/// Bytes of a part up to which preparing its search takes more room than it is worth.
const SHORT: usize = 7;

/// A piece of a pattern, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// These characters.
    Literal(&'a str),
    /// `?`.
    One,
    /// `*`.
    Many,
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) enum Glob {
    /// `*`, the commonest.
    Any,
    /// No star: the whole text.
    Whole(Part),
    /// `head*middle*…*tail`.
    Starred {
        head: Part,
        middle: Box<[Floating]>,
        tail: Part,
    },
}

/// Characters that stand next to each other.
#[derive(Debug)]
pub(super) enum Part {
    Literal(Box<str>),
    /// `None` is `?`.
    Mixed(Box<[Option<char>]>),
}

/// A part that may be anywhere.
#[derive(Debug)]
pub(super) enum Floating {
    Short(Box<str>),
    Long(Box<Finder<'static>>),
    Mixed(Bits),
}

/// For every character of a part the places where it may stand, one bit a place.
#[derive(Debug)]
pub(super) struct Bits {
    length: usize,
    /// The places of `?`.
    any: Box<[u64]>,
    /// Sorted by character; only words with a bit, so that all of them together are no longer than the part.
    known: Box<[(char, Vec<Word>)]>,
}

#[derive(Debug)]
struct Word {
    index: usize,
    bits: u64,
}

impl Glob {
    /// The pattern that a text with wildcards is.
    pub(super) fn parse(text: &str) -> Self {
        Self::compile(tokens(text))
    }

    pub(super) fn compile<'a>(tokens: impl IntoIterator<Item = Token<'a>>) -> Self {
        let (mut parts, mut part) = (Vec::new(), Building::default());
        for token in tokens {
            match token {
                Token::Literal(text) => part.text(text),
                Token::One => part.one(),
                Token::Many => parts.push(std::mem::take(&mut part).finish()),
            }
        }
        let tail = part.finish();
        let mut parts = parts.into_iter();
        match parts.next() {
            None => Self::Whole(tail),
            Some(head) if head.is_empty() && tail.is_empty() && parts.len() == 0 => Self::Any,
            Some(head) => Self::Starred {
                head,
                middle: parts.filter(|part| !part.is_empty()).map(Floating::new).collect(),
                tail,
            },
        }
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Whole(part) => part.strip_prefix(text).is_some_and(str::is_empty),
            Self::Starred { head, middle, tail } => head
                .strip_prefix(text)
                .and_then(|rest| tail.strip_suffix(rest))
                .and_then(|rest| middle.iter().try_fold(rest, |rest, part| part.behind(rest)))
                .is_some(),
        }
    }
}

/// The tokens of a text in which `*` and `?` are wildcards.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    text.split_inclusive(['*', '?']).flat_map(|piece| {
        let (literal, wildcard) = match piece.strip_suffix('*') {
            Some(literal) => (literal, Some(Token::Many)),
            None => match piece.strip_suffix('?') {
                Some(literal) => (literal, Some(Token::One)),
                None => (piece, None),
            },
        };
        let literal = Some(literal).filter(|text| !text.is_empty()).map(Token::Literal);
        literal.into_iter().chain(wildcard)
    })
}

impl Part {
    fn is_empty(&self) -> bool {
        match self {
            Self::Literal(text) => text.is_empty(),
            Self::Mixed(characters) => characters.is_empty(),
        }
    }

    fn strip_prefix<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Self::Literal(literal) => behind(literal, text),
            Self::Mixed(wanted) => {
                let mut found = text.chars();
                let fits = wanted.iter().all(|wanted| fits(*wanted, found.next()));
                fits.then_some(found.as_str())
            }
        }
    }

    fn strip_suffix<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Self::Literal(literal) => before(literal, text),
            Self::Mixed(wanted) => {
                let mut found = text.chars();
                let fits = wanted.iter().rev().all(|wanted| fits(*wanted, found.next_back()));
                fits.then_some(found.as_str())
            }
        }
    }
}

/// As `strip_prefix` does. That one calls the C library's `memcmp`, which for texts as short as these costs more than
/// all the rest of a decision: 40 ns on AMD's processors with AVX-512, against 3.
pub(super) fn behind<'t>(prefix: &str, text: &'t str) -> Option<&'t str> {
    let fits = is_prefix(text.as_bytes(), prefix.as_bytes());
    fits.then(|| text.get(prefix.len()..)).flatten()
}

/// As `strip_suffix` does.
fn before<'t>(suffix: &str, text: &'t str) -> Option<&'t str> {
    let fits = is_suffix(text.as_bytes(), suffix.as_bytes());
    fits.then(|| text.get(..text.len() - suffix.len())).flatten()
}

fn fits(wanted: Option<char>, found: Option<char>) -> bool {
    found.is_some_and(|found| wanted.is_none_or(|wanted| wanted == found))
}

impl Floating {
    fn new(part: Part) -> Self {
        match part {
            Part::Literal(text) if text.len() <= SHORT => Self::Short(text),
            Part::Literal(text) => Self::Long(Box::new(Finder::new(text.as_bytes()).into_owned())),
            Part::Mixed(characters) => Self::Mixed(Bits::new(&characters)),
        }
    }

    /// What is behind the first place where the part stands.
    fn behind<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Self::Short(part) => find(part, text).and_then(|at| text.get(at + part.len()..)),
            Self::Long(part) => part
                .find(text.as_bytes())
                .and_then(|at| text.get(at + part.needle().len()..)),
            Self::Mixed(bits) => bits.behind(text),
        }
    }
}

/// `str::find` costs much to set up; a short part is found sooner in the plainest way.
pub(super) fn find(part: &str, text: &str) -> Option<usize> {
    let (part, text) = (part.as_bytes(), text.as_bytes());
    let starts = text.get(..=text.len().checked_sub(part.len())?)?;
    let here = |at: &usize| text.get(*at..).is_some_and(|rest| is_prefix(rest, part));
    memchr::memchr_iter(*part.first()?, starts).find(here)
}

impl Bits {
    fn new(characters: &[Option<char>]) -> Self {
        let mut any = vec![0; characters.len().div_ceil(64)];
        let mut known: BTreeMap<char, Vec<Word>> = BTreeMap::new();
        for (index, (places, any)) in characters.chunks(64).zip(&mut any).enumerate() {
            for (bit, place) in places.iter().enumerate() {
                let bits = 1u64 << bit;
                let Some(c) = place else {
                    *any |= bits;
                    continue;
                };
                let words = known.entry(*c).or_default();
                match words.last_mut() {
                    Some(word) if word.index == index => word.bits |= bits,
                    _ => words.push(Word { index, bits }),
                }
            }
        }
        Self {
            length: characters.len(),
            any: any.into(),
            known: known.into_iter().collect(),
        }
    }

    /// Shift-And: bit `i` of the state is set while the last `i + 1` characters are how the part begins.
    fn behind<'t>(&self, text: &'t str) -> Option<&'t str> {
        let last = 1u64 << ((self.length - 1) % 64);
        let mut state = vec![0u64; self.any.len()];
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let found = self.known.binary_search_by_key(&c, |(known, _)| *known).ok();
            let words = found.and_then(|at| self.known.get(at)).map(|(_, words)| &**words);
            let mut words = words.unwrap_or_default().iter().peekable();
            let mut carry = 1;
            for (index, (word, any)) in state.iter_mut().zip(&self.any).enumerate() {
                let own = words.next_if(|own| own.index == index).map_or(0, |own| own.bits);
                let shifted = (*word << 1) | carry;
                carry = *word >> 63;
                *word = shifted & (any | own);
            }
            if state.last().is_some_and(|word| word & last != 0) {
                return Some(rest.as_str());
            }
        }
        None
    }
}

/// A part as its tokens come.
#[derive(Default)]
struct Building {
    text: String,
    mixed: Option<Vec<Option<char>>>,
}

impl Building {
    fn text(&mut self, text: &str) {
        match &mut self.mixed {
            Some(mixed) => mixed.extend(text.chars().map(Some)),
            None => self.text.push_str(text),
        }
    }

    fn one(&mut self) {
        let so_far = &self.text;
        let mixed = self.mixed.get_or_insert_with(|| so_far.chars().map(Some).collect());
        mixed.push(None);
    }

    fn finish(self) -> Part {
        match self.mixed {
            Some(mixed) => Part::Mixed(mixed.into()),
            None => Part::Literal(self.text.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a pattern means, in the shortest words.
    fn oracle(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            (['*', rest @ ..], _) => (0..=text.len()).any(|skip| oracle(rest, &text[skip..])),
            (['?', rest @ ..], [_, text @ ..]) => oracle(rest, text),
            ([c, rest @ ..], [first, text @ ..]) => c == first && oracle(rest, text),
            (_, []) => false,
        }
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "", false),
            ("?", "é", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*?b*", "b", false),
            ("*?b*", "abx", true),
            ("a?c*?z", "abcz", false),
            ("a?c*?z", "abcyz", true),
            ("*ab*ab*", "abab", true),
            ("*ab*ab*", "aba", false),
            ("x**y", "xy", true),
        ] {
            assert_eq!(Glob::parse(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn parts_longer_than_a_word_are_found() {
        for length in [63, 64, 65, 127, 128, 129, 200] {
            let part = format!("{}?b", "a".repeat(length - 2));
            let pattern = Glob::parse(&format!("*{part}*"));
            let text = |before: usize| format!("{}{}xb{}", "c".repeat(before), "a".repeat(length - 2), "d");
            assert!(pattern.matches(&text(0)) && pattern.matches(&text(70)), "{length}");
            assert!(!pattern.matches(&"a".repeat(300)), "{length}");
        }
    }

    #[test]
    fn many_different_characters_are_found() {
        let part: String = ('一'..='龥').collect();
        let pattern = Glob::parse(&format!("*{part}?{part}*"));
        assert!(pattern.matches(&format!("x{part}x{part}x")));
        assert!(!pattern.matches(&format!("x{part}{part}x")));
        let Glob::Starred { middle, .. } = pattern else {
            panic!("no star")
        };
        let [Floating::Mixed(bits)] = &*middle else {
            panic!("not one part")
        };
        let words: usize = bits.known.iter().map(|(_, words)| words.len()).sum();
        assert!(words <= bits.length);
    }

    #[test]
    fn the_worst_pattern_and_text_cost_little() {
        let pattern = Glob::parse(&format!("*{}?{}b*", "a".repeat(10_000), "a".repeat(10_000)));
        let text = "a".repeat(8_192);
        assert!(!Glob::parse(&format!("*{}b*", "a".repeat(4_000))).matches(&text));
        let start = std::time::Instant::now();
        assert!(!pattern.matches(&text));
        // Without bounded search 80 million steps and more; generous, because test machines are busy.
        assert!(start.elapsed() < std::time::Duration::from_secs(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn long_texts_are_searched_alike(before in "[ab]{0,200}", part in "[ab]{1,6}", after in "[ab]{0,200}") {
            let text = format!("{before}{part}{after}");
            let pattern = Glob::parse(&format!("*{part}*{part}*"));
            let twice = text.find(&part).is_some_and(|at| text[at + part.len()..].contains(&part));
            prop_assert_eq!(pattern.matches(&text), twice);
        }

        #[test]
        fn equals_the_oracle(pattern in "[ab*?é]{0,9}", text in "[abé]{0,14}") {
            let expected = oracle(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
            prop_assert_eq!(Glob::parse(&pattern).matches(&text), expected);
        }
    }
}
