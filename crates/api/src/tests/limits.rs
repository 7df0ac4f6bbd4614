//! One table of cases for each kind of constraint, over shapes made for it: the switched-on operations do not use all.

use super::{Request, check_refused};
use crate::*;
use serde_json::{Value, json};

static TEXT: Shape = Shape {
    name: "Text",
    sensitive: false,
    kind: Kind::String {
        min: Some(2),
        max: Some(4),
        pattern: Some(Pattern::new(r"(?!no$)[\w-]*")),
        values: &[],
    },
};
static SECRET: Shape = Shape {
    name: "Secret",
    sensitive: true,
    kind: Kind::String {
        min: None,
        max: Some(3),
        pattern: None,
        values: &["a", "b"],
    },
};
static COLOUR: Shape = Shape {
    name: "Colour",
    sensitive: false,
    kind: Kind::String {
        min: None,
        max: None,
        pattern: None,
        values: &["RED", "BLUE"],
    },
};
static INTEGER: Shape = Shape {
    name: "Integer",
    sensitive: false,
    kind: Kind::Integer {
        min: Some(-2),
        max: Some(9),
    },
};
static ANY_INTEGER: Shape = Shape {
    name: "Any",
    sensitive: false,
    kind: Kind::Integer { min: None, max: None },
};
static LONG: Shape = Shape {
    name: "Long",
    sensitive: false,
    kind: Kind::Long {
        min: None,
        max: Some(1 << 40),
    },
};
static DOUBLE: Shape = Shape {
    name: "Double",
    sensitive: false,
    kind: Kind::Double {
        min: Some(0.0),
        max: Some(1.5),
    },
};
static BOOLEAN: Shape = Shape {
    name: "Boolean",
    sensitive: false,
    kind: Kind::Boolean,
};
static ISO: Shape = Shape {
    name: "Iso",
    sensitive: false,
    kind: Kind::Timestamp {
        format: TimestampFormat::Iso8601,
    },
};
static EPOCH: Shape = Shape {
    name: "Epoch",
    sensitive: false,
    kind: Kind::Timestamp {
        format: TimestampFormat::EpochSeconds,
    },
};
static BLOB: Shape = Shape {
    name: "Blob",
    sensitive: true,
    kind: Kind::Blob {
        min: Some(1),
        max: Some(3),
    },
};
static DOCUMENT: Shape = Shape {
    name: "Document",
    sensitive: false,
    kind: Kind::Document,
};
static LIST: Shape = Shape {
    name: "List",
    sensitive: false,
    kind: Kind::List {
        member: &INTEGER,
        min: Some(1),
        max: Some(3),
    },
};
static MAP: Shape = Shape {
    name: "Map",
    sensitive: false,
    kind: Kind::Map {
        key: &TEXT,
        value: &COLOUR,
        min: Some(1),
        max: Some(2),
    },
};
static CHOICE: Shape = Shape {
    name: "Choice",
    sensitive: false,
    kind: Kind::Structure {
        members: &[body("left", &INTEGER), body("right", &TREE)],
        union: true,
    },
};
/// Refers to itself.
static TREE: Shape = Shape {
    name: "Tree",
    sensitive: false,
    kind: Kind::Structure {
        members: &[required(body("leaf", &INTEGER)), body("tree", &TREE)],
        union: false,
    },
};
static INPUT: Shape = Shape {
    name: "Input",
    sensitive: false,
    kind: Kind::Structure {
        members: &[
            body("text", &TEXT),
            body("secret", &SECRET),
            body("colour", &COLOUR),
            body("integer", &INTEGER),
            body("any", &ANY_INTEGER),
            body("long", &LONG),
            body("double", &DOUBLE),
            body("boolean", &BOOLEAN),
            body("iso", &ISO),
            body("epoch", &EPOCH),
            body("blob", &BLOB),
            body("document", &DOCUMENT),
            body("list", &LIST),
            body("map", &MAP),
            body("choice", &CHOICE),
            body("tree", &TREE),
            at(Location::Query, "queryBoolean", "b", &BOOLEAN),
            at(Location::Query, "queryDouble", "d", &DOUBLE),
            at(Location::Query, "queryTime", "t", &ISO),
            at(Location::Query, "queryList", "l", &LIST),
            at(Location::Header, "headerTime", "X-Time", &EPOCH),
            at(Location::Header, "headerList", "X-List", &LIST),
        ],
        union: false,
    },
};
static OPERATION: Operation = Operation {
    name: "Test",
    plane: Plane::Data,
    method: "POST",
    uri: "/",
    status: 200,
    input: Some(&INPUT),
    output: None,
    errors: &[],
    payload: None,
};

