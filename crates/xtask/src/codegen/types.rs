//! Writes a plane's structures, unions and enums as serde types.
//!
//! A required member is plain, any other an `Option` that is left out when it is `None`. A payload that is streamed is
//! no member at all. A structure with sensitive members gets a `Debug` that hides them.

use super::model::{Model, Shape};
use super::{Plane, header, names};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The text of `control.rs` or `data.rs`.
pub(crate) fn types(plane: Plane, model: &Model) -> anyhow::Result<String> {
    let writer = Writer { plane, model };
    let mut out = header(&format!(
        "Structures, unions and enums of {}, {}, by the model's names.",
        model.metadata.service_id, model.metadata.api_version
    ));
    out.push_str("#![allow(missing_docs, reason = \"the names are the API's own; its reference describes them\")]\n");
    out.push_str("#![allow(clippy::large_enum_variant, reason = \"unions are as large as the model says\")]\n\n");
    let mut body = String::new();
    let mut seen = BTreeSet::new();
    for (name, shape) in model.shapes.iter().filter(|(_, shape)| shape.has_type()) {
        ensure!(
            seen.insert(names::type_name(name)),
            "two shapes would be called {}",
            names::type_name(name)
        );
        let text = match (shape.kind.as_str(), shape.union) {
            ("structure", false) => writer.structure(name, shape),
            ("structure", true) => writer.union(name, shape),
            _ => writer.string_enum(name, shape),
        };
        body.push_str(&text.with_context(|| format!("shape {name}"))?);
    }
    for (needle, import) in [
        ("BTreeMap<", "use std::collections::BTreeMap;"),
        ("Blob", "use crate::wire::Blob;"),
        ("Redacted", "use crate::wire::Redacted;"),
    ] {
        if body.contains(needle) {
            writeln!(out, "{import}")?;
        }
    }
    writeln!(out, "use super::{}_shapes as shapes;", plane.module())?;
    out.push_str("use crate::{Shape, Structure};\nuse serde::{Deserialize, Serialize};\nuse std::fmt;\n\n");
    Ok(out + &body)
}

struct Writer<'a> {
    plane: Plane,
    model: &'a Model,
}

/// A member as a field.
struct Field {
    ident: String,
    /// Type without `Option`.
    rust: String,
    required: bool,
    hidden: bool,
    attribute: String,
}

