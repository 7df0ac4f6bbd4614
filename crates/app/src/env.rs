//! `eyot env`: the variables that make unmodified AWS clients talk to a running server.
//!
//! The root key is read from the data directory itself, which only its owner can do; the server gives it to nobody.

use crate::client::Connection;
use crate::config;
use crate::data_dir::{self, DataDir, ServerFile};
use crate::master_key;
use anyhow::Context;
use clap::ValueEnum;
use std::path::PathBuf;

/// Arguments of `eyot env`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Data directory of the running server.
    #[arg(long, env = "EYOT_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file of the running server; needed only where that says that its master key is not in the data
    /// directory. EYOT__MASTER_KEY__ variables say it as well.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print: for `eval "$(eyot env)"`, or as a JSON object.
    #[arg(long, value_enum, default_value_t = Format::Shell)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Shell,
    Json,
}

/// Prints the variables to standard output.
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let master = config::master_key(args.config.as_deref())?;
    let variables = variables(&connection_from_data_dir(&data_dir::resolve(args.data_dir), &master).await?);
    match args.format {
        Format::Shell => variables
            .iter()
            .for_each(|(name, value)| println!("export {name}='{value}'")),
        Format::Json => {
            let object: serde_json::Map<_, _> = variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            println!("{}", serde_json::to_string_pretty(&object)?);
        }
    }
    Ok(())
}

const DATA_URL: &str = "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE";
const CONTROL_URL: &str = "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL";
const STS_URL: &str = "AWS_ENDPOINT_URL_STS";
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const REGION: &str = "AWS_REGION";

fn variables(connection: &Connection) -> Vec<(&'static str, String)> {
    vec![
        (DATA_URL, connection.data_url.clone()),
        (CONTROL_URL, connection.control_url.clone()),
        // Credentials of this server mean nothing to AWS's own STS.
        (STS_URL, connection.data_url.clone()),
        (KEY_ID, connection.access_key_id.clone()),
        (SECRET, connection.secret.clone()),
        (REGION, connection.region.clone()),
        // botocore before 1.43 reads only this name; the two must not disagree.
        ("AWS_DEFAULT_REGION", connection.region.clone()),
    ]
}

/// The connection that the AWS variables describe, if an endpoint is among them; an error if they are incomplete.
pub(crate) fn connection_from_variables(read: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Connection>> {
    let read = |name: &str| read(name).filter(|value| !value.is_empty());
    let (data_url, control_url) = (read(DATA_URL), read(CONTROL_URL));
    let Some(one) = data_url.clone().or_else(|| control_url.clone()) else {
        return Ok(None);
    };
    let need = |name: &str| {
        read(name).with_context(|| {
            format!("{DATA_URL} is set but {name} is not: run `eval \"$(eyot env)\"` or unset {DATA_URL}")
        })
    };
    Ok(Some(Connection {
        control_url: control_url.unwrap_or_else(|| one.clone()),
        data_url: data_url.unwrap_or(one),
        region: read(REGION)
            .or_else(|| read("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| "us-west-2".to_owned()),
        access_key_id: need(KEY_ID)?,
        secret: need(SECRET)?,
        session_token: read("AWS_SESSION_TOKEN"),
    }))
}

/// The connection to the server that runs on a data directory.
pub(crate) async fn connection_from_data_dir(dir: &DataDir, master: &master_key::Config) -> anyhow::Result<Connection> {
    let ServerFile { url, region, .. } = dir.server()?;
    let (access_key_id, secret) = crate::serve::read_root_key(dir, master).await.with_context(|| {
        format!(
            "cannot read the root key in {}; only its owner can",
            dir.path().display()
        )
    })?;
    Ok(Connection {
        control_url: url.clone(),
        data_url: url,
        region,
        access_key_id,
        secret,
        session_token: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_back() {
        let connection = Connection {
            control_url: "http://127.0.0.1:1".into(),
            data_url: "http://127.0.0.1:2".into(),
            region: "eu-west-1".into(),
            access_key_id: "AKIA".into(),
            secret: "secret".into(),
            session_token: None,
        };
        let set = variables(&connection);
        let read = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        let back = connection_from_variables(read).unwrap().unwrap();
        assert_eq!(
            (back.control_url, back.data_url),
            (connection.control_url, connection.data_url)
        );
        assert_eq!((back.region, back.secret), (connection.region, connection.secret));
    }

    #[test]
    fn an_endpoint_without_a_key_is_an_error_and_none_is_none() {
        assert!(connection_from_variables(|_| None).unwrap().is_none());
        let only_url = |name: &str| (name == DATA_URL).then(|| "http://127.0.0.1:1".to_owned());
        let message = connection_from_variables(only_url).unwrap_err().to_string();
        assert!(message.contains(KEY_ID), "{message}");
    }
}
