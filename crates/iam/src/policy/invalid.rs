//! Why a text is not a policy, and where.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Characters of the author's text that a fault repeats.
const ECHO: usize = 64;

/// Why a text is not a policy: the first fault, its place and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}; {remedy}")]
pub struct Invalid {
    /// Such as `Statement[2].Condition.StringLike`; `line 3, column 7` where the text is not JSON; `policy` for the whole.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
    /// What would be right.
    pub remedy: Cow<'static, str>,
}

/// A place inside the document, kept on the stack: nothing is written out unless there is a fault.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl At<'static> {
    /// The document itself.
    pub(super) const ROOT: Self = At {
        parent: None,
        step: Step::Root,
    };
}

impl<'a> At<'a> {
    pub(super) fn key(&'a self, key: &'a str) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    pub(super) fn index(&'a self, index: usize) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// The fault at this place.
    pub(super) fn fault(&self, problem: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Invalid {
        Invalid {
            place: self.to_string(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.step, self.parent) {
            (Step::Root, _) => f.write_str("policy"),
            (Step::Index(index), parent) => {
                parent.map_or(Ok(()), |parent| parent.fmt(f))?;
                write!(f, "[{index}]")
            }
            (Step::Key(key), parent) => {
                if let Some(parent) = parent.filter(|parent| !matches!(parent.step, Step::Root)) {
                    parent.fmt(f)?;
                    f.write_char('.')?;
                }
                f.write_str(&echo(key))
            }
        }
    }
}

/// The author's own text, cut, and without anything that could disturb a log or a terminal.
pub(super) fn echo(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(ECHO)
        .flat_map(|c| {
            let quote = c == '\'' || c == '"';
            let (plain, escaped) = if quote {
                (Some(c), None)
            } else {
                (None, Some(c.escape_debug()))
            };
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect();
    if text.chars().nth(ECHO).is_some() {
        out.push('…');
    }
    out
}
