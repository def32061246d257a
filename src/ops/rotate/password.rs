//! The steps that replace Argo CD's admin password.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::pace::Pace;
use super::{age, days};
use crate::argocd::Session;
use crate::aws::PasswordVersion;
use crate::error::{Error, Result};
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture, Steps};

/// Tries to log in with the new password. Argo CD locks the account after 5 wrong ones, and others may have made some.
const LOGINS: u32 = 3;
/// Sessions and the password's time have whole seconds: so long after the witness began, its second is over, also by a
/// clock that is a little behind.
const WITNESS: Duration = Duration::from_secs(2);
/// Longest time for Argo CD to follow its Secret, which it watches.
const FOLLOW: Duration = Duration::from_secs(60);
/// How often a session is looked at.
const POLL: Duration = Duration::from_millis(500);

/// What `argocd-secret` holds.
#[derive(Debug, Clone)]
pub(super) struct ClusterPassword {
    /// The hash.
    pub(super) bcrypt: SecretString,
    /// The Secret's resource version.
    pub(super) version: String,
}

/// The outside of a rotation of the password; each method is one call.
pub(super) trait PasswordWorld: Pace {
    /// The version with the label AWSCURRENT.
    fn current(&self) -> BoxFuture<'_, Result<Option<PasswordVersion>>>;
    /// The version with the label AWSPENDING.
    fn pending(&self) -> BoxFuture<'_, Result<Option<PasswordVersion>>>;
    /// Makes a new version with the label AWSPENDING, or gets the one that somebody made from the same current version.
    fn stage<'a>(&'a self, current: &'a str) -> BoxFuture<'a, Result<PasswordVersion>>;
    /// What the cluster holds.
    fn in_cluster(&self) -> BoxFuture<'_, Result<Option<ClusterPassword>>>;
    /// The cluster's clock.
    fn clock(&self) -> BoxFuture<'_, Result<Timestamp>>;
    /// Puts a hash and its time into the cluster if the Secret is still at `version`; says whether it was.
    fn patch<'a>(&'a self, bcrypt: &'a SecretString, mtime: &'a str, version: &'a str) -> BoxFuture<'a, Result<bool>>;
    /// Whether Argo CD lets its user `admin` in at all.
    fn admin_enabled(&self) -> BoxFuture<'_, Result<bool>>;
    /// Logs in at Argo CD; `None` where it refuses.
    fn log_in<'a>(&'a self, password: &'a SecretString) -> BoxFuture<'a, Result<Option<Session>>>;
    /// Whether a session still holds.
    fn holds<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<bool>>;
    /// Gives the label AWSCURRENT to `pending` in place of `current`.
    fn promote<'a>(&'a self, current: &'a str, pending: &'a str) -> BoxFuture<'a, Result<()>>;
    /// Takes the label AWSPENDING off.
    fn unstage<'a>(&'a self, pending: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// What the steps hand to one another.
pub(super) struct PasswordRotation<'w> {
    environment: String,
    world: &'w dyn PasswordWorld,
    limit: Duration,
    current: Option<PasswordVersion>,
    pending: Option<PasswordVersion>,
    /// A session that was opened with the old password; its end shows that Argo CD has the new one.
    witness: Option<Session>,
}

impl<'w> PasswordRotation<'w> {
    /// Nothing is known yet. `limit` is the longest time to wait for Argo CD.
    pub(super) fn new(environment: &str, world: &'w dyn PasswordWorld, limit: Duration) -> Self {
        Self {
            environment: environment.to_owned(),
            world,
            limit,
            current: None,
            pending: None,
            witness: None,
        }
    }

    /// Looks at the versions.
    ///
    /// # Errors
    /// There is no password, or AWS cannot be asked.
    pub(super) async fn look(&mut self) -> Result<()> {
        self.current = self.world.current().await?;
        self.pending = self.world.pending().await?;
        if self.current.is_none() {
            return Err(
                Error::failed(format!("{} has no admin password to rotate", self.environment))
                    .hint(format!("`mfsre up {}` makes it", self.environment)),
            );
        }
        Ok(())
    }

    /// Since when the password that was found is the current one.
    pub(super) fn since(&self) -> Timestamp {
        self.current.as_ref().map_or(Timestamp::UNIX_EPOCH, |c| c.since)
    }

