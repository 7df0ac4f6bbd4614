//! JSON as its author wrote it: order and repeated keys are kept, so that whoever reads an object can refuse a second
//! reading of it.
//!
//! Invariant: nesting is bounded here, size by the caller, so a hostile text costs no more than reading it once.

use super::invalid::{At, Invalid, echo};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// A condition's value, the deepest thing a policy has, is at depth 6.
const DEPTH: usize = 8;

/// A value.
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// Reads one JSON text; a fault says its line and column.
pub(super) fn read(text: &str) -> Result<Node, Invalid> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Seed { left: DEPTH }.deserialize(&mut json);
    read.and_then(|node| json.end().map(|()| node)).map_err(|error| {
        let full = error.to_string();
        let problem = full.rfind(" at line ").and_then(|end| full.get(..end)).unwrap_or(&full);
        Invalid {
            place: format!("line {}, column {}", error.line(), error.column()),
            problem: echo(problem),
            remedy: "a policy is one JSON object".into(),
        }
    })
}

impl Node {
    /// The members of an object, none of them named twice.
    pub(super) fn object(&self, at: &At<'_>, remedy: &'static str) -> Result<&[(String, Node)], Invalid> {
        let Self::Object(members) = self else {
            return Err(at.fault(format!("{} where an object is needed", self.name()), remedy));
        };
        let mut seen = HashSet::with_capacity(members.len());
        match members.iter().find(|(key, _)| !seen.insert(key.as_str())) {
            Some((key, _)) => Err(at.key(key).fault("this key appears twice", "keep one of them")),
            None => Ok(members),
        }
    }

    pub(super) fn text(&self, at: &At<'_>, remedy: &'static str) -> Result<&str, Invalid> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(at.fault(format!("{} where a text is needed", other.name()), remedy)),
        }
    }

    /// One value or a list of at least one, each with the place it has.
    pub(super) fn each<T>(
        &self,
        at: &At<'_>,
        mut read: impl FnMut(&Node, &At<'_>) -> Result<T, Invalid>,
    ) -> Result<Box<[T]>, Invalid> {
        match self {
            Self::List(list) if list.is_empty() => Err(at.fault("the list is empty", "write at least one value")),
            Self::List(list) => {
                let each = list.iter().enumerate();
                each.map(|(index, node)| read(node, &at.index(index))).collect()
            }
            one => Ok(Box::new([read(one, at)?])),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

#[derive(Clone, Copy)]
struct Seed {
    left: usize,
}

impl Seed {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { left })
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Node;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let seed = self.deeper::<A::Error>()?;
        let mut list = Vec::new();
        while let Some(node) = seq.next_element_seed(seed)? {
            list.push(node);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let seed = self.deeper()?;
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.is_empty() {
                return Err(A::Error::custom("an empty key"));
            }
            members.push((key, map.next_value_seed(seed)?));
        }
        Ok(Node::Object(members))
    }
}