const fn at(location: Location, name: &'static str, wire_name: &'static str, shape: &'static Shape) -> Member {
    Member {
        name,
        shape,
        location,
        wire_name,
        required: false,
    }
}

const fn body(name: &'static str, shape: &'static Shape) -> Member {
    at(Location::Body, name, name, shape)
}

const fn required(member: Member) -> Member {
    Member {
        required: true,
        ..member
    }
}

/// Checks a member's values; a message of `""` means that it is accepted.
#[track_caller]
fn check(member: &str, cases: &[(Value, &str)]) {
    for (value, message) in cases {
        let request = Request::body(&json!({ member: value }));
        if message.is_empty() {
            assert!(
                request.decode(&OPERATION).is_ok(),
                "{member} = {value}: {:?}",
                request.decode(&OPERATION)
            );
        } else {
            check_refused(&OPERATION, &request, &[(member, message)]);
        }
    }
}

#[test]
fn strings() {
    let pattern = r"Member must satisfy regular expression pattern: (?!no$)[\w-]*; the value is ";
    check(
        "text",
        &[
            (json!("ab"), ""),
            (json!("a-_9"), ""),
            (
                json!("a"),
                "Member must have length greater than or equal to 2; the value is 'a'",
            ),
            (
                json!("abcde"),
                "Member must have length less than or equal to 4; the value is 'abcde'",
            ),
            (json!("a b"), &format!("{pattern}'a b'")),
            // Both ends are anchored, and a line break is no end.
            (json!("ab\n"), &format!("{pattern}'ab\\n'")),
            // A pattern's `\w` is ASCII, and a length counts characters.
            (json!("éééé"), &format!("{pattern}'éééé'")),
            (json!("no"), &format!("{pattern}'no'")),
            (json!("nono"), ""),
            (json!(5), "Member must be a string, not a number"),
            (json!(["ab"]), "Member must be a string, not a list"),
            (json!({}), "Member must be a string, not an object"),
            (json!(true), "Member must be a string, not true or false"),
        ],
    );
    check(
        "colour",
        &[
            (json!("RED"), ""),
            (
                json!("red"),
                "Member must satisfy enum value set: [RED, BLUE]; the value is 'red'",
            ),
            (
                json!("x".repeat(100)),
                &format!(
                    "Member must satisfy enum value set: [RED, BLUE]; the value is '{}...'",
                    "x".repeat(64)
                ),
            ),
        ],
    );
    check(
        "secret",
        &[
            (json!("a"), ""),
            (json!("c"), "Member must satisfy enum value set: [a, b]"),
        ],
    );
}

#[test]
fn numbers() {
    check(
        "integer",
        &[
            (json!(-2), ""),
            (json!(9), ""),
            (
                json!(-3),
                "Member must have value greater than or equal to -2; the value is '-3'",
            ),
            (
                json!(10),
                "Member must have value less than or equal to 9; the value is '10'",
            ),
            (json!(1.5), "Member must be an integer of 32 bits"),
            (json!("1"), "Member must be an integer, not a string"),
        ],
    );
    check(
        "any",
        &[
            (json!(i32::MAX), ""),
            (json!(i32::MIN), ""),
            (json!(i64::from(i32::MAX) + 1), "Member must be an integer of 32 bits"),
        ],
    );
    check(
        "long",
        &[
            (json!(1_i64 << 40), ""),
            (json!(i64::MIN), ""),
            (json!(u64::MAX), "Member must be an integer of 64 bits"),
            (json!(1e300), "Member must be an integer of 64 bits"),
        ],
    );
    check(
        "double",
        &[
            (json!(1), ""),
            (json!(1.5), ""),
            (
                json!(-0.1),
                "Member must have value greater than or equal to 0; the value is '-0.1'",
            ),
            (
                json!(1.6),
                "Member must have value less than or equal to 1.5; the value is '1.6'",
            ),
            (json!("1"), "Member must be a number, not a string"),
        ],
    );
    check(
        "boolean",
        &[
            (json!(true), ""),
            (json!("true"), "Member must be true or false, not a string"),
        ],
    );
}

