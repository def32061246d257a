//! The deploy key, against a Parameter Store, a git host, a cluster and an Argo CD in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::{Calls, Moment, Recorder, process};
use crate::aws::{DeployKey, StoredKey};
use crate::error::{ErrorKind, Result};
use crate::git::{KeyError, RegisteredKey, Registration};
use crate::kubernetes::RefreshedApplication;
use crate::ops::rotate::deploy_key::{ClusterKey, KeyRotation, KeyWorld, steps};
use crate::ops::rotate::pace::Pace;

/// When the tests begin, in seconds since 1970.
const EPOCH: i64 = 1_800_000_000;
const LIMIT: Duration = Duration::from_secs(120);

fn key(number: usize) -> DeployKey {
    DeployKey {
        private: format!("private {number}").into(),
        public: format!("ssh-ed25519 KEY{number} mfsre demo"),
        fingerprint: format!("SHA256:{number}"),
    }
}

/// What is outside.
struct Outside {
    /// Time since the test began.
    elapsed: Duration,
    made: usize,
    /// Every value of the parameter, the last one current.
    history: Vec<DeployKey>,
    pending: Option<DeployKey>,
    registered: Vec<RegisteredKey>,
    next_id: usize,
    /// Private key and resource version in the repository's Secret, and since when.
    secret: (String, u64),
    changed: Duration,
    /// What Argo CD reads with until it has seen a change, and how long that takes.
    before: String,
    lag: Duration,
    applications: Vec<RefreshedApplication>,
    /// A person adds the key so long after being asked.
    person: Option<Duration>,
    asked: Option<(Duration, String)>,
    /// Fetches that Argo CD made.
    fetched: Vec<String>,
    /// Argo CD fails for a reason of its own.
    broken: Option<&'static str>,
}

impl Outside {
    fn new() -> Self {
        let first = key(1);
        Self {
            elapsed: Duration::ZERO,
            made: 1,
            registered: vec![RegisteredKey {
                id: "1".into(),
                title: "mfsre demo SHA256:1".into(),
                key: "ssh-ed25519 KEY1".into(),
                read_only: true,
            }],
            next_id: 2,
            secret: (first.private.expose_secret().to_owned(), 1),
            before: first.private.expose_secret().to_owned(),
            history: vec![first],
            pending: None,
            changed: Duration::ZERO,
            lag: Duration::from_secs(4),
            applications: ["addons", "workloads"].map(application).into(),
            person: None,
            asked: None,
            fetched: Vec::new(),
            broken: None,
        }
    }

    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.elapsed.as_secs()).unwrap();
        Timestamp::from_second(EPOCH + elapsed).unwrap()
    }

    /// The private key that Argo CD reads with.
    fn seen(&self) -> &str {
        if self.elapsed - self.changed >= self.lag {
            &self.secret.0
        } else {
            &self.before
        }
    }

    fn knows(&self, private: &str) -> bool {
        let number = private.strip_prefix("private ").unwrap();
        let public = format!("ssh-ed25519 KEY{number}");
        self.registered.iter().any(|r| r.is(&public) && r.read_only)
    }

    /// At every instant the key that the cluster holds, the one that Argo CD reads with and the one that AWS calls current
    /// open the repository: no fetch fails.
    fn watch(&mut self) {
        self.person_acts();
        for private in [self.secret.0.as_str(), self.seen()] {
            assert!(self.knows(private), "{private} of {:?}", self.registered);
        }
        let current = self.history.last().unwrap();
        assert!(self.knows(current.private.expose_secret()));
    }

    fn person_acts(&mut self) {
        if let (Some(after), Some((since, public))) = (self.person, self.asked.clone())
            && self.elapsed - since >= after
        {
            self.asked = None;
            self.add("by hand", &public);
        }
    }

    fn add(&mut self, title: &str, public: &str) {
        let id = self.next_id.to_string();
        self.next_id += 1;
        let key = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        self.registered.push(RegisteredKey {
            id,
            title: title.into(),
            key,
            read_only: true,
        });
    }
}

