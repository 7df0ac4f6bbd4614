//! ARNs of runtimes and endpoints.
//!
//! `arn:aws:bedrock-agentcore:REGION:ACCOUNT:runtime/ID` and the same with `/runtime-endpoint/NAME`. Some of AWS's IAM
//! pages write `/endpoint/NAME`; both are read, the first is written.

use crate::id::{AccountId, EndpointName, Invalid, Region, RuntimeId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The ARN of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuntimeArn {
    /// Region of the runtime.
    pub region: Region,
    /// Account that owns the runtime.
    pub account: AccountId,
    /// The runtime.
    pub id: RuntimeId,
}

/// The ARN of an endpoint of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointArn {
    /// The runtime that the endpoint belongs to.
    pub runtime: RuntimeArn,
    /// The endpoint's name.
    pub endpoint: EndpointName,
}

/// Either kind of ARN that Eyot owns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ResourceArn {
    /// A runtime.
    Runtime(RuntimeArn),
    /// An endpoint.
    Endpoint(EndpointArn),
}

const EXPECTED: &str = "an ARN such as arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/NAME-0123456789";

impl ResourceArn {
    /// Reads an ARN of a runtime or of an endpoint.
    pub fn parse(value: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid {
            value: value.chars().take(64).collect(),
            expected: EXPECTED,
        };
        let mut resource = value;
        let mut next = || {
            let (piece, rest) = cut(resource, b':').ok_or_else(invalid)?;
            resource = rest;
            Ok(piece)
        };
        let (arn, partition, service) = (next()?, next()?, next()?);
        let (region, account) = (next()?, next()?);
        let known_partition = partition == "aws" || partition.starts_with("aws-");
        if arn != "arn" || !known_partition || service != "bedrock-agentcore" {
            return Err(invalid());
        }
        let Some(("runtime", path)) = cut(resource, b'/') else {
            return Err(invalid());
        };
        let (id, below) = cut(path, b'/').map_or((path, None), |(id, below)| (id, Some(below)));
        let runtime = RuntimeArn {
            region: Region::parse(region)?,
            account: AccountId::parse(account)?,
            id: RuntimeId::parse(id)?,
        };
        match below.map(|below| cut(below, b'/')) {
            None => Ok(Self::Runtime(runtime)),
            // No endpoint's name has a slash.
            Some(Some(("runtime-endpoint" | "endpoint", name))) if !name.contains('/') => {
                Ok(Self::Endpoint(EndpointArn {
                    runtime,
                    endpoint: EndpointName::parse(name)?,
                }))
            }
            Some(_) => Err(invalid()),
        }
    }

    /// The runtime that the resource is or belongs to.
    #[must_use]
    pub fn runtime(&self) -> &RuntimeArn {
        match self {
            Self::Runtime(arn) => arn,
            Self::Endpoint(arn) => &arn.runtime,
        }
    }
}

impl RuntimeArn {
    /// The ARN of one of this runtime's endpoints.
    #[must_use]
    pub fn endpoint(&self, endpoint: EndpointName) -> EndpointArn {
        EndpointArn {
            runtime: self.clone(),
            endpoint,
        }
    }
}

impl fmt::Display for RuntimeArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "arn:aws:bedrock-agentcore:{}:{}:runtime/{}",
            self.region, self.account, self.id
        )
    }
}

impl fmt::Display for ResourceArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(arn) => arn.fmt(f),
            Self::Endpoint(arn) => arn.fmt(f),
        }
    }
}

impl fmt::Display for EndpointArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/runtime-endpoint/{}", self.runtime, self.endpoint)
    }
}

/// Before and behind the first such byte, which must be ASCII. Pieces of an ARN are so short that `str::split_once`
/// costs several times as much.
fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let found = text.bytes().position(|byte| byte == at)?;
    Some((&text[..found], &text[found + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_both_spellings_of_an_endpoint() {
        let base = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a-0123456789";
        let Ok(ResourceArn::Runtime(arn)) = ResourceArn::parse(base) else {
            panic!("{base}")
        };
        assert_eq!(arn.to_string(), base);
        for spelling in ["runtime-endpoint", "endpoint"] {
            let parsed = ResourceArn::parse(&format!("{base}/{spelling}/prod")).unwrap();
            assert_eq!(
                parsed,
                ResourceArn::Endpoint(arn.endpoint(EndpointName::parse("prod").unwrap()))
            );
        }
    }

    #[test]
    fn refuses_what_is_not_ours() {
        for bad in [
            "",
            "arn",
            "arn:aws:s3:us-west-2:123456789012:runtime/a-0123456789",
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:gateway/a-0123456789",
            "arn:aws:bedrock-agentcore:us-west-2:1234:runtime/a-0123456789",
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a-0123456789/runtime-endpoint",
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a-0123456789/runtime-endpoint/x/y",
        ] {
            assert!(ResourceArn::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = ResourceArn::parse(&text);
        }

        #[test]
        fn what_is_written_is_read_back(name in "[a-zA-Z][a-zA-Z0-9_]{0,47}", tail in "[a-zA-Z0-9]{10}", endpoint in "[a-zA-Z][a-zA-Z0-9_]{0,47}") {
            let arn = RuntimeArn {
                region: Region::parse("eu-west-1").unwrap(),
                account: AccountId::parse("123456789012").unwrap(),
                id: RuntimeId::parse(&format!("{name}-{tail}")).unwrap(),
            };
            prop_assert_eq!(ResourceArn::parse(&arn.to_string()), Ok(ResourceArn::Runtime(arn.clone())));
            let arn = arn.endpoint(EndpointName::parse(&endpoint).unwrap());
            prop_assert_eq!(ResourceArn::parse(&arn.to_string()), Ok(ResourceArn::Endpoint(arn)));
        }
    }
}