    /// Whether a rotation was under way.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    fn current(&self) -> Result<&PasswordVersion> {
        self.current
            .as_ref()
            .ok_or_else(|| out_of_order("the current password"))
    }

    fn pending(&self) -> Result<&PasswordVersion> {
        self.pending
            .as_ref()
            .ok_or_else(|| out_of_order("the pending password"))
    }

    fn is_promoted(&self) -> bool {
        matches!((&self.current, &self.pending), (Some(current), Some(pending)) if current.id == pending.id)
    }

    /// The pending version is still the one this rotation works with.
    async fn still_pending(&self) -> Result<()> {
        let now = self.world.pending().await?;
        let ours = self.pending()?;
        if now.as_ref().is_some_and(|now| now.id == ours.id) {
            return Ok(());
        }
        Err(somebody_else("argocd-password", &self.environment))
    }
}

/// A step was put before the one it builds on.
pub(super) fn out_of_order(what: &str) -> Error {
    Error::failed(format!("{what} is not known at this point of the rotation"))
        .hint("this is a fault of mfsre; please report it")
}

/// Another machine was quicker.
pub(super) fn somebody_else(credential: &str, environment: &str) -> Error {
    Error::new(
        crate::error::ErrorKind::Locked,
        format!("somebody else has finished or taken over the rotation of {environment}'s {credential}"),
    )
    .hint(format!(
        "look with `mfsre status {environment}`; nothing was lost, and running the same command again is safe"
    ))
}

/// The steps, in the order that keeps one password working at every instant.
pub(super) fn steps<'w>() -> Steps<PasswordRotation<'w>> {
    vec![
        Box::new(Stage),
        Box::new(Patch),
        Box::new(Verify),
        Box::new(Promote),
        Box::new(Unstage),
    ]
}

struct Stage;

impl<'w> Step<PasswordRotation<'w>> for Stage {
    fn id(&self) -> &'static str {
        "stage"
    }

    fn describe(&self) -> String {
        "new password beside the current one, pending".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            rotation.look().await?;
            Ok(match &rotation.pending {
                Some(pending) => Probe::Stands(match days(age(pending.since)) {
                    0 => "going on with the one that is pending".into(),
                    days => format!("going on with the one that is pending since {days} days"),
                }),
                None => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let current = rotation.current()?.id.clone();
            rotation.pending = Some(rotation.world.stage(&current).await?);
            Ok(Ran::Changed("AWSPENDING in Secrets Manager".into()))
        })
    }
}

struct Patch;

impl<'w> Step<PasswordRotation<'w>> for Patch {
    fn id(&self) -> &'static str {
        "patch"
    }

    fn describe(&self) -> String {
        "its hash in argocd-secret".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let Some(pending) = &rotation.pending else {
                return Ok(Probe::Needed);
            };
            let held = rotation.world.in_cluster().await?;
            Ok(match held {
                Some(held) if same(&held.bcrypt, &pending.password.bcrypt) => Probe::Stands("it is there".into()),
                _ => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            if rotation.world.admin_enabled().await? {
                // A witness, where the password that AWS holds is the one in use. One login, and no more.
                let held = rotation.world.in_cluster().await?;
                let current = rotation.current()?.password.clone();
                if held.is_some_and(|held| same(&held.bcrypt, &current.bcrypt)) {
                    progress.say("logging in with the current password");
                    rotation.witness = rotation.world.log_in(&current.password).await?;
                    if rotation.witness.is_some() {
                        rotation.world.pause(WITNESS).await;
                    }
                }
            }
            for _ in 0..5 {
                // Read before AWS is asked: if anybody patches after that, ours is refused.
                let held = rotation.world.in_cluster().await?.ok_or_else(|| {
                    Error::failed("there is no Secret argocd-secret in the cluster").hint(format!(
                        "Argo CD is not installed: run `mfsre up {}`",
                        rotation.environment
                    ))
                })?;
                rotation.still_pending().await?;
                let pending = rotation.pending()?.password.clone();
                // Argo CD ends every session that began before this time, and takes none that begins before it: the
                // cluster's clock, at this moment.
                let now = rotation.world.clock().await?;
                let mtime = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                if rotation.world.patch(&pending.bcrypt, &mtime, &held.version).await? {
                    return Ok(Ran::Changed("admin.password, admin.passwordMtime".into()));
                }
            }
            Err(Error::failed("argocd-secret is changed by somebody else all the time")
                .hint("find out who writes to it (kubectl -n argocd get secret argocd-secret --show-managed-fields -o yaml)"))
        })
    }
}

struct Verify;

