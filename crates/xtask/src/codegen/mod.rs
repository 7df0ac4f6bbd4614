//! `cargo xtask codegen`: from the published service models to the generated part of the `api` crate.
//!
//! Two steps, so that building and testing never need botocore:
//! - `codegen --from <botocore's data directory>` reduces the published models to `crates/api/model/*.json`
//!   ([`reduce`]) and goes on with the second step;
//! - `codegen` turns the reduced models into `crates/api/src/generated/*.rs` ([`types`], [`tables`]), through rustfmt;
//! - `codegen --check` (and a test) only compares, and fails when the committed files are not what would be written.
//!
//! To switch an operation on, add its name to [`SWITCHED_ON`] and run the first step.
//!
//! Invariant: the same reduced model gives the same bytes on every machine.
//!
//! For `main.rs`: `pub mod codegen;`, and `codegen::run(&args)` with the arguments after `codegen`.

mod model;
mod names;
mod reduce;
mod tables;
mod types;

use anyhow::{Context as _, bail, ensure};
use model::Model;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The operations whose shapes and types are generated. Every other one is known by its route and answers 501.
const SWITCHED_ON: &[&str] = &[
    // control plane: runtimes, endpoints, tags, resource policies
    "CreateAgentRuntime",
    "CreateAgentRuntimeEndpoint",
    "DeleteAgentRuntime",
    "DeleteAgentRuntimeEndpoint",
    "DeleteResourcePolicy",
    "GetAgentRuntime",
    "GetAgentRuntimeEndpoint",
    "GetResourcePolicy",
    "ListAgentRuntimeEndpoints",
    "ListAgentRuntimeVersions",
    "ListAgentRuntimes",
    "ListTagsForResource",
    "PutResourcePolicy",
    "TagResource",
    "UntagResource",
    "UpdateAgentRuntime",
    "UpdateAgentRuntimeEndpoint",
    // data plane
    "InvokeAgentRuntime",
    "StopRuntimeSession",
];

/// Runs `cargo xtask codegen` with the arguments that follow the word `codegen`.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => write_generated(&repository()),
        ["--check"] => check(),
        ["--from", data] => {
            let root = repository();
            for plane in Plane::ALL {
                let reduced = reduce::reduce(Path::new(data), plane, SWITCHED_ON)?;
                write(&root.join(plane.model_path()), &reduced.to_json()?)?;
            }
            let known: Vec<Model> = load_models(&root)?;
            for name in SWITCHED_ON {
                ensure!(
                    known.iter().any(|model| model.operations.contains_key(*name)),
                    "no model has operation {name}"
                );
            }
            write_generated(&root)
        }
        _ => bail!("usage: cargo xtask codegen [--check | --from <botocore's data directory>]"),
    }
}

/// Fails when a committed generated file is not what the committed reduced models give.
pub fn check() -> anyhow::Result<()> {
    let root = repository();
    let mut stale = Vec::new();
    for (path, text) in generate(&load_models(&root)?, &root)? {
        if std::fs::read_to_string(root.join(&path)).ok().as_deref() != Some(&*text) {
            stale.push(path.display().to_string());
        }
    }
    ensure!(
        stale.is_empty(),
        "not fresh: {}; run `cargo xtask codegen` and commit the result",
        stale.join(", ")
    );
    Ok(())
}

/// One of the two published services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plane {
    Control,
    Data,
}

impl Plane {
    const ALL: [Self; 2] = [Self::Control, Self::Data];

    /// Name of the generated module, and of the reduced model's file.
    fn module(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Data => "data",
        }
    }

    /// Name of the variant of `api::Plane`.
    fn variant(self) -> &'static str {
        match self {
            Self::Control => "Control",
            Self::Data => "Data",
        }
    }

    /// Where botocore keeps the model, below its data directory.
    fn botocore_path(self) -> &'static str {
        match self {
            Self::Control => "bedrock-agentcore-control/2023-06-05/service-2.json",
            Self::Data => "bedrock-agentcore/2024-02-28/service-2.json",
        }
    }

    fn model_path(self) -> PathBuf {
        Path::new("crates/api/model").join(format!("{}.json", self.module()))
    }
}

fn load_models(root: &Path) -> anyhow::Result<Vec<Model>> {
    let mut models = Vec::new();
    for plane in Plane::ALL {
        let path = root.join(plane.model_path());
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: run `cargo xtask codegen --from <botocore's data directory>`",
                path.display()
            )
        })?;
        models.push(Model::from_json(&text).with_context(|| path.display().to_string())?);
    }
    Ok(models)
}

/// Every generated file, by its path in the repository.
fn generate(models: &[Model], root: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    let folder = Path::new("crates/api/src/generated");
    let mut modules = vec!["operations".to_owned()];
    for (plane, model) in Plane::ALL.into_iter().zip(models) {
        let module = plane.module();
        let types = types::types(plane, model).with_context(|| format!("types of {module}"))?;
        let shapes = tables::shapes(plane, model).with_context(|| format!("shapes of {module}"))?;
        files.push((folder.join(format!("{module}.rs")), types));
        files.push((folder.join(format!("{module}_shapes.rs")), shapes));
        modules.extend([module.to_owned(), format!("{module}_shapes")]);
    }
    files.push((folder.join("operations.rs"), tables::operations(models)?));
    files.push((folder.join("round_trip.rs"), tables::round_trip(models)));
    modules.sort();
    files.push((folder.join("mod.rs"), module_file(&modules)));
    for (path, text) in &mut files {
        *text = rustfmt(text, root).with_context(|| path.display().to_string())?;
    }
    Ok(files)
}

fn module_file(modules: &[String]) -> String {
    let mut out = header("What `cargo xtask codegen` writes; the order of reading is operations, shapes, types.");
    for module in modules {
        let visibility = if module.ends_with("_shapes") {
            "pub(crate)"
        } else {
            "pub"
        };
        out.push_str(&format!("{visibility} mod {module};\n"));
    }
    out.push_str("#[cfg(test)]\npub(crate) mod round_trip;\n");
    out
}

/// How each generated file starts.
fn header(doc: &str) -> String {
    format!("// @generated by `cargo xtask codegen` from crates/api/model; do not edit.\n//! {doc}\n\n")
}

fn write_generated(root: &Path) -> anyhow::Result<()> {
    for (path, text) in generate(&load_models(root)?, root)? {
        write(&root.join(path), &text)?;
    }
    Ok(())
}

/// Writes a file only when it changes, so that cargo does not rebuild for nothing.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if std::fs::read_to_string(path).ok().as_deref() == Some(text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn rustfmt(text: &str, root: &Path) -> anyhow::Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start rustfmt; install it with `rustup component add rustfmt`")?;
    let mut stdin = child.stdin.take().context("rustfmt has no standard input")?;
    // rustfmt reads everything before it writes anything, so that writing first cannot block.
    stdin.write_all(text.as_bytes()).context("rustfmt stopped reading")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "rustfmt refused the generated code");
    String::from_utf8(output.stdout).context("rustfmt wrote something that is not UTF-8")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[cfg(test)]
mod tests;
