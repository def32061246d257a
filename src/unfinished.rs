//! Files that are not in place yet.

use std::fs::Permissions;
use std::io;
use std::path::Path;

use rustix::process::{Pid, test_kill_process};
use tempfile::NamedTempFile;

/// What their names begin with; the number of the process that writes one follows.
const PREFIX: &str = ".mfsre-";

/// A file in `dir` that can be put in the place of another there. Those that killed processes have left are removed.
///
/// # Errors
/// It cannot be made.
pub(crate) fn unfinished_in(dir: &Path, permissions: Permissions) -> io::Result<NamedTempFile> {
    // Where they cannot be listed, they stay.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_orphan) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .permissions(permissions)
        .tempfile_in(dir)
}

/// Whether a file of this name is of a process that is no more.
fn is_orphan(name: &str) -> bool {
    let process = name
        .strip_prefix(PREFIX)
        .and_then(|rest| Pid::from_raw(rest.split_once('-')?.0.parse().ok()?));
    process.is_some_and(|process| test_kill_process(process) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_killed_processes_have_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let orphan = format!(".mfsre-{}-abc", ended.id());
        let kept = [
            format!(".mfsre-{}-abc", std::process::id()),
            ".mfsre-x".into(),
            "a".into(),
        ];
        for name in kept.iter().chain([&orphan]) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let file = unfinished_in(dir.path(), Permissions::from_mode(0o600)).unwrap();
        assert!(!dir.path().join(orphan).exists());
        assert!(kept.iter().all(|name| dir.path().join(name).exists()));
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), kept.len());
    }
}
