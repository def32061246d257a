use std::io::IsTerminal as _;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Console;
use crate::cancellation::Cancellation;
use crate::error::{Error, IoContext as _, Result};
use crate::workflow::Confirm;

/// Asks at the terminal.
pub struct Prompt {
    /// The live display, which makes room.
    pub console: Arc<Console>,
    /// Whether asking is forbidden.
    pub no_input: bool,
    /// Ctrl-C is an answer too.
    pub cancellation: Cancellation,
}

impl Confirm for Prompt {
    fn possible(&self, question: &str) -> Result<()> {
        if self.no_input || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Error::usage(format!("this needs an answer: {question}"))
                .cause("there is no terminal to ask at, or --no-input was given")
                .hint("add --yes if that is what you want"));
        }
        Ok(())
    }

    fn confirm<'a>(&'a self, question: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.possible(question)?;
            self.console.ask(question);
            // A read from a terminal cannot be taken back: when the user stops, this thread is left to the end of the process.
            let answer = tokio::task::spawn_blocking(|| {
                let mut answer = String::new();
                std::io::stdin().read_line(&mut answer).map(|_| answer)
            });
            let answer = tokio::select! {
                biased;
                () = self.cancellation.cancelled() => {
                    self.console.answered(false);
                    return Err(Error::interrupted());
                }
                answer = answer => answer.map_err(std::io::Error::other).flatten().or_cannot(|| "read the answer".into())?,
            };
            // Without a line's end the input was closed, and the cursor still stands behind the question.
            self.console.answered(answer.ends_with('\n'));
            Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::ui::{ColorChoice, OutputFormat, Printer};

    #[tokio::test]
    async fn where_nobody_can_be_asked_nothing_is_assumed() {
        let printer = Printer {
            format: OutputFormat::Text,
            color: ColorChoice::Never,
            verbosity: 0,
            warnings: Arc::default(),
        };
        let prompt = Prompt {
            console: Arc::new(Console::new(printer)),
            no_input: true,
            cancellation: Cancellation::default(),
        };
        for error in [
            prompt.possible("apply this plan?").unwrap_err(),
            prompt.confirm("apply this plan?").await.unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Usage);
            assert!(error.message.contains("apply this plan?"));
            assert!(error.hints[0].contains("--yes"));
        }
    }
}
