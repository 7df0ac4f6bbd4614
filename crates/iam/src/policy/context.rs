//! What a decision may know about a call besides who, what and on which resource.
//!
//! The front door implements [`Context`] over the request at hand. Nothing is asked for that no condition and no
//! variable of a policy names, so a value may be computed when it is asked for. The keys that it offers:
//!
//! | key | value |
//! |---|---|
//! | `aws:SourceIp` | the caller's address, [`Value::Ip`] |
//! | `aws:PrincipalArn` | of a role's session the role's ARN, otherwise the caller's own; none for a bearer token |
//! | `aws:PrincipalAccount`, `aws:PrincipalType` | `Account`, `User` or `AssumedRole`; none for a bearer token |
//! | `aws:userid`, `aws:username` | the latter only for a user |
//! | `aws:CurrentTime`, `aws:EpochTime` | both [`Value::Time`] |
//! | `aws:SecureTransport` | [`Value::Bool`] |
//! | `aws:UserAgent`, `aws:RequestedRegion`, `aws:ResourceAccount` | |
//! | `aws:RequestTag/NAME`, `aws:ResourceTag/NAME`, `aws:PrincipalTag/NAME` | |
//! | `aws:TagKeys` | several: the names of the request's tags |
//! | `bedrock-agentcore:*` | as the operation has them, such as `bedrock-agentcore:subnets` |
//!
//! Invariant: a value that does not exist is `None`, never an empty text; an empty list counts as `None`.

use jiff::Timestamp;
use std::borrow::Cow;
use std::net::IpAddr;

/// Where condition keys and policy variables get their values.
pub trait Context {
    /// The values of a key, or `None` where the call has none. `key` is in ASCII lower case, the part behind a `/`
    /// too: AWS compares keys, and the names of tags in them, without regard to case.
    fn get(&self, key: &str) -> Option<Values<'_>>;
}

/// What a key has.
#[derive(Debug, Clone)]
pub enum Values<'a> {
    /// The one value of a single-valued key.
    One(Value<'a>),
    /// The values of a multi-valued key.
    Many(Vec<Value<'a>>),
}

/// One value, in the form that costs least to compare.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Any text; operators for dates, numbers, addresses and so on read it.
    Text(Cow<'a, str>),
    /// A moment: for texts `2026-11-25T16:00:00Z`, for numbers seconds since 1970.
    Time(Timestamp),
    /// An address.
    Ip(IpAddr),
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
}

/// A context without any key.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoContext;

impl Context for NoContext {
    fn get(&self, _key: &str) -> Option<Values<'_>> {
        None
    }
}

impl<'a> Values<'a> {
    /// A single text.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::One(Value::Text(text.into()))
    }

    /// Several texts.
    pub fn texts<T: Into<Cow<'a, str>>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Many(texts.into_iter().map(|text| Value::Text(text.into())).collect())
    }

    pub(super) fn as_slice(&self) -> &[Value<'a>] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    /// The value if there is exactly one: what a variable may stand for.
    pub(super) fn single(self) -> Option<Value<'a>> {
        match self {
            Self::One(value) => Some(value),
            Self::Many(mut values) if values.len() == 1 => values.pop(),
            Self::Many(_) => None,
        }
    }
}

impl Value<'_> {
    /// As text operators see it.
    pub(super) fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Time(time) => Cow::Owned(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            Self::Ip(ip) => Cow::Owned(ip.to_string()),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Integer(number) => Cow::Owned(number.to_string()),
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            other => Cow::Owned(other.as_text().into_owned()),
        }
    }
}
