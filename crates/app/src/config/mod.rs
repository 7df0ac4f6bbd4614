//! What an operator can set, and where each value came from.
//!
//! Later sources win: built-in defaults, the `--config` file (TOML), environment variables `EYOT__SECTION__KEY`, then
//! command-line flags. A mistake is reported with the key's full name and the source that set it. Each component
//! documents its own section; this file only puts them side by side.
//!
//! Invariant: an unknown key is an error, so that a typing mistake never silently leaves a default in force.

mod layers;
#[cfg(test)]
mod reference;

use crate::traces;
use domain::id::{AccountId, Region};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use layers::Layers;

/// The whole configuration of `eyot serve`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address that both planes are served on. Anything but a loopback address should be used with TLS.
    pub(crate) listen: SocketAddr,
    /// Where all state is kept. Default: `$XDG_DATA_HOME/eyot`, else `~/.local/share/eyot`.
    pub(crate) data_dir: PathBuf,
    /// The region that this server plays; part of every ARN and of every signature.
    pub(crate) region: Region,
    /// The account that this server plays; part of every ARN.
    pub(crate) account: AccountId,
    /// How agents are isolated: `auto` takes the strongest that the host offers.
    pub(crate) driver: DriverChoice,
    /// Sockets, TLS, limits of requests.
    pub(crate) server: front_door::Config,
    /// Identity providers and their tokens.
    pub(crate) oauth: oauth::Settings,
    /// Where the key comes from that seals secrets.
    pub(crate) master_key: crate::master_key::Config,
    /// Identity providers whose tokens AssumeRoleWithWebIdentity takes: discovery URLs, each with the audiences that
    /// tokens may be made for.
    pub(crate) web_identity: crate::iam::WebIdentity,
    /// Who asked for what, and what was decided.
    pub(crate) audit: front_door::audit::Config,
    /// Runtimes, sessions, artifacts.
    pub(crate) runtime: runtime::Config,
    /// Which interpreters stand behind the managed runtimes, by their AWS name; the others are looked for on the host.
    /// Example: `interpreters.PYTHON_3_12 = "/opt/python3.12/bin/python3"`.
    pub(crate) interpreters: std::collections::BTreeMap<String, PathBuf>,
    /// What is logged, as a filter such as `info` or `runtime=debug,front_door=info`.
    pub(crate) log: String,
    /// How log lines are written to standard error.
    pub(crate) log_format: LogFormat,
    /// Spans of calls, sent to a collector.
    pub(crate) traces: traces::Config,
}

/// How agents are isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DriverChoice {
    /// The strongest driver that the host offers.
    Auto,
    /// Namespaces, seccomp, cgroups; refuses to start where the host cannot provide them.
    Container,
    /// None, for development.
    Process,
}

impl From<DriverChoice> for sandbox::Wanted {
    fn from(choice: DriverChoice) -> Self {
        match choice {
            DriverChoice::Auto => Self::Auto,
            DriverChoice::Container => Self::Container,
            DriverChoice::Process => Self::Process,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8780)),
            data_dir: default_data_dir(),
            region: Region::parse("us-west-2").expect("a well-formed region name"),
            account: AccountId::parse("123456789012").expect("twelve digits"),
            driver: DriverChoice::Auto,
            server: front_door::Config::default(),
            oauth: oauth::Settings::default(),
            master_key: crate::master_key::Config::default(),
            web_identity: crate::iam::WebIdentity::new(),
            audit: front_door::audit::Config::default(),
            runtime: runtime::Config::default(),
            interpreters: std::collections::BTreeMap::new(),
            log: "warn,eyot=info,runtime=info,front_door=info,sandbox=info,storage=info".to_owned(),
            log_format: LogFormat::Text,
            traces: traces::Config::default(),
        }
    }
}

/// Where a running server has its master key from, for commands that read the root key beside it: its configuration
/// file, if that is named, and its variables.
pub(crate) fn master_key(file: Option<&std::path::Path>) -> anyhow::Result<crate::master_key::Config> {
    let mut layers = Layers::default();
    if let Some(path) = file {
        layers.file(path)?;
    }
    let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    layers.environment(variables.filter(|(name, _)| name.starts_with("EYOT__MASTER_KEY__")))?;
    Ok(layers.read::<Config>()?.master_key)
}

/// `$EYOT_DATA_DIR` is clap's business; this is what holds without it.
pub(crate) fn default_data_dir() -> PathBuf {
    let base = std::env::var_os("XDG_DATA_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    base.or_else(home)
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("eyot")
}
