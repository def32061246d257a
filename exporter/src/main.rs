//! The program `mfsre-exporter`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mfsre_exporter::main()
}
