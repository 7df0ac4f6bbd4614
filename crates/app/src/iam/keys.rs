//! `eyot iam keys`.

use super::Iam;
use crate::print::{Output, note};
use http::Method;
use serde_json::{Value, json};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List a user's access keys and when they were last used.
    List(User),
    /// Make an access key and print its secret, this once. A user has at most two.
    Create(User),
    /// Make an access key in the place of another, which is refused at once. To have both work for a time, create a
    /// second one and delete the first later.
    Rotate(Key),
    /// Refuse what is signed with a key, until it is enabled again.
    Disable(Key),
    /// Accept a disabled key again.
    Enable(Key),
    /// Delete a key; it is refused at once.
    Delete(Key),
}

#[derive(Debug, clap::Args)]
pub(super) struct User {
    /// Whose.
    #[arg(long, value_name = "USER")]
    user: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Key {
    #[command(flatten)]
    of: User,
    /// Id of the key.
    #[arg(value_name = "ID")]
    id: String,
}

const MEMBERS: [(&str, &str); 5] = [
    ("access key", "/accessKeyId"),
    ("secret", "/secretAccessKey"),
    ("enabled", "/enabled"),
    ("created", "/createdAt"),
    ("last used", "/lastUsedAt"),
];

pub(super) async fn run(command: Command, iam: &Iam) -> anyhow::Result<()> {
    match command {
        Command::List(User { user }) => {
            let document = iam.get(&["users", &user, "keys"]).await?;
            let keys = document.get("accessKeys").and_then(Value::as_array);
            let columns = [
                ("ACCESS KEY", "/accessKeyId"),
                ("ENABLED", "/enabled"),
                ("CREATED", "/createdAt"),
                ("LAST USED", "/lastUsedAt"),
            ];
            let none = format!("user {user} has no access keys; `eyot iam keys create --user {user}` makes one");
            iam.list("accessKeys", keys.map_or(&[], Vec::as_slice), &columns, &none)
        }
        Command::Create(User { user }) => made(
            iam,
            &iam.send(Method::POST, &["users", &user, "keys"], String::new()).await?,
        ),
        Command::Rotate(Key { of, id }) => {
            let path = ["users", &of.user, "keys", &id, "rotate"];
            made(iam, &iam.send(Method::POST, &path, String::new()).await?)
        }
        Command::Disable(key) => enable(iam, key, false).await,
        Command::Enable(key) => enable(iam, key, true).await,
        Command::Delete(Key { of, id }) => {
            iam.delete(&["users", &of.user, "keys", &id]).await?;
            iam.done(&format!("key {id} is deleted, and refused from now on"));
            Ok(())
        }
    }
}

fn made(iam: &Iam, key: &Value) -> anyhow::Result<()> {
    iam.show(key, &MEMBERS)?;
    if iam.output == Output::Table {
        note("This is the only time that the secret is shown: keep it now. If it is lost, rotate the key.");
    }
    Ok(())
}

async fn enable(iam: &Iam, Key { of, id }: Key, enabled: bool) -> anyhow::Result<()> {
    let body = json!({"enabled": enabled}).to_string();
    let key = iam.send(Method::PATCH, &["users", &of.user, "keys", &id], body).await?;
    iam.show(&key, &MEMBERS)
}
