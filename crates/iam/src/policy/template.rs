//! Texts with policy variables: `${aws:username}`, `${aws:PrincipalTag/team, 'none'}`, and `${*}`, `${?}`, `${$}` for
//! the characters themselves. Only documents of version 2012-10-17 have them; in older ones `${` is just text.
//!
//! Invariant: what a variable stands for is compared as it is; a `*` in a user's name or a tag is no wildcard.

use super::context::{Context, Value};
use super::glob::{self, Glob, Token};
use super::invalid::{At, Invalid, echo};
use std::borrow::Cow;

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
    Variable(Box<[Piece]>),
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
    pub(super) fn resolve<'a>(&'a self, context: &'a dyn Context) -> Option<Cow<'a, str>> {
        match self {
            Self::Fixed(text) => Some(Cow::Borrowed(text)),
            Self::Variable(pieces) => match &**pieces {
                [only] => only.resolve(context),
                pieces => {
                    let each = pieces.iter().map(|piece| piece.resolve(context));
                    each.collect::<Option<String>>().map(Cow::Owned)
                }
            },
        }
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
        if pieces.iter().any(|piece| matches!(piece, Piece::Variable { .. })) {
            return Self::Variable(pieces.into());
        }
        Self::Fixed(Glob::compile(pieces.iter().map(|piece| match piece {
            Piece::One => Token::One,
            Piece::Many => Token::Many,
            Piece::Literal(text) => Token::Literal(text),
            Piece::Variable { .. } => Token::Literal(""),
        })))
    }

    /// Whether the text is like this; `None` where a variable has no value.
    pub(super) fn matches(&self, text: &str, context: &dyn Context) -> Option<bool> {
        let pieces = match self {
            Self::Fixed(glob) => return Some(glob.matches(text)),
            Self::Variable(pieces) => pieces,
        };
        let resolved: Vec<_> = pieces
            .iter()
            .map(|piece| piece.resolve(context))
            .collect::<Option<_>>()?;
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

    fn resolve<'a>(&'a self, context: &'a dyn Context) -> Option<Cow<'a, str>> {
        match self {
            Self::Literal(text) => Some(Cow::Borrowed(text)),
            Self::One => Some(Cow::Borrowed("?")),
            Self::Many => Some(Cow::Borrowed("*")),
            Self::Variable { key, default } => {
                let value = context.get(key).and_then(super::context::Values::single);
                let value = value.map(Value::into_text).filter(|text| !text.is_empty());
                value.or(default.as_deref().map(Cow::Borrowed))
            }
        }
    }
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
