//! The steps that replace the deploy key.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::pace::Pace;
use super::password::{out_of_order, somebody_else};
use super::{age, days};
use crate::aws::{DeployKey, StoredKey};
use crate::error::{Error, Result};
use crate::git::{KeyError, RegisteredKey, Registration};
use crate::kubernetes::RefreshedApplication;
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture, Steps};

/// How often the Applications are looked at, and a key that is not known yet is tried.
const POLL: Duration = Duration::from_millis(700);
/// How long after the Secret was changed what was under way with the old key may still begin a fetch with it: a request
/// that waits in the repo-server's queue, or a controller whose watch is late. The old key is removed later than that.
const SETTLE: Duration = Duration::from_secs(10);
/// Longest time for a host with an API to let a key in that it has registered.
const REGISTERED: Duration = Duration::from_secs(60);

/// What the repository's Secret holds.
#[derive(Debug, Clone)]
pub(super) struct ClusterKey {
    /// The private key; `None` where the Secret has none.
    pub(super) private: Option<SecretString>,
    /// The Secret's resource version.
    pub(super) version: String,
}

/// The outside of a rotation of the deploy key; each method is one call.
pub(super) trait KeyWorld: Pace {
    /// The key that is in use.
    fn current(&self) -> BoxFuture<'_, Result<Option<StoredKey>>>;
    /// The key that a rotation brings.
    fn pending(&self) -> BoxFuture<'_, Result<Option<StoredKey>>>;
    /// Every key that was the current one, as far as is known.
    fn former(&self) -> BoxFuture<'_, Result<Vec<DeployKey>>>;
    /// Makes a pending key, or gets the one that somebody made.
    fn stage(&self) -> BoxFuture<'_, Result<StoredKey>>;
    /// Whether a person registers keys.
    fn is_manual(&self) -> bool;
    /// The keys that the git host knows.
    fn registered(&self) -> BoxFuture<'_, Result<Vec<RegisteredKey>>>;
    /// Registers a key for reading only.
    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration>>;
    /// Takes a key off the git host.
    fn unregister<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>>;
    /// Reads the repository with a key and nothing else.
    fn read<'a>(&'a self, key: &'a DeployKey) -> BoxFuture<'a, Result<(), KeyError>>;
    /// What the cluster holds.
    fn in_cluster(&self) -> BoxFuture<'_, Result<Option<ClusterKey>>>;
    /// Puts a key into the cluster if the Secret is still at `version`; says whether it was.
    fn patch<'a>(&'a self, key: &'a DeployKey, version: &'a str) -> BoxFuture<'a, Result<bool>>;
    /// The cluster's clock.
    fn clock(&self) -> BoxFuture<'_, Result<Timestamp>>;
    /// The Applications that are deployed from the repository.
    fn applications(&self) -> BoxFuture<'_, Result<Vec<RefreshedApplication>>>;
    /// Asks Argo CD to read the repository anew for an Application, past its caches.
    fn refresh<'a>(&'a self, application: &'a str) -> BoxFuture<'a, Result<()>>;
    /// Makes a key the current one; returns the parameter's new version.
    fn promote<'a>(&'a self, key: &'a DeployKey) -> BoxFuture<'a, Result<i64>>;
    /// Forgets the pending key.
    fn unstage(&self) -> BoxFuture<'_, Result<()>>;
}

/// What the steps hand to one another.
pub(super) struct KeyRotation<'w> {
    environment: String,
    world: &'w dyn KeyWorld,
    limit: Duration,
    current: Option<StoredKey>,
    pending: Option<StoredKey>,
    /// What was current when the rotation began, where that is known.
    former: Option<DeployKey>,
}

impl<'w> KeyRotation<'w> {
    /// Nothing is known yet. `limit` is the longest time to wait for Argo CD, and for a person.
    pub(super) fn new(environment: &str, world: &'w dyn KeyWorld, limit: Duration) -> Self {
        Self {
            environment: environment.to_owned(),
            world,
            limit,
            current: None,
            pending: None,
            former: None,
        }
    }

