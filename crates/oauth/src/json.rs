//! JSON that has one reading: no object, at any depth, may name a member twice.
//!
//! Parsers differ in which of two members of one name they take. Whoever signs a token that two programs read
//! differently can show each the claims that it wants to see.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads one object and nothing after it. Nothing if it is not that, or has two readings. Depth is limited by the
/// parser, numbers that no double can hold are refused by it.
pub(crate) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Strict(Value::Object(object))) => Some(object),
        _ => None,
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Strict)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value whose objects name no member twice")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_reading() {
        let deep = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        for (text, good) in [
            ("{}", true),
            (
                " {\"a\":1,\"b\":[{\"a\":1},{\"a\":2}],\"c\":null,\"d\":true,\"e\":-1.5e3} ",
                true,
            ),
            ("{\"a\":1,\"a\":1}", false),
            ("{\"a\":1,\"\\u0061\":2}", false),
            ("{\"x\":{\"a\":1,\"b\":2,\"a\":3}}", false),
            ("{\"x\":[{\"a\":1,\"a\":3}]}", false),
            ("{\"a\":1}{\"a\":1}", false),
            ("{\"a\":1} x", false),
            ("{\"a\":1,}", false),
            ("{'a':1}", false),
            ("{\"a\":NaN}", false),
            ("{\"a\":1e999}", false),
            ("{\"a\":01}", false),
            ("{\"a\":\"\\ud800\"}", false),
            ("{\"a\":\"\u{1}\"}", false),
            ("\u{feff}{}", false),
            ("[]", false),
            ("\"a\"", false),
            ("null", false),
            ("", false),
            (&deep(100), true),
            (&deep(200), false),
        ] {
            assert_eq!(object(text.as_bytes()).is_some(), good, "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), None, "not UTF-8");
    }

    proptest! {
        /// What is read is what everybody else reads.
        #[test]
        fn agrees_with_serde_json(text in "[{}\\[\\]\",:a-c0-9.eE\\\\u -]{0,40}") {
            if let Some(read) = object(text.as_bytes()) {
                prop_assert_eq!(Value::Object(read), serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
