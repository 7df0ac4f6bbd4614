//! Credentials of this server's own roles, from its directory of identities.

use super::{Error, Roles, Temporary, Wanted};
use crate::artifacts::Secret;
use async_trait::async_trait;
use iam::Directory;
use iam::sts::{ForSession, Revoke};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long they are good for, unless the role allows less: as long as a server may need that has forgotten them.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Issues what the directory's roles allow. A role's trust policy must let `bedrock-agentcore.amazonaws.com` assume it, for
/// the runtime's ARN where it asks for that.
#[derive(Debug, Clone)]
pub struct Own(Arc<Directory>);

impl Own {
    /// Over a directory.
    #[must_use]
    pub fn new(directory: Arc<Directory>) -> Self {
        Self(directory)
    }
}

#[async_trait]
impl Roles for Own {
    async fn issue(&self, wanted: &Wanted<'_>) -> Result<Temporary, Error> {
        let issued = self.0.issue_for_session(&ForSession {
            role_arn: wanted.role_arn.to_owned(),
            session_name: wanted.session_name.to_owned(),
            lifetime: LIFETIME,
            tags: BTreeMap::new(),
            source_arn: Some(wanted.source.to_string()),
        });
        let issued = issued.map_err(|error| told(wanted.role_arn, error))?;
        Ok(Temporary {
            access_key_id: issued.access_key_id,
            secret_access_key: Secret::new(issued.secret.as_str()),
            session_token: Secret::new(issued.session_token.as_str()),
            expires_at: issued.expires,
        })
    }

    async fn revoke(&self, access_key_id: &str, expires_at: Timestamp) -> Result<(), Error> {
        let credential = Revoke::Credential {
            id: access_key_id.to_owned(),
            expires: Some(expires_at),
        };
        let revoked = self.0.revoke(credential).await;
        revoked.map_err(|error| Error::Unavailable(error.to_string()))
    }
}

/// What the owner of the runtime is told.
fn told(role_arn: &str, error: iam::Error) -> Error {
    use iam::Error::{Denied, Invalid, NotFound, Quota};
    match error {
        Denied(_) | NotFound(_) | Invalid { .. } | Quota(_) => Error::Refused(format!(
            "role '{role_arn}' cannot be had for the agent: {error} It must exist here, and its trust policy must allow \
             sts:AssumeRole to bedrock-agentcore.amazonaws.com"
        )),
        other => {
            tracing::error!(role = role_arn, error = %other, "credentials could not be issued");
            Error::Unavailable(format!(
                "credentials of role '{role_arn}' cannot be issued now; the server's log says why"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::session::testing::deployment;
    use domain::Clock;
    use iam::directory::{NewRole, Parts};
    use iam::names::Holder;
    use storage::seal::MasterKey;

    const ROLE: &str = "arn:aws:iam::123456789012:role/agent";

    async fn directory(dir: &tempfile::TempDir) -> Arc<Directory> {
        let master = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
        let parts = Parts {
            records: Arc::new(Memory::default()),
            master: Arc::new(master),
            account: deployment().arn.account,
            clock: Clock::system(),
        };
        Arc::new(Directory::open(parts).await.unwrap())
    }

    async fn role(directory: &Directory, name: &str, source: &str) {
        let trust_policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "Service": "bedrock-agentcore.amazonaws.com" }, "Action": "sts:AssumeRole",
            "Condition": { "ArnLike": { "aws:SourceArn": source } },
        }]});
        let new = NewRole {
            holder: Holder::from_role_arn("roleArn", &format!("arn:aws:iam::123456789012:role/{name}")).unwrap(),
            trust_policy: trust_policy.to_string(),
            max_session: None,
            description: None,
        };
        directory.create_role(new).await.unwrap();
    }

    #[tokio::test]
    async fn credentials_are_issued_as_the_trust_policy_says_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(&dir).await;
        let own = Own::new(Arc::clone(&directory));
        let source = deployment().arn;
        let wanted = |role_arn| Wanted {
            role_arn,
            session_name: "session-1",
            source: &source,
        };
        let refused = |issued: Result<Temporary, Error>| match issued.unwrap_err() {
            Error::Refused(said) => assert!(said.contains("bedrock-agentcore.amazonaws.com"), "{said}"),
            other => panic!("{other}"),
        };
        refused(own.issue(&wanted(ROLE)).await);
        role(&directory, "agent", &source.to_string()).await;
        role(
            &directory,
            "others",
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/other-*",
        )
        .await;
        refused(own.issue(&wanted("arn:aws:iam::123456789012:role/others")).await);
        refused(own.issue(&wanted("not an ARN")).await);
        let issued = own.issue(&wanted(ROLE)).await.unwrap();
        let token = issued.session_token.reveal().as_bytes();
        let found = directory.find(&issued.access_key_id, Some(token));
        assert!(found.is_ok());
        own.revoke(&issued.access_key_id, issued.expires_at).await.unwrap();
        assert!(directory.find(&issued.access_key_id, Some(token)).is_err());
        own.revoke("ASIANEVERISSUED0000", issued.expires_at).await.unwrap();
        directory.close().await;
    }
}
