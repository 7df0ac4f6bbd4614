//! Conditions: an operator, a key of the call, and the values that the policy wants to see there.
//!
//! All conditions of a statement must hold; of a condition's values one is enough. For a call that has no such key a
//! condition is false, and true with a negated operator (`…Not…`), with `…IfExists` and with `ForAllValues:`; with
//! `ForAnyValue:` it is false. A negated operator holds if none of the values fits. A key with several values and no
//! `For…:` before the operator is taken as `ForAnyValue:`, its negation as "no value fits".
//!
//! A policy's value with a variable that this call has no value for fits nothing. Under a negated operator, where
//! fitting nothing would be success, that counts as AWS leaves open: here it never widens access, so the condition of
//! an `Allow` is false and that of a `Deny` true.

mod compare;
mod parse;

use super::context::Value;
use super::document::Effect;
use super::lookup::Lookup;
use super::template::{Pattern, Template};
use compare::Net;
use jiff::Timestamp;
use std::cmp::Ordering;

pub(super) use parse::parse;

/// One key of one operator.
#[derive(Debug)]
pub(super) struct Condition {
    /// In lower case.
    key: Box<str>,
    quantifier: Quantifier,
    if_exists: bool,
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    None,
    Any,
    All,
}

/// What the operator compares, with the policy's values ready to be compared.
#[derive(Debug)]
enum Test {
    Null(Box<[bool]>),
    Equals(Box<[Template]>),
    EqualsIgnoreCase(Box<[Template]>),
    Like(Box<[Pattern]>),
    Arn(Box<[Arn]>),
    Ip(Box<[Net]>),
    Bool(Box<[bool]>),
    Date(Order, Box<[Timestamp]>),
    Number(Order, Box<[f64]>),
    Binary(Box<[Box<[u8]>]>),
}

/// An ARN pattern.
#[derive(Debug)]
enum Arn {
    /// Part by part, so that no `*` reaches into the next one; the last part is all the rest.
    Parts(Box<[Pattern; 6]>),
    /// `*`, or one whose colons come out of variables.
    Whole(Pattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Whether a value of the call fits one of the policy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// No, and a variable was without a value.
    Unresolved,
}

impl Condition {
    pub(super) fn holds<'a>(&'a self, lookup: &Lookup<'a>, effect: Effect) -> bool {
        lookup.with(&self.key, |values| self.holds_for(values, lookup, effect))
    }

    fn holds_for<'a>(&'a self, values: &[Value<'_>], lookup: &Lookup<'a>, effect: Effect) -> bool {
        if let Test::Null(wanted) = &self.test {
            return wanted.contains(&values.is_empty());
        }
        if values.is_empty() {
            return self.if_exists
                || match self.quantifier {
                    Quantifier::None => self.negated,
                    Quantifier::Any => false,
                    Quantifier::All => true,
                };
        }
        let holds = |value: &Value<'_>| match self.test.fit(value, lookup) {
            Fit::Yes => !self.negated,
            Fit::No => self.negated,
            Fit::Unresolved => self.negated && effect == Effect::Deny,
        };
        match self.quantifier {
            Quantifier::None if !self.negated => values.iter().any(holds),
            Quantifier::Any => values.iter().any(holds),
            Quantifier::None | Quantifier::All => values.iter().all(holds),
        }
    }
}

impl Test {
    fn fit<'a>(&'a self, value: &Value<'_>, lookup: &Lookup<'a>) -> Fit {
        match self {
            Self::Null(_) => Fit::No,
            Self::Equals(texts) => {
                let text = value.as_text();
                fit(texts, |wanted| wanted.is(&text, lookup))
            }
            Self::EqualsIgnoreCase(texts) => {
                let text = value.as_text();
                fit(texts, |wanted| {
                    wanted
                        .resolve(lookup)
                        .map(|wanted| compare::same_letters(&wanted, &text))
                })
            }
            Self::Like(patterns) => {
                let text = value.as_text();
                fit(patterns, |pattern| pattern.matches(&text, lookup))
            }
            Self::Arn(patterns) => {
                let text = value.as_text();
                fit(patterns, |pattern| pattern.matches(&text, lookup))
            }
            Self::Ip(nets) => {
                let ip = compare::ip(value);
                certain(ip.is_some_and(|ip| nets.iter().any(|net| net.contains(ip))))
            }
            Self::Bool(wanted) => {
                let found = compare::boolean(value);
                certain(found.is_some_and(|found| wanted.contains(&found)))
            }
            Self::Date(order, wanted) => {
                let found = compare::moment(value);
                certain(found.is_some_and(|found| wanted.iter().any(|wanted| order.holds(found.cmp(wanted)))))
            }
            Self::Number(order, wanted) => {
                let holds = |found: f64| {
                    let mut each = wanted.iter().filter_map(|wanted| found.partial_cmp(wanted));
                    each.any(|found| order.holds(found))
                };
                certain(compare::number(value).is_some_and(holds))
            }
            Self::Binary(wanted) => {
                let found = compare::binary(&value.as_text());
                certain(found.is_some_and(|found| wanted.iter().any(|wanted| **wanted == *found)))
            }
        }
    }
}

impl Arn {
    fn matches<'a>(&'a self, text: &str, lookup: &Lookup<'a>) -> Option<bool> {
        let patterns = match self {
            Self::Whole(pattern) => return pattern.matches(text, lookup),
            Self::Parts(patterns) => patterns,
        };
        let [parts @ .., last] = &**patterns;
        let mut rest = text;
        for pattern in parts {
            let colon = memchr::memchr(b':', rest.as_bytes());
            let (part, behind) = colon.map_or((rest, ""), |colon| rest.split_at(colon));
            if !pattern.matches(part, lookup)? {
                return Some(false);
            }
            let Some(behind) = behind.strip_prefix(':') else {
                return Some(false);
            };
            rest = behind;
        }
        last.matches(rest, lookup)
    }
}

impl Order {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

fn certain(fits: bool) -> Fit {
    if fits { Fit::Yes } else { Fit::No }
}

fn fit<'a, T>(wanted: &'a [T], mut fits: impl FnMut(&'a T) -> Option<bool>) -> Fit {
    let mut fit = Fit::No;
    for wanted in wanted {
        match fits(wanted) {
            Some(true) => return Fit::Yes,
            Some(false) => {}
            None => fit = Fit::Unresolved,
        }
    }
    fit
}
