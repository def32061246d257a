//! One environment's lock for every machine: a parameter of the Parameter Store that names the command at work, or nobody.
//!
//! AWS counts the versions of a parameter, so of two who write at the same time one gets the next version, and has the lock.
//! Its holder writes anew every [`RENEWAL`]; one that was silent for [`ABANDONED`] belongs to a command that died, and is
//! taken over. So it never needs a human. It is kept between commands, since AWS wants 30 seconds between the removal of a
//! parameter and a new one of the same name
//! (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DeleteParameter.html>).

#[cfg(test)]
mod tests;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
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
use crate::workflow::{Cancellation, Event, Probe, Progress, Ran, Reporter, Step, StepFuture};

/// How often the holder says that it is at work.
const RENEWAL: Duration = Duration::from_secs(30);
/// Silent for so long, a holder is taken for dead.
const ABANDONED: Duration = Duration::from_secs(180);
/// So long before others may take it for dead, a holder looks before it writes. A renewal takes no longer either.
const MARGIN: Duration = Duration::from_secs(30);
/// How long somebody who wants to stop waits for an answer about the lock.
const FAREWELL: Duration = Duration::from_secs(10);

/// Where the lock lies; each method is one call.
trait Store: Send + Sync + 'static {
    /// The lock, where there is one.
    fn read(&self) -> BoxFuture<'_, Result<Option<Note>>>;
    /// Its versions that are remembered, the oldest first.
    fn history(&self) -> BoxFuture<'_, Result<Vec<Note>>>;
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

/// What a lock says when nobody holds it; a parameter cannot be empty.
const FREE: &str = "free";

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
    /// Identifies the run.
    run: String,
    /// Identifies the machine since its last start and the project on it. A second command there is kept out by the
    /// file lock, which its dead predecessor has not got.
    place: String,
    /// Whether it only tries to get the lock. Who tries in vain stands over the holder until that is put right.
    trying: bool,
}

impl Holder {
    fn new(command: String, private: &Path, since: Timestamp) -> Self {
        let lock = std::fs::metadata(private.join("lock"));
        let file = lock.map_or_else(|_| String::new(), |file| format!("{} {}", file.dev(), file.ino()));
        let place = format!("{} {} {} {file}", boot(), host(), private.display());
        let hash = |text: &str| hex::encode(Sha256::digest(text));
        Self {
            command,
            user: user(),
            at: run_of_pipeline().unwrap_or_else(host),
            since,
            run: hash(&format!("{place} {} {since}", std::process::id())),
            place: hash(&place),
            trying: false,
        }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The text of one who tries.
    fn trying(&self) -> String {
        Self {
            trying: true,
            ..self.clone()
        }
        .text()
    }

    fn of(note: &Note) -> Option<Self> {
        serde_json::from_str(&note.text).ok()
    }

    /// Whether this very run has written a note.
    fn wrote(&self, note: &Note) -> bool {
        Self::of(note).is_some_and(|other| other.run == self.run)
    }

    /// Whether a command here has written a note, and has died since.
    fn is_here(&self, note: &Note) -> bool {
        Self::of(note).is_some_and(|other| other.place == self.place)
    }

    /// Whether nobody but this one can be at work.
    fn may_take(&self, note: &Note, now: Timestamp) -> bool {
        note.text == FREE || self.is_here(note) || is_over(note.put, ABANDONED, now)
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
    let who = match Holder::of(note) {
        Some(holder) => format!(
            "`mfsre {}` of {} at {} holds the lock since {:.0}, and said so {} ago",
            holder.command,
            holder.user,
            holder.at,
            holder.since,
            human_duration(silent)
        ),
        None => format!("somebody holds the lock, and said so {} ago", human_duration(silent)),
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
    done: Arc<Notify>,
    renewing: JoinHandle<Renewed>,
}

/// What renewing came to.
enum Renewed {
    /// It was held until now; when it was last renewed.
    Held(Timestamp),
    /// Somebody else has taken it over.
    Lost,
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
        let found = if store.create(&holder.trying()).await? {
            None
        } else {
            store.read().await?
        };
        if let Some(note) = &found {
            // One that died here while it tried may have done so in vain.
            let standing = if holder.is_here(note) && Holder::of(note).is_some_and(|dead| dead.trying) {
                let history = store.history().await?;
                history.into_iter().rfind(|note| !holder.is_here(note))
            } else {
                Some(note.clone())
            };
            if let Some(standing) = standing.filter(|note| !holder.may_take(note, store.now())) {
                return Err(held(environment, &standing, store.now()));
            }
            let version = store.overwrite(&holder.trying()).await?;
            if version != note.version + 1 {
                let history = store.history().await?;
                if let Some(first) = first_after(note, &history).filter(|first| !holder.wrote(first)) {
                    // What this one has written may stand over what the other one wrote.
                    if history.last().is_some_and(|last| holder.wrote(last)) {
                        store.overwrite(&first.text).await?;
                    }
                    return Err(held(environment, first, store.now()));
                }
            }
        }
        let began = store.now();
        let version = store.overwrite(&holder.text()).await?;
        let done = Arc::new(Notify::new());
        let renewing = {
            let (store, holder, done) = (store.clone(), holder.clone(), done.clone());
            tokio::spawn(async move { renew(store.as_ref(), &holder, (began, version), &done, &cancellation).await })
        };
        let lease = Self {
            store,
            holder,
            done,
            renewing,
        };
        Ok((lease, found.filter(|note| note.text != FREE)))
    }

    /// Gives it back, or removes it where the environment is gone.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] where somebody else had taken it over; or AWS cannot be asked.
    async fn give_back(mut self, remove: bool) -> Result<()> {
        // Nothing is put any more after this.
        self.done.notify_one();
        let lost = || {
            Error::new(ErrorKind::Locked, "another mfsre has taken over the lock")
                .cause(format!(
                    "this one could not renew it on AWS for more than {}",
                    human_duration(ABANDONED - MARGIN)
                ))
                .hint("see that this machine reaches AWS, and run the same command again")
        };
        let Ok(Renewed::Held(renewed)) = (&mut self.renewing).await else {
            return Err(lost());
        };
        if is_over(renewed, ABANDONED - MARGIN, self.store.now()) {
            let note = self.store.read().await?;
            if !note.is_some_and(|note| self.holder.wrote(&note)) {
                return Err(lost());
            }
        }
        if remove {
            return self.store.remove().await;
        }
        self.store.overwrite(FREE).await.map(|_| ())
    }
}

/// The first version after `note`, in the order of the versions; also of a lock that was removed and made again since.
fn first_after<'h>(note: &Note, history: &'h [Note]) -> Option<&'h Note> {
    let after = history.iter().find(|other| other.version > note.version);
    after.or(history.first())
}

