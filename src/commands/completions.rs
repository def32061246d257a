use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Result;

pub(super) fn run(shell: Shell) -> Result<u8> {
    clap_complete::generate(shell, &mut Cli::command(), "mfsre", &mut std::io::stdout());
    Ok(0)
}
