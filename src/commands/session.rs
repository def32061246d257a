use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::Date;

use crate::cli::Global;
use crate::config::{Environment, Project};
use crate::error::{IoContext as _, Result};
use crate::ops::{Context, Options};
use crate::ui::{Console, OutputFormat, Printer, Prompt};
use crate::workflow::Cancellation;

/// What every command needs.
pub(super) struct Session {
    pub(super) global: Global,
    pub(super) printer: Printer,
    pub(super) console: Arc<Console>,
    pub(super) today: Date,
}

impl Session {
    pub(super) fn new(global: Global, printer: Printer) -> Result<Self> {
        let console = Arc::new(Console::new(printer.clone()));
        Ok(Self {
            global,
            printer,
            console,
            today: Zoned::now().date(),
        })
    }

    pub(super) fn project(&self) -> Result<Project> {
        Ok(Project::find(self.global.project.as_deref())?)
    }

    /// Loads an environment and shows its warnings.
    pub(super) fn environment(&self, project: &Project, name: &str) -> Result<Environment> {
        let loaded = project.load(name, self.today)?;
        match self.printer.format {
            OutputFormat::Text => self
                .printer
                .diagnostic(&loaded.warnings.render(self.printer.color_stderr())),
            OutputFormat::Json => self.printer.remember(
                loaded
                    .warnings
                    .to_json()
                    .into_iter()
                    .filter_map(|diagnostic| serde_json::to_value(diagnostic).ok()),
            ),
        }
        Ok(loaded.environment)
    }

    pub(super) fn executable(&self) -> Result<PathBuf> {
        std::env::current_exe().or_cannot(|| "find the path of this program".into())
    }

    /// The context of an operation that listens for Ctrl-C.
    pub(super) fn context(&self, environment: &str, options: impl FnOnce(&mut Options)) -> Result<Context> {
        let project = self.project()?;
        let environment = self.environment(&project, environment)?;
        let private = project.private(environment.name.as_str());
        let mut dir = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(dir.recursive(true), 0o700);
        dir.create(&private)
            .or_cannot(|| format!("create {}", private.display()))?;
        let mut chosen = Options {
            push: false,
            timeout: Duration::from_secs(900),
            purge: false,
            force: false,
            executable: self.executable()?,
        };
        options(&mut chosen);
        let cancellation = Cancellation::on_signals().or_cannot(|| "listen for signals".into())?;
        let prompt = Prompt {
            console: self.console.clone(),
            no_input: self.global.no_input,
            cancellation: cancellation.clone(),
        };
        Ok(Context::new(
            project,
            environment,
            chosen,
            Arc::new(prompt),
            self.console.clone(),
            cancellation,
        ))
    }
}
