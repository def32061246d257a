//! One environment's lock for every machine: a parameter of the Parameter Store that names the command at work.
//!
//! AWS creates a parameter once, so of two machines one gets it. Its holder puts it anew every [`RENEWAL`]; one that was
//! not renewed for [`ABANDONED`] belongs to a command that died, and is taken over. So it never needs a human.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Context;
use crate::aws::{Aws, Note};
use crate::error::{Error, ErrorKind, Result};
use crate::machine::{boot, host, user};
use crate::model::human_duration;
use crate::workflow::{Cancellation, Event, Probe, Progress, Ran, Step, StepFuture};

/// How often the holder says that it is at work.
const RENEWAL: Duration = Duration::from_secs(30);
/// Silent for so long, a holder is taken for dead.
const ABANDONED: Duration = Duration::from_secs(180);
/// So long before others may take it for dead, a holder that could not say a word looks whether they have.
const MARGIN: Duration = Duration::from_secs(30);
/// How long giving it back may take: nobody who wants to stop waits for a network that is gone.
const FAREWELL: Duration = Duration::from_secs(10);
/// How often taking it is tried, where its holder changes meanwhile.
const ATTEMPTS: u32 = 3;

/// Where the lock lies; each method is one call.
trait Store: Send + Sync + 'static {
    /// The lock, where there is one.
    fn read(&self) -> BoxFuture<'_, Result<Option<Note>>>;
    /// Makes it, where there is none; says whether it was made.
    fn create<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<bool>>;
    /// Writes it, whoever holds it; returns its version.
    fn overwrite<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<i64>>;
    /// Removes it.
    fn remove(&self) -> BoxFuture<'_, Result<()>>;
    /// The time by the store's clock.
    fn now(&self) -> Timestamp;
    /// Waits.
    fn pause(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// Such as `up demo`.
    command: String,
    /// Who started it.
    user: String,
    /// The machine's name, or the address of the run of a pipeline.
    at: String,
    /// Since when.
    since: Timestamp,
    /// Identifies the machine since its last start and the project on it. A second command there is kept out by the
    /// file lock, which its dead predecessor has not got.
    place: String,
}

impl Holder {
    fn new(command: String, private: &Path, since: Timestamp) -> Self {
        let private = private.canonicalize().unwrap_or_else(|_| private.to_owned());
        let place = format!("{} {} {}", boot(), host(), private.display());
        Self {
            command,
            user: user(),
            at: run_of_pipeline().unwrap_or_else(host),
            since,
            place: hex::encode(Sha256::digest(place)),
        }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether a note was written here.
    fn wrote(&self, note: &Note) -> bool {
        serde_json::from_str::<Self>(&note.text).is_ok_and(|other| other.place == self.place)
    }
}

/// The address of the pipeline's run that this is a part of
/// (<https://docs.github.com/en/actions/reference/workflows-and-actions/variables>,
/// <https://docs.gitlab.com/ci/variables/predefined_variables/>).
fn run_of_pipeline() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok();
    if let Some(job) = variable("CI_JOB_URL") {
        return Some(job);
    }
    Some(format!(
        "{}/{}/actions/runs/{}",
        variable("GITHUB_SERVER_URL")?,
        variable("GITHUB_REPOSITORY")?,
        variable("GITHUB_RUN_ID")?
    ))
}

/// Somebody else has it.
fn held(environment: &str, note: &Note, now: Timestamp) -> Error {
    let silent = Duration::try_from(now.duration_since(note.put)).unwrap_or_default();
    let end = note
        .put
        .checked_add(jiff::SignedDuration::try_from(ABANDONED).unwrap_or_default())
        .unwrap_or(note.put);
    let who = match serde_json::from_str::<Holder>(&note.text) {
        Ok(holder) => format!(
            "`mfsre {}` of {} at {} holds the lock since {:.0}, and said so {} ago",
            holder.command,
            holder.user,
            holder.at,
            holder.since,
            human_duration(silent)
        ),
        Err(_) => format!("somebody holds the lock, and said so {} ago", human_duration(silent)),
    };
    Error::new(ErrorKind::Locked, format!("another mfsre is at work on {environment}"))
        .cause(who)
        .hint("wait until it is done, or stop it where it runs")
        .hint(format!(
            "if it has died, its lock ends by itself at {end:.0}: run the same command again after that"
        ))
}

