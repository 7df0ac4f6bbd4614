//! What a driver is told by its operator.

use domain::Clock;
use std::path::PathBuf;

/// Where sandboxes are kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// A directory of the drivers' own, made if it is not there; one server at a time uses it. Each sandbox has a
    /// directory in it, by which a later server finds it again.
    pub state_dir: PathBuf,
    /// Dates the records.
    pub clock: Clock,
    /// The epoch of this server's lease on the state directory. A guest obeys no server of a lower epoch than it has seen.
    pub epoch: u64,
}
