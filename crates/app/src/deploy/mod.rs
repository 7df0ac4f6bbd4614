//! `eyot deploy`: from a directory to a runtime that answers.
//!
//! Read in this order: `pack` (directory to archive), `requirements` (Python dependencies beside it), `release`
//! (upload, create or update, wait until it serves), `sample` (the agent that ships inside this program).

mod pack;
pub(crate) mod release;
mod requirements;
pub(crate) mod sample;

#[cfg(test)]
mod tests;

use crate::client::{Client, Connection};
use anyhow::{Context, bail};
use domain::id::RuntimeName;
use release::{Change, Release};
use sandbox::managed::Runtimes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Looked for in this order when no entry point is named.
const USUAL_ENTRY_POINTS: &[&str] = &["main.py", "index.mjs", "index.js", "main.mjs", "main.js"];

/// Used when this machine has no interpreter to go by.
const USUAL_PYTHON: &str = "PYTHON_3_11";
const USUAL_NODE: &str = "NODE_22";

/// Arguments of `eyot deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with the agent's code. A requirements.txt in it is installed into the package.
    dir: PathBuf,
    /// Name of the runtime: a letter, then up to 47 letters, digits or '_' [default: made from the directory's name].
    #[arg(long)]
    name: Option<String>,
    /// File that starts the agent, such as main.py or ./agent; a wrapper before it after a comma
    /// (opentelemetry-instrument,main.py) [default: main.py, else index.js and the like].
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    entry_point: Vec<String>,
    /// Managed runtime, such as PYTHON_3_11 [default: the newest Python of this machine; NODE_22 for JavaScript].
    #[arg(long)]
    runtime: Option<String>,
    /// Environment variable for the agent; may be repeated. An update keeps the others that the runtime has.
    #[arg(long, value_name = "K=V", value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// Description of the runtime.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Role that the runtime is created with; recorded, and needed by AWS's API [default: an own one].
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// Install requirements.txt afresh instead of reusing an earlier installation.
    #[arg(long)]
    no_cache: bool,
}

/// Packs, uploads, waits, and prints how to invoke the agent.
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let started = Instant::now();
    let dir = args
        .dir
        .canonicalize()
        .with_context(|| format!("there is no directory {}", args.dir.display()))?;
    if !dir.is_dir() {
        bail!(
            "{} is not a directory; name the one that holds the agent's code",
            args.dir.display()
        );
    }
    let name = match &args.name {
        Some(name) => RuntimeName::parse(name).context("--name")?,
        None => default_name(&dir),
    };
    let entry_point = entry_point(&dir, &args.entry_point)?;
    // Asking interpreters blocks, and nothing else goes on here.
    let interpreters = Runtimes::discover(BTreeMap::new());
    let runtime = match args.runtime {
        Some(runtime) if sandbox::managed::names().any(|known| known == runtime) => runtime,
        Some(runtime) => {
            let known: Vec<_> = sandbox::managed::names().collect();
            bail!("--runtime: there is no {runtime}; there are {}", known.join(", "));
        }
        None => default_runtime(&entry_point, &interpreters),
    };
    let installed = requirements::install(&dir, &runtime, interpreters.interpreter(&runtime), args.no_cache).await?;
    let package = tokio::task::spawn_blocking(move || pack::pack(&dir, installed.as_deref())).await??;
    progress(&format!("packed {} files, {}", package.files, human(package.size)));
    let payload = crate::client::Payload::from_file(package.archive).context("cannot read the packed archive")?;
    let release = Release {
        name,
        runtime,
        entry_point,
        environment: args.env,
        description: args.description,
        role_arn: args.role_arn,
    };
    let client = Client::new(connection);
    let deployed = release::deploy(&client, &release, payload, &progress).await?;
    let verb = match deployed.change {
        Change::Created => "created",
        Change::Updated => "updated",
    };
    let took = started.elapsed().as_secs_f64();
    progress(&format!(
        "{verb} {} version {}: READY after {took:.1} s",
        release.name, deployed.version
    ));
    println!("{}\n\n{}", deployed.arn, hints(&release.name, &deployed.arn));
    Ok(())
}

/// How to invoke an agent, ready to paste.
fn hints(name: &RuntimeName, arn: &str) -> String {
    format!(
        r#"Invoke it from a shell:
    eyot invoke {name} '{{"prompt": "Hello"}}'

or, after eval "$(eyot env)", from Python:
    import boto3
    client = boto3.client("bedrock-agentcore")
    answer = client.invoke_agent_runtime(
        agentRuntimeArn="{arn}",
        payload=b'{{"prompt": "Hello"}}',
    )
    print(answer["response"].read().decode())

The tag eyot:agent-errors=on of the runtime shows callers what the agent said when it fails."#
    )
}

/// A directory's name with what a runtime's name may not have replaced.
fn default_name(dir: &Path) -> RuntimeName {
    let base = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut name: String = base
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "agent_");
    }
    name.truncate(48);
    RuntimeName::parse(&name).expect("begins with a letter, and has letters, digits and '_' only")
}

/// The entry point asked for or the usual one. Its first word may also be a script that requirements.txt brings.
fn entry_point(dir: &Path, asked: &[String]) -> anyhow::Result<Vec<String>> {
    if asked.is_empty() {
        let found = USUAL_ENTRY_POINTS.iter().find(|name| dir.join(name).is_file());
        return match found {
            Some(name) => Ok(vec![(*name).to_owned()]),
            None => bail!(
                "{} has none of {}; name the agent's file with --entry-point",
                dir.display(),
                USUAL_ENTRY_POINTS.join(", ")
            ),
        };
    }
    if asked.len() > 2 || asked.iter().any(|word| word.is_empty() || word.len() > 128) {
        bail!("--entry-point: one file, or a wrapper and a file, of at most 128 characters each");
    }
    for (i, word) in asked.iter().enumerate() {
        let is_script = i == 0 && !word.contains(['/', '.']);
        let may_be_installed =
            is_script && (dir.join(requirements::FILE).is_file() || dir.join("bin").join(word).is_file());
        // A second word may be an argument rather than a file.
        let must_exist = i == 0 || Path::new(word).extension().is_some_and(|e| e == "py");
        if must_exist && !may_be_installed && !dir.join(word).is_file() {
            bail!("--entry-point: {} has no file {word}", dir.display());
        }
    }
    Ok(asked.to_vec())
}

fn default_runtime(entry_point: &[String], interpreters: &Runtimes) -> String {
    let extension = entry_point
        .last()
        .and_then(|word| Path::new(word).extension())
        .and_then(|e| e.to_str());
    if matches!(extension, Some("js" | "mjs" | "cjs")) {
        return USUAL_NODE.to_owned();
    }
    let pythons = interpreters
        .available()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("PYTHON_"));
    pythons.last().unwrap_or(USUAL_PYTHON).to_owned()
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME=VALUE")),
    }
}

fn human(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=999_999 => format!("{} kB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

/// One line of progress; standard output is for the result.
#[expect(clippy::print_stderr, reason = "progress of a command-line program")]
fn progress(line: &str) {
    eprintln!("{line}");
}