/// Whether `limit` has gone by since `since`.
fn is_over(since: Timestamp, limit: Duration, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(since)).unwrap_or_default() >= limit
}

/// Renews the lock, which was written last at a time and as a version, until it is done or lost. Time is that of the store's
/// clock, which also goes on while this machine sleeps.
async fn renew(
    store: &dyn Store,
    holder: &Holder,
    (mut renewed, mut version): (Timestamp, i64),
    done: &Notify,
    cancellation: &Cancellation,
) -> Renewed {
    let text = holder.text();
    loop {
        tokio::select! {
            () = store.pause(RENEWAL) => {}
            () = done.notified() => return Renewed::Held(renewed),
        }
        let began = store.now();
        let renewal = async {
            // Others may have taken it for dead by now.
            if is_over(renewed, ABANDONED - MARGIN, began) {
                let note = store.read().await?;
                if !note.is_some_and(|note| holder.wrote(&note)) {
                    return Ok(None);
                }
            }
            store.overwrite(&text).await.map(Some)
        };
        let put = tokio::select! {
            put = renewal => put,
            () = store.pause(MARGIN) => continue,
        };
        match put {
            // Within its time nobody else can have got it: who wrote between has tried in vain, or it was this one's own
            // call, which was answered late and made again.
            Ok(Some(now)) if now == version + 1 || !is_over(renewed, ABANDONED, store.now()) => {
                (renewed, version) = (began, now);
            }
            Ok(_) => {
                cancellation.cancel();
                return Renewed::Lost;
            }
            // What hinders it, hinders the work too, and is told there.
            Err(_) => {}
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
        Ok(note.as_ref().and_then(Holder::of).map(|holder| Self {
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

    fn history(&self) -> BoxFuture<'_, Result<Vec<Note>>> {
        Box::pin(async { Ok(self.aws.former_notes(&self.name).await?) })
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
            let take = Lease::take(Arc::new(store), holder, environment, cancellation.clone());
            tokio::pin!(take);
            // What AWS has been asked for is waited for, so that it can be given back.
            let taken = tokio::select! {
                taken = &mut take => taken,
                () = cancellation.cancelled() => match tokio::time::timeout(FAREWELL, take).await {
                    Ok(taken) => taken,
                    Err(_) => return Err(Error::interrupted()),
                },
            };
            let (lease, abandoned) = taken?;
            context.lease = Some(lease);
            Ok(Ran::Unchanged(match abandoned {
                Some(note) => format!("taken over from a command that is gone since {:.0}", note.put),
                None => "nobody else is at work".into(),
            }))
        })
    }

    fn droppable(&self) -> bool {
        false
    }
}

impl Context {
    /// Gives the lock back, where it was taken, and says what came of the work under it. Where the environment is gone
    /// for good, the lock goes too.
    ///
    /// # Errors
    /// That of the work; [`ErrorKind::Locked`] where it was stopped because the lock was lost.
    pub(super) async fn release<T>(&mut self, outcome: Result<T>, gone: bool) -> Result<T> {
        let Some(lease) = self.lease.take() else {
            return outcome;
        };
        let given_back = tokio::time::timeout(FAREWELL, lease.give_back(gone))
            .await
            .unwrap_or_else(|_| Err(Error::failed(format!("no answer for {}", human_duration(FAREWELL)))));
        conclude(outcome, given_back, &self.environment.name, self.reporter.as_ref())
    }
}

/// What is told in the end of the work, and of the lock under which it was done.
fn conclude<T>(
    outcome: Result<T>,
    given_back: Result<()>,
    environment: &impl std::fmt::Display,
    reporter: &dyn Reporter,
) -> Result<T> {
    let Err(error) = given_back else {
        return outcome;
    };
    match outcome {
        Err(stopped) if stopped.kind == ErrorKind::Interrupted && error.kind == ErrorKind::Locked => Err(error),
        outcome => {
            let message = if error.kind == ErrorKind::Locked {
                error.in_a_line()
            } else {
                format!(
                    "the lock of {environment} could not be given back and ends by itself within {}: {}",
                    human_duration(ABANDONED),
                    error.in_a_line()
                )
            };
            reporter.report(Event::Warning { message });
            outcome
        }
    }
}
