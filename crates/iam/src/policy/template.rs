//! Texts with policy variables: `${aws:username}`, `${aws:PrincipalTag/team, 'none'}`, and `${*}`, `${?}`, `${$}` for
//! the characters themselves. Only documents of version 2012-10-17 have them; in older ones `${` is just text.
//!
//! Invariant: what a variable stands for is compared as it is; a `*` in a user's name or a tag is no wildcard.

use super::glob::{self, Glob, Token};
use super::invalid::{At, Invalid, echo};
use super::lookup::Lookup;
use memchr::arch::all::is_equal;
use std::borrow::Cow;

/// Pieces of a pattern up to which it is matched without being compiled; so many steps a character are the most it costs.
const FEW: usize = 16;

/// A text to be equal to.
#[derive(Debug)]
pub(super) enum Template {
    Fixed(Box<str>),
    Variable(Box<[Piece]>),
}

/// A text to be like.
#[derive(Debug)]
pub(super) enum Pattern {
    Fixed(Glob),
    Variable {
        /// The same with a star for each variable: what is not like this is not like the pattern, whatever the values.
        shape: Glob,
        pieces: Box<[Piece]>,
    },
}

/// A piece of a text with variables.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    Literal(Box<str>),
    One,
    Many,
    Variable {
        /// In lower case.
        key: Box<str>,
        default: Option<Box<str>>,
    },
}

/// How a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wildcards {
    Live,
    Literal,
}

impl Template {
    pub(super) fn parse(text: &str, variables: bool, at: &At<'_>) -> Result<Self, Invalid> {
        if !variables || !text.contains("${") {
            return Ok(Self::Fixed(text.into()));
        }
        Ok(Self::Variable(pieces(text, Wildcards::Literal, at)?.into()))
    }

    /// The text for this call; `None` where a variable has no value.
    pub(super) fn resolve<'a, 'l>(&'a self, lookup: &'l Lookup<'a>) -> Option<Cow<'l, str>> {
        match self {
            Self::Fixed(text) => Some(Cow::Borrowed(text)),
            Self::Variable(pieces) => match &**pieces {
                [only] => only.text(lookup),
                pieces => {
                    let each = pieces.iter().map(|piece| piece.text(lookup));
                    each.collect::<Option<String>>().map(Cow::Owned)
                }
            },
        }
    }

    /// Whether the text is the one for this call; `None` where a variable has no value.
    pub(super) fn is<'a>(&'a self, text: &str, lookup: &Lookup<'a>) -> Option<bool> {
        let pieces = match self {
            Self::Fixed(own) => return Some(is_equal(own.as_bytes(), text.as_bytes())),
            Self::Variable(pieces) => pieces,
        };
        let mut rest = Some(text);
        for piece in pieces {
            // Asked for also behind a difference: without a value it is no answer.
            let own = piece.text(lookup)?;
            rest = rest.and_then(|rest| glob::behind(&own, rest));
        }
        Some(rest.is_some_and(str::is_empty))
    }
}

impl Pattern {
    pub(super) fn parse(text: &str, variables: bool, at: &At<'_>) -> Result<Self, Invalid> {
        if !variables || !text.contains("${") {
            return Ok(Self::Fixed(Glob::parse(text)));
        }
        Ok(Self::new(pieces(text, Wildcards::Live, at)?))
    }

    pub(super) fn new(pieces: Vec<Piece>) -> Self {
        let shape = Glob::compile(pieces.iter().map(|piece| match piece {
            Piece::One => Token::One,
            Piece::Many | Piece::Variable { .. } => Token::Many,
            Piece::Literal(text) => Token::Literal(text),
        }));
        if pieces.iter().any(|piece| matches!(piece, Piece::Variable { .. })) {
            let pieces = pieces.into();
            return Self::Variable { shape, pieces };
        }
        Self::Fixed(shape)
    }

