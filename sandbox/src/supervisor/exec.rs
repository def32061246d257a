//! The last step before a part runs: tie its life to the supervisor's.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::Error;

/// Replaces this process by `program`, which is killed as soon as the process `parent` ends, even by SIGKILL.
///
/// Returns only if that failed. It exists as a process of its own because doing this between fork and exec of the
/// supervisor would need unsafe code.
#[must_use]
pub fn exec(parent: u32, program: &OsStr, arguments: &[OsString]) -> Error {
    let failed = |message: String| Error::Internal {
        action: format!("run {}", program.display()),
        message,
        next: "check that the file exists and is executable".to_owned(),
    };
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
        return failed(format!("its life cannot be tied to the supervisor's: {error}"));
    }
    // The supervisor may have ended before the line above took effect.
    let actual = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if actual != Some(parent) {
        return failed(format!("the supervisor (process {parent}) has ended"));
    }
    failed(Command::new(program).args(arguments).exec().to_string())
}
