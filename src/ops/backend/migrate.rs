//! Moves a state from one backend to another without losing it.
//!
//! The order is what makes it safe to be killed anywhere: copies are kept first; the state is put into the new place and
//! read back; only then the old place is emptied, by a state that says where the old one went. That last write has the
//! next serial, so it is refused if somebody changed the state meanwhile. A run that finds the state in both places goes
//! on from there.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::place::{Site, StatePlace, is_not_newer, open, open_former};
use super::{backups, check_program, local_file, record, stamp};
use crate::config::Backend;
use crate::error::{Error, ErrorKind, IoContext as _, Result, remove_file};
use crate::ops::Context;
use crate::terraform::{Program, State};
use crate::text::counted;
use crate::workflow::{Confirm, Journal, Lock, Probe, Progress, Ran, Step, StepFuture, Steps, perform};

/// What `backend migrate` left behind.
#[derive(Debug, Serialize)]
pub struct MigrationSummary {
    /// Where the state was; `None` where no other place is known on this machine.
    pub from: Option<String>,
    /// Where it is.
    pub to: String,
    /// Whether this run moved it.
    pub moved: bool,
    /// Resources in it.
    pub resources: usize,
    /// Its serial.
    pub serial: Option<u64>,
    /// Its lineage.
    pub lineage: Option<String>,
    /// Copies of what was there before.
    pub backups: Vec<PathBuf>,
}

/// Moves the environment's state to the backend that its file names.
///
/// # Errors
/// The new place holds another state, somebody else is at work on either, or a place cannot be reached; run again, it
/// continues.
pub async fn migrate_backend(context: &mut Context, agreed: bool) -> Result<MigrationSummary> {
    let name = context.environment.name.to_string();
    let private = context.private();
    let _lock = Lock::acquire(&private, "backend migrate", &name)?;
    context.attach().await?;
    let program = Program::find(context.environment.terraform.program.as_deref()).await?;
    let wanted = context.environment.backend.clone();
    check_program(&program, &wanted)?;
    let former =
        record::former(&context.project, &context.environment).filter(|former| !former.holds_the_same(&wanted));
    let (mut journal, _) = Journal::open(&private, "backend migrate")?;
    let in_place = former.as_ref().is_some_and(|former| former.is_same_place(&wanted));
    let from = match &former {
        Some(former) => {
            check_program(&program, former)?;
            open_former(context, &program, former).await?
        }
        None => None,
    };
    let site = Site {
        name: "to",
        backend: &wanted,
        file: local_file(context),
        former: former.as_ref(),
    };
    let to = open(context, &program, &site).await?;
    let mut migration = Migration {
        from,
        to,
        in_place,
        from_name: former.as_ref().map(ToString::to_string).unwrap_or_default(),
        to_name: wanted.to_string(),
        environment: name,
        keep: Box::new(Keeper {
            context,
            program: &program,
            backend: Backend::Local {
                encryption: wanted
                    .encryption()
                    .or(former.as_ref().and_then(Backend::encryption))
                    .cloned(),
            },
        }),
        confirm: context.confirm.clone(),
        agreed,
        state: None,
        found: None,
        copy: None,
        backups: Vec::new(),
        moved: false,
    };
    let (reporter, cancellation) = (context.reporter.clone(), context.cancellation.clone());
    let performed = perform(&steps(), &mut migration, &mut journal, reporter.as_ref(), &cancellation).await;
    let summary = migration.summary();
    performed?;
    record::remember(&context.project, &context.environment, &wanted)?;
    write_backend_file(context)?;
    if matches!(former, Some(Backend::Local { .. })) {
        remove_local(context, in_place)?;
    }
    Ok(MigrationSummary {
        from: former.map(|former| former.to_string()),
        ..summary
    })
}

/// Removes what is left of a local state that was moved away: `init` would offer to copy it to the new backend. Also the
/// program's own copy of what it has replaced; ours is kept, and encrypted where the state is.
pub(super) fn remove_local(context: &Context, in_place: bool) -> Result<()> {
    let file = local_file(context);
    if !in_place {
        remove_file(&file)?;
    }
    remove_file(&file.with_extension("tfstate.backup"))
}

/// Renders the one file of the root module that says where the state is, so that Terraform called by hand finds it too.
fn write_backend_file(context: &Context) -> Result<()> {
    let infra = context.project.infra(context.environment.name.as_str());
    if !infra.is_dir() {
        return Ok(());
    }
    // Argo CD's manifest is no part of the root module.
    let tree = crate::ops::render_tree(&context.project, &context.environment, Some(&[]))?;
    let path = std::path::Path::new("infra")
        .join(context.environment.name.as_str())
        .join("backend.tf");
    match tree.get(&path) {
        Some(contents) => crate::render::tree::write_atomically(&context.project.root().join(path), contents),
        None => Ok(()),
    }
}