#[test]
fn times_and_bytes() {
    let iso = "Member must be a timestamp: a string like 2026-11-22T10:00:00Z";
    let epoch = "Member must be a timestamp: seconds since 1970 as a number";
    check(
        "iso",
        &[
            (json!("2026-11-22T10:00:00Z"), ""),
            (json!("2026-11-22T12:00:00.123+02:00"), ""),
            (json!("yesterday"), iso),
            (json!("1700000000"), iso),
            (json!(1_700_000_000), iso),
            (json!([]), "Member must be a timestamp, not a list"),
        ],
    );
    check(
        "epoch",
        &[
            (json!(1_700_000_000), ""),
            (json!(1.25), ""),
            (json!("2026-11-22T10:00:00Z"), epoch),
            (json!(1e300), epoch),
        ],
    );
    check(
        "blob",
        &[
            (json!("YWI="), ""),
            (json!(""), "Member must have length greater than or equal to 1"),
            (json!("YWJjZA=="), "Member must have length less than or equal to 3"),
            (json!("*"), "Member must be base64"),
            (json!(1), "Member must be a base64 string, not a number"),
        ],
    );
    check(
        "document",
        &[
            (json!({"any": [1, null, "x"]}), ""),
            (json!([]), ""),
            (json!(false), ""),
        ],
    );
}

#[test]
fn lists_maps_and_structures() {
    let refused = |body: Value, want: &[(&str, &str)]| check_refused(&OPERATION, &Request::body(&body), want);
    check(
        "list",
        &[
            (json!([1, 2, 3]), ""),
            (json!([]), "Member must have length greater than or equal to 1"),
            (json!([1, 2, 3, 4]), "Member must have length less than or equal to 3"),
            (json!({"0": 1}), "Member must be a list, not an object"),
        ],
    );
    refused(
        json!({"list": [1, 99, null, "x"]}),
        &[
            ("list", "Member must have length less than or equal to 3"),
            (
                "list[1]",
                "Member must have value less than or equal to 9; the value is '99'",
            ),
            ("list[2]", "Member must not be null"),
            ("list[3]", "Member must be an integer, not a string"),
        ],
    );
    check(
        "map",
        &[
            (json!({"ab": "RED"}), ""),
            (json!({}), "Member must have length greater than or equal to 1"),
            (
                json!({"ab": "RED", "cd": "RED", "ef": "RED"}),
                "Member must have length less than or equal to 2",
            ),
            (json!([]), "Member must be an object, not a list"),
        ],
    );
    refused(
        json!({"map": {"a": "RED", "bc": null}}),
        &[
            (
                "map.a",
                "Member must have length greater than or equal to 2; the value is 'a'",
            ),
            ("map.bc", "Member must not be null"),
        ],
    );
    check(
        "choice",
        &[
            (json!({"left": 1}), ""),
            (json!({"left": 1, "right": null}), ""),
            (json!({}), "Member must have exactly one of [left, right], not 0"),
            (json!({"up": 1}), "Member must have exactly one of [left, right], not 0"),
            (
                json!({"left": 1, "right": {"leaf": 1}}),
                "Member must have exactly one of [left, right], not 2",
            ),
        ],
    );
    refused(
        json!({"tree": {"tree": {"leaf": 1, "tree": {"leaf": 1000}}}, "choice": {"right": {"leaf": null}}}),
        &[
            ("tree.leaf", "Member must not be null"),
            (
                "tree.tree.tree.leaf",
                "Member must have value less than or equal to 9; the value is '1000'",
            ),
            ("choice.right.leaf", "Member must not be null"),
        ],
    );
}

#[test]
fn text_becomes_the_type_of_its_member() {
    let request = Request::default()
        .query("b", "true")
        .query("d", "0.5")
        .query("t", "2026-11-22T12:00:00+02:00")
        .query("l", "1")
        .query("l", "2")
        .header("x-time", "Sun, 22 Nov 2026 10:00:00 GMT")
        .header("X-LIST", "3, 4");
    let want = json!({
        "queryBoolean": true,
        "queryDouble": 0.5,
        "queryTime": "2026-11-22T10:00:00Z",
        "queryList": [1, 2],
        "headerTime": 1_795_341_600,
        "headerList": [3, 4],
    });
    assert_eq!(Value::Object(request.decode(&OPERATION).unwrap()), want);
    let request = Request::default()
        .query("b", "yes")
        .query("d", "NaN")
        .query("t", "soon")
        .query("l", "1")
        .query("l", "x")
        .header("X-Time", "inf")
        .header("X-List", "3,,4");
    let want = [
        ("queryBoolean", "Member must be true or false"),
        ("queryDouble", "Member must be a number"),
        ("queryTime", "Member must be a timestamp like 2026-11-22T10:00:00Z"),
        ("queryList", "Member must be an integer"),
        ("headerTime", "Member must be a timestamp like 2026-11-22T10:00:00Z"),
        ("headerList", "Member must be an integer"),
    ];
    check_refused(&OPERATION, &request, &want);
}
