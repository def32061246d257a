use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use super::Console;
use crate::error::{Error, IoContext as _, Result};
use crate::workflow::Confirm;

/// Asks at the terminal.
pub struct Prompt {
    /// The live display, which makes room.
    pub console: Arc<Console>,
    /// Whether asking is forbidden.
    pub no_input: bool,
}

impl Confirm for Prompt {
    fn confirm(&self, question: &str) -> Result<bool> {
        if self.no_input || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Error::usage(format!("this needs an answer: {question}"))
                .cause("there is no terminal to ask at, or --no-input was given")
                .hint("add --yes if that is what you want"));
        }
        self.console.suspend(|| {
            let mut err = std::io::stderr().lock();
            write!(err, "  ? {question} [y/N] ")
                .and_then(|()| err.flush())
                .or_cannot(|| "ask at the terminal".into())?;
            let mut answer = String::new();
            std::io::stdin()
                .read_line(&mut answer)
                .or_cannot(|| "read the answer".into())?;
            Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::ui::{ColorChoice, OutputFormat, Printer};

    #[test]
    fn where_nobody_can_be_asked_nothing_is_assumed() {
        let printer = Printer {
            format: OutputFormat::Text,
            color: ColorChoice::Never,
            verbosity: 0,
            warnings: Arc::default(),
        };
        let prompt = Prompt {
            console: Arc::new(Console::new(printer)),
            no_input: true,
        };
        let error = prompt.confirm("apply this plan?").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains("apply this plan?"));
        assert!(error.hints[0].contains("--yes"));
    }
}