/// Keeps copies of states.
pub(super) trait Keep: Send + Sync {
    /// Keeps `state`; `what` says which one it is.
    fn keep<'a>(&'a self, what: &'a str, state: &'a State) -> BoxFuture<'a, Result<PathBuf>>;
}

/// Keeps them as files of local backends, so that a copy is encrypted like the state that it is of.
struct Keeper<'a> {
    context: &'a Context,
    program: &'a Program,
    backend: Backend,
}

impl Keep for Keeper<'_> {
    fn keep<'a>(&'a self, what: &'a str, state: &'a State) -> BoxFuture<'a, Result<PathBuf>> {
        Box::pin(async move {
            let file = backups(self.context)?.join(format!("{}-{what}.tfstate", stamp()));
            let site = Site {
                name: "backup",
                backend: &self.backend,
                file: file.clone(),
                former: None,
            };
            let place = open(self.context, self.program, &site).await?;
            place.push(state, true).await?;
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, private).or_cannot(|| format!("protect {}", file.display()))?;
            Ok(file)
        })
    }
}

/// What the steps share.
pub(super) struct Migration<'a> {
    pub(super) from: Option<Box<dyn StatePlace>>,
    pub(super) to: Box<dyn StatePlace>,
    /// Only the encryption differs.
    pub(super) in_place: bool,
    pub(super) from_name: String,
    pub(super) to_name: String,
    pub(super) environment: String,
    pub(super) keep: Box<dyn Keep + 'a>,
    pub(super) confirm: Arc<dyn Confirm>,
    pub(super) agreed: bool,
    /// What the old place holds, where that is something to move.
    pub(super) state: Option<State>,
    /// What the new place holds.
    pub(super) found: Option<State>,
    /// What has to be put there, and whether against the program's rules: over an empty state of another lineage.
    pub(super) copy: Option<(State, bool)>,
    pub(super) backups: Vec<PathBuf>,
    pub(super) moved: bool,
}

impl Migration<'_> {
    fn summary(&self) -> MigrationSummary {
        MigrationSummary {
            from: None,
            to: self.to_name.clone(),
            moved: self.moved,
            resources: self.found.as_ref().map_or(0, |s| s.resources),
            serial: self.found.as_ref().map(|s| s.serial),
            lineage: self.found.as_ref().map(|s| s.lineage.clone()),
            backups: self.backups.clone(),
        }
    }

    /// What has to be put into the new place, if anything.
    fn decide(&self) -> Result<Option<(State, bool)>> {
        let Some(state) = &self.state else {
            return Ok(None);
        };
        let with_serial = |serial| {
            state
                .with_serial(serial)
                .map_err(std::io::Error::from)
                .or_cannot(|| format!("read the state in {}", self.from_name))
        };
        if self.in_place {
            // A new serial has it written, although nothing else in it changes.
            return Ok(Some((with_serial(state.serial + 1)?, false)));
        }
        match &self.found {
            None => Ok(Some((state.clone(), false))),
            Some(found) if found.holds_the_same(state) => Ok(None),
            // An older version of the same state.
            Some(found) if found.lineage == state.lineage && found.serial < state.serial => {
                Ok(Some((state.clone(), false)))
            }
            Some(found) if found.is_empty() => {
                let serial = state.serial.max(found.serial + 1);
                Ok(Some((with_serial(serial)?, found.lineage != state.lineage)))
            }
            Some(found) => Err(self.both_hold_a_state(state, found)),
        }
    }

    fn both_hold_a_state(&self, state: &State, found: &State) -> Error {
        let related = if state.lineage == found.lineage {
            "an earlier copy that was changed since"
        } else {
            "a state of something else"
        };
        let tell = |name: &str, state: &State| {
            format!(
                "{name}: {}, serial {}, lineage {}",
                counted(state.resources, "resource"),
                state.serial,
                state.lineage
            )
        };
        Error::new(
            ErrorKind::Configuration,
            format!("{} holds a state already, {related}", self.to_name),
        )
        .cause(tell(&self.from_name, state))
        .cause(tell(&self.to_name, found))
        .hint("nothing was changed; look at both, and choose another place, or move the one that is wrong out of the way yourself")
    }
}

/// Each part of the move.
#[derive(Debug, Clone, Copy)]
enum Part {
    Source,
    Target,
    Backup,
    Copy,
    Check,
    Leave,
}

