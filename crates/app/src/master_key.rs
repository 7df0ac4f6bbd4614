//! Where the key comes from that seals secrets: a file in the data directory, a variable, or a command.
//!
//! The server and the commands that read the root key beside it use the same source, so these need the same
//! configuration.
//!
//! Invariant: a key is in no message. Invariant: only a file is ever made; a variable or a command that gives no key is
//! an error, never a reason to make another key.

use crate::data_dir::DataDir;
use anyhow::{Context, bail};
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use storage::seal::MasterKey;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

/// Bytes of a command's output; a key has 64.
const MOST: usize = 4096;

/// The `[master_key]` part of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the key comes from.
    pub(crate) source: Source,
    /// With `file`: the file, mode 0600, made at the first start. Default: `master.key` in the data directory.
    pub(crate) file: Option<PathBuf>,
    /// With `environment`: the variable that holds the key.
    pub(crate) variable: String,
    /// With `command`: the program and its arguments, run without a shell; it writes the key to its standard output.
    pub(crate) command: Vec<String>,
    /// How long the command may take.
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
}

/// Where the key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// A file.
    File,
    /// A variable of the environment.
    Environment,
    /// What a command writes.
    Command,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source: Source::File,
            file: None,
            variable: "EYOT_MASTER_KEY".to_owned(),
            command: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// The key; a file is made if there is none.
    pub(crate) async fn load_or_create(&self, dir: &DataDir) -> anyhow::Result<MasterKey> {
        match self.source {
            Source::File => Ok(MasterKey::load_or_create(&self.path(dir))?),
            _ => self.load(dir).await,
        }
    }

    /// The key, which must be there.
    pub(crate) async fn load(&self, dir: &DataDir) -> anyhow::Result<MasterKey> {
        match self.source {
            Source::File => MasterKey::load(&self.path(dir)).context(
                "if the server has its master key from elsewhere, give the same --config or EYOT__MASTER_KEY__ variables",
            ),
            Source::Environment => self.read_variable(std::env::var(&self.variable).ok().map(Zeroizing::new)),
            Source::Command => self.run_command().await,
        }
    }

    fn path(&self, dir: &DataDir) -> PathBuf {
        self.file.clone().unwrap_or_else(|| dir.master_key())
    }

    fn read_variable(&self, value: Option<Zeroizing<String>>) -> anyhow::Result<MasterKey> {
        let variable = &self.variable;
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            bail!(
                "master_key.source is 'environment', but the variable {variable} is not set: put the key of 64 hex digits \
                 into it (a new one: openssl rand -hex 32)"
            );
        };
        MasterKey::from_hex(&value)
            .with_context(|| format!("the variable {variable} does not hold a key of 64 hex digits"))
    }

    async fn run_command(&self) -> anyhow::Result<MasterKey> {
        let Some((program, arguments)) = self.command.split_first() else {
            bail!(
                "master_key.source is 'command', but master_key.command is empty: name a program and its arguments, such as \
                 [\"pass\", \"show\", \"eyot\"]"
            );
        };
        let named = format!("the master key's command '{program}'");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{named} cannot be started"))?;
        let output = child.stdout.take().context("a pipe that was asked for is missing")?;
        // Sized at once, so that growing leaves no copy of the key behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MOST));
        let run = async {
            output.take(MOST as u64).read_to_end(&mut text).await?;
            child.wait().await
        };
        let status = tokio::time::timeout(self.timeout, run)
            .await
            .with_context(|| format!("{named} did not end within {:?} (master_key.timeout)", self.timeout))?
            .with_context(|| format!("{named} cannot be waited for"))?;
        if !status.success() {
            bail!("{named} failed ({status}); what it wrote to standard error says why");
        }
        let key = std::str::from_utf8(&text).ok().and_then(MasterKey::from_hex);
        key.with_context(|| format!("{named} wrote something else than a key of 64 hex digits to its standard output"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

    fn dir() -> DataDir {
        crate::data_dir::resolve(Some(PathBuf::from("/nonexistent")))
    }

    fn command(script: &str) -> Config {
        Config {
            source: Source::Command,
            command: ["sh", "-c", script].map(str::to_owned).into(),
            timeout: Duration::from_secs(5),
            ..Config::default()
        }
    }

    async fn refused(config: &Config) -> String {
        format!("{:#}", config.load(&dir()).await.unwrap_err())
    }

    #[tokio::test]
    async fn a_command_writes_the_key() {
        let one = command(&format!("echo {KEY}")).load(&dir()).await.unwrap();
        let other = MasterKey::from_hex(KEY).unwrap();
        let sealed = one.seal("a", b"secret").unwrap();
        assert_eq!(other.open("a", &sealed).unwrap().as_slice(), b"secret");
    }

    #[tokio::test]
    async fn a_command_that_gives_no_key_says_what_is_wrong_and_not_what_it_wrote() {
        let check = async |config: Config, word: &str| {
            let said = refused(&config).await;
            assert!(said.contains(word) && !said.contains("0707"), "{said}");
        };
        check(command("echo 0707"), "something else than a key").await;
        check(command(&format!("echo {KEY}07")), "something else than a key").await;
        check(command(&format!("echo {KEY}; exit 3")), "exit status: 3").await;
        let slow = Config {
            timeout: Duration::from_millis(200),
            ..command("sleep 60")
        };
        check(slow, "did not end within 200ms").await;
        let none = Config {
            command: vec![],
            ..command("")
        };
        check(none, "master_key.command is empty").await;
        let missing = Config {
            command: vec!["/nonexistent/program".to_owned()],
            ..command("")
        };
        check(missing, "cannot be started").await;
    }

    #[test]
    fn a_variable_holds_the_key_or_is_an_error() {
        let config = Config {
            source: Source::Environment,
            ..Config::default()
        };
        let read = |value: Option<&str>| config.read_variable(value.map(|value| Zeroizing::new(value.to_owned())));
        assert!(read(Some(KEY)).is_ok());
        for (value, word) in [
            (None, "EYOT_MASTER_KEY is not set"),
            (Some(""), "is not set"),
            (Some("0707"), "64 hex digits"),
        ] {
            let said = format!("{:#}", read(value).unwrap_err());
            assert!(said.contains(word) && !said.contains("0707"), "{said}");
        }
    }

    #[tokio::test]
    async fn a_file_is_made_by_the_server_only() {
        let home = tempfile::tempdir().unwrap();
        let dir = crate::data_dir::resolve(Some(home.path().to_owned()));
        let config = Config::default();
        let said = format!("{:#}", config.load(&dir).await.unwrap_err());
        assert!(said.contains("EYOT__MASTER_KEY__"), "{said}");
        config.load_or_create(&dir).await.unwrap();
        config.load(&dir).await.unwrap();
        assert!(dir.master_key().exists());
    }
}