fn application(name: &str) -> RefreshedApplication {
    RefreshedApplication {
        name: name.into(),
        reconciled: None,
        refreshing: false,
        access_error: None,
    }
}

/// One process's way to the outside.
struct World {
    outside: Arc<Mutex<Outside>>,
    calls: Calls,
    manual: bool,
}

impl World {
    fn new(outside: &Arc<Mutex<Outside>>, cut: Option<(usize, Moment)>, order: u64) -> Self {
        Self {
            manual: outside.lock().unwrap().person.is_some(),
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

fn stored(key: &DeployKey, version: usize) -> StoredKey {
    StoredKey {
        key: key.clone(),
        version: i64::try_from(version).unwrap(),
        since: Timestamp::from_second(EPOCH).unwrap(),
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

impl KeyWorld for World {
    fn current(&self) -> BoxFuture<'_, Result<Option<StoredKey>>> {
        self.call(|o| Ok(o.history.last().map(|k| stored(k, o.history.len()))))
    }

    fn pending(&self) -> BoxFuture<'_, Result<Option<StoredKey>>> {
        self.call(|o| Ok(o.pending.as_ref().map(|k| stored(k, 1))))
    }

    fn former(&self) -> BoxFuture<'_, Result<Vec<DeployKey>>> {
        self.call(|o| Ok(o.history.clone()))
    }

    fn stage(&self) -> BoxFuture<'_, Result<StoredKey>> {
        self.call(|o| {
            if o.pending.is_none() {
                o.made += 1;
                o.pending = Some(key(o.made));
            }
            Ok(stored(o.pending.as_ref().unwrap(), 1))
        })
    }

    fn is_manual(&self) -> bool {
        self.manual
    }

    fn registered(&self) -> BoxFuture<'_, Result<Vec<RegisteredKey>>> {
        self.call(|o| Ok(o.registered.clone()))
    }

    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration>> {
        self.call(move |o| {
            if o.person.is_some() {
                o.asked.get_or_insert((o.elapsed, public.to_owned()));
                return Ok(Registration::Manual {
                    instructions: format!("add {public}"),
                });
            }
            if o.registered.iter().any(|r| r.is(public)) {
                return Ok(Registration::Present);
            }
            o.add(title, public);
            Ok(Registration::Registered)
        })
    }