pub(super) fn steps<'a>() -> Steps<Migration<'a>> {
    [
        Part::Source,
        Part::Target,
        Part::Backup,
        Part::Copy,
        Part::Check,
        Part::Leave,
    ]
    .into_iter()
    .map(|part| -> Box<dyn Step<Migration<'a>>> { Box::new(part) })
    .collect()
}

impl Part {
    async fn look(self, m: &mut Migration<'_>) -> Result<Probe> {
        Ok(match self {
            Self::Source => {
                let state = match &m.from {
                    Some(from) => from.pull().await?,
                    None => None,
                };
                m.state = state.filter(|state| !state.is_empty());
                Probe::Stands(match &m.state {
                    Some(state) => format!(
                        "{}, {}, serial {}",
                        m.from_name,
                        counted(state.resources, "resource"),
                        state.serial
                    ),
                    None if m.from_name.is_empty() => "no other place is known on this machine".into(),
                    None => format!("nothing is left in {}", m.from_name),
                })
            }
            Self::Target => {
                m.found = m.to.pull().await?;
                m.copy = m.decide()?;
                Probe::Stands(match (&m.copy, &m.found) {
                    (None, Some(found)) => format!("{}, {}", m.to_name, counted(found.resources, "resource")),
                    _ => m.to_name.clone(),
                })
            }
            Self::Backup | Self::Copy => match &m.copy {
                Some(_) => Probe::Needed,
                None => Probe::Stands("nothing to do".into()),
            },
            Self::Check => {
                let Some(state) = &m.state else {
                    return Ok(Probe::Stands("nothing to do".into()));
                };
                let found = m.to.pull().await?;
                let arrived = found
                    .as_ref()
                    .is_some_and(|found| found.holds_the_same(state) && found.serial >= state.serial);
                if !arrived {
                    return Err(Error::failed(format!(
                        "what is in {} is not what was put there",
                        m.to_name
                    ))
                    .cause(match &found {
                        Some(found) => format!(
                            "{}, serial {}, lineage {} instead of {}, {}, {}",
                            counted(found.resources, "resource"),
                            found.serial,
                            found.lineage,
                            state.resources,
                            state.serial,
                            state.lineage
                        ),
                        None => "nothing is there".into(),
                    })
                    .hint(format!(
                        "the state is still in {} as it was; see that nobody else is at work on {}, and run the same command again",
                        m.from_name, m.to_name
                    )));
                }
                m.found = found;
                Probe::Stands(format!(
                    "{}, serial {}, lineage {}",
                    counted(state.resources, "resource"),
                    state.serial,
                    state.lineage
                ))
            }
            Self::Leave => match (&m.state, m.in_place) {
                (Some(_), false) => Probe::Needed,
                _ => Probe::Stands("nothing to do".into()),
            },
        })
    }

    async fn act(self, m: &mut Migration<'_>) -> Result<String> {
        match self {
            Self::Backup => {
                let resources = counted(m.state.as_ref().map_or(0, |s| s.resources), "resource");
                let question = format!(
                    "move the state of {} ({resources}) from {} to {}?",
                    m.environment, m.from_name, m.to_name
                );
                if !m.agreed && !m.confirm.confirm(&question).await? {
                    return Err(Error::new(ErrorKind::Interrupted, "the state was not moved"));
                }
                if let Some(state) = &m.state {
                    m.backups.push(m.keep.keep("from", state).await?);
                }
                if let Some(found) = m.found.as_ref().filter(|_| !m.in_place) {
                    m.backups.push(m.keep.keep("to", found).await?);
                }
                let paths: Vec<String> = m.backups.iter().map(|p| p.display().to_string()).collect();
                Ok(paths.join(", "))
            }
            Self::Copy => {
                if let Some((state, force)) = &m.copy {
                    m.to.push(state, *force).await?;
                    m.moved = true;
                }
                Ok(m.to_name.clone())
            }
            Self::Leave => {
                let (Some(state), Some(from)) = (&m.state, &m.from) else {
                    return Ok(String::new());
                };
                let left = state
                    .farewell(&m.to_name)
                    .map_err(std::io::Error::from)
                    .or_cannot(|| "write down where the state is now".into())?;
                if let Err(error) = from.push(&left, false).await {
                    return Err(if is_not_newer(&error) {
                        Error::new(
                            ErrorKind::Locked,
                            format!("somebody changed the state in {} while it was moved", m.from_name),
                        )
                        .hint("nothing is lost: wait until they are done, and run the same command again")
                    } else {
                        error
                    });
                }
                Ok(format!("{} says where it is", m.from_name))
            }
            Self::Source | Self::Target | Self::Check => Ok(String::new()),
        }
    }
}

impl<'a> Step<Migration<'a>> for Part {
    fn id(&self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Backup => "backup",
            Self::Copy => "copy",
            Self::Check => "check",
            Self::Leave => "leave",
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Source => "read the state where it is",
            Self::Target => "look at the new place",
            Self::Backup => "keep copies",
            Self::Copy => "put it into the new place",
            Self::Check => "read it back and compare",
            Self::Leave => "leave word in the old place",
        }
        .into()
    }

    fn droppable(&self) -> bool {
        false
    }

    fn probe<'b>(&'b self, context: &'b mut Migration<'a>, _: Progress<'b>) -> StepFuture<'b, Probe> {
        Box::pin(self.look(context))
    }

    fn run<'b>(&'b self, context: &'b mut Migration<'a>, _: Progress<'b>) -> StepFuture<'b, Ran> {
        Box::pin(async move { Ok(Ran::Changed(self.act(context).await?)) })
    }
}