    /// Looks at the keys.
    ///
    /// # Errors
    /// There is none, or AWS cannot be asked.
    pub(super) async fn look(&mut self) -> Result<()> {
        self.current = self.world.current().await?;
        self.pending = self.world.pending().await?;
        let Some(current) = &self.current else {
            return Err(
                Error::failed(format!("{} has no deploy key to rotate", self.environment))
                    .hint(format!("`mfsre up {}` makes it", self.environment)),
            );
        };
        if !self.is_promoted() {
            self.former = Some(current.key.clone());
        }
        Ok(())
    }

    /// Since when the key that was found is the current one.
    pub(super) fn since(&self) -> Timestamp {
        self.current.as_ref().map_or(Timestamp::UNIX_EPOCH, |c| c.since)
    }

    /// Whether a rotation was under way.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// `SHA256:...` of the key that is current.
    pub(super) fn current_fingerprint(&self) -> Option<String> {
        self.current.as_ref().map(|c| c.key.fingerprint.clone())
    }

    /// `SHA256:...` of the key that the rotation brought.
    pub(super) fn new_fingerprint(&self) -> Option<String> {
        self.pending.as_ref().map(|p| p.key.fingerprint.clone())
    }

    /// `SHA256:...` of the key that it replaced; unknown where an earlier run did that.
    pub(super) fn former_fingerprint(&self) -> Option<String> {
        self.former.as_ref().map(|f| f.fingerprint.clone())
    }

    fn pending(&self) -> Result<&StoredKey> {
        self.pending.as_ref().ok_or_else(|| out_of_order("the pending key"))
    }

    fn is_promoted(&self) -> bool {
        match (&self.current, &self.pending) {
            (Some(current), Some(pending)) => current.key.fingerprint == pending.key.fingerprint,
            _ => false,
        }
    }

    /// The pending key is still the one this rotation works with.
    async fn still_pending(&self) -> Result<()> {
        let now = self.world.pending().await?;
        let ours = self.pending()?;
        if now
            .as_ref()
            .is_some_and(|now| now.key.fingerprint == ours.key.fingerprint)
        {
            return Ok(());
        }
        Err(somebody_else("deploy-key", &self.environment))
    }

    /// The keys on the git host that this environment's own history shows to be former ones.
    async fn superseded(&self) -> Result<Vec<RegisteredKey>> {
        let keep = [&self.current, &self.pending];
        let keep: Vec<&str> = keep.into_iter().flatten().map(|s| s.key.public.as_str()).collect();
        let former = self.world.former().await?;
        let registered = self.world.registered().await?;
        Ok(registered
            .into_iter()
            .filter(|known| former.iter().any(|f| known.is(&f.public)) && !keep.iter().any(|k| known.is(k)))
            .collect())
    }
}

/// The title of a key on the git host; it names the environment and the key.
pub(in crate::ops) fn title(environment: &str, key: &DeployKey) -> String {
    format!("mfsre {environment} {}", key.fingerprint)
}

/// The steps, in the order that keeps one key working at every instant.
pub(super) fn steps<'w>() -> Steps<KeyRotation<'w>> {
    vec![
        Box::new(Stage),
        Box::new(Register),
        Box::new(Prove),
        Box::new(Patch),
        Box::new(See),
        Box::new(Promote),
        Box::new(Revoke),
        Box::new(Unstage),
    ]
}

struct Stage;

impl<'w> Step<KeyRotation<'w>> for Stage {
    fn id(&self) -> &'static str {
        "stage"
    }

    fn describe(&self) -> String {
        "new key beside the current one, pending".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            rotation.look().await?;
            Ok(match &rotation.pending {
                Some(pending) => Probe::Stands(match days(age(pending.since)) {
                    0 => format!("going on with {}, which is pending", pending.key.fingerprint),
                    days => format!("going on with {}, pending since {days} days", pending.key.fingerprint),
                }),
                None => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let pending = rotation.world.stage().await?;
            let detail = pending.key.fingerprint.clone();
            rotation.pending = Some(pending);
            Ok(Ran::Changed(detail))
        })
    }
}