impl Writer<'_> {
    fn structure(&self, name: &str, shape: &Shape) -> anyhow::Result<String> {
        let ident = names::type_name(name);
        let fields = self.fields(name, shape)?;
        let hidden = shape.sensitive || fields.iter().any(|field| field.hidden);
        let mut derives = Vec::from_iter((!hidden).then_some("Debug"));
        derives.extend(["Clone", "PartialEq"]);
        derives.extend((!self.has_floats(name, &mut BTreeSet::new())?).then_some("Eq"));
        derives.extend(fields.iter().all(|field| !field.required).then_some("Default"));
        derives.extend(["Serialize", "Deserialize"]);
        let mut out = format!("#[derive({})]\npub struct {ident} {{\n", derives.join(", "));
        for Field {
            ident,
            rust,
            required,
            attribute,
            ..
        } in &fields
        {
            let rust = if *required {
                rust.clone()
            } else {
                format!("Option<{rust}>")
            };
            write!(out, "#[serde({attribute})]\npub {ident}: {rust},\n")?;
        }
        out.push_str("}\n\n");
        writeln!(out, "impl Structure for {ident} {{")?;
        writeln!(
            out,
            "fn shape() -> &'static Shape {{ &shapes::{} }}\n}}\n",
            names::constant(name)
        )?;
        if hidden {
            let fields: &[Field] = if shape.sensitive { &[] } else { &fields };
            out.push_str(&debug_of_structure(&ident, shape.sensitive, fields)?);
        }
        Ok(out)
    }

    fn fields(&self, name: &str, shape: &Shape) -> anyhow::Result<Vec<Field>> {
        let mut fields = Vec::new();
        for (member_name, member) in &shape.members {
            if shape.is_raw_payload(member_name, self.model)? {
                continue;
            }
            let required = shape.required.contains(member_name);
            let target = self.model.shape(&member.shape)?;
            let key = match (&member.location, &member.location_name) {
                (None, Some(wire_name)) => wire_name,
                _ => member_name,
            };
            let mut attributes = vec![format!("rename = {key:?}")];
            if let Some(module) = serde_timestamp(target)? {
                let option = if required { "" } else { "_option" };
                attributes.push(format!("with = \"crate::wire::{module}{option}\""));
            }
            if !required {
                attributes.push("default, skip_serializing_if = \"Option::is_none\"".to_owned());
            }
            let mut rust = self.rust_type(&member.shape)?;
            if self.contains_directly(&member.shape, name, &mut BTreeSet::new())? {
                rust = format!("Box<{rust}>");
            }
            fields.push(Field {
                ident: names::field(member_name),
                rust,
                required,
                hidden: self.is_sensitive(&member.shape)?,
                attribute: attributes.join(", "),
            });
        }
        Ok(fields)
    }

    fn union(&self, name: &str, shape: &Shape) -> anyhow::Result<String> {
        let ident = names::type_name(name);
        let mut hidden = shape.sensitive;
        let mut variants = String::new();
        let mut arms = String::new();
        for (member_name, member) in &shape.members {
            let variant = names::variant(member_name);
            let key = member.location_name.as_ref().unwrap_or(member_name);
            let with = match serde_timestamp(self.model.shape(&member.shape)?)? {
                Some(module) => format!(", with = \"crate::wire::{module}\""),
                None => String::new(),
            };
            let mut rust = self.rust_type(&member.shape)?;
            if self.contains_directly(&member.shape, name, &mut BTreeSet::new())? {
                rust = format!("Box<{rust}>");
            }
            write!(variants, "#[serde(rename = {key:?}{with})]\n{variant}({rust}),\n")?;
            if shape.sensitive || self.is_sensitive(&member.shape)? {
                hidden = true;
                writeln!(arms, "Self::{variant}(_) => f.write_str(\"{variant}(***)\"),")?;
            } else {
                writeln!(
                    arms,
                    "Self::{variant}(value) => f.debug_tuple({variant:?}).field(value).finish(),"
                )?;
            }
        }
        let mut derives = Vec::from_iter((!hidden).then_some("Debug"));
        derives.extend(["Clone", "PartialEq"]);
        derives.extend((!self.has_floats(name, &mut BTreeSet::new())?).then_some("Eq"));
        derives.extend(["Serialize", "Deserialize"]);
        let mut out = format!(
            "#[derive({})]\npub enum {ident} {{\n{variants}}}\n\n",
            derives.join(", ")
        );
        writeln!(out, "impl Structure for {ident} {{")?;
        writeln!(
            out,
            "fn shape() -> &'static Shape {{ &shapes::{} }}\n}}\n",
            names::constant(name)
        )?;
        if hidden {
            write!(
                out,
                "impl fmt::Debug for {ident} {{\nfn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {{\n\
                 match self {{\n{arms}}}\n}}\n}}\n\n"
            )?;
        }
        Ok(out)
    }

    fn string_enum(&self, name: &str, shape: &Shape) -> anyhow::Result<String> {
        let ident = names::type_name(name);
        let mut seen = BTreeSet::new();
        let (mut variants, mut arms, mut all) = (String::new(), String::new(), String::new());
        for value in &shape.values {
            let variant = names::variant(value);
            ensure!(
                !variant.is_empty() && seen.insert(variant.clone()),
                "value {value:?} has no name of its own"
            );
            write!(variants, "#[serde(rename = {value:?})]\n{variant},\n")?;
            writeln!(arms, "Self::{variant} => {value:?},")?;
            write!(all, "Self::{variant},")?;
        }
        let debug = if shape.sensitive { "" } else { "Debug, " };
        let mut out = format!(
            "#[derive({debug}Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]\n\
             pub enum {ident} {{\n{variants}}}\n\n\
             impl {ident} {{\n/// Every value, in the model's order.\npub const ALL: &'static [Self] = &[{all}];\n\n\
             /// The value on the wire.\n#[must_use]\npub fn as_str(self) -> &'static str {{\nmatch self {{\n{arms}}}\n}}\n}}\n\n\
             impl fmt::Display for {ident} {{\nfn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {{\n\
             f.write_str(self.as_str())\n}}\n}}\n\n"
        );
        if shape.sensitive {
            out.push_str(&debug_of_structure(&ident, true, &[])?);
        }
        Ok(out)
    }

    fn rust_type(&self, name: &str) -> anyhow::Result<String> {
        let shape = self.model.shape(name)?;
        Ok(match shape.kind.as_str() {
            _ if shape.has_type() => names::type_name(name),
            "structure" if shape.document => "serde_json::Value".to_owned(),
            "list" => format!("Vec<{}>", self.element(&shape.member, name)?),
            "map" => format!("BTreeMap<String, {}>", self.element(&shape.value, name)?),
            "string" => "String".to_owned(),
            "integer" => "i32".to_owned(),
            "long" => "i64".to_owned(),
            // Both as `f64`: an `f32` would change a number on its way through JSON.
            "float" | "double" => "f64".to_owned(),
            "boolean" => "bool".to_owned(),
            "timestamp" => "jiff::Timestamp".to_owned(),
            "blob" => "Blob".to_owned(),
            kind => bail!(
                "{}: shape {name} is a {kind}, which has no Rust type",
                self.plane.module()
            ),
        })
    }

    fn element(&self, reference: &Option<super::model::Reference>, name: &str) -> anyhow::Result<String> {
        let element = &reference
            .as_ref()
            .with_context(|| format!("{name} does not say of what"))?
            .shape;
        ensure!(
            self.model.shape(element)?.kind != "timestamp",
            "{name}: a list of timestamps is not supported yet"
        );
        self.rust_type(element)
    }

    /// Whether `Debug` must hide a member of this shape. A structure hides what it must by itself.
    fn is_sensitive(&self, name: &str) -> anyhow::Result<bool> {
        let shape = self.model.shape(name)?;
        let mut sensitive = shape.sensitive;
        if shape.kind != "structure" {
            for inner in shape.references() {
                sensitive = sensitive || self.is_sensitive(inner)?;
            }
        }
        Ok(sensitive)
    }

    /// Whether values of a shape hold floating point numbers, and so have no `Eq`.
    fn has_floats<'a>(&'a self, name: &'a str, seen: &mut BTreeSet<&'a str>) -> anyhow::Result<bool> {
        let shape = self.model.shape(name)?;
        if !seen.insert(name) || shape.eventstream {
            return Ok(false);
        }
        let mut found = matches!(shape.kind.as_str(), "float" | "double");
        for inner in shape.references() {
            found = found || self.has_floats(inner, seen)?;
        }
        Ok(found)
    }

    /// Whether a value of shape `name` holds one of `target` without a `Vec` or map between, and so needs a `Box`.
    fn contains_directly<'a>(
        &'a self,
        name: &'a str,
        target: &str,
        seen: &mut BTreeSet<&'a str>,
    ) -> anyhow::Result<bool> {
        if name == target {
            return Ok(true);
        }
        let shape = self.model.shape(name)?;
        if shape.kind != "structure" || !seen.insert(name) {
            return Ok(false);
        }
        let mut found = false;
        for inner in shape.references() {
            found = found || self.contains_directly(inner, target, seen)?;
        }
        Ok(found)
    }
}

