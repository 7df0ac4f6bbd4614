//! What was measured on, in words that name no one's machine.

use nix::sys::utsname::uname;
use std::fs;
use std::thread;

/// The machine, for the report.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) is_virtual: bool,
    /// Whether the processor has instructions for SHA-256, on which a signature's cost depends.
    pub(crate) has_sha: bool,
    pub(crate) kernel: String,
    /// In bytes.
    pub(crate) memory: u64,
    /// Runnable and waiting tasks over the minute before the run.
    pub(crate) load: String,
}

pub(crate) fn describe() -> anyhow::Result<Machine> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let value = |names: &[&str]| {
        let mut pairs = cpu.lines().filter_map(|line| line.split_once(':'));
        pairs.find_map(|(name, value)| names.contains(&name.trim()).then(|| value.trim().to_owned()))
    };
    let flags = value(&["flags", "Features"]).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    let memory = fs::read_to_string("/proc/meminfo")?;
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(Machine {
        cores: thread::available_parallelism()?.get(),
        processor: value(&["model name", "Processor"]).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        is_virtual: has("hypervisor"),
        has_sha: has("sha_ni") || has("sha2"),
        kernel: uname()?.release().to_string_lossy().into_owned(),
        memory: total.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024,
        load: load.split(' ').next().unwrap_or_default().to_owned(),
    })
}