impl<'w> Step<PasswordRotation<'w>> for Verify {
    fn id(&self) -> &'static str {
        "verify"
    }

    fn describe(&self) -> String {
        "log in at Argo CD with the new password".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            if rotation.is_promoted() {
                return Ok(Probe::Stands("it was done before it became the current one".into()));
            }
            if !rotation.world.admin_enabled().await? {
                return Ok(Probe::Impossible(
                    "the user admin is switched off (admin.enabled in argocd-cm)".into(),
                ));
            }
            Ok(Probe::Needed)
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let world = rotation.world;
            let limit = rotation.limit.min(FOLLOW);
            let end = world.elapsed() + limit;
            let ended = match rotation.witness.take() {
                Some(witness) => {
                    progress.say("waiting until Argo CD ends the sessions of the old password");
                    while world.holds(&witness).await? {
                        if world.elapsed() >= end {
                            return Err(Error::failed("Argo CD still takes a session of the old password")
                                .cause(format!("for {}s since the new hash is in argocd-secret", limit.as_secs()))
                                .hint("run the same command again, which goes on with the new password and tries it")
                                .hint("if that fails, argocd-server does not follow its Secret, or its clock is ahead: look at its log and restart it"));
                        }
                        world.pause(POLL).await;
                    }
                    true
                }
                None => false,
            };
            let password = rotation.pending()?.password.password.clone();
            let end = world.elapsed() + limit;
            for attempt in 1..=LOGINS {
                progress.say(format!("attempt {attempt} of {LOGINS}"));
                if let Some(session) = world.log_in(&password).await? {
                    // A server whose clock is behind the cluster's refuses its own sessions until then.
                    while !world.holds(&session).await? {
                        if world.elapsed() >= end {
                            return Err(Error::failed("Argo CD takes the new password and refuses the session that it gives")
                                .hint("the clocks of the cluster's nodes differ: set them right and run the same command again"));
                        }
                        world.pause(POLL).await;
                    }
                    return Ok(Ran::Unchanged(if ended {
                        "it logs in; sessions of the old one have ended".into()
                    } else {
                        "it logs in".into()
                    }));
                }
                if attempt < LOGINS {
                    world.pause(Duration::from_secs(2 << attempt)).await;
                }
            }
            Err(Error::failed(format!("Argo CD refuses the new password, {LOGINS} times"))
                .cause("its hash is in argocd-secret")
                .hint("Argo CD refuses every login for 300 seconds after 5 wrong ones: wait 5 minutes and run the same command again; the new password stays pending")
                .hint("if it stays so, look at argocd-server's log"))
        })
    }
}

struct Promote;

impl<'w> Step<PasswordRotation<'w>> for Promote {
    fn id(&self) -> &'static str {
        "promote"
    }

    fn describe(&self) -> String {
        "make it the current one in Secrets Manager".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            Ok(if rotation.is_promoted() {
                Probe::Stands("it is".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let pending = rotation.pending()?.id.clone();
            // Somebody who goes on with the same rotation may have done it since.
            rotation.current = rotation.world.current().await?;
            if rotation.is_promoted() {
                return Ok(Ran::Unchanged("it is".into()));
            }
            rotation.still_pending().await?;
            let current = rotation.current()?.id.clone();
            rotation.world.promote(&current, &pending).await?;
            rotation.current.clone_from(&rotation.pending);
            Ok(Ran::Changed("AWSCURRENT".into()))
        })
    }
}

struct Unstage;

impl<'w> Step<PasswordRotation<'w>> for Unstage {
    fn id(&self) -> &'static str {
        "finish"
    }

    fn describe(&self) -> String {
        "end the rotation".into()
    }

    fn probe<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let now = rotation.world.pending().await?;
            Ok(match (&now, &rotation.pending) {
                (Some(now), Some(ours)) if now.id == ours.id => Probe::Needed,
                (_, None) => Probe::Needed,
                // Somebody who went on with the same rotation did it, and may have begun the next one.
                _ => Probe::Stands("it has ended".into()),
            })
        })
    }

    fn run<'a>(&'a self, rotation: &'a mut PasswordRotation<'w>, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let pending = rotation.pending()?.id.clone();
            rotation.world.unstage(&pending).await?;
            Ok(Ran::Changed("nothing is pending".into()))
        })
    }
}

/// Whether two hashes are one.
fn same(a: &SecretString, b: &SecretString) -> bool {
    a.expose_secret() == b.expose_secret()
}
