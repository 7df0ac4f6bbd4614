//! Limits on all processes of a sandbox together, in the kernel's control groups.
//!
//! [`Tree`] finds out which controllers this process can use and where ([`find`] reads the mounts); [`Group`] is the set
//! of directories that one sandbox has, one for each hierarchy: a single one on v2, one for each controller on v1, or
//! some of both. A group is written into the sandbox's record, because a later server may stand elsewhere in the tree.
//!
//! [`freeze`] pauses a group's tasks and lets them run on.
//!
//! Invariant: a limit that was asked for and written is read back ([`Group::verify`]); a controller that is not there is
//! reported, never passed over in silence.

mod find;
mod freeze;
mod group;

pub(crate) use find::Tree;
pub(crate) use group::Group;

use serde::{Deserialize, Serialize};

/// What a sandbox needs controlled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Controller {
    /// Bytes of memory.
    Memory,
    /// Number of tasks.
    Pids,
    /// CPU time per period.
    Cpu,
    /// CPU time used so far; part of `Cpu` on v2.
    Cpuacct,
    /// Stopping all tasks and letting them run on; part of every group on v2.
    Freezer,
}

impl Controller {
    const ALL: [Self; 5] = [Self::Memory, Self::Pids, Self::Cpu, Self::Cpuacct, Self::Freezer];

    /// Whether a v2 group has it only if the group above gives it.
    fn is_given(self) -> bool {
        !matches!(self, Self::Cpuacct | Self::Freezer)
    }

    /// The kernel's name.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Freezer => "freezer",
        }
    }
}

/// Which interface a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Version {
    /// One hierarchy for each set of controllers.
    V1,
    /// The unified one.
    V2,
}