    /// Whether the text is like this; `None` where a variable has no value.
    pub(super) fn matches<'a>(&'a self, text: &str, lookup: &Lookup<'a>) -> Option<bool> {
        let (shape, pieces) = match self {
            Self::Fixed(glob) => return Some(glob.matches(text)),
            Self::Variable { shape, pieces } => (shape, pieces),
        };
        let variables = || pieces.iter().filter(|piece| matches!(piece, Piece::Variable { .. }));
        let mut is_cheap = pieces.len() <= FEW;
        for piece in variables() {
            is_cheap &= matches!(piece.text(lookup)?, Cow::Borrowed(_));
        }
        if !shape.matches(text) {
            return Some(false);
        }
        if is_cheap {
            // Most values that do not fit are nowhere in the text.
            let all = variables().all(|piece| piece.text(lookup).is_some_and(|own| glob::find(&own, text).is_some()));
            return Some(all && walk(pieces, text, lookup));
        }
        let resolved: Vec<_> = pieces.iter().map(|piece| piece.text(lookup)).collect::<Option<_>>()?;
        // Values come from the call and may be long; what cannot fit is not worth compiling.
        let wildcard = |piece: &Piece| matches!(piece, Piece::One | Piece::Many);
        let plain = pieces.iter().zip(&resolved).filter(|(piece, _)| !wildcard(piece));
        if plain.map(|(_, text)| text.len()).sum::<usize>() > text.len() {
            return Some(false);
        }
        let tokens = pieces.iter().zip(&resolved).map(|(piece, text)| match piece {
            Piece::One => Token::One,
            Piece::Many => Token::Many,
            Piece::Literal(_) | Piece::Variable { .. } => Token::Literal(text),
        });
        Some(Glob::compile(tokens).matches(text))
    }
}

impl Piece {
    pub(super) fn of(token: Token<'_>) -> Self {
        match token {
            Token::Literal(text) => Self::Literal(text.into()),
            Token::One => Self::One,
            Token::Many => Self::Many,
        }
    }

    fn text<'a, 'l>(&'a self, lookup: &'l Lookup<'a>) -> Option<Cow<'l, str>> {
        match self {
            Self::Literal(text) => Some(Cow::Borrowed(text)),
            Self::One => Some(Cow::Borrowed("?")),
            Self::Many => Some(Cow::Borrowed("*")),
            Self::Variable { key, default } => lookup.text(key).or(default.as_deref().map(Cow::Borrowed)),
        }
    }
}

/// Whether a text is like these pieces, all of which have a value. What is behind the last star that was met is tried at
/// each place where it could begin; an earlier star need not be come back to, because a star's first fit is as good as
/// any other.
fn walk<'a>(pieces: &'a [Piece], text: &str, lookup: &Lookup<'a>) -> bool {
    let (mut rest, mut left) = (text, pieces);
    let mut star = None;
    loop {
        let fits = match left.split_first() {
            None if rest.is_empty() => return true,
            None => None,
            Some((Piece::Many, [])) => return true,
            Some((Piece::Many, behind)) => {
                star = Some((rest, behind));
                Some((rest, behind))
            }
            Some((Piece::One, behind)) => without_first(rest).map(|rest| (rest, behind)),
            Some((piece, behind)) => {
                let own = piece.text(lookup);
                own.and_then(|own| glob::behind(&own, rest)).map(|rest| (rest, behind))
            }
        };
        let next = fits.or_else(|| {
            let (from, behind) = star?;
            let from = next_start(behind, without_first(from)?, lookup)?;
            star = Some((from, behind));
            star
        });
        let Some(next) = next else { return false };
        (rest, left) = next;
    }
}

/// The first place in a text where these pieces could begin.
fn next_start<'a, 't>(pieces: &'a [Piece], text: &'t str, lookup: &Lookup<'a>) -> Option<&'t str> {
    match pieces.first() {
        None | Some(Piece::One | Piece::Many) => Some(text),
        Some(piece) => {
            let own = piece.text(lookup)?;
            let at = memchr::memchr(*own.as_bytes().first()?, text.as_bytes())?;
            text.get(at..)
        }
    }
}

fn without_first(text: &str) -> Option<&str> {
    let mut characters = text.chars();
    characters.next().map(|_| characters.as_str())
}

/// Takes a text with variables apart.
pub(super) fn pieces(text: &str, wildcards: Wildcards, at: &At<'_>) -> Result<Vec<Piece>, Invalid> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        literal(before, wildcards, &mut pieces);
        let (inside, after) = behind.split_once('}').ok_or_else(|| {
            at.fault(
                format!("'${{{}' has no end", echo(behind)),
                "close the variable with '}', or write '${$}' for a plain '$'",
            )
        })?;
        pieces.push(match inside {
            "*" | "?" | "$" => Piece::Literal(inside.into()),
            _ => variable(inside, at)?,
        });
        rest = after;
    }
    literal(rest, wildcards, &mut pieces);
    Ok(pieces)
}

