//! Checks a value against its shape, finding every violation, and drops what the shape does not know.
//!
//! Invariant: what passes has no unknown and no null member left, so that it deserialises into the generated type.
//! Invariant: nothing below a sensitive shape is quoted. Messages follow AWS's wording where it is known.

use crate::shape::{Kind, Member, Pattern, Shape};
use crate::wire;
use serde_json::{Map, Value};

/// More violations than this say nothing new, and a hostile body could provoke millions.
pub(crate) const MAX_VIOLATIONS: usize = 1000;

/// How many characters of a value, or of a map's key, are quoted.
const QUOTED_CHARS: usize = 64;

/// Why a request is not a valid input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The body is not JSON, or not a JSON object. Says where.
    #[error("{0}")]
    CannotParse(String),
    /// Members break their constraints; never empty.
    #[error("{} member(s) break their constraints", .0.len())]
    Fields(Vec<Violation>),
}

/// One member that breaks one constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, in the API's own names: `agentRuntimeArtifact.codeConfiguration.entryPoint[1]`.
    pub path: String,
    /// Which constraint.
    pub message: String,
}

/// Collects violations while it walks a value.
pub(crate) struct Checker {
    path: String,
    pub(crate) violations: Vec<Violation>,
}

impl Checker {
    pub(crate) fn new() -> Self {
        Self {
            path: String::new(),
            violations: Vec::new(),
        }
    }

    /// Checks one member of the input that was given.
    pub(crate) fn member(&mut self, member: &Member, value: &mut Value, sensitive: bool) {
        self.below(Step::Member(member.name), |this| {
            this.value(member.shape, value, sensitive)
        });
    }

    /// Records that a member is required and absent.
    pub(crate) fn missing(&mut self, member: &Member) {
        self.below(Step::Member(member.name), |this| this.report("Member must not be null"));
    }

    /// Records what is wrong with a member that could not even be read.
    pub(crate) fn unreadable(&mut self, member: &Member, message: &str) {
        self.below(Step::Member(member.name), |this| this.report(message));
    }

    /// Checks a value of a shape. `sensitive` is inherited: what is inside of a secret is secret.
    fn value(&mut self, shape: &Shape, value: &mut Value, sensitive: bool) {
        let sensitive = sensitive || shape.sensitive;
        match (&shape.kind, value) {
            (Kind::Structure { members, union }, Value::Object(map)) => self.structure(members, *union, map, sensitive),
            (Kind::List { member, min, max }, Value::Array(items)) => {
                self.length(items.len(), *min, *max, None);
                for (index, item) in items.iter_mut().enumerate() {
                    self.below(Step::Index(index), |this| this.value(member, item, sensitive));
                }
            }
            (Kind::Map { key, value, min, max }, Value::Object(map)) => {
                self.length(map.len(), *min, *max, None);
                for (name, item) in map.iter_mut() {
                    self.below(Step::Key(name), |this| {
                        this.text(key, name, sensitive);
                        this.value(value, item, sensitive);
                    });
                }
            }
            (Kind::String { .. }, Value::String(text)) => self.text(shape, text, sensitive),
            (Kind::Integer { min, max }, Value::Number(number)) => match number.as_i64() {
                Some(n) if i32::try_from(n).is_ok() => self.range(n, *min, *max, sensitive),
                _ => self.report("Member must be an integer of 32 bits"),
            },
            (Kind::Long { min, max }, Value::Number(number)) => match number.as_i64() {
                Some(n) => self.range(n, *min, *max, sensitive),
                None => self.report("Member must be an integer of 64 bits"),
            },
            (Kind::Float { min, max } | Kind::Double { min, max }, Value::Number(number)) => match number.as_f64() {
                Some(n) => self.range(n, *min, *max, sensitive),
                None => self.report("Member must be a number"),
            },
            (Kind::Boolean, Value::Bool(_)) | (Kind::Document, _) => {}
            (Kind::Timestamp { format }, value @ (Value::String(_) | Value::Number(_))) => {
                match wire::timestamp_from_json(value, *format) {
                    Some(at) => *value = wire::timestamp_to_json(at, *format),
                    None => self.report(&format!("Member must be a timestamp: {}", wire::example(*format))),
                }
            }
            (Kind::Blob { min, max }, Value::String(text)) => match wire::base64_bytes(text) {
                Some(bytes) => self.length(bytes.len(), *min, *max, None),
                None => self.report("Member must be base64"),
            },
            (_, Value::Null) => self.report("Member must not be null"),
            (kind, value) => self.report(&format!(
                "Member must be {}, not {}",
                kind_name(kind),
                value_name(value)
            )),
        }
    }

