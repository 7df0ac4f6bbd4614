//! `eyot iam roles`.

use super::{Iam, read_json};
use http::Method;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List roles.
    List,
    /// Make a role.
    Create {
        #[command(flatten)]
        name: Name,
        /// File with the policy that says who may take the role; - reads standard input.
        #[arg(long, value_name = "FILE")]
        trust_policy: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change a role.
    Update {
        #[command(flatten)]
        name: Name,
        /// File with another trust policy; - reads standard input.
        #[arg(long, value_name = "FILE")]
        trust_policy: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Show a role; --output json also its trust policy.
    Show(Name),
    /// Delete a role; credentials that were issued for it are refused at once.
    Delete(Name),
}

#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// Name of the role.
    #[arg(value_name = "ROLE")]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// The longest life of the role's credentials, in seconds, 900 to 43200 [default: 3600].
    #[arg(long, value_name = "SECONDS")]
    max_session: Option<u32>,
    /// What the role is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

const MEMBERS: [(&str, &str); 7] = [
    ("role", "/roleName"),
    ("id", "/roleId"),
    ("arn", "/arn"),
    ("description", "/description"),
    ("max session", "/maxSessionDuration"),
    ("created", "/createdAt"),
    ("policies", "/policies"),
];

pub(super) async fn run(command: Command, iam: &Iam) -> anyhow::Result<()> {
    match command {
        Command::List => {
            let columns = [
                ("ROLE", "/roleName"),
                ("MAX SESSION", "/maxSessionDuration"),
                ("CREATED", "/createdAt"),
                ("POLICIES", "/policies"),
                ("DESCRIPTION", "/description"),
            ];
            let none = "no roles; `eyot iam roles create` makes one";
            iam.list("roles", &iam.all("roles").await?, &columns, none)
        }
        Command::Create {
            name: Name { name },
            trust_policy,
            settings,
        } => {
            let mut document = settings.document(Some(&trust_policy))?;
            document.insert("roleName".to_owned(), Value::from(name));
            let body = Value::Object(document).to_string();
            iam.show(&iam.send(Method::POST, &["roles"], body).await?, &MEMBERS)
        }
        Command::Update {
            name: Name { name },
            trust_policy,
            settings,
        } => {
            let document = settings.document(trust_policy.as_deref())?;
            if document.is_empty() {
                anyhow::bail!("nothing to change: give --trust-policy, --max-session or --description");
            }
            let body = Value::Object(document).to_string();
            iam.show(&iam.send(Method::PATCH, &["roles", &name], body).await?, &MEMBERS)
        }
        Command::Show(Name { name }) => iam.show(&iam.get(&["roles", &name]).await?, &MEMBERS),
        Command::Delete(Name { name }) => {
            iam.delete(&["roles", &name]).await?;
            iam.done(&format!(
                "role {name} is deleted, and its credentials are refused from now on"
            ));
            Ok(())
        }
    }
}

impl Settings {
    fn document(self, trust_policy: Option<&Path>) -> anyhow::Result<Map<String, Value>> {
        let mut document = Map::new();
        if let Some(path) = trust_policy {
            document.insert("trustPolicy".to_owned(), read_json(path)?);
        }
        if let Some(seconds) = self.max_session {
            document.insert("maxSessionDuration".to_owned(), Value::from(seconds));
        }
        if let Some(text) = self.description {
            document.insert("description".to_owned(), Value::from(text));
        }
        Ok(document)
    }
}
