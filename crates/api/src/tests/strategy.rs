//! Arbitrary valid values of any shape.

use crate::shape::in_our_dialect;
use crate::{Kind, Member, Shape};
use base64::Engine as _;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Recursive shapes end here, if their members are optional.
const DEEPEST: usize = 8;

/// A strategy for the valid values of a shape.
pub(super) fn valid(shape: &'static Shape) -> BoxedStrategy<Value> {
    at_depth(shape, 0)
}

fn at_depth(shape: &'static Shape, depth: usize) -> BoxedStrategy<Value> {
    match &shape.kind {
        Kind::Structure { members, union: true } => {
            let one = |member: &'static Member| {
                at_depth(member.shape, depth + 1)
                    .prop_map(move |value| json!({ member.key(): value }))
                    .boxed()
            };
            proptest::strategy::Union::new(members.iter().map(one)).boxed()
        }
        Kind::Structure { members, .. } => structure(members, depth),
        Kind::List { member, min, max } => proptest::collection::vec(at_depth(member, depth + 1), few(*min, *max))
            .prop_map(Value::Array)
            .boxed(),
        Kind::Map { key, value, min, max } => {
            let key = at_depth(key, depth + 1).prop_map(|key| key.as_str().unwrap().to_owned());
            proptest::collection::btree_map(key, at_depth(value, depth + 1), few(*min, *max))
                .prop_map(|map| Value::Object(map.into_iter().collect()))
                .boxed()
        }
        Kind::String { values, .. } if !values.is_empty() => {
            proptest::sample::select(*values).prop_map(Value::from).boxed()
        }
        Kind::String { min, max, pattern, .. } => match pattern {
            None => {
                let characters = few(*min, *max);
                let (min, max) = (characters.start(), characters.end());
                proptest::string::string_regex(&format!("(?s:.){{{min},{max}}}"))
                    .unwrap()
                    .prop_map(Value::from)
                    .boxed()
            }
            Some(pattern) => {
                let (min, max) = (min.unwrap_or(0), max.unwrap_or(u64::MAX));
                // A repetition of hyphens inside of a repetition makes texts of a thousand characters; anchors and a
                // look-ahead cannot be generated, and the filter below keeps what they mean.
                let source = pattern.source().replace("-*", "-?").replace("$|^", "|");
                let source = source
                    .strip_prefix("(?!")
                    .and_then(|rest| rest.split_once(')'))
                    .map_or(&*source, |it| it.1);
                proptest::string::string_regex(&in_our_dialect(source))
                    .unwrap()
                    .prop_filter(shape.name, move |text| {
                        (min..=max).contains(&(text.chars().count() as u64)) && pattern.matches(text)
                    })
                    .prop_map(Value::from)
                    .boxed()
            }
        },
        Kind::Integer { min, max } => {
            let (min, max) = (min.unwrap_or(i32::MIN.into()), max.unwrap_or(i32::MAX.into()));
            (min..=max).prop_map(Value::from).boxed()
        }
        Kind::Long { min, max } => (min.unwrap_or(i64::MIN)..=max.unwrap_or(i64::MAX))
            .prop_map(Value::from)
            .boxed(),
        Kind::Float { min, max } | Kind::Double { min, max } => {
            // Eighths: serde_json may read a number with many digits as its neighbour.
            let (min, max) = (min.unwrap_or(-1e9), max.unwrap_or(1e9));
            (min..=max)
                .prop_map(move |n| Value::from(((n * 8.0).floor() / 8.0).max(min)))
                .boxed()
        }
        Kind::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        Kind::Timestamp { format } => (0_i64..4_000_000_000_000_000)
            .prop_map(|micros| {
                crate::wire::timestamp_to_json(jiff::Timestamp::from_microsecond(micros).unwrap(), *format)
            })
            .boxed(),
        Kind::Blob { min, max } => proptest::collection::vec(any::<u8>(), few(*min, *max))
            .prop_map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes).into())
            .boxed(),
        Kind::Document => prop_oneof![Just(json!({"a": [1, null]})), Just(json!("x")), Just(json!(7))].boxed(),
        Kind::EventStream { .. } => panic!("{} is streamed", shape.name),
    }
}

/// A structure's members by their keys, each optional one there or not.
pub(super) fn structure(members: &'static [Member], depth: usize) -> BoxedStrategy<Value> {
    let strategies: Vec<BoxedStrategy<Option<(String, Value)>>> = members
        .iter()
        .filter(|member| !crate::decode::is_raw(member.shape) && (member.required || depth < DEEPEST))
        .map(|member| {
            let value = at_depth(member.shape, depth + 1).prop_map(move |value| Some((member.key().to_owned(), value)));
            if member.required {
                value.boxed()
            } else {
                prop_oneof![Just(None), value].boxed()
            }
        })
        .collect();
    strategies
        .prop_map(|members| Value::Object(members.into_iter().flatten().collect::<Map<_, _>>()))
        .boxed()
}

/// A size within limits, and small if they allow it.
fn few(min: Option<u64>, max: Option<u64>) -> std::ops::RangeInclusive<usize> {
    let min = usize::try_from(min.unwrap_or(0)).unwrap();
    min..=usize::try_from(max.unwrap_or(u64::MAX))
        .unwrap_or(usize::MAX)
        .min(min + 4)
}
