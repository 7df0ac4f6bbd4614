//! `eyot iam users`.

use super::Iam;
use http::Method;
use serde_json::{Value, json};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List users.
    List,
    /// Make a user; `eyot iam keys create` gives it a key, `eyot iam policies put` rights.
    Create(Name),
    /// Show a user with its keys and the names of its policies.
    Show(Name),
    /// Delete a user with its keys and policies; its keys are refused at once.
    Delete(Name),
}

#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// Name of the user.
    #[arg(value_name = "USER")]
    name: String,
}

const MEMBERS: [(&str, &str); 6] = [
    ("user", "/userName"),
    ("id", "/userId"),
    ("arn", "/arn"),
    ("created", "/createdAt"),
    ("policies", "/policies"),
    ("access keys", "/accessKeyIds"),
];

pub(super) async fn run(command: Command, iam: &Iam) -> anyhow::Result<()> {
    match command {
        Command::List => {
            let users: Vec<Value> = iam.all("users").await?.into_iter().map(with_ids).collect();
            let columns = [
                ("USER", "/userName"),
                ("ID", "/userId"),
                ("CREATED", "/createdAt"),
                ("POLICIES", "/policies"),
                ("ACCESS KEYS", "/accessKeyIds"),
            ];
            iam.list("users", &users, &columns, "no users; `eyot iam users create` makes one")
        }
        Command::Create(Name { name }) => {
            let user = iam
                .send(Method::POST, &["users"], json!({"userName": name}).to_string())
                .await?;
            iam.show(&user, &MEMBERS)
        }
        Command::Show(Name { name }) => iam.show(&with_ids(iam.get(&["users", &name]).await?), &MEMBERS),
        Command::Delete(Name { name }) => {
            iam.delete(&["users", &name]).await?;
            iam.done(&format!("user {name} is deleted, and its keys are refused from now on"));
            Ok(())
        }
    }
}

/// The ids of a user's keys, as a list of their own for the table.
fn with_ids(mut user: Value) -> Value {
    let keys = user.get("accessKeys").and_then(Value::as_array);
    let ids = keys.map(|keys| keys.iter().filter_map(|key| key.get("accessKeyId").cloned()).collect());
    if let (Some(ids), Some(user)) = (ids, user.as_object_mut()) {
        user.insert("accessKeyIds".to_owned(), Value::Array(ids));
    }
    user
}
