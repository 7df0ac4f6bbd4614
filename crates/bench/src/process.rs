//! What the kernel says about a process: processor time, peak memory, who is whose parent.

use anyhow::{Context as _, anyhow};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::time::Duration;

/// Processor time that a process has used, all its threads together, in the program and in the kernel.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let fields = stat(pid)?;
    let ticks = field(&fields, 14)? + field(&fields, 15)?;
    Ok(from_ticks(ticks))
}

/// The same together with the processes that it started, waited for, and that are no more.
pub(crate) fn processor_time_with_children(pid: u32) -> anyhow::Result<Duration> {
    let fields = stat(pid)?;
    let ticks: anyhow::Result<u64> = (14..=17).map(|number| field(&fields, number)).sum();
    Ok(from_ticks(ticks?))
}

/// Processor time of a process' first thread, finer than the ticks of [`processor_time`].
pub(crate) fn time_of_first_thread(pid: u32) -> anyhow::Result<Duration> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/schedstat")).with_context(|| format!("process {pid} is gone"))?;
    let first = text.split_whitespace().next().context("schedstat is empty")?;
    Ok(Duration::from_nanos(first.parse()?))
}

/// Processor time of the whole machine since it started: all of it, and what was not idle.
pub(crate) fn machine_time() -> anyhow::Result<(Duration, Duration)> {
    let text = fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().context("/proc/stat is empty")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted among the first two already.
    let ticks: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((from_ticks(all), from_ticks(all - idle)))
}

/// Forgets the peak of a process' memory; from here on it is counted anew.
pub(crate) fn reset_peak_memory(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
        .with_context(|| format!("resetting the peak memory of process {pid}"))
}

/// The most memory that a process had resident, in bytes.
pub(crate) fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    kibibytes(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// The memory that a process has resident, in bytes.
pub(crate) fn resident_memory(pid: u32) -> anyhow::Result<u64> {
    kibibytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The memory of a process in bytes, where a page that n processes share counts as an n-th.
pub(crate) fn own_memory(pid: u32) -> anyhow::Result<u64> {
    kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// What the kernel uses for the processes of the control group of this one, in bytes; `None` where it does not say.
pub(crate) fn kernel_memory(pid: u32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        if controllers.split(',').any(|controller| controller == "memory") {
            let file = format!("/sys/fs/cgroup/memory{path}/memory.kmem.usage_in_bytes");
            return fs::read_to_string(file).ok()?.trim().parse().ok();
        }
        let stat = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.stat")).ok()?;
        let kernel = stat.lines().find_map(|line| line.strip_prefix("kernel "));
        kernel.filter(|_| controllers.is_empty())?.parse().ok()
    })
}

/// A line such as `VmRSS:  123 kB` of a file.
fn kibibytes(file: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    let kib: u64 = value.with_context(|| format!("{file} has no {name}"))?.parse()?;
    Ok(kib * 1024)
}

/// Processes that were started with this variable, and can be looked into.
pub(crate) fn with_variable(variable: &str) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = all
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == variable.as_bytes())
    })
    .collect()
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> anyhow::Result<u32> {
    Ok(u32::try_from(field(&stat(pid)?, 4)?)?)
}

/// The fields of `/proc/PID/stat` from the third on; the second is a name that may hold anything.
fn stat(pid: u32) -> anyhow::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    let (_, fields) = text
        .rsplit_once(')')
        .ok_or_else(|| anyhow!("/proc/{pid}/stat has no name"))?;
    Ok(fields.to_owned())
}

/// A field by its number in `man proc`.
fn field(fields: &str, number: usize) -> anyhow::Result<u64> {
    let text = fields
        .split_whitespace()
        .nth(number - 3)
        .with_context(|| format!("there is no field {number}"))?;
    text.parse().with_context(|| format!("field {number}"))
}

fn from_ticks(ticks: u64) -> Duration {
    let rate = sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|rate| u64::try_from(rate).ok());
    // 100 on every Linux in use.
    Duration::from_millis(ticks * 1000 / rate.filter(|rate| *rate > 0).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_shows_as_processor_time_and_memory_as_a_peak() {
        let own = std::process::id();
        let (before, machine_before) = (processor_time(own).unwrap(), machine_time().unwrap());
        let end = Instant::now() + Duration::from_secs(20);
        while processor_time(own).unwrap() < before + Duration::from_millis(50) {
            assert!(Instant::now() < end, "a busy loop uses no time");
        }
        let machine = machine_time().unwrap();
        assert!(machine.0 >= machine_before.0 && machine.1 >= machine_before.1 + Duration::from_millis(40));

        reset_peak_memory(own).unwrap();
        let before = peak_memory(own).unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(peak_memory(own).unwrap() >= before + (60 << 20));
        assert!(resident_memory(own).unwrap() >= 64 << 20);
        assert!(own_memory(own).unwrap() >= 64 << 20);
        assert!(processor_time_with_children(own).unwrap() >= processor_time(own).unwrap() - Duration::from_millis(10));
        drop(block);
    }

    #[test]
    fn processes_are_found_by_a_variable() {
        let value = uuid::Uuid::new_v4().to_string();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("EYOT_BENCH_TEST", &value)
            .spawn()
            .unwrap();
        let found = with_variable(&format!("EYOT_BENCH_TEST={value}"));
        child.kill().unwrap();
        let parents: Vec<_> = found.iter().map(|pid| parent(*pid).unwrap()).collect();
        child.wait().unwrap();
        assert_eq!((found, parents), (vec![child.id()], vec![std::process::id()]));
    }
}