struct Register;

impl<'w> Step<KeyRotation<'w>> for Register {
    fn id(&self) -> &'static str {
        "register"
    }

    fn describe(&self) -> String {
        "its public part on the git host, read-only".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let Some(pending) = &rotation.pending else {
                return Ok(Probe::Needed);
            };
            if rotation.world.is_manual() {
                // Only a fetch can tell; then nobody is asked twice.
                return Ok(match rotation.world.read(&pending.key).await {
                    Ok(()) => Probe::Stands("somebody has added it".into()),
                    Err(_) => Probe::Needed,
                });
            }
            let known = rotation.world.registered().await?;
            match known.into_iter().find(|k| k.is(&pending.key.public)) {
                Some(key) if key.read_only => Ok(Probe::Stands(key.title)),
                Some(key) => Err(Error::failed(format!(
                    "the pending deploy key is registered as {:?} and may push",
                    key.title
                ))
                .hint(
                    "mfsre registers keys for reading only: remove it on the git host and run the same command again",
                )),
                None => Ok(Probe::Needed),
            }
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let key = &rotation.pending()?.key;
            let title = title(&rotation.environment, key);
            match rotation.world.register(&title, &key.public).await? {
                Registration::Registered => Ok(Ran::Changed(title)),
                Registration::Present => Ok(Ran::Unchanged(title)),
                Registration::Manual { instructions } => {
                    progress.warn(instructions);
                    Ok(Ran::Unchanged("a person has to add it".into()))
                }
            }
        })
    }
}

struct Prove;

impl<'w> Step<KeyRotation<'w>> for Prove {
    fn id(&self) -> &'static str {
        "prove"
    }

    fn describe(&self) -> String {
        "read the repository with it".into()
    }

    fn probe<'a>(&'a self, _: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        // The proof is the reading itself.
        Box::pin(async { Ok(Probe::Needed) })
    }

    fn run<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let key = &rotation.pending()?.key;
            let manual = rotation.world.is_manual();
            let limit = if manual { rotation.limit } else { REGISTERED };
            let world = rotation.world;
            let read = || world.read(key);
            wait_until_readable(read, limit, manual, world, progress).await?;
            Ok(Ran::Unchanged(format!("git ls-remote with {}", key.fingerprint)))
        })
    }
}

