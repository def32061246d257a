//! The password, against Secrets Manager, a cluster and an Argo CD in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Calls, Moment, Recorder, process};
use crate::argocd::Session;
use crate::aws::{AdminPassword, PasswordVersion};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::rotate::pace::Pace;
use crate::ops::rotate::password::{ClusterPassword, PasswordRotation, PasswordWorld, steps};

/// When the tests begin, in seconds since 1970.
const EPOCH: i64 = 1_800_000_000;

/// What is outside.
struct Outside {
    /// Time since the test began.
    elapsed: Duration,
    versions: Vec<PasswordVersion>,
    current: usize,
    pending: Option<usize>,
    /// Hash, time and resource version in `argocd-secret`, and since when.
    secret: (String, i64, u64),
    changed: Duration,
    /// What Argo CD goes by until it has seen a change, and how long that takes.
    before: (String, i64),
    lag: Duration,
    enabled: bool,
    /// Wrong logins in a row.
    wrong: u32,
    logins: u32,
    /// A change by somebody else right before the next patch.
    disturb: bool,
}

fn version(number: usize) -> PasswordVersion {
    PasswordVersion {
        id: format!("version {number}"),
        since: Timestamp::from_second(EPOCH).unwrap(),
        password: AdminPassword {
            password: format!("password {number}").into(),
            bcrypt: format!("hash of password {number}").into(),
            mtime: "2027-01-15T08:00:00Z".into(),
        },
    }
}

impl Outside {
    fn new() -> Self {
        let hash = "hash of password 1".to_owned();
        Self {
            elapsed: Duration::ZERO,
            versions: vec![version(1)],
            current: 0,
            pending: None,
            secret: (hash.clone(), EPOCH - 1000, 1),
            changed: Duration::ZERO,
            before: (hash, EPOCH - 1000),
            lag: Duration::from_millis(1500),
            enabled: true,
            wrong: 0,
            logins: 0,
            disturb: false,
        }
    }

    fn now(&self) -> i64 {
        EPOCH + i64::try_from(self.elapsed.as_secs()).unwrap()
    }

    /// Hash and time that Argo CD goes by.
    fn seen(&self) -> (String, i64) {
        if self.elapsed - self.changed >= self.lag {
            (self.secret.0.clone(), self.secret.1)
        } else {
            self.before.clone()
        }
    }

    /// At every instant the password that Argo CD takes is one that AWS holds as current or pending.
    fn watch(&self) {
        let known = [Some(self.current), self.pending];
        let known: Vec<&str> = known
            .into_iter()
            .flatten()
            .map(|i| self.versions[i].password.bcrypt.expose_secret())
            .collect();
        for hash in [&self.seen().0, &self.secret.0] {
            assert!(known.contains(&hash.as_str()), "{hash} of {known:?}");
        }
        assert!(self.secret.1 <= self.now(), "the time is never in the future");
        assert!(self.wrong < 4, "the account comes near to being locked");
    }
}

/// One process's way to the outside.
struct World {
    outside: Arc<Mutex<Outside>>,
    calls: Calls,
}

impl World {
    fn new(outside: &Arc<Mutex<Outside>>, cut: Option<(usize, Moment)>, order: u64) -> Self {
        Self {
            outside: outside.clone(),
            calls: Calls::new(cut, order),
        }
    }

    fn call<'a, T: Send + 'a>(&'a self, effect: impl FnOnce(&mut Outside) -> T + Send + 'a) -> BoxFuture<'a, T> {
        Box::pin(self.calls.call(move || {
            let mut outside = self.outside.lock().unwrap();
            let result = effect(&mut outside);
            outside.watch();
            result
        }))
    }
}

impl Pace for World {
    fn elapsed(&self) -> Duration {
        self.outside.lock().unwrap().elapsed
    }

    fn pause(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.call(move |o| o.elapsed += duration)
    }
}

