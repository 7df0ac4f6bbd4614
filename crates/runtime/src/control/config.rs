//! How much may exist, and how fast callers may call.

use crate::throttle::Rates;
use serde::{Deserialize, Serialize};

/// The `[quotas]` part of the configuration. The defaults are AWS's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Agent runtimes. Default 1000.
    pub runtimes: u32,
    /// Versions of one runtime. Default 1000; numbers end at 99999 in any case.
    pub versions_per_runtime: u32,
    /// Endpoints of one runtime, `DEFAULT` included. Default 10.
    pub endpoints_per_runtime: u32,
    /// Bytes of all names and values of a version's environment variables together. Default 4096.
    pub environment_bytes: usize,
    /// How fast callers may call.
    pub rates: Rates,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            runtimes: 1000,
            versions_per_runtime: 1000,
            endpoints_per_runtime: 10,
            environment_bytes: 4096,
            rates: Rates::default(),
        }
    }
}
