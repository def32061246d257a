use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Session;
use crate::cli::Cli;
use crate::error::Result;

pub(super) fn run(session: &Session, shell: Shell) -> Result<u8> {
    // Hidden commands are for the program itself, and the generator knows no difference.
    let mut command = Cli::command().mut_subcommand("sandbox", |sandbox| {
        let visible = sandbox.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
        let about = sandbox.get_about().cloned();
        Command::new("sandbox")
            .about(about.unwrap_or_default())
            .subcommands(visible.collect::<Vec<_>>())
    });
    // Not straight to standard output, where a reader that goes away would be a panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "mfsre", &mut script);
    session.printer.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(0)
}