impl PasswordWorld for World {
    fn current(&self) -> BoxFuture<'_, Result<Option<PasswordVersion>>> {
        self.call(|o| Ok(o.versions.get(o.current).cloned()))
    }

    fn pending(&self) -> BoxFuture<'_, Result<Option<PasswordVersion>>> {
        self.call(|o| Ok(o.pending.map(|i| o.versions[i].clone())))
    }

    fn stage<'a>(&'a self, current: &'a str) -> BoxFuture<'a, Result<PasswordVersion>> {
        self.call(move |o| {
            // The id is a function of the current one's, so there is one at most.
            let from = o.versions.iter().position(|v| v.id == current).unwrap();
            let made = from + 1;
            if o.versions.len() == made {
                o.versions.push(version(made + 1));
            }
            if o.current == from {
                o.pending = Some(made);
            }
            Ok(o.versions[made].clone())
        })
    }

    fn in_cluster(&self) -> BoxFuture<'_, Result<Option<ClusterPassword>>> {
        self.call(|o| {
            Ok(Some(ClusterPassword {
                bcrypt: o.secret.0.clone().into(),
                version: o.secret.2.to_string(),
            }))
        })
    }

    fn clock(&self) -> BoxFuture<'_, Result<Timestamp>> {
        self.call(|o| Ok(Timestamp::from_second(o.now()).unwrap()))
    }

    fn patch<'a>(&'a self, bcrypt: &'a SecretString, mtime: &'a str, version: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.call(move |o| {
            if std::mem::take(&mut o.disturb) {
                o.secret.2 += 1;
            }
            if version != o.secret.2.to_string() {
                return Ok(false);
            }
            o.before = o.seen();
            o.changed = o.elapsed;
            let mtime: Timestamp = mtime.parse().unwrap();
            o.secret = (bcrypt.expose_secret().to_owned(), mtime.as_second(), o.secret.2 + 1);
            Ok(true)
        })
    }

    fn admin_enabled(&self) -> BoxFuture<'_, Result<bool>> {
        self.call(|o| Ok(o.enabled))
    }

    fn log_in<'a>(&'a self, password: &'a SecretString) -> BoxFuture<'a, Result<Option<Session>>> {
        self.call(move |o| {
            o.logins += 1;
            let good = o.enabled && o.seen().0 == format!("hash of {}", password.expose_secret());
            o.wrong = if good { 0 } else { o.wrong + 1 };
            Ok(good.then(|| SecretString::from(o.now().to_string()).into()))
        })
    }

    fn holds<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<bool>> {
        self.call(move |o| {
            let began: i64 = session.token().expose_secret().parse().unwrap();
            Ok(began >= o.seen().1)
        })
    }

    fn promote<'a>(&'a self, current: &'a str, pending: &'a str) -> BoxFuture<'a, Result<()>> {
        self.call(move |o| {
            if o.versions[o.current].id != current {
                return Err(Error::failed("the label is on another version"));
            }
            o.current = o.versions.iter().position(|v| v.id == pending).unwrap();
            Ok(())
        })
    }

    fn unstage<'a>(&'a self, pending: &'a str) -> BoxFuture<'a, Result<()>> {
        self.call(move |o| {
            if o.pending.is_none_or(|i| o.versions[i].id != pending) {
                return Err(Error::failed("the label is not on this version"));
            }
            o.pending = None;
            Ok(())
        })
    }
}

async fn rotate(
    outside: &Arc<Mutex<Outside>>,
    cut: Option<(usize, Moment)>,
) -> (Option<Result<()>>, Vec<String>, usize) {
    let world = World::new(outside, cut, 0);
    let recorder = Recorder::default();
    let mut rotation = PasswordRotation::new("demo", &world, Duration::from_secs(60));
    let done = process(&steps(), &mut rotation, &world.calls, &recorder).await;
    let made = world.calls.made.load(std::sync::atomic::Ordering::SeqCst);
    (done, recorder.heard(), made)
}

/// A rotation is over: a new password is the current one and in use, and nothing is pending.
fn assert_rotated(outside: &Mutex<Outside>, context: &str) {
    let outside = outside.lock().unwrap();
    assert!(outside.current > 0, "{context}: a new version is the current one");
    assert_eq!(outside.pending, None, "{context}: nothing is pending");
    let current = outside.versions[outside.current].password.bcrypt.expose_secret();
    assert_eq!(outside.secret.0, current, "{context}: the cluster has it");
    assert!(
        outside.secret.1 >= EPOCH,
        "{context}: sessions of the old one have ended"
    );
}

#[tokio::test]
async fn a_rotation_shows_each_step_and_ends_the_old_sessions() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    let (done, heard, _) = rotate(&outside, None).await;
    done.unwrap().unwrap();
    assert_eq!(
        heard,
        [
            "stage Changed: AWSPENDING in Secrets Manager",
            "patch Changed: admin.password, admin.passwordMtime",
            "verify Unchanged: it logs in; sessions of the old one have ended",
            "promote Changed: AWSCURRENT",
            "finish Changed: nothing is pending",
        ]
    );
    assert_rotated(&outside, "undisturbed");
    assert_eq!(outside.lock().unwrap().logins, 2, "one login with each password");
}