/// The variant of `api::TimestampFormat` for a shape; epoch seconds are the protocol's default in bodies.
pub(crate) fn timestamp_format(shape: &Shape) -> anyhow::Result<&'static str> {
    Ok(match shape.timestamp_format.as_deref() {
        Some("iso8601") => "Iso8601",
        Some("unixTimestamp") | None => "EpochSeconds",
        Some("rfc822") => "HttpDate",
        Some(other) => bail!("unknown timestampFormat {other}"),
    })
}

/// The module of `api::wire` that writes a timestamp; `None` for any other shape.
fn serde_timestamp(shape: &Shape) -> anyhow::Result<Option<&'static str>> {
    if shape.kind != "timestamp" {
        return Ok(None);
    }
    Ok(Some(match timestamp_format(shape)? {
        "Iso8601" => "iso8601",
        "EpochSeconds" => "epoch_seconds",
        _ => "http_date",
    }))
}

fn debug_of_structure(ident: &str, whole: bool, fields: &[Field]) -> anyhow::Result<String> {
    let mut out =
        format!("impl fmt::Debug for {ident} {{\nfn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {{\n");
    if whole {
        write!(out, "f.write_str(\"{ident}(***)\")")?;
    } else {
        write!(out, "f.debug_struct({ident:?})")?;
        for Field {
            ident,
            required,
            hidden,
            ..
        } in fields
        {
            let name = ident.trim_start_matches("r#");
            match (hidden, required) {
                (true, true) => write!(out, ".field({name:?}, &Redacted(true))")?,
                (true, false) => write!(out, ".field({name:?}, &Redacted(self.{ident}.is_some()))")?,
                (false, _) => write!(out, ".field({name:?}, &self.{ident})")?,
            }
        }
        out.push_str(".finish()");
    }
    Ok(out + "\n}\n}\n\n")
}
