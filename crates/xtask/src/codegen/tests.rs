//! The committed code is what the committed models give, and the generator knows every kind of shape.

use super::model::Model;
use super::*;

/// A service with everything that the switched-on operations do not need today.
const MODEL: &str = r#"{
  "metadata": {"apiVersion": "2024-01-01", "protocol": "rest-json", "serviceId": "Test", "signingName": "test"},
  "documentation": "<p>Text that must not be kept.</p>",
  "operations": {
    "On": {
      "name": "On",
      "http": {"method": "POST", "requestUri": "/on/{id}", "responseCode": 201},
      "input": {"shape": "OnRequest"},
      "output": {"shape": "OnResponse"},
      "errors": [{"shape": "Busy"}],
      "documentation": "<p>Text that must not be kept.</p>"
    },
    "Off": {
      "name": "Off",
      "http": {"method": "GET", "requestUri": "/off"},
      "input": {"shape": "OffRequest"},
      "output": {"shape": "OffRequest"}
    }
  },
  "shapes": {
    "OnRequest": {"type": "structure", "required": ["id", "type"], "payload": "data", "members": {
      "id": {"shape": "Name", "location": "uri", "locationName": "id"},
      "type": {"shape": "Colour", "location": "querystring", "locationName": "t"},
      "data": {"shape": "Bytes"}
    }},
    "OnResponse": {"type": "structure", "payload": "stream", "members": {
      "code": {"shape": "Count", "location": "statusCode"},
      "stream": {"shape": "Events"}
    }},
    "OffRequest": {"type": "structure", "members": {"lonely": {"shape": "Lonely"}}},
    "Lonely": {"type": "string"},
    "Name": {"type": "string", "min": 1, "max": 9, "pattern": "[a-z\"]+", "documentation": "<p>Not kept.</p>"},
    "Colour": {"type": "string", "enum": ["RED", "3_1", "31", "aws:blue"]},
    "Bytes": {"type": "blob", "max": 77},
    "Count": {"type": "integer", "box": true, "min": -5},
    "Events": {"type": "structure", "eventstream": true, "members": {"tree": {"shape": "Tree"}}},
    "Tree": {"type": "structure", "event": true, "required": ["at"], "members": {
      "at": {"shape": "Time"},
      "until": {"shape": "Plain"},
      "weight": {"shape": "Weight"},
      "left": {"shape": "Tree"},
      "others": {"shape": "Trees"},
      "token": {"shape": "Secrets"},
      "free": {"shape": "Free"},
      "choice": {"shape": "Choice"},
      "chunk": {"shape": "Bytes", "locationName": "c"}
    }},
    "Trees": {"type": "list", "member": {"shape": "Tree"}, "max": 3},
    "Choice": {"type": "structure", "union": true, "members": {"tree": {"shape": "Tree"}, "secret": {"shape": "Secret"},
      "when": {"shape": "Plain"}}},
    "Secrets": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Secret"}, "min": 1},
    "Secret": {"type": "string", "sensitive": true},
    "Free": {"type": "structure", "document": true, "members": {}},
    "Time": {"type": "timestamp", "timestampFormat": "iso8601"},
    "Plain": {"type": "timestamp"},
    "Weight": {"type": "double", "min": 0.5},
    "Busy": {"type": "structure", "exception": true, "error": {"httpStatusCode": 409}, "retryable": {"throttling": true},
      "members": {"message": {"shape": "Text"}}},
    "Text": {"type": "string"}
  }
}"#;

fn reduced() -> Model {
    let mut model = Model::from_json(MODEL).unwrap();
    reduce::keep(&mut model, &["On"]).unwrap();
    model
}

/// Asserts that a generated text holds each of the parts, whatever its white space.
#[track_caller]
fn check_holds(text: &str, parts: &[&str]) {
    let dense = |text: &str| {
        text.chars()
            .filter(|c| !c.is_whitespace() && *c != ',')
            .collect::<String>()
    };
    let all = dense(text);
    for part in parts {
        assert!(all.contains(&dense(part)), "no {part}\nin {text}");
    }
}

#[test]
fn committed_code_is_fresh() {
    check().unwrap();
}

#[test]
fn every_switched_on_operation_is_in_a_model() {
    let models = load_models(&repository()).unwrap();
    for name in SWITCHED_ON {
        let found = models.iter().filter_map(|model| model.operations.get(*name)).next();
        assert!(found.is_some_and(|operation| operation.input.is_some()), "{name}");
    }
    let on = models
        .iter()
        .flat_map(|model| model.operations.values())
        .filter(|one| one.input.is_some())
        .count();
    assert_eq!(on, SWITCHED_ON.len());
}

