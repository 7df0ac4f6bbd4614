//! `eyot iam policies`.

use super::{Iam, read};
use crate::print::{Output, note, print, print_json};
use http::Method;
use serde_json::Value;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the names of the policies of a user or a role.
    List(Whose),
    /// Print a policy.
    Get(Policy),
    /// Give a policy, or replace the one of this name; in force at once.
    Put {
        #[command(flatten)]
        policy: Policy,
        /// File with the policy; - reads standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take a policy away.
    Delete(Policy),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// Of this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Of this role.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Policy {
    #[command(flatten)]
    whose: Whose,
    /// Name of the policy.
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) async fn run(command: Command, iam: &Iam) -> anyhow::Result<()> {
    match command {
        Command::List(whose) => {
            let (kind, holder) = whose.place();
            let document = iam.get(&[kind, holder, "policies"]).await?;
            if iam.output == Output::Json {
                return print_json(&document);
            }
            let names = document.get("policies").and_then(Value::as_array);
            let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
            if names.is_empty() {
                note("no policies: nothing is allowed but what policies of resources allow");
            }
            print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())
        }
        Command::Get(Policy { whose, name }) => {
            let (kind, holder) = whose.place();
            print_json(&iam.get(&[kind, holder, "policies", &name]).await?)
        }
        Command::Put {
            policy: Policy { whose, name },
            file,
        } => {
            let (kind, holder) = whose.place();
            let path = [kind, holder, "policies", &name];
            iam.send(Method::PUT, &path, read(&file)?).await?;
            iam.done(&format!("policy {name} is in force"));
            Ok(())
        }
        Command::Delete(Policy { whose, name }) => {
            let (kind, holder) = whose.place();
            iam.delete(&[kind, holder, "policies", &name]).await?;
            iam.done(&format!("policy {name} is taken away"));
            Ok(())
        }
    }
}

impl Whose {
    /// The list that it is in, and its name. The command line has made sure that there is one of the two.
    fn place(&self) -> (&'static str, &str) {
        match (&self.user, &self.role) {
            (Some(user), _) => ("users", user),
            (None, role) => ("roles", role.as_deref().unwrap_or_default()),
        }
    }
}
