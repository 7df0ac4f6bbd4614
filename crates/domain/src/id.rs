//! Ids as types of their own, each with its grammar.
//!
//! Grammars come from the published service model (`AgentCore model: bedrock-agentcore-control 2023-06-05`). A value
//! of one of these types has been checked, except where a constructor says otherwise.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a string is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' is not {expected}")]
pub struct Invalid {
    /// What was given, cut to 64 characters.
    pub value: String,
    /// The grammar in words.
    pub expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the grammar and keeps the text.
            pub fn parse(value: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> bool = $check;
                if check(value) {
                    Ok(Self(value.to_owned()))
                } else {
                    Err(Invalid { value: value.chars().take(64).collect(), expected: $expected })
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// So that a map can be asked with a text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(value: String) -> Result<Self, Invalid> {
                Self::parse(&value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;
            fn from_str(value: &str) -> Result<Self, Invalid> {
                Self::parse(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// A letter, then at most `max - 1` letters, digits and underscores.
fn is_name(value: &str, max: usize) -> bool {
    value.len() <= max
        && value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A name, `-`, ten letters or digits.
fn is_runtime_id(value: &str) -> bool {
    match value.rsplit_once('-') {
        Some((name, tail)) => is_name(name, 100) && tail.len() == 10 && tail.bytes().all(|b| b.is_ascii_alphanumeric()),
        None => false,
    }
}

text_id!(
    /// An AWS account number.
    AccountId, |v| v.len() == 12 && v.bytes().all(|b| b.is_ascii_digit()), "an account id of 12 digits"
);
text_id!(
    /// A region's name, such as `us-west-2`.
    Region,
    |v| (1..=32).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
    "a region name of lower-case letters, digits and '-'"
);
text_id!(
    /// The name that a user gives a runtime.
    RuntimeName, |v| is_name(v, 48), "a runtime name: a letter, then up to 47 letters, digits or '_'"
);
text_id!(
    /// A runtime's id: its name, `-`, and ten random letters or digits.
    RuntimeId, is_runtime_id, "a runtime id: the runtime's name, '-', and ten letters or digits"
);
text_id!(
    /// An endpoint's name; `DEFAULT` is made with every runtime.
    EndpointName, |v| is_name(v, 48), "an endpoint name: a letter, then up to 47 letters, digits or '_'"
);
text_id!(
    /// A session's id, chosen by the client. AWS's request shape asks for 33 to 256 characters; visible ASCII here.
    SessionId,
    |v| (33..=256).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_graphic()),
    "a session id of 33 to 256 visible ASCII characters"
);
text_id!(
    /// A sandbox's id: lower-case letters and digits, safe as a file name and a cgroup name.
    SandboxId,
    |v| (8..=40).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
    "a sandbox id of lower-case letters and digits"
);

impl RuntimeId {
    /// A new id for a runtime of this name.
    #[must_use]
    pub fn generate(name: &RuntimeName) -> Self {
        Self(format!("{name}-{}", random_tail()))
    }
}

impl EndpointName {
    /// The endpoint that every runtime has and that follows its latest version.
    #[must_use]
    pub fn default_endpoint() -> Self {
        Self("DEFAULT".to_owned())
    }

    /// Whether this is `DEFAULT`.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == "DEFAULT"
    }
}

impl SessionId {
    /// An id for a caller that brought none: a UUID, 36 characters.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

impl SandboxId {
    /// A new id that sorts by time of creation.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }
}

/// Ten random letters and digits, as AWS appends to a resource's name.
#[must_use]
pub fn random_tail() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let random = uuid::Uuid::new_v4();
    // Bytes 6 and 8 of a v4 UUID carry version bits; the ten others taken here are random.
    [0, 1, 2, 3, 4, 5, 10, 11, 12, 13]
        .iter()
        .map(|&i| char::from(ALPHABET[usize::from(random.as_bytes()[i]) % 62]))
        .collect()
}

/// A runtime version's number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

impl Version {
    /// The version that creation makes.
    pub const FIRST: Self = Self(1);

    /// Reads `[1-9][0-9]{0,4}`.
    pub fn parse(value: &str) -> Result<Self, Invalid> {
        let ok = (1..=5).contains(&value.len()) && !value.starts_with('0') && value.bytes().all(|b| b.is_ascii_digit());
        match value.parse() {
            Ok(number) if ok => Ok(Self(number)),
            _ => Err(Invalid {
                value: value.chars().take(64).collect(),
                expected: "a version number from 1 to 99999",
            }),
        }
    }

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtime_ids_have_a_name_and_a_tail_of_ten() {
        for good in ["a-0123456789", "my_agent-AbCdEf1234"] {
            assert_eq!(RuntimeId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a",
            "a-012345678",
            "1a-0123456789",
            "a-01234567_9",
            "a-b-0123456789",
            "-0123456789",
        ] {
            assert!(RuntimeId::parse(bad).is_err(), "{bad}");
        }
        let name = RuntimeName::parse("my_agent").unwrap();
        assert!(RuntimeId::parse(RuntimeId::generate(&name).as_str()).is_ok());
    }

    #[test]
    fn session_ids_are_33_to_256_visible_characters() {
        assert!(SessionId::parse(&"x".repeat(32)).is_err());
        assert!(SessionId::parse(&"x".repeat(33)).is_ok());
        assert!(SessionId::parse(&"x".repeat(256)).is_ok());
        assert!(SessionId::parse(&"x".repeat(257)).is_err());
        assert!(SessionId::parse(&format!("{} {}", "x".repeat(20), "y".repeat(20))).is_err());
        assert!(SessionId::parse(SessionId::generate().as_str()).is_ok());
    }

    #[test]
    fn versions_have_no_leading_zero() {
        assert_eq!(Version::parse("12"), Ok(Version(12)));
        for bad in ["", "0", "01", "100000", "1a", "+1"] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
    }
}
