//! The agent that ships inside this program, as an archive that can be deployed.

use super::pack;
use super::release::Release;
use crate::client::Payload;
use domain::id::RuntimeName;

/// `examples/sample-agent`, built by this crate's build script: a static program that needs nothing of the host.
pub(crate) static SAMPLE_AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/eyot-sample-agent"));

const FILE: &str = "sample-agent";

/// The sample agent under a name. The managed runtime is only a label: a native program runs without one.
pub(crate) fn release(name: RuntimeName) -> anyhow::Result<(Release, Payload)> {
    let release = Release {
        name,
        runtime: super::USUAL_PYTHON.to_owned(),
        entry_point: vec![format!("./{FILE}")],
        environment: Vec::new(),
        description: Some("The agent that ships inside eyot".to_owned()),
        role_arn: None,
    };
    Ok((release, Payload::Memory(pack::single(FILE, SAMPLE_AGENT)?.into())))
}
