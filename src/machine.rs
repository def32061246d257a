//! What tells this machine and its user from others.

/// Identifies the machine since its last start; empty where the system does not say (random(4)).
pub(crate) fn boot() -> String {
    read_trimmed("/proc/sys/kernel/random/boot_id")
}

/// The machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Who is at work.
pub(crate) fn user() -> String {
    std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()))
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
