//! The program `mfsre`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mfsre::commands::main()
}
