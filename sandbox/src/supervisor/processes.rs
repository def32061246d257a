//! Looking at and ending processes by what they carry, not by numbers that the system may have given to another.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The variable that marks every process of a sandbox; its value is the sandbox's folder.
pub(crate) const MARKER: &str = "MFSRE_SANDBOX";

/// Every process, except this one, that was started for the sandbox in `dir`, by whomever and however deep.
#[cfg(target_os = "linux")]
pub(crate) fn of_sandbox(dir: &Path) -> Vec<u32> {
    let marker = format!("{MARKER}={}", dir.display()).into_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == marker))
        })
        .collect()
}

/// Every process, except this one, that was started for the sandbox in `dir`, by whomever and however deep.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of_sandbox(dir: &Path) -> Vec<u32> {
    let marker = format!("{MARKER}={}", dir.display());
    // `-E` adds each process's environment to its command.
    let Ok(output) = std::process::Command::new("ps")
        .args(["-Eaxww", "-o", "pid=,command="])
        .output()
    else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.split_whitespace().any(|word| word == marker))
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .collect()
}

/// Kills every process of the sandbox in `dir` and waits until they are gone; returns those there were.
pub(crate) async fn kill_all(dir: &Path) -> Vec<u32> {
    let began = Instant::now();
    let mut killed = Vec::new();
    loop {
        let left = of_sandbox(dir);
        if left.is_empty() || began.elapsed() > Duration::from_secs(10) {
            return killed;
        }
        for pid in left {
            signal(pid, Signal::KILL);
            if !killed.contains(&pid) {
                killed.push(pid);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends a signal to one process; one that has ended is fine.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = as_pid(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to a process group; one that has ended is fine.
pub(crate) fn signal_group(leader: u32, signal: Signal) {
    if let Some(leader) = as_pid(leader) {
        let _ = kill_process_group(leader, signal);
    }
}

fn as_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Resident memory of a process in bytes.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kilobytes
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}
