//! The control calls that several commands make.

use super::{Client, Error, encode};
use http::Method;
use serde_json::Value;

/// As many as a page may have.
const PAGE: u32 = 100;

/// A runtime in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) arn: String,
}

impl Client {
    /// Every runtime, page by page.
    pub(crate) async fn runtimes(&self) -> Result<Vec<Found>, Error> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let next = token.map(|t| format!("&nextToken={}", encode(&t))).unwrap_or_default();
            let page = self
                .control(Method::POST, &format!("/runtimes/?maxResults={PAGE}{next}"), None)
                .await?;
            let items = page.get("agentRuntimes").and_then(Value::as_array);
            for item in items.ok_or_else(|| Error::Unreadable("the list has no agentRuntimes".to_owned()))? {
                all.push(Found {
                    name: text(item, "agentRuntimeName")?,
                    id: text(item, "agentRuntimeId")?,
                    arn: text(item, "agentRuntimeArn")?,
                });
            }
            token = page.get("nextToken").and_then(Value::as_str).map(str::to_owned);
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    /// What GetAgentRuntime says of the latest version.
    pub(crate) async fn runtime(&self, id: &str) -> Result<Value, Error> {
        self.control(Method::GET, &format!("/runtimes/{}/", encode(id)), None)
            .await
    }

    /// What GetAgentRuntimeEndpoint says.
    pub(crate) async fn endpoint(&self, id: &str, name: &str) -> Result<Value, Error> {
        let target = format!("/runtimes/{}/runtime-endpoints/{}/", encode(id), encode(name));
        self.control(Method::GET, &target, None).await
    }
}

/// A member that the model requires.
pub(crate) fn text(document: &Value, name: &str) -> Result<String, Error> {
    let found = document.get(name).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Error::Unreadable(format!("it has no {name}")))
}
