//! The `Condition` element: `{OPERATOR: {KEY: VALUE or [VALUE, …]}}`.
//!
//! Names of operators and keys are read without regard to case, as AWS does; two that differ only so are the same name
//! twice, and refused.

use super::compare::{self, Net};
use super::{Arn, Condition, Order, Quantifier, Test};
use crate::policy::invalid::{At, Invalid, echo};
use crate::policy::json::Node;
use crate::policy::template::{Pattern, Piece, Template, Wildcards, is_key, pieces};
use std::collections::HashSet;

const SHAPE: &str = "write {OPERATOR: {KEY: VALUE or [VALUE, …]}}";

/// Reads the element into the conditions that must all hold.
pub(in crate::policy) fn parse(node: &Node, variables: bool, at: &At<'_>) -> Result<Box<[Condition]>, Invalid> {
    let mut conditions = Vec::new();
    let mut operators = HashSet::new();
    for (name, node) in node.object(at, SHAPE)? {
        let at = at.key(name);
        let operator = Operator::parse(name, &at)?;
        if !operators.insert(name.to_ascii_lowercase()) {
            return Err(at.fault("this operator appears twice", "put its keys together"));
        }
        let members = node.object(&at, SHAPE)?;
        if members.is_empty() {
            return Err(at.fault("the operator has no key", SHAPE));
        }
        let mut keys = HashSet::new();
        for (key, node) in members {
            let at = at.key(key);
            let known_as = key.to_ascii_lowercase();
            if !is_key(key) {
                return Err(at.fault(
                    format!("'{}' is not a condition key", echo(key)),
                    "write PREFIX:NAME, such as aws:SourceIp",
                ));
            }
            if !keys.insert(known_as.clone()) {
                return Err(at.fault("this key appears twice", "put its values together in a list"));
            }
            conditions.push(operator.condition(known_as, node, variables, &at)?);
        }
    }
    Ok(conditions.into())
}

/// An operator's name, taken apart.
struct Operator {
    quantifier: Quantifier,
    if_exists: bool,
    negated: bool,
    comparison: Comparison,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Null,
    Equals,
    EqualsIgnoreCase,
    Like,
    Arn,
    Ip,
    Bool,
    Binary,
    Date(Order),
    Number(Order),
}

impl Operator {
    fn parse(name: &str, at: &At<'_>) -> Result<Self, Invalid> {
        let lower = name.to_ascii_lowercase();
        let (quantifier, rest) = match lower.split_once(':') {
            Some(("foranyvalue", rest)) => (Quantifier::Any, rest),
            Some(("forallvalues", rest)) => (Quantifier::All, rest),
            _ => (Quantifier::None, lower.as_str()),
        };
        let (if_exists, rest) = rest.strip_suffix("ifexists").map_or((false, rest), |rest| (true, rest));
        let (comparison, negated) = comparison(rest).ok_or_else(|| {
            at.fault(
                "there is no such operator",
                "use one of StringEquals, StringLike, ArnLike, IpAddress, Bool, DateLessThan, NumericEquals, Null, \
                 BinaryEquals and their kin, with ForAnyValue: or ForAllValues: before and IfExists behind",
            )
        })?;
        if comparison == Comparison::Null && (if_exists || quantifier != Quantifier::None) {
            return Err(at.fault("Null asks itself whether the key exists", "write Null alone"));
        }
        Ok(Self {
            quantifier,
            if_exists,
            negated,
            comparison,
        })
    }

    fn condition(&self, key: String, node: &Node, variables: bool, at: &At<'_>) -> Result<Condition, Invalid> {
        let test = match self.comparison {
            Comparison::Null => Test::Null(each(node, at, compare::read_boolean, "write true or false")?),
            Comparison::Bool => Test::Bool(each(node, at, compare::read_boolean, "write true or false")?),
            Comparison::Ip => {
                let remedy = "write an address or a range, such as 203.0.113.0/24 or 2001:db8::/32";
                Test::Ip(each(node, at, Net::parse, remedy)?)
            }
            Comparison::Date(order) => {
                let remedy = "write a time such as 2026-11-25T16:00:00Z, or seconds since 1970";
                Test::Date(order, each(node, at, compare::read_moment, remedy)?)
            }
            Comparison::Number(order) => {
                Test::Number(order, each(node, at, compare::read_number, "write a decimal number")?)
            }
            Comparison::Binary => {
                let read = |text: &str| compare::binary(text).map(Vec::into_boxed_slice);
                Test::Binary(each(node, at, read, "write base64 with padding")?)
            }
            Comparison::Equals => Test::Equals(texts(node, at, |text, at| Template::parse(text, variables, at))?),
            Comparison::EqualsIgnoreCase => {
                Test::EqualsIgnoreCase(texts(node, at, |text, at| Template::parse(text, variables, at))?)
            }
            Comparison::Like => Test::Like(texts(node, at, |text, at| Pattern::parse(text, variables, at))?),
            Comparison::Arn => Test::Arn(texts(node, at, |text, at| arn(text, variables, at))?),
        };
        Ok(Condition {
            key: key.into(),
            quantifier: self.quantifier,
            if_exists: self.if_exists,
            negated: self.negated,
            test,
        })
    }
}