    fn unregister<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.call(move |o| {
            let before = o.registered.len();
            o.registered.retain(|r| r.id != id);
            Ok(o.registered.len() < before)
        })
    }

    fn read<'a>(&'a self, key: &'a DeployKey) -> BoxFuture<'a, Result<(), KeyError>> {
        self.call(move |o| {
            if o.knows(key.private.expose_secret()) {
                return Ok(());
            }
            Err(KeyError::Refused {
                url: "git@example.com:acme/platform.git".into(),
                fingerprint: key.fingerprint.clone(),
                output: "git@example.com: Permission denied (publickey).".into(),
            })
        })
    }

    fn in_cluster(&self) -> BoxFuture<'_, Result<Option<ClusterKey>>> {
        self.call(|o| {
            Ok(Some(ClusterKey {
                private: Some(o.secret.0.clone().into()),
                version: o.secret.1.to_string(),
            }))
        })
    }

    fn patch<'a>(&'a self, key: &'a DeployKey, version: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.call(move |o| {
            if version != o.secret.1.to_string() {
                return Ok(false);
            }
            o.before = o.seen().to_owned();
            o.changed = o.elapsed;
            o.secret = (key.private.expose_secret().to_owned(), o.secret.1 + 1);
            Ok(true)
        })
    }

    fn clock(&self) -> BoxFuture<'_, Result<Timestamp>> {
        self.call(|o| Ok(o.now()))
    }

    fn applications(&self) -> BoxFuture<'_, Result<Vec<RefreshedApplication>>> {
        self.call(|o| {
            let (now, seen) = (o.now(), o.seen().to_owned());
            let broken = o.broken.map(str::to_owned);
            // Argo CD does one at a time.
            if let Some(next) = o.applications.iter_mut().find(|a| a.refreshing) {
                next.refreshing = false;
                next.reconciled = Some(now);
                next.access_error = broken;
                o.fetched.push(seen);
            }
            Ok(o.applications.clone())
        })
    }

    fn refresh<'a>(&'a self, application: &'a str) -> BoxFuture<'a, Result<()>> {
        self.call(move |o| {
            let found = o.applications.iter_mut().find(|a| a.name == application);
            found.unwrap().refreshing = true;
            Ok(())
        })
    }

    fn promote<'a>(&'a self, key: &'a DeployKey) -> BoxFuture<'a, Result<i64>> {
        self.call(move |o| {
            o.history.push(key.clone());
            Ok(i64::try_from(o.history.len()).unwrap())
        })
    }

    fn unstage(&self) -> BoxFuture<'_, Result<()>> {
        self.call(|o| {
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
    let mut rotation = KeyRotation::new("demo", &world, LIMIT);
    let done = process(&steps(), &mut rotation, &world.calls, &recorder).await;
    let made = world.calls.made.load(std::sync::atomic::Ordering::SeqCst);
    (done, recorder.heard(), made)
}

/// A rotation is over: a new key is the current one, in use and the only one on the host.
fn assert_rotated(outside: &Mutex<Outside>, context: &str) {
    let outside = outside.lock().unwrap();
    let current = outside.history.last().unwrap();
    assert_ne!(
        current.fingerprint, "SHA256:1",
        "{context}: a new key is the current one"
    );
    assert!(outside.pending.is_none(), "{context}: nothing is pending");
    assert_eq!(
        outside.secret.0,
        current.private.expose_secret(),
        "{context}: the cluster has it"
    );
    let registered: Vec<&str> = outside.registered.iter().map(|r| r.key.as_str()).collect();
    let public = current.public.rsplit_once(" mfsre").unwrap().0;
    assert_eq!(registered, [public], "{context}: the host knows it alone");
    assert!(
        outside.fetched.contains(&outside.secret.0),
        "{context}: Argo CD has read with it"
    );
}

#[tokio::test]
async fn a_rotation_shows_each_step_and_removes_the_old_key_last() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    let (done, heard, _) = rotate(&outside, None).await;
    done.unwrap().unwrap();
    assert_eq!(
        heard,
        [
            "stage Changed: SHA256:2",
            "register Changed: mfsre demo SHA256:2",
            "prove Unchanged: git ls-remote with SHA256:2",
            "patch Changed: sshPrivateKey",
            "see Unchanged: 2 Applications compared anew, twice",
            "promote Changed: version 2",
            "revoke Changed: mfsre demo SHA256:1",
            "finish Changed: nothing is pending",
        ]
    );
    assert_rotated(&outside, "undisturbed");
}

