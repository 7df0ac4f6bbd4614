//! `eyot`: an agent runtime of one's own that speaks the Amazon Bedrock AgentCore API.
//!
//! This crate puts the pieces together and holds no rules: [`serve`] assembles the server, [`deploy`] and [`invoke`]
//! are its clients, [`sessions`] its windows and [`iam`] its keys, [`traces`] sends spans to a collector, [`quickstart`] is
//! both at once for a newcomer.

mod client;
mod config;
mod data_dir;
mod deploy;
mod env;
mod iam;
mod invoke;
mod master_key;
mod node;
mod print;
mod quickstart;
mod serve;
mod sessions;
mod traces;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run AI agents in sandboxes of their own, behind the Amazon Bedrock AgentCore API.
#[derive(Debug, Parser)]
#[command(name = "eyot", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See an agent answer: start a server, deploy a sample agent, invoke it, keep serving.
    Quickstart(quickstart::Args),
    /// Serve the AgentCore control and data planes.
    Serve(serve::Args),
    /// Print the variables that point boto3, the AWS CLI and the AWS SDKs at a running server.
    Env(env::Args),
    /// Pack a directory, upload it, and make it a runtime or a new version of one.
    Deploy {
        #[command(flatten)]
        args: deploy::Args,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// See, stop and follow sessions, and what they used.
    Sessions {
        #[command(flatten)]
        args: sessions::Args,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Manage users, access keys, roles and policies.
    Iam {
        #[command(flatten)]
        args: iam::Args,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Send a payload to an agent and print its answer as it arrives.
    Invoke {
        #[command(flatten)]
        args: invoke::Args,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Which server a client command talks to.
#[derive(Debug, Args)]
struct ServerArgs {
    /// Data directory of the running server; used unless AWS_ENDPOINT_URL_BEDROCK_AGENTCORE is set.
    #[arg(long, env = "EYOT_DATA_DIR", value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Configuration file of the running server; needed only where that says that its master key is not in the data
    /// directory. EYOT__MASTER_KEY__ variables say it as well.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl ServerArgs {
    async fn connection(&self) -> anyhow::Result<client::Connection> {
        match env::connection_from_variables(|name| std::env::var(name).ok())? {
            Some(connection) => Ok(connection),
            None => {
                let dir = data_dir::resolve(self.data_dir.clone());
                env::connection_from_data_dir(&dir, &config::master_key(self.config.as_deref())?).await
            }
        }
    }
}

fn main() -> ExitCode {
    // A second provider that appeared later in the dependency tree would make rustls panic at its first use.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    let result = async_runtime()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli.command)));
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// A worker for every second core, unless `TOKIO_WORKER_THREADS` says otherwise: agents need cores too, and waking a
/// second worker for each event cost a quarter of a call's CPU on two cores.
fn async_runtime() -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        builder.worker_threads((cores / 2).max(1));
    }
    builder
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Quickstart(args) => quickstart::run(args).await?,
        Command::Serve(args) => serve::run(args).await?,
        Command::Env(args) => env::run(args).await?,
        Command::Deploy { args, server } => deploy::run(args, server.connection().await?).await?,
        Command::Sessions { args, server } => return sessions::run(args, server.connection().await?).await,
        Command::Iam { args, server } => iam::run(args, server.connection().await?).await?,
        Command::Invoke { args, server } => invoke::run(args, server.connection().await?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "the last word of a command-line program")]
pub(crate) fn report(error: &anyhow::Error) {
    eprintln!("eyot: {error:#}");
}