/// Reads until the git host lets the key in: a person may still be about to add it, and a host needs a moment after it
/// was registered.
///
/// # Errors
/// It does not within `limit`, or something else is in the way.
pub(in crate::ops) async fn wait_until_readable<'a>(
    read: impl Fn() -> BoxFuture<'a, Result<(), KeyError>> + Send,
    limit: Duration,
    manual: bool,
    pace: &(impl Pace + ?Sized),
    progress: Progress<'_>,
) -> Result<()> {
    let end = pace.elapsed() + limit;
    loop {
        match read().await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_unknown_key() && pace.elapsed() < end => {
                let left = end.saturating_sub(pace.elapsed());
                progress.say(format!(
                    "waiting{} until the git host lets the key in, {} at most",
                    if manual { " for a person," } else { "" },
                    crate::model::human_duration(left)
                ));
                pace.pause(if manual { POLL * 5 } else { POLL }).await;
            }
            Err(error) if error.is_unknown_key() => {
                let limit = crate::model::human_duration(limit);
                let shown = Error::from(error);
                return Err(shown.cause(format!("it was tried for {limit}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

struct Patch;

impl<'w> Step<KeyRotation<'w>> for Patch {
    fn id(&self) -> &'static str {
        "patch"
    }

    fn describe(&self) -> String {
        "the key in Argo CD's Secret of the repository".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let Some(pending) = &rotation.pending else {
                return Ok(Probe::Needed);
            };
            let held = rotation.world.in_cluster().await?;
            Ok(match held {
                Some(held) if holds(&held, &pending.key) => Probe::Stands("it is there".into()),
                _ => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            for _ in 0..5 {
                // Read before AWS is asked: if anybody patches after that, ours is refused.
                let held = rotation.world.in_cluster().await?.ok_or_else(|| {
                    Error::failed("there is no Secret of the repository in the cluster").hint(format!(
                        "Argo CD does not know the repository: run `mfsre up {}`",
                        rotation.environment
                    ))
                })?;
                rotation.still_pending().await?;
                if rotation.world.patch(&rotation.pending()?.key, &held.version).await? {
                    return Ok(Ran::Changed("sshPrivateKey".into()));
                }
            }
            Err(Error::failed("the repository's Secret is changed by somebody else all the time")
                .hint("find out who writes to it (kubectl -n argocd get secret mfsre-repository --show-managed-fields -o yaml)"))
        })
    }
}

fn holds(held: &ClusterKey, key: &DeployKey) -> bool {
    held.private
        .as_ref()
        .is_some_and(|p| p.expose_secret() == key.private.expose_secret())
}

struct See;

impl<'w> Step<KeyRotation<'w>> for See {
    fn id(&self) -> &'static str {
        "see"
    }

    fn describe(&self) -> String {
        "have Argo CD read the repository with it".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            if rotation.world.applications().await?.is_empty() {
                return Ok(Probe::Impossible(
                    "no Application is deployed from the repository".into(),
                ));
            }
            Ok(Probe::Needed)
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let began = rotation.world.elapsed();
            let read = refreshed(rotation, progress).await?;
            if let Some(trouble) = trouble(&read) {
                return Err(cannot_read(&trouble)
                    .hint("both keys are registered; the new one stays pending: mend the cause and run the same command again"));
            }
            // What was under way when the Secret changed has ended after that, and what begins reads the Secret anew.
            progress.say("letting what was under way with the old key end");
            let passed = rotation.world.elapsed().saturating_sub(began);
            rotation.world.pause(SETTLE.saturating_sub(passed)).await;
            let read = refreshed(rotation, progress).await?;
            if let Some(trouble) = trouble(&read) {
                return Err(cannot_read(&trouble)
                    .hint("both keys are registered; the new one stays pending: mend the cause and run the same command again"));
            }
            Ok(Ran::Unchanged(format!(
                "{} Applications compared anew, twice",
                read.len()
            )))
        })
    }
}

/// Has Argo CD compare every Application of the repository with Git, past its caches, and waits for the end of it.
async fn refreshed(rotation: &KeyRotation<'_>, progress: Progress<'_>) -> Result<Vec<RefreshedApplication>> {
    let world = rotation.world;
    let since = world.clock().await?;
    let asked = world.applications().await?;
    for application in &asked {
        world.refresh(&application.name).await?;
    }
    let end = world.elapsed() + rotation.limit;
    loop {
        let now = world.applications().await?;
        // One that is gone by now is not waited for.
        let waiting: Vec<&str> = now
            .iter()
            .filter(|a| asked.iter().any(|b| b.name == a.name) && !a.is_refreshed(since))
            .map(|a| a.name.as_str())
            .collect();
        progress.count(
            (asked.len() - waiting.len()) as u64,
            asked.len() as u64,
            waiting.join(" · "),
        );
        if waiting.is_empty() {
            return Ok(now);
        }
        if world.elapsed() >= end {
            return Err(Error::failed(format!("Argo CD has not compared {} anew", waiting.join(", ")))
                .cause(format!("within {}s", rotation.limit.as_secs()))
                .hint("look at argocd-application-controller's log, and run the same command again; the new key stays pending"));
        }
        world.pause(POLL).await;
    }
}

/// The first Application for which Argo CD could not read the repository, with what it says.
fn trouble(applications: &[RefreshedApplication]) -> Option<(String, String)> {
    applications
        .iter()
        .find_map(|a| a.access_error.as_ref().map(|error| (a.name.clone(), error.clone())))
}

fn cannot_read((application, error): &(String, String)) -> Error {
    Error::failed(format!(
        "Argo CD cannot read the repository for the Application {application}"
    ))
    .cause(error.clone())
}

struct Promote;

impl<'w> Step<KeyRotation<'w>> for Promote {
    fn id(&self) -> &'static str {
        "promote"
    }

    fn describe(&self) -> String {
        "make it the current one in the Parameter Store".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            Ok(if rotation.is_promoted() {
                Probe::Stands("it is".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            // Somebody who goes on with the same rotation may have done it since.
            rotation.current = rotation.world.current().await?;
            if rotation.is_promoted() {
                return Ok(Ran::Unchanged("it is".into()));
            }
            rotation.still_pending().await?;
            let before = rotation.current.as_ref().map_or(0, |c| c.version);
            let version = rotation.world.promote(&rotation.pending()?.key).await?;
            rotation.current = rotation.world.current().await?;
            // The Parameter Store knows no condition: whoever put something in between is seen by the number.
            if version != before + 1 && !rotation.is_promoted() {
                return Err(somebody_else("deploy-key", &rotation.environment));
            }
            Ok(Ran::Changed(format!("version {version}")))
        })
    }
}

struct Revoke;

impl<'w> Step<KeyRotation<'w>> for Revoke {
    fn id(&self) -> &'static str {
        "revoke"
    }

    fn describe(&self) -> String {
        "the old key off the git host".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            if rotation.pending.is_none() {
                return Ok(Probe::Needed);
            }
            if rotation.world.is_manual() {
                let old = rotation.former_fingerprint();
                let old = old.as_deref().unwrap_or("that is not the one named above");
                progress.warn(format!("remove the old deploy key {old} from the git host by hand"));
                return Ok(Probe::Impossible("a person has to remove it".into()));
            }
            let registered = rotation.world.registered().await?;
            let former = rotation.world.former().await?;
            let prefix = format!("mfsre {} SHA256:", rotation.environment);
            for key in &registered {
                // Not provably ours: an environment of this name in another account titles its key alike.
                if key.title.starts_with(&prefix)
                    && !former.iter().any(|f| key.is(&f.public))
                    && rotation.pending.as_ref().is_some_and(|p| !key.is(&p.key.public))
                {
                    progress.warn(format!(
                        "the deploy key titled {:?} on the git host is unknown to this environment's history and stays; remove it if nothing else uses it",
                        key.title
                    ));
                }
            }
            Ok(if rotation.superseded().await?.is_empty() {
                Probe::Stands("no former key is registered".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            // Read anew: what the cluster reads with must be the key that stays.
            rotation.still_pending().await?;
            rotation.current = rotation.world.current().await?;
            let key = rotation.pending()?.key.clone();
            let held = rotation.world.in_cluster().await?;
            if !rotation.is_promoted() || !held.is_some_and(|held| holds(&held, &key)) {
                return Err(somebody_else("deploy-key", &rotation.environment));
            }
            let doomed = rotation.superseded().await?;
            for old in &doomed {
                progress.say(old.title.clone());
                rotation.world.unregister(&old.id).await?;
            }
            // Argo CD must not miss it.
            let read = refreshed(rotation, progress).await?;
            if let Some(trouble) = trouble(&read) {
                for old in &doomed {
                    rotation.world.register(&old.title, &old.key).await?;
                }
                return Err(cannot_read(&trouble)
                    .cause("it could with the old key, which is registered again")
                    .hint("mend the cause and run the same command again"));
            }
            let titles: Vec<&str> = doomed.iter().map(|k| k.title.as_str()).collect();
            Ok(Ran::Changed(titles.join(", ")))
        })
    }
}

struct Unstage;

impl<'w> Step<KeyRotation<'w>> for Unstage {
    fn id(&self) -> &'static str {
        "finish"
    }

    fn describe(&self) -> String {
        "end the rotation".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let now = rotation.world.pending().await?;
            Ok(match (&now, &rotation.pending) {
                (Some(now), Some(ours)) if now.key.fingerprint == ours.key.fingerprint => Probe::Needed,
                (_, None) => Probe::Needed,
                // Somebody who went on with the same rotation did it, and may have begun the next one.
                _ => Probe::Stands("it has ended".into()),
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut KeyRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            rotation.world.unstage().await?;
            Ok(Ran::Changed("nothing is pending".into()))
        })
    }
}