/// The lock, as long as it is held; renewed in the background until it is given back.
pub(super) struct Lease {
    store: Arc<dyn Store>,
    holder: Holder,
    lost: Arc<AtomicBool>,
    done: Arc<Notify>,
    renewing: JoinHandle<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Lease {
    /// Takes the lock of `environment`; returns also what a dead holder left. Once it is lost, `cancellation` is set off.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] with the holder, where somebody else has it; or AWS cannot be asked.
    async fn take(
        store: Arc<dyn Store>,
        holder: Holder,
        environment: &str,
        cancellation: Cancellation,
    ) -> Result<(Self, Option<Note>)> {
        let text = holder.text();
        let busy = || Error::new(ErrorKind::Locked, format!("another mfsre is at work on {environment}"));
        for _ in 0..ATTEMPTS {
            let began = store.now();
            if store.create(&text).await? {
                return Ok((Self::keep(store, holder, began, cancellation), None));
            }
            let Some(note) = store.read().await? else {
                // It was given back just now.
                continue;
            };
            if !holder.wrote(&note) && !is_over(note.put, ABANDONED, store.now()) {
                return Err(held(environment, &note, store.now()));
            }
            let began = store.now();
            // Of two who take it over at the same time, one gets the next version. What the other has written, the next
            // renewal writes over.
            if store.overwrite(&text).await? == note.version + 1 {
                return Ok((Self::keep(store, holder, began, cancellation), Some(note)));
            }
            return Err(busy()
                .cause("it has just taken over the lock of one that had died")
                .hint("wait until it is done"));
        }
        Err(busy()
            .cause("its lock comes and goes")
            .hint("run the same command again"))
    }

    fn keep(store: Arc<dyn Store>, holder: Holder, renewed: Timestamp, cancellation: Cancellation) -> Self {
        let (lost, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let renewing = {
            let (store, holder, lost, done) = (store.clone(), holder.clone(), lost.clone(), done.clone());
            tokio::spawn(async move { renew(store.as_ref(), &holder, renewed, &lost, &done, &cancellation).await })
        };
        Self {
            store,
            holder,
            lost,
            done,
            renewing,
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] where somebody else had taken it over; or AWS cannot be asked.
    async fn give_back(mut self) -> Result<()> {
        // Nothing is put any more after it was removed.
        self.done.notify_one();
        let _ = (&mut self.renewing).await;
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Locked, "another mfsre has taken over the lock")
                .cause(format!(
                    "this one could not renew it on AWS for more than {}",
                    human_duration(ABANDONED - MARGIN)
                ))
                .hint("see that this machine reaches AWS, and run the same command again"));
        }
        let note = self.store.read().await?;
        if note.is_some_and(|note| self.holder.wrote(&note)) {
            self.store.remove().await?;
        }
        Ok(())
    }
}

/// Whether `limit` has gone by since `since`.
fn is_over(since: Timestamp, limit: Duration, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(since)).unwrap_or_default() >= limit
}

/// Renews the lock until it is done or lost. Time is that of the store's clock, which also goes on while this machine sleeps.
async fn renew(
    store: &dyn Store,
    holder: &Holder,
    mut renewed: Timestamp,
    lost: &AtomicBool,
    done: &Notify,
    cancellation: &Cancellation,
) {
    let text = holder.text();
    loop {
        tokio::select! {
            () = store.pause(RENEWAL) => {}
            () = done.notified() => return,
        }
        if is_over(renewed, ABANDONED - MARGIN, store.now()) {
            match store.read().await {
                Ok(Some(note)) if holder.wrote(&note) => {}
                Ok(_) => {
                    lost.store(true, Ordering::Relaxed);
                    cancellation.cancel();
                    return;
                }
                Err(_) => continue,
            }
        }
        let now = store.now();
        // What hinders it, hinders the work too, and is told there.
        if store.overwrite(&text).await.is_ok() {
            renewed = now;
        }
    }
}