fn literal(text: &str, wildcards: Wildcards, pieces: &mut Vec<Piece>) {
    match wildcards {
        Wildcards::Literal if text.is_empty() => {}
        Wildcards::Literal => pieces.push(Piece::Literal(text.into())),
        Wildcards::Live => pieces.extend(glob::tokens(text).map(Piece::of)),
    }
}

fn variable(inside: &str, at: &At<'_>) -> Result<Piece, Invalid> {
    let (key, default) = match inside.split_once(',') {
        Some((key, default)) => (key, Some(default.trim())),
        None => (inside, None),
    };
    let key = key.trim();
    if !is_key(key) {
        return Err(at.fault(
            format!("'${{{}}}' is not a variable", echo(inside)),
            "write a condition key such as ${aws:username}, with a default ${aws:PrincipalTag/team, 'none'}, or ${*}, ${?}, ${$}",
        ));
    }
    let default = match default {
        None => None,
        Some(quoted) => {
            let plain = quoted.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            let plain = plain.filter(|text| !text.contains('\''));
            Some(plain.ok_or_else(|| {
                at.fault(
                    format!("the default {} is not in single quotes", echo(quoted)),
                    "write ${key, 'default'}",
                )
            })?)
        }
    };
    Ok(Piece::Variable {
        key: key.to_ascii_lowercase().into(),
        default: default.map(Into::into),
    })
}

/// Whether a text can be a condition key: `PREFIX:NAME`, where OIDC issuers make prefixes with dots and slashes.
pub(super) fn is_key(key: &str) -> bool {
    let named = key
        .split_once(':')
        .is_some_and(|(prefix, name)| !prefix.is_empty() && !name.is_empty());
    named && !key.starts_with(char::is_whitespace) && !key.chars().any(|c| c.is_control() || "*?${}'\"".contains(c))
}

#[cfg(test)]
mod tests {
    use super::super::context::{Context, Values};
    use super::*;
    use proptest::prelude::*;

    struct Only(String);

    impl Context for Only {
        fn get(&self, key: &str) -> Option<Values<'_>> {
            (key == "k:v").then(|| Values::text(self.0.as_str()))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Few pieces and many, so both ways of matching; a value without wildcards is as if it stood in the pattern.
        #[test]
        fn a_variable_is_its_value(pattern in "[abé*?V]{0,24}", value in "[abé]{1,3}", text in "[abé]{0,14}") {
            let context = Only(value.clone());
            let written = pattern.replace('V', "${k:v}");
            let at = At::ROOT;
            let expected = Glob::parse(&pattern.replace('V', &value)).matches(&text);
            let read = Pattern::parse(&written, true, &at).unwrap();
            prop_assert_eq!(read.matches(&text, &Lookup::new(&context)), Some(expected));

            let plain = pattern.replace(['*', '?'], "");
            let exact = Template::parse(&plain.replace('V', "${k:v}"), true, &at).unwrap();
            let exactly = plain.replace('V', &value);
            let lookup = Lookup::new(&context);
            prop_assert_eq!(exact.is(&text, &lookup), Some(exactly == text));
            prop_assert_eq!(exact.is(&exactly, &lookup), Some(true));
            prop_assert_eq!(exact.resolve(&lookup).unwrap(), exactly);
        }
    }

    #[test]
    fn without_a_value_there_is_no_answer_whatever_else_differs() {
        let (context, at) = (Only("a".to_owned()), At::ROOT);
        for text in ["x${k:none}", "${k:v}${k:none}", "${k:none}*"] {
            let like = Pattern::parse(text, true, &at).unwrap();
            assert_eq!(like.matches("other", &Lookup::new(&context)), None, "{text}");
            let exact = Template::parse(text, true, &at).unwrap();
            assert_eq!(exact.is("other", &Lookup::new(&context)), None, "{text}");
        }
    }

    #[test]
    fn the_worst_variables_and_text_cost_little() {
        let context = Only("a".repeat(4_000));
        let text = "a".repeat(8_192);
        let pattern = Pattern::parse("*${k:v}?${k:v}b*", true, &At::ROOT).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(
            pattern.matches(&format!("{text}b{text}"), &Lookup::new(&context)),
            Some(true)
        );
        assert_eq!(
            pattern.matches(&format!("b{text}"), &Lookup::new(&context)),
            Some(false)
        );
        // Generous, because test machines are busy.
        assert!(start.elapsed() < std::time::Duration::from_secs(1));
    }
}
