//! The constraints of the published models, as constants.
//!
//! Shapes refer to each other by `&'static`, so recursion costs nothing. Everything that reads them is hand-written
//! and works for every operation: `decode`, `validate`, `encode`.

use regex::{Regex, RegexBuilder};
use std::sync::OnceLock;

/// The most memory that one compiled pattern may take. The largest of the published ones needs under a megabyte.
const PATTERN_SIZE: usize = 8 << 20;

/// One shape of a model.
pub struct Shape {
    /// The model's name for it.
    pub name: &'static str,
    /// Whether its values must not be shown.
    pub sensitive: bool,
    /// What its values are.
    pub kind: Kind,
}

/// What the values of a shape are. Limits are inclusive; an absent one is `None`.
#[derive(Debug)]
pub enum Kind {
    /// A JSON object with known members.
    Structure {
        /// The members, by name.
        members: &'static [Member],
        /// Whether exactly one member must be given.
        union: bool,
    },
    /// A JSON array.
    List {
        /// What each element is.
        member: &'static Shape,
        /// Fewest elements.
        min: Option<u64>,
        /// Most elements.
        max: Option<u64>,
    },
    /// A JSON object with free keys.
    Map {
        /// What each key is.
        key: &'static Shape,
        /// What each value is.
        value: &'static Shape,
        /// Fewest entries.
        min: Option<u64>,
        /// Most entries.
        max: Option<u64>,
    },
    /// A string.
    String {
        /// Fewest characters.
        min: Option<u64>,
        /// Most characters.
        max: Option<u64>,
        /// What the whole string must match.
        pattern: Option<Pattern>,
        /// The allowed values; empty when any will do.
        values: &'static [&'static str],
    },
    /// A 32-bit integer.
    Integer {
        /// Smallest value.
        min: Option<i64>,
        /// Largest value.
        max: Option<i64>,
    },
    /// A 64-bit integer.
    Long {
        /// Smallest value.
        min: Option<i64>,
        /// Largest value.
        max: Option<i64>,
    },
    /// A 32-bit floating point number.
    Float {
        /// Smallest value.
        min: Option<f64>,
        /// Largest value.
        max: Option<f64>,
    },
    /// A 64-bit floating point number.
    Double {
        /// Smallest value.
        min: Option<f64>,
        /// Largest value.
        max: Option<f64>,
    },
    /// `true` or `false`.
    Boolean,
    /// A point in time.
    Timestamp {
        /// How it is written in a JSON body.
        format: TimestampFormat,
    },
    /// Bytes: base64 inside a JSON body, raw as a payload.
    Blob {
        /// Fewest bytes.
        min: Option<u64>,
        /// Most bytes.
        max: Option<u64>,
    },
    /// Any JSON value.
    Document,
    /// A stream of framed events as the payload of an output.
    EventStream {
        /// The events.
        members: &'static [Member],
    },
}

/// One member of a structure.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Its name in the API.
    pub name: &'static str,
    /// What its values are.
    pub shape: &'static Shape,
    /// Where it travels; only the members of an input, output or exception travel anywhere but in the body.
    pub location: Location,
    /// Its name there: the JSON member, label, query key or header.
    pub wire_name: &'static str,
    /// Whether it must be given.
    pub required: bool,
}

impl Member {
    /// Its key in an input or output map and in the generated type: the JSON member if it is one, else its name.
    #[must_use]
    pub fn key(&self) -> &'static str {
        if self.location == Location::Body {
            self.wire_name
        } else {
            self.name
        }
    }
}

/// Where a member travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// A member of the JSON body.
    Body,
    /// A label of the path.
    Uri,
    /// The query.
    Query,
    /// A header.
    Header,
    /// The answer's status.
    StatusCode,
    /// The body itself.
    Payload,
}

/// How a point in time is written in a JSON body. In a query it is ISO 8601 and in a header an HTTP date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampFormat {
    /// `2026-11-22T10:00:00.123456Z`.
    Iso8601,
    /// Seconds since 1970 as a number, with a fraction if need be.
    EpochSeconds,
    /// `Sun, 22 Nov 2026 10:00:00 GMT`.
    HttpDate,
}

/// A pattern that a whole string must match; compiled once, when it is first needed.
pub struct Pattern {
    source: &'static str,
    compiled: OnceLock<Result<Compiled, regex::Error>>,
}

impl Pattern {
    /// A pattern of a model, in the dialect of the models.
    #[must_use]
    pub const fn new(source: &'static str) -> Self {
        Self {
            source,
            compiled: OnceLock::new(),
        }
    }

    /// As the model writes it.
    #[must_use]
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// Whether the whole of `text` matches. A pattern that does not compile matches nothing; a test compiles all.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.compiled().is_ok_and(|compiled| {
            compiled.all.is_match(text) && !compiled.but_not.as_ref().is_some_and(|but_not| but_not.is_match(text))
        })
    }

    pub(crate) fn compiled(&self) -> Result<&Compiled, &regex::Error> {
        self.compiled.get_or_init(|| Compiled::new(self.source)).as_ref()
    }
}

/// A pattern as `regex` can run it.
pub(crate) struct Compiled {
    /// Matches the whole text.
    all: Regex,
    /// Must not match the start of the text: the models' patterns may begin with a negative look-ahead, which `regex`
    /// does not have.
    but_not: Option<Regex>,
}

impl Compiled {
    fn new(source: &str) -> Result<Self, regex::Error> {
        let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build();
        let (but_not, rest) = match source.strip_prefix("(?!").and_then(|rest| rest.split_once(')')) {
            // An inner group would have to be balanced; no model has one, and an unbalanced rest does not compile.
            Some((but_not, rest)) => (Some(build(&format!(r"\A(?:{})", in_our_dialect(but_not)))?), rest),
            None => (None, source),
        };
        Ok(Self {
            all: build(&format!(r"\A(?:{})\z", in_our_dialect(rest)))?,
            but_not,
        })
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl std::fmt::Debug for Shape {
    // Without what it refers to, which may be itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shape({})", self.name)
    }
}

/// The models' patterns are written for engines in which `\d`, `\s` and `\w` are ASCII; in `regex` they are Unicode.
/// Classes nest in `regex`, so the replacement is right inside of brackets too. A `[` inside of brackets is a plain
/// character in the models and opens a nested class here, hence is escaped, and so are the set operators.
pub(crate) fn in_our_dialect(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut chars = source.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[\t-\r ]"),
                Some('S') => out.push_str(r"[^\t-\r ]"),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            '[' if in_class => out.push_str(r"\["),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}
