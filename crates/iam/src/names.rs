//! Names and ids as AWS forms them: users, roles, policies, sessions, access keys.
//!
//! A name is safe as a part of a record's key and of an ARN: it has no `/`, no `:` and no character that is not ASCII.

use aws_lc_rs::rand;
use domain::id::AccountId;
use std::fmt;
use zeroize::Zeroizing;

use crate::Error;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Somebody whom policies can be given to: a user or a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The account that it belongs to.
    pub account: AccountId,
    /// User or role.
    pub kind: HolderKind,
    /// Its name.
    pub name: String,
}

/// Which kind of holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HolderKind {
    /// A user, with access keys of its own.
    User,
    /// A role, which is assumed.
    Role,
}

impl Holder {
    /// A user.
    #[must_use]
    pub fn user(account: AccountId, name: &str) -> Self {
        Self {
            account,
            kind: HolderKind::User,
            name: name.to_owned(),
        }
    }

    /// A role.
    #[must_use]
    pub fn role(account: AccountId, name: &str) -> Self {
        Self {
            account,
            kind: HolderKind::Role,
            name: name.to_owned(),
        }
    }

    /// Reads `arn:aws:iam::123456789012:role/NAME`. `field` names the member that the ARN came in.
    pub fn from_role_arn(field: &'static str, arn: &str) -> Result<Self, Error> {
        let read = || {
            let (account, name) = arn.strip_prefix("arn:aws:iam::")?.split_once(":role/")?;
            Some(Self::role(
                AccountId::parse(account).ok()?,
                check("name", name, 64).ok()?,
            ))
        };
        read().ok_or_else(|| {
            let shown: String = arn.chars().take(64).collect();
            let problem = format!("'{shown}' is no ARN of a role such as arn:aws:iam::123456789012:role/NAME");
            Error::invalid(field, problem)
        })
    }

    /// `arn:aws:iam::123456789012:user/NAME` or `…:role/NAME`.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:{}/{}", self.account, self.kind.word(), self.name)
    }

    /// The error that says that there is no such holder.
    #[must_use]
    pub fn missing(&self) -> Error {
        Error::NotFound(format!("There is no {self}."))
    }
}

impl HolderKind {
    /// `user` or `role`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
        }
    }
}

/// As messages name it.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' in account {}", self.kind.word(), self.name, self.account)
    }
}

/// A name of 1 to `most` letters, digits and `_+=,.@-`. `field` names the member that it came in.
pub fn check<'a>(field: &'static str, name: &'a str, most: usize) -> Result<&'a str, Error> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if (1..=most).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(name);
    }
    let shown: String = name.chars().take(64).collect();
    let problem = format!("'{shown}' is no name: use 1 to {most} letters, digits and _+=,.@-");
    Err(Error::invalid(field, problem))
}

/// `prefix` and `count` random characters of base32: `AKIA` with 16 for a key's id, `AIDA` or `AROA` with 17.
pub(crate) fn random_id(prefix: &str, count: usize) -> Result<String, Error> {
    let mut random = [0_u8; 32];
    rand::fill(&mut random).map_err(|_| Error::Random)?;
    let mut id = String::with_capacity(prefix.len() + count);
    id.push_str(prefix);
    id.extend(random.iter().take(count).map(|byte| pick(BASE32, *byte)));
    Ok(id)
}

/// A secret of 40 characters with 240 random bits.
pub(crate) fn random_secret() -> Result<Zeroizing<String>, Error> {
    let mut random = Zeroizing::new([0_u8; 40]);
    rand::fill(random.as_mut()).map_err(|_| Error::Random)?;
    let mut secret = Zeroizing::new(String::with_capacity(random.len()));
    secret.extend(random.iter().map(|byte| pick(BASE64, *byte)));
    Ok(secret)
}

/// Both alphabets divide 256, so no character is likelier than another.
fn pick<const N: usize>(alphabet: &[u8; N], byte: u8) -> char {
    char::from(alphabet[usize::from(byte) % N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_arns_name_a_role() {
        let arn = "arn:aws:iam::123456789012:role/agent";
        let role = Holder::from_role_arn("RoleArn", arn).unwrap();
        assert_eq!((role.arn().as_str(), role.kind), (arn, HolderKind::Role));
        for bad in [
            "",
            "agent",
            "arn:aws:iam::12345678901:role/agent",
            "arn:aws:iam::123456789012:user/agent",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a/b",
            "arn:aws:sts::123456789012:assumed-role/agent/x",
        ] {
            let said = Holder::from_role_arn("RoleArn", bad).unwrap_err().to_string();
            assert!(said.starts_with("RoleArn: ") && said.contains(bad), "{said}");
        }
    }

    #[test]
    fn names_are_safe_in_keys_and_arns() {
        assert!(check("name", "a.b-c_d+e=f,g@h", 64).is_ok());
        for bad in ["", "a/b", "a:b", "ä", "a b", "a\0", &"x".repeat(65)] {
            assert!(check("name", bad, 64).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_have_their_form() {
        let id = random_id("AIDA", 17).unwrap();
        assert!(id.len() == 21 && id.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b)));
        assert_eq!(random_secret().unwrap().len(), 40);
    }
}