#[tokio::test]
async fn cut_off_at_any_call_and_run_again_it_ends_well() {
    let (_, _, calls) = rotate(&Arc::new(Mutex::new(Outside::new())), None).await;
    assert!(calls > 10, "there is something to cut");
    for number in 0..calls {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("cut {moment:?} call {number} of {calls}");
            let outside = Arc::new(Mutex::new(Outside::new()));
            let (done, ..) = rotate(&outside, Some((number, moment))).await;
            assert!(done.is_none(), "{context}");
            let (done, ..) = rotate(&outside, None).await;
            done.unwrap().unwrap_or_else(|e| panic!("{context}: {e:?}"));
            assert_rotated(&outside, &context);
        }
    }
    println!("{} points, each before and after its effect", calls);
}

#[tokio::test]
async fn cut_off_again_and_again_it_ends_in_one_rotation() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    for number in 0.. {
        let (done, ..) = rotate(&outside, Some((number, Moment::After))).await;
        if let Some(done) = done {
            done.unwrap();
            break;
        }
    }
    assert_rotated(&outside, "many cuts");
}

#[tokio::test]
async fn two_at_once_meet_at_one_version_and_never_take_it_from_each_other() {
    let (mut both, mut one) = (0, 0);
    for seed in 1..300 {
        let outside = Arc::new(Mutex::new(Outside::new()));
        let (a, b) = (
            World::new(&outside, None, seed * 2 + 1),
            World::new(&outside, None, seed * 31 + 7),
        );
        let run = async |world: &World| {
            let mut rotation = PasswordRotation::new("demo", world, Duration::from_secs(60));
            process(&steps(), &mut rotation, &world.calls, &Recorder::default())
                .await
                .unwrap()
        };
        let (first, second) = tokio::join!(run(&a), run(&b));
        assert!(first.is_ok() || second.is_ok(), "seed {seed}: {first:?} {second:?}");
        for error in [&first, &second].into_iter().filter_map(|r| r.as_ref().err()) {
            assert!(
                error.kind == ErrorKind::Locked || error.message.contains("the label is"),
                "seed {seed}: {error:?}"
            );
        }
        if first.is_ok() && second.is_ok() {
            both += 1
        } else {
            one += 1
        }
        assert_rotated(&outside, &format!("seed {seed}"));
    }
    println!("{both} times both ended well, {one} times one said that the other did it");
}

#[tokio::test]
async fn a_change_of_the_secret_in_between_is_met_by_another_try() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    outside.lock().unwrap().disturb = true;
    rotate(&outside, None).await.0.unwrap().unwrap();
    assert_rotated(&outside, "disturbed");
}

#[tokio::test]
async fn an_argo_cd_without_the_user_admin_is_rotated_without_a_login() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    {
        let mut state = outside.lock().unwrap();
        state.enabled = false;
        state.lag = Duration::ZERO;
    }
    let (done, heard, _) = rotate(&outside, None).await;
    done.unwrap().unwrap();
    assert!(
        heard
            .iter()
            .any(|l| l.starts_with("verify Skipped: the user admin is switched off")),
        "{heard:?}"
    );
    assert_eq!(outside.lock().unwrap().logins, 0);
}

#[tokio::test]
async fn a_server_that_does_not_follow_is_told_and_the_rotation_stays_pending() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    outside.lock().unwrap().lag = Duration::from_secs(3600);
    let (done, ..) = rotate(&outside, None).await;
    let error = done.unwrap().unwrap_err();
    assert!(
        error.message.contains("still takes a session of the old password"),
        "{error:?}"
    );
    // Run again, without a witness: three attempts and no more.
    let (done, ..) = rotate(&outside, None).await;
    let error = done.unwrap().unwrap_err();
    assert!(error.message.contains("refuses the new password, 3 times"), "{error:?}");
    {
        let mut state = outside.lock().unwrap();
        assert_eq!((state.current, state.pending), (0, Some(1)), "nothing is lost");
        assert_eq!(state.wrong, 3);
        state.lag = Duration::ZERO;
    }
    rotate(&outside, None).await.0.unwrap().unwrap();
    assert_rotated(&outside, "mended");
}