#[tokio::test]
async fn cut_off_at_any_call_and_run_again_it_ends_well() {
    let (_, _, calls) = rotate(&Arc::new(Mutex::new(Outside::new())), None).await;
    assert!(calls > 20, "there is something to cut");
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
    println!("{calls} points, each before and after its effect");
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
async fn two_at_once_meet_at_one_key() {
    let (mut both, mut one) = (0, 0);
    for seed in 1..300 {
        let outside = Arc::new(Mutex::new(Outside::new()));
        let (a, b) = (
            World::new(&outside, None, seed * 2 + 1),
            World::new(&outside, None, seed * 31 + 7),
        );
        let run = async |world: &World| {
            let mut rotation = KeyRotation::new("demo", world, LIMIT);
            process(&steps(), &mut rotation, &world.calls, &Recorder::default())
                .await
                .unwrap()
        };
        let (first, second) = tokio::join!(run(&a), run(&b));
        assert!(first.is_ok() || second.is_ok(), "seed {seed}: {first:?} {second:?}");
        for error in [&first, &second].into_iter().filter_map(|r| r.as_ref().err()) {
            assert_eq!(error.kind, ErrorKind::Locked, "seed {seed}: {error:?}");
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
async fn a_person_is_asked_once_waited_for_and_told_which_key_to_remove() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    outside.lock().unwrap().person = Some(Duration::from_secs(40));
    let (done, heard, _) = rotate(&outside, None).await;
    done.unwrap().unwrap();
    let warnings: Vec<&String> = heard.iter().filter(|l| l.starts_with("warning: ")).collect();
    assert_eq!(
        warnings,
        [
            "warning: add ssh-ed25519 KEY2 mfsre demo",
            "warning: remove the old deploy key SHA256:1 from the git host by hand"
        ]
    );
    let outside = outside.lock().unwrap();
    assert_eq!(outside.secret.0, "private 2");
    assert!(outside.pending.is_none());
}

#[tokio::test]
async fn a_person_who_does_not_come_is_not_waited_for_for_ever() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    outside.lock().unwrap().person = Some(Duration::from_secs(3600));
    let error = rotate(&outside, None).await.0.unwrap().unwrap_err();
    assert!(
        error.message.contains("cannot be read with the deploy key SHA256:2"),
        "{error:?}"
    );
    assert!(
        error.causes.iter().any(|c| c.contains("it was tried for 2m00s")),
        "{error:?}"
    );
    assert_eq!(outside.lock().unwrap().secret.0, "private 1", "nothing was changed");
    outside.lock().unwrap().person = Some(Duration::ZERO);
    let (done, heard, _) = rotate(&outside, None).await;
    done.unwrap().unwrap();
    assert!(
        heard[0].starts_with("stage Unchanged: going on with SHA256:2"),
        "{heard:?}"
    );
}

#[tokio::test]
async fn an_argo_cd_that_cannot_read_keeps_both_keys() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    outside.lock().unwrap().broken = Some("ssh: handshake failed: knownhosts: key mismatch");
    let error = rotate(&outside, None).await.0.unwrap().unwrap_err();
    assert!(
        error
            .message
            .contains("Argo CD cannot read the repository for the Application addons"),
        "{error:?}"
    );
    {
        let mut state = outside.lock().unwrap();
        assert_eq!(state.registered.len(), 2, "both keys are registered");
        assert_eq!(state.history.len(), 1, "the old one is the current one");
        state.broken = None;
    }
    rotate(&outside, None).await.0.unwrap().unwrap();
    assert_rotated(&outside, "mended");
}

#[tokio::test]
async fn a_key_that_may_write_is_not_taken() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    {
        let mut state = outside.lock().unwrap();
        state.pending = Some(key(2));
        state.made = 2;
        state.add("mfsre demo SHA256:2", "ssh-ed25519 KEY2");
        state.registered[1].read_only = false;
    }
    let error = rotate(&outside, None).await.0.unwrap().unwrap_err();
    assert!(error.message.contains("may push"), "{error:?}");
}

#[tokio::test]
async fn a_key_that_is_not_provably_ours_stays_and_is_named() {
    let outside = Arc::new(Mutex::new(Outside::new()));
    {
        let mut state = outside.lock().unwrap();
        state.add("mfsre demo SHA256:other", "ssh-ed25519 OTHER");
        state.add("somebody's", "ssh-ed25519 MINE");
        // A former key that an interrupted `down` or an old program left.
        state.history.insert(0, key(0));
        state.add("mfsre demo SHA256:0", "ssh-ed25519 KEY0");
    }
    let (done, heard, _) = rotate(&outside, None).await;
    done.unwrap().unwrap();
    let named = heard.iter().filter(|l| l.contains("mfsre demo SHA256:other")).count();
    assert_eq!(named, 1, "{heard:?}");
    let outside = outside.lock().unwrap();
    let titles: Vec<&str> = outside.registered.iter().map(|r| r.title.as_str()).collect();
    assert_eq!(titles, ["mfsre demo SHA256:other", "somebody's", "mfsre demo SHA256:2"]);
}
