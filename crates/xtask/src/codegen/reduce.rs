//! From botocore's model of a service to what Eyot keeps of it.
//!
//! Every operation keeps its route and the names of its errors; the switched-on ones keep their input and output, and
//! with them every shape that can be reached. Exceptions are kept whole, because any operation may answer with one.

use super::Plane;
use super::model::Model;
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

/// Reads a plane's model below botocore's data directory and reduces it.
pub(crate) fn reduce(data: &Path, plane: Plane, switched_on: &[&str]) -> anyhow::Result<Model> {
    let path = data.join(plane.botocore_path());
    let mut model = Model::from_json(&read(&path)?).with_context(|| path.display().to_string())?;
    ensure!(
        model.metadata.protocol == "rest-json",
        "{}: only rest-json is supported",
        path.display()
    );
    model.botocore = botocore_version(data)?;
    keep(&mut model, switched_on)?;
    Ok(model)
}

/// Drops everything that is not switched on.
pub(crate) fn keep(model: &mut Model, switched_on: &[&str]) -> anyhow::Result<()> {
    let mut waiting: Vec<String> = model.exceptions().map(|(name, _)| name.clone()).collect();
    for operation in model.operations.values_mut() {
        if switched_on.contains(&operation.name.as_str()) {
            waiting.extend(
                [&operation.input, &operation.output]
                    .into_iter()
                    .flatten()
                    .map(|one| one.shape.clone()),
            );
        } else {
            operation.input = None;
            operation.output = None;
        }
    }
    let mut reached = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        waiting.extend(
            model
                .shape(&name)?
                .references()
                .filter(|one| !reached.contains(*one))
                .map(str::to_owned),
        );
        reached.insert(name);
    }
    model.shapes.retain(|name, _| reached.contains(name));
    Ok(())
}

/// Reads `service-2.json`, or `service-2.json.gz` where there is only that.
fn read(path: &Path) -> anyhow::Result<String> {
    if path.is_file() {
        return std::fs::read_to_string(path).with_context(|| path.display().to_string());
    }
    let packed = path.with_extension("json.gz");
    let file = std::fs::File::open(&packed)
        .with_context(|| format!("{}: is this botocore's data directory?", packed.display()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .with_context(|| packed.display().to_string())?;
    Ok(text)
}

/// botocore says its version in the `__init__.py` beside its data directory.
fn botocore_version(data: &Path) -> anyhow::Result<String> {
    let path = data.join("../__init__.py");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: no botocore beside its data directory", path.display()))?;
    for line in text.lines() {
        if let Some(version) = line.strip_prefix("__version__ = ") {
            return Ok(version.trim().trim_matches(['\'', '"']).to_owned());
        }
    }
    bail!("{}: no line `__version__ = ...`", path.display())
}