/// A command that is at work on an environment, on whatever machine.
#[derive(Debug, Serialize)]
pub struct AtWork {
    /// Such as `up demo`.
    pub command: String,
    /// Who started it.
    pub user: String,
    /// The machine's name, or the address of the run of a pipeline.
    pub at: String,
    /// Since when, RFC 3339.
    pub since: String,
}

impl AtWork {
    /// Who holds the environment's lock, if anybody does.
    pub(super) async fn on(context: &Context) -> Result<Option<Self>> {
        let aws = context.aws()?;
        let note = aws.note(&context.environment.names.lock).await?;
        let note = note.filter(|note| !is_over(note.put, ABANDONED, aws.now()));
        let holder = note.and_then(|note| serde_json::from_str::<Holder>(&note.text).ok());
        Ok(holder.map(|holder| Self {
            command: holder.command,
            user: holder.user,
            at: holder.at,
            since: holder.since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }))
    }
}

/// The lock on AWS.
struct Parameter {
    aws: Aws,
    name: String,
    environment: String,
}

impl Store for Parameter {
    fn read(&self) -> BoxFuture<'_, Result<Option<Note>>> {
        Box::pin(async { Ok(self.aws.note(&self.name).await?) })
    }

    fn create<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async { Ok(self.aws.create_note(&self.name, text, &self.environment).await?) })
    }

    fn overwrite<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<i64>> {
        Box::pin(async { Ok(self.aws.overwrite_note(&self.name, text, &self.environment).await?) })
    }

    fn remove(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.aws.remove_parameter(&self.name).await?;
            Ok(())
        })
    }

    fn now(&self) -> Timestamp {
        self.aws.now()
    }

    fn pause(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Takes the lock.
pub(super) struct TakeLock {
    /// Such as `up`.
    pub(super) command: &'static str,
}

impl Step<Context> for TakeLock {
    fn id(&self) -> &'static str {
        "lock"
    }

    fn describe(&self) -> String {
        "keep other machines out".into()
    }

    fn probe<'a>(&'a self, _: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async { Ok(Probe::Needed) })
    }

    fn run<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let aws = context.connect().await?;
            let environment = context.environment.name.as_str();
            let holder = Holder::new(format!("{} {environment}", self.command), &context.private(), aws.now());
            let store = Parameter {
                aws,
                name: context.environment.names.lock.clone(),
                environment: environment.to_owned(),
            };
            let cancellation = context.cancellation.clone();
            let (lease, abandoned) = Lease::take(Arc::new(store), holder, environment, cancellation).await?;
            context.lease = Some(lease);
            Ok(Ran::Unchanged(match abandoned {
                Some(note) => format!("taken over from a command that is gone since {:.0}", note.put),
                None => "nobody else is at work".into(),
            }))
        })
    }
}

impl Context {
    /// Gives the lock back, where it was taken, and says what came of the work under it.
    ///
    /// # Errors
    /// That of the work; [`ErrorKind::Locked`] where it ended because the lock was lost.
    pub(super) async fn release<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let Some(lease) = self.lease.take() else {
            return outcome;
        };
        let given_back = tokio::time::timeout(FAREWELL, lease.give_back())
            .await
            .unwrap_or_else(|_| Err(Error::failed(format!("no answer for {}", human_duration(FAREWELL)))));
        match given_back {
            Ok(()) => outcome,
            Err(error) if error.kind == ErrorKind::Locked => outcome.map_err(|_| error),
            Err(error) => {
                self.reporter.report(Event::Note {
                    message: format!(
                        "the lock of {} could not be given back and ends by itself within {}: {}",
                        self.environment.name,
                        human_duration(ABANDONED),
                        error.in_a_line()
                    ),
                });
                outcome
            }
        }
    }
}