#[test]
fn reduction_keeps_routes_of_all_and_shapes_of_some() {
    let model = reduced();
    assert!(model.operations["On"].input.is_some() && model.operations["Off"].input.is_none());
    assert_eq!(model.operations["Off"].http.response_code, 200);
    assert!(!model.shapes.contains_key("Lonely") && !model.shapes.contains_key("OffRequest"));
    assert!(model.shapes.contains_key("Busy") && model.shapes.contains_key("Secret"));
    let text = model.to_json().unwrap();
    assert!(!text.contains("kept"), "documentation is kept: {text}");
    assert_eq!(
        Model::from_json(&text).unwrap().to_json().unwrap(),
        text,
        "writing and reading change nothing"
    );
}

#[test]
fn a_shape_that_is_missing_is_an_error() {
    let mut model = Model::from_json(MODEL).unwrap();
    model.shapes.remove("Tree");
    let error = reduce::keep(&mut model, &["On"]).unwrap_err();
    assert!(error.to_string().contains("no shape Tree"), "{error}");
}

#[test]
fn types_of_every_kind() {
    let text = types::types(Plane::Data, &reduced()).unwrap();
    check_holds(
        &text,
        &[
            // A raw payload is no member; a keyword is a raw identifier; what is bound elsewhere keeps its own name.
            "pub struct OnRequest { #[serde(rename = \"id\")] pub id: String, \
             #[serde(rename = \"type\")] pub r#type: Colour }",
            "pub struct OnResponse { #[serde(rename = \"code\", default, skip_serializing_if = \"Option::is_none\")] \
             pub code: Option<i32> }",
            "#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)] pub struct OnResponse",
            "#[derive(Clone, PartialEq, Serialize, Deserialize)] pub struct Tree",
            "#[serde(rename = \"at\", with = \"crate::wire::iso8601\")] pub at: jiff::Timestamp",
            "with = \"crate::wire::epoch_seconds_option\"",
            "pub left: Option<Box<Tree>>",
            "pub others: Option<Vec<Tree>>",
            "pub choice: Option<Box<Choice>>",
            "pub token: Option<BTreeMap<String, String>>",
            "pub free: Option<serde_json::Value>",
            "#[serde(rename = \"c\", default, skip_serializing_if = \"Option::is_none\")] pub chunk: Option<Blob>",
            ".field(\"token\", &Redacted(self.token.is_some()))",
            "Self::Secret(_) => f.write_str(\"Secret(***)\")",
            "#[serde(rename = \"when\", with = \"crate::wire::epoch_seconds\")] When(jiff::Timestamp)",
            "V3_1",
            "V31",
            "#[serde(rename = \"aws:blue\")] AwsBlue",
        ],
    );
    assert!(
        !text.contains("struct Events") && !text.contains("struct Free"),
        "{text}"
    );
}

#[test]
fn tables_of_every_kind() {
    let model = reduced();
    let text = tables::shapes(Plane::Data, &model).unwrap();
    check_holds(
        &text,
        &[
            "Kind::String { min: Some(1), max: Some(9), pattern: Some(Pattern::new(\"[a-z\\\"]+\")), values: &[] }",
            "values: &[\"RED\", \"3_1\", \"31\", \"aws:blue\"]",
            "Kind::Integer { min: Some(-5), max: None }",
            "Kind::Double { min: Some(0.5), max: None }",
            "Kind::Map { key: &NAME, value: &SECRET, min: Some(1), max: None }",
            "Kind::List { member: &TREE, min: None, max: Some(3) }",
            "Kind::Timestamp { format: TimestampFormat::EpochSeconds }",
            "kind: Kind::Document",
            "Kind::EventStream { members: &[Member { name: \"tree\"",
            "location: Location::Query, wire_name: \"t\", required: true",
            "name: \"data\", shape: &BYTES, location: Location::Payload",
            "location: Location::StatusCode",
            "Exception { name: \"Busy\", status: 409, retryable: true",
        ],
    );
    let mut control = model.clone();
    control.operations.clear();
    check_holds(
        &tables::operations(&[control, model]).unwrap(),
        &[
            "pub const ON: &Operation = &TABLE[1];",
            "uri: \"/on/{id}\", status: 201, input: Some(&data_shapes::ON_REQUEST)",
            "errors: &[\"Busy\"], payload: Some(Payload { member: \"data\", max_bytes: Some(77) })",
            "uri: \"/off\", status: 200, input: None, output: None",
            "static TABLE: [Operation; 2]",
        ],
    );
}

#[test]
fn the_same_model_gives_the_same_text() {
    let once = types::types(Plane::Data, &reduced()).unwrap();
    assert_eq!(once, types::types(Plane::Data, &reduced()).unwrap());
    let root = repository();
    let formatted = rustfmt(&once, &root).unwrap();
    assert_eq!(rustfmt(&formatted, &root).unwrap(), formatted);
}
