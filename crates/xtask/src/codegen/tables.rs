//! Writes the constant tables: a plane's shapes and exceptions, and the operations of both planes.

use super::model::{Model, Shape};
use super::types::timestamp_format;
use super::{Plane, header, names};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Where Eyot accepts more than AWS, on purpose: (shape, pattern that replaces the model's, why). The only place.
const WIDENED: &[(&str, &str, &str)] = &[(
    "RuntimeContainerUri",
    // [host[:port]/]component[/component]*[:tag][@algorithm:hex], the grammar of OCI image references. A host is a
    // DNS name, an IPv4 address or an IPv6 address in brackets.
    concat!(
        r"(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*",
        r"|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?/)?",
        r"[a-z0-9]+(?:(?:[.]|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[.]|_{1,2}|-+)[a-z0-9]+)*)*",
        r"(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?",
        r"(?:@[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    ),
    "any OCI image reference, not only one of Amazon ECR",
)];

/// The text of `control_shapes.rs` or `data_shapes.rs`.
pub(crate) fn shapes(plane: Plane, model: &Model) -> anyhow::Result<String> {
    let mut out = header(&format!("Constraints and exceptions of {}.", model.metadata.service_id));
    out.push_str("#![allow(dead_code, reason = \"some shapes are used as types only\")]\n\n");
    out.push_str("use crate::operation::Exception;\n");
    out.push_str("use crate::shape::*;\n\n");
    let mut seen = BTreeSet::new();
    for (name, shape) in &model.shapes {
        let ident = names::constant(name);
        ensure!(
            seen.insert(ident.clone()),
            "two shapes of {} would be called {ident}",
            plane.module()
        );
        for (_, _, why) in WIDENED.iter().filter(|(widened, _, _)| widened == name) {
            writeln!(out, "// Widened on purpose: {why}.")?;
        }
        let kind = kind(name, shape, model).with_context(|| format!("shape {name}"))?;
        let sensitive = shape.sensitive;
        writeln!(
            out,
            "pub(crate) static {ident}: Shape = Shape {{ name: {name:?}, sensitive: {sensitive}, kind: {kind} }};\n"
        )?;
    }
    out.push_str("pub(crate) static EXCEPTIONS: &[Exception] = &[\n");
    for (name, shape) in model.exceptions() {
        let status = shape
            .error
            .as_ref()
            .map_or(if shape.fault { 500 } else { 400 }, |error| error.http_status_code);
        let retryable = shape.retryable.is_some();
        let members = members(shape, model)?;
        writeln!(
            out,
            "Exception {{ name: {name:?}, status: {status}, retryable: {retryable}, members: {members} }},"
        )?;
    }
    out.push_str("];\n");
    Ok(out)
}

/// The text of `operations.rs`.
pub(crate) fn operations(models: &[Model]) -> anyhow::Result<String> {
    let mut out = header("The operations of both planes, and by name the ones that are switched on.");
    out.push_str("use crate::operation::{Operation, Payload, Plane};\n");
    out.push_str("use super::{control_shapes, data_shapes};\n\n");
    let version = &models.first().context("no models")?.botocore;
    ensure!(
        models.iter().all(|model| model.botocore == *version),
        "the models are of different versions of botocore"
    );
    write!(
        out,
        "/// The version of botocore that the models were taken from.\npub const BOTOCORE_VERSION: &str = {version:?};\n\n"
    )?;
    out.push_str("/// Every operation of both planes.\npub static OPERATIONS: &[Operation] = &TABLE;\n\n");
    let (mut table, mut constants) = (String::new(), String::new());
    let mut index = 0;
    for (plane, model) in Plane::ALL.into_iter().zip(models) {
        for operation in model.operations.values() {
            let (name, method, uri) = (&operation.name, &operation.http.method, &operation.http.request_uri);
            let shape = |reference: &Option<super::model::Reference>| match reference {
                Some(one) => format!("Some(&{}_shapes::{})", plane.module(), names::constant(&one.shape)),
                None => "None".to_owned(),
            };
            let (input, output) = (shape(&operation.input), shape(&operation.output));
            let errors: Vec<&str> = operation.errors.iter().map(|one| one.shape.as_str()).collect();
            let payload = match &operation.input {
                Some(input) => payload(model.shape(&input.shape)?, model)?,
                None => "None".to_owned(),
            };
            writeln!(
                table,
                "Operation {{ name: {name:?}, plane: Plane::{}, method: {method:?}, uri: {uri:?}, status: {}, \
                 input: {input}, output: {output}, errors: &{errors:?}, payload: {payload} }},",
                plane.variant(),
                operation.http.response_code
            )?;
            if operation.input.is_some() {
                let ident = names::constant(name);
                write!(
                    constants,
                    "/// `{method} {uri}`\npub const {ident}: &Operation = &TABLE[{index}];\n\n"
                )?;
            }
            index += 1;
        }
    }
    out.push_str(&constants);
    write!(out, "static TABLE: [Operation; {index}] = [\n{table}];\n")?;
    Ok(out)
}

/// The text of `round_trip.rs`: for tests that go through the type of every input.
pub(crate) fn round_trip(models: &[Model]) -> String {
    let mut out = header("Through the input type of an operation and back, for tests.");
    out.push_str(
        "use crate::{Mismatch, Operation, Plane, from_input, to_output};\nuse serde_json::{Map, Value};\n\n\
         type Input = Map<String, Value>;\n\n\
         pub(crate) fn round_trip(operation: &Operation, input: Input) -> Option<Result<Input, Mismatch>> {\n\
         Some(match (operation.plane, operation.name) {\n",
    );
    for (plane, model) in Plane::ALL.into_iter().zip(models) {
        for operation in model.operations.values() {
            if let Some(input) = &operation.input {
                out.push_str(&format!(
                    "(Plane::{}, {:?}) => from_input::<super::{}::{}>(input).map(|input| to_output(&input)),\n",
                    plane.variant(),
                    operation.name,
                    plane.module(),
                    names::type_name(&input.shape)
                ));
            }
        }
    }
    out.push_str("_ => return None,\n})\n}\n");
    out
}

fn payload(input: &Shape, model: &Model) -> anyhow::Result<String> {
    let Some(name) = &input.payload else {
        return Ok("None".to_owned());
    };
    if !input.is_raw_payload(name, model)? {
        return Ok("None".to_owned());
    }
    let member = input.members.get(name).context("no payload member")?;
    let max = limit(model.shape(&member.shape)?.max.as_ref())?;
    Ok(format!("Some(Payload {{ member: {name:?}, max_bytes: {max} }})"))
}

fn kind(name: &str, shape: &Shape, model: &Model) -> anyhow::Result<String> {
    let lengths = || -> anyhow::Result<String> {
        Ok(format!(
            "min: {}, max: {}",
            limit(shape.min.as_ref())?,
            limit(shape.max.as_ref())?
        ))
    };
    let reference = |reference: &Option<super::model::Reference>| -> anyhow::Result<String> {
        Ok(format!(
            "&{}",
            names::constant(&reference.as_ref().context("a list or map does not say of what")?.shape)
        ))
    };
    Ok(match shape.kind.as_str() {
        "structure" if shape.document => "Kind::Document".to_owned(),
        "structure" if shape.eventstream => format!("Kind::EventStream {{ members: {} }}", members(shape, model)?),
        "structure" => format!(
            "Kind::Structure {{ members: {}, union: {} }}",
            members(shape, model)?,
            shape.union
        ),
        "list" => format!("Kind::List {{ member: {}, {} }}", reference(&shape.member)?, lengths()?),
        "map" => {
            let (key, value) = (reference(&shape.key)?, reference(&shape.value)?);
            format!("Kind::Map {{ key: {key}, value: {value}, {} }}", lengths()?)
        }
        "string" => {
            let widened = WIDENED
                .iter()
                .find(|(widened, _, _)| *widened == name)
                .map(|(_, pattern, _)| *pattern);
            let pattern = match widened.or(shape.pattern.as_deref()) {
                Some(pattern) => format!("Some(Pattern::new({pattern:?}))"),
                None => "None".to_owned(),
            };
            format!(
                "Kind::String {{ {}, pattern: {pattern}, values: &{:?} }}",
                lengths()?,
                shape.values
            )
        }
        "integer" | "long" => {
            let kind = if shape.kind == "integer" { "Integer" } else { "Long" };
            let bound = |bound: Option<&serde_json::Number>| bound.and_then(serde_json::Number::as_i64);
            format!(
                "Kind::{kind} {{ min: {:?}, max: {:?} }}",
                bound(shape.min.as_ref()),
                bound(shape.max.as_ref())
            )
        }
        "float" | "double" => {
            let kind = if shape.kind == "float" { "Float" } else { "Double" };
            let bound = |bound: Option<&serde_json::Number>| bound.and_then(serde_json::Number::as_f64);
            format!(
                "Kind::{kind} {{ min: {:?}, max: {:?} }}",
                bound(shape.min.as_ref()),
                bound(shape.max.as_ref())
            )
        }
        "boolean" => "Kind::Boolean".to_owned(),
        "timestamp" => format!(
            "Kind::Timestamp {{ format: TimestampFormat::{} }}",
            timestamp_format(shape)?
        ),
        "blob" => format!("Kind::Blob {{ {} }}", lengths()?),
        other => bail!("unknown type {other}"),
    })
}

fn members(shape: &Shape, model: &Model) -> anyhow::Result<String> {
    let mut out = "&[".to_owned();
    for (name, member) in &shape.members {
        model.shape(&member.shape)?;
        let location = match member.location.as_deref() {
            None if shape.payload.as_ref() == Some(name) => "Payload",
            None => "Body",
            Some("uri") => "Uri",
            Some("querystring") => "Query",
            Some("header") => "Header",
            Some("statusCode") => "StatusCode",
            Some(other) => bail!("member {name} travels in {other}, which is not supported yet"),
        };
        let wire_name = member.location_name.as_ref().unwrap_or(name);
        let required = shape.required.contains(name);
        write!(
            out,
            "Member {{ name: {name:?}, shape: &{}, location: Location::{location}, wire_name: {wire_name:?}, \
             required: {required} }},",
            names::constant(&member.shape)
        )?;
    }
    Ok(out + "]")
}

fn limit(number: Option<&serde_json::Number>) -> anyhow::Result<String> {
    Ok(match number {
        Some(number) => format!(
            "Some({})",
            number.as_u64().with_context(|| format!("{number} is no length"))?
        ),
        None => "None".to_owned(),
    })
}