    fn structure(&mut self, members: &[Member], union: bool, map: &mut Map<String, Value>, sensitive: bool) {
        map.retain(|name, value| !value.is_null() && members.iter().any(|member| member.wire_name == name));
        for member in members {
            match map.get_mut(member.wire_name) {
                Some(value) => self.member(member, value, sensitive),
                None if member.required => self.missing(member),
                None => {}
            }
        }
        if union && map.len() != 1 {
            let names: Vec<&str> = members.iter().map(|member| member.name).collect();
            let message = format!(
                "Member must have exactly one of [{}], not {}",
                names.join(", "),
                map.len()
            );
            self.report(&message);
        }
    }

    fn text(&mut self, shape: &Shape, text: &str, sensitive: bool) {
        let Kind::String {
            min,
            max,
            pattern,
            values,
        } = &shape.kind
        else {
            return;
        };
        let quoted = (!sensitive && !shape.sensitive).then_some(text);
        if !values.is_empty() && !values.contains(&text) {
            self.report_value(
                &format!("Member must satisfy enum value set: [{}]", values.join(", ")),
                quoted,
            );
        }
        if min.is_some() || max.is_some() {
            self.length(text.chars().count(), *min, *max, quoted);
        }
        if let Some(pattern) = pattern {
            self.pattern(pattern, text, quoted);
        }
    }

    fn pattern(&mut self, pattern: &Pattern, text: &str, quoted: Option<&str>) {
        if !pattern.matches(text) {
            let message = format!("Member must satisfy regular expression pattern: {}", pattern.source());
            self.report_value(&message, quoted);
        }
    }

    fn length(&mut self, length: usize, min: Option<u64>, max: Option<u64>, quoted: Option<&str>) {
        let length = length as u64;
        if let Some(min) = min.filter(|min| length < *min) {
            self.report_value(
                &format!("Member must have length greater than or equal to {min}"),
                quoted,
            );
        }
        if let Some(max) = max.filter(|max| length > *max) {
            self.report_value(&format!("Member must have length less than or equal to {max}"), quoted);
        }
    }

    fn range<N: PartialOrd + std::fmt::Display>(&mut self, n: N, min: Option<N>, max: Option<N>, sensitive: bool) {
        let said = n.to_string();
        let quoted = (!sensitive).then_some(said.as_str());
        if let Some(min) = min.filter(|min| n < *min) {
            self.report_value(
                &format!("Member must have value greater than or equal to {min}"),
                quoted,
            );
        }
        if let Some(max) = max.filter(|max| n > *max) {
            self.report_value(&format!("Member must have value less than or equal to {max}"), quoted);
        }
    }

    fn report_value(&mut self, message: &str, quoted: Option<&str>) {
        match quoted {
            Some(value) => self.report(&format!("{message}; the value is '{}'", cut(value))),
            None => self.report(message),
        }
    }

    fn report(&mut self, message: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation {
                path: self.path.clone(),
                message: message.to_owned(),
            });
        }
    }

    fn below(&mut self, step: Step<'_>, check: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 && !matches!(step, Step::Index(_)) {
            self.path.push('.');
        }
        match step {
            Step::Member(name) => self.path.push_str(name),
            Step::Key(name) => self.path.push_str(&cut(name)),
            Step::Index(index) => self.path.push_str(&format!("[{index}]")),
        }
        check(self);
        self.path.truncate(length);
    }
}

/// One step of a path.
enum Step<'a> {
    Member(&'static str),
    Key(&'a str),
    Index(usize),
}

/// The start of a text from outside, fit to be shown.
fn cut(text: &str) -> String {
    let mut start: String = text.chars().take(QUOTED_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_CHARS).is_some() {
        start.push_str("...");
    }
    start
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Structure { .. } | Kind::Map { .. } => "an object",
        Kind::List { .. } => "a list",
        Kind::String { .. } => "a string",
        Kind::Integer { .. } | Kind::Long { .. } => "an integer",
        Kind::Float { .. } | Kind::Double { .. } => "a number",
        Kind::Boolean => "true or false",
        Kind::Timestamp { .. } => "a timestamp",
        Kind::Blob { .. } => "a base64 string",
        Kind::Document => "a JSON value",
        Kind::EventStream { .. } => "an event stream",
    }
}

fn value_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