/// What an operator in lower case compares, and whether it is negated.
fn comparison(name: &str) -> Option<(Comparison, bool)> {
    use Comparison as C;
    let ordered = |name: &str| {
        Some(match name {
            "equals" => (Order::Equal, false),
            "notequals" => (Order::Equal, true),
            "lessthan" => (Order::Less, false),
            "lessthanequals" => (Order::LessOrEqual, false),
            "greaterthan" => (Order::Greater, false),
            "greaterthanequals" => (Order::GreaterOrEqual, false),
            _ => return None,
        })
    };
    if let Some(name) = name.strip_prefix("numeric") {
        return ordered(name).map(|(order, negated)| (C::Number(order), negated));
    }
    if let Some(name) = name.strip_prefix("date") {
        return ordered(name).map(|(order, negated)| (C::Date(order), negated));
    }
    Some(match name {
        "null" => (C::Null, false),
        "bool" => (C::Bool, false),
        "binaryequals" => (C::Binary, false),
        "stringequals" => (C::Equals, false),
        "stringnotequals" => (C::Equals, true),
        "stringequalsignorecase" => (C::EqualsIgnoreCase, false),
        "stringnotequalsignorecase" => (C::EqualsIgnoreCase, true),
        "stringlike" => (C::Like, false),
        "stringnotlike" => (C::Like, true),
        // AWS gives both the same meaning.
        "arnequals" | "arnlike" => (C::Arn, false),
        "arnnotequals" | "arnnotlike" => (C::Arn, true),
        "ipaddress" => (C::Ip, false),
        "notipaddress" => (C::Ip, true),
        _ => return None,
    })
}

/// Values that are read into something other than texts.
fn each<T>(
    node: &Node,
    at: &At<'_>,
    read: impl Fn(&str) -> Option<T>,
    remedy: &'static str,
) -> Result<Box<[T]>, Invalid> {
    texts(node, at, |text, at| {
        read(text).ok_or_else(|| at.fault(format!("'{}' does not fit the operator", echo(text)), remedy))
    })
}

/// Values as texts; JSON's own numbers, true and false are read as if they stood in quotes.
fn texts<T>(
    node: &Node,
    at: &At<'_>,
    mut read: impl FnMut(&str, &At<'_>) -> Result<T, Invalid>,
) -> Result<Box<[T]>, Invalid> {
    node.each(at, |node, at| match node {
        Node::Text(text) | Node::Number(text) => read(text, at),
        Node::Bool(value) => read(if *value { "true" } else { "false" }, at),
        other => Err(at.fault(
            format!("{} where a value is needed", other.name()),
            "write a text or a list of texts",
        )),
    })
}

fn arn(text: &str, variables: bool, at: &At<'_>) -> Result<Arn, Invalid> {
    let all = if variables {
        pieces(text, Wildcards::Live, at)?
    } else {
        let tokens = crate::policy::glob::tokens(text);
        tokens.map(Piece::of).collect()
    };
    let whole = matches!(*all, [Piece::Many]) || all.iter().any(|piece| matches!(piece, Piece::Variable { .. }));
    let mut parts: Vec<Vec<Piece>> = vec![Vec::new()];
    for piece in all {
        let Piece::Literal(literal) = piece else {
            parts.last_mut().into_iter().for_each(|part| part.push(piece.clone()));
            continue;
        };
        let left = 7 - parts.len();
        for (index, text) in literal.splitn(left, ':').enumerate() {
            if index > 0 {
                parts.push(Vec::new());
            }
            let last = parts.last_mut().filter(|_| !text.is_empty());
            last.into_iter().for_each(|part| part.push(Piece::Literal(text.into())));
        }
    }
    let parts: Vec<Pattern> = parts.into_iter().map(Pattern::new).collect();
    match <Box<[Pattern; 6]>>::try_from(parts) {
        Ok(parts) => Ok(Arn::Parts(parts)),
        Err(_) if whole => Ok(Arn::Whole(Pattern::parse(text, variables, at)?)),
        Err(_) => Err(at.fault(
            format!("'{}' is not an ARN", echo(text)),
            "write its six parts, arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE, each with wildcards if need be, or '*'",
        )),
    }
}
