//! Who makes a call.

use crate::id::AccountId;

/// A caller whose credentials have been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The account that the credentials belong to.
    pub account: AccountId,
    /// `arn:aws:iam::123456789012:root` for the root access key.
    pub arn: String,
    /// The access key that signed the call.
    pub access_key_id: String,
}

impl Principal {
    /// The account's root, who may do everything in the account.
    #[must_use]
    pub fn root(account: AccountId, access_key_id: String) -> Self {
        let arn = format!("arn:aws:iam::{account}:root");
        Self {
            account,
            arn,
            access_key_id,
        }
    }
}
