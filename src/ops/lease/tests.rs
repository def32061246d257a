use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::SignedDuration;

use super::*;

/// A lock in memory, with a clock that [`Memory::pass`] drives.
#[derive(Default)]
struct Memory {
    versions: Mutex<Vec<Note>>,
    away: AtomicBool,
    /// The answer to the next write is lost, and the call is made again.
    twice: AtomicBool,
    seconds: AtomicI64,
}

const BEGIN: Timestamp = Timestamp::constant(1_780_000_000, 0);

impl Memory {
    /// Lets time pass, and whoever waits for it go on.
    async fn pass(&self, seconds: i64) {
        for _ in 0..seconds {
            self.seconds.fetch_add(1, Ordering::Relaxed);
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn ask(&self) -> Result<()> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Error::failed("AWS is away"));
        }
        Ok(())
    }

    /// What the lock says: a user, or `free`.
    fn holder(&self) -> Option<String> {
        let note = self.last()?;
        Some(Holder::of(&note).map_or(note.text, |holder| holder.user))
    }

    fn last(&self) -> Option<Note> {
        self.versions.lock().unwrap().last().cloned()
    }

    fn put(&self, text: &str) -> i64 {
        let mut versions = self.versions.lock().unwrap();
        let version = versions.last().map_or(0, |note| note.version) + 1;
        versions.push(Note {
            text: text.to_owned(),
            version,
            put: self.now(),
        });
        version
    }
}

impl Store for Memory {
    fn read(&self) -> BoxFuture<'_, Result<Option<Note>>> {
        Box::pin(async {
            self.ask()?;
            Ok(self.last())
        })
    }

    fn history(&self) -> BoxFuture<'_, Result<Vec<Note>>> {
        Box::pin(async {
            self.ask()?;
            Ok(self.versions.lock().unwrap().clone())
        })
    }

    fn create<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.ask()?;
            let new = self.last().is_none();
            if new {
                self.put(text);
            }
            Ok(new)
        })
    }

    fn overwrite<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<i64>> {
        Box::pin(async move {
            // Whoever else wants to, comes in between.
            tokio::task::yield_now().await;
            self.ask()?;
            if self.twice.swap(false, Ordering::Relaxed) {
                self.put(text);
            }
            Ok(self.put(text))
        })
    }

    fn remove(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.ask()?;
            self.versions.lock().unwrap().clear();
            Ok(())
        })
    }

    fn now(&self) -> Timestamp {
        let seconds = self.seconds.load(Ordering::Relaxed);
        BEGIN.checked_add(SignedDuration::from_secs(seconds)).unwrap()
    }

    fn pause(&self, duration: Duration) -> BoxFuture<'_, ()> {
        let end = self.now().checked_add(duration).unwrap();
        Box::pin(async move {
            while self.now() < end {
                tokio::task::yield_now().await;
            }
        })
    }
}

fn holder(user: &str) -> Holder {
    Holder {
        command: "up demo".into(),
        user: user.into(),
        at: "laptop".into(),
        since: BEGIN,
        run: format!("the run of {user}"),
        place: format!("the place of {user}"),
        trying: false,
    }
}

async fn take(memory: &Arc<Memory>, user: &str, cancellation: &Cancellation) -> Result<(Lease, Option<Note>)> {
    Lease::take(memory.clone(), holder(user), "demo", cancellation.clone()).await
}

#[tokio::test]
async fn the_second_is_told_who_is_at_work_for_as_long_as_the_first_is() {
    let (memory, nobody) = (Arc::<Memory>::default(), Cancellation::default());
    let (first, abandoned) = take(&memory, "alice", &nobody).await.unwrap();
    assert_eq!(abandoned, None);
    for _ in 0..5 {
        memory.pass(100).await;
        let error = take(&memory, "bob", &nobody).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Locked);
        assert_eq!(
            error.render(false),
            format!(
                "error: another mfsre is at work on demo\n  because: {}\n{}{}",
                format_args!(
                    "`mfsre up demo` of alice at laptop holds the lock since {BEGIN}, and said so {} ago",
                    human_duration(Duration::try_from(memory.now().duration_since(put(&memory))).unwrap())
                ),
                "  hint: wait until it is done, or stop it where it runs\n",
                format_args!(
                    "  hint: if it has died, its lock ends by itself at {:.0}: run the same command again after that\n",
                    put(&memory).checked_add(SignedDuration::from_secs(180)).unwrap()
                )
            )
        );
    }
    first.give_back(false).await.unwrap();
    assert_eq!(memory.holder().unwrap(), FREE);
    take(&memory, "bob", &nobody).await.unwrap();
    assert_eq!(memory.holder().unwrap(), "bob");
}

fn put(memory: &Memory) -> Timestamp {
    memory.last().unwrap().put
}

#[tokio::test]
async fn what_a_dead_command_left_is_taken_over_here_at_once_and_elsewhere_in_time() {
    let (memory, nobody) = (Arc::<Memory>::default(), Cancellation::default());
    // Killed: nothing renews it, and nobody gives it back.
    drop(take(&memory, "alice", &nobody).await.unwrap());
    memory.pass(10).await;
    let (again, abandoned) = take(&memory, "alice", &nobody).await.unwrap();
    assert_eq!(abandoned.unwrap().put, BEGIN);
    drop(again);
    memory.pass(179).await;
    assert!(take(&memory, "bob", &nobody).await.is_err());
    memory.pass(1).await;
    let (other, abandoned) = take(&memory, "bob", &nobody).await.unwrap();
    assert!(holder("alice").wrote(&abandoned.unwrap()));
    other.give_back(true).await.unwrap();
    assert_eq!(memory.holder(), None);
}

#[tokio::test]
async fn of_two_who_take_it_at_once_one_has_it_and_the_other_stands_back_also_when_it_tries_again() {
    for left in ["nothing", FREE, "a dead command's"] {
        let (memory, nobody) = (Arc::<Memory>::default(), Cancellation::default());
        match left {
            "nothing" => {}
            FREE => drop(memory.put(FREE)),
            _ => drop(take(&memory, "alice", &nobody).await.unwrap()),
        }
        memory.pass(200).await;
        let (bob, carol) = tokio::join!(take(&memory, "bob", &nobody), take(&memory, "carol", &nobody));
        let (winner, error, [first, second]) = match (bob, carol) {
            (Ok((lease, _)), Err(error)) => (lease, error, ["bob", "carol"]),
            (Err(error), Ok((lease, _))) => (lease, error, ["carol", "bob"]),
            (bob, carol) => panic!("{left}: {}, {}", bob.is_ok(), carol.is_ok()),
        };
        assert_eq!(error.kind, ErrorKind::Locked);
        assert!(
            error.causes[0].contains(&format!("of {first} at laptop")),
            "{left}: {error:?}"
        );
        assert_eq!(memory.holder().as_deref(), Some(first), "{left}");
        assert!(take(&memory, second, &nobody).await.is_err(), "{left}");
        // Before it was ever renewed.
        winner.give_back(false).await.unwrap();
        assert_eq!(memory.holder().as_deref(), Some(FREE), "{left}");
        take(&memory, second, &nobody).await.unwrap();
    }
}

#[tokio::test]
async fn one_that_died_while_it_tried_is_followed_by_the_next_here_unless_it_tried_in_vain() {
    let nobody = Cancellation::default();
    for (before, goes_on) in [
        (vec![], true),
        (vec![FREE.to_owned()], true),
        (vec![holder("alice").text()], true),
        (vec![holder("bob").text()], false),
        (vec![FREE.to_owned(), holder("bob").trying()], false),
    ] {
        let memory = Arc::<Memory>::default();
        for text in &before {
            memory.put(text);
        }
        memory.put(&holder("alice").trying());
        let taken = take(&memory, "alice", &nobody).await;
        assert_eq!(taken.is_ok(), goes_on, "{before:?}");
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_loses_no_lock() {
    let (memory, nobody) = (Arc::<Memory>::default(), Cancellation::default());
    memory.put(FREE);
    memory.twice.store(true, Ordering::Relaxed);
    let (bob, _) = take(&memory, "bob", &nobody).await.unwrap();
    memory.twice.store(true, Ordering::Relaxed);
    memory.pass(100).await;
    assert!(!nobody.is_cancelled());
    bob.give_back(false).await.unwrap();
    assert_eq!(memory.holder().as_deref(), Some(FREE));
}

#[tokio::test]
async fn what_comes_of_the_work_is_told_before_what_came_of_the_lock() {
    struct Heard(Mutex<Vec<Event>>);
    impl Reporter for Heard {
        fn report(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }
    let heard = Heard(Mutex::default());
    let lost = || Err(Error::new(ErrorKind::Locked, "lost"));
    let told = |outcome: Result<u8>, given_back: Result<()>| {
        let outcome = conclude(outcome, given_back, &"demo", &heard).map_err(|error| error.message);
        (outcome, std::mem::take(&mut *heard.0.lock().unwrap()).len())
    };
    assert_eq!(told(Ok(1), Ok(())), (Ok(1), 0));
    assert_eq!(told(Ok(1), lost()), (Ok(1), 1));
    assert_eq!(told(Ok(1), Err(Error::failed("away"))), (Ok(1), 1));
    assert_eq!(told(Err(Error::failed("denied")), lost()), (Err("denied".into()), 1));
    assert_eq!(told(Err(Error::interrupted()), lost()), (Err("lost".into()), 0));
    let stopped = told(Err(Error::interrupted()), Err(Error::failed("away")));
    assert_eq!(stopped, (Err("stopped on request".into()), 1));
}

#[tokio::test]
async fn a_holder_who_cannot_renew_stops_once_somebody_else_has_it_and_not_before() {
    let (memory, cancellation) = (Arc::<Memory>::default(), Cancellation::default());
    let (alice, _) = take(&memory, "alice", &cancellation).await.unwrap();
    memory.away.store(true, Ordering::Relaxed);
    memory.pass(400).await;
    memory.away.store(false, Ordering::Relaxed);
    memory.pass(60).await;
    assert!(!cancellation.is_cancelled(), "nobody has taken it");
    assert_eq!(memory.holder().as_deref(), Some("alice"));
    // The machine sleeps, and somebody takes it over.
    memory.away.store(true, Ordering::Relaxed);
    memory.pass(400).await;
    memory.away.store(false, Ordering::Relaxed);
    let (bob, _) = take(&memory, "bob", &Cancellation::default()).await.unwrap();
    memory.pass(31).await;
    assert!(cancellation.is_cancelled());
    let error = alice.give_back(false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Locked);
    assert_eq!(error.message, "another mfsre has taken over the lock");
    assert_eq!(memory.holder().as_deref(), Some("bob"), "it is left to him");
    bob.give_back(false).await.unwrap();
}

#[tokio::test]
async fn a_note_that_nobody_can_read_holds_as_long_as_any_other() {
    let (memory, nobody) = (Arc::<Memory>::default(), Cancellation::default());
    memory.create("?").await.unwrap();
    let error = take(&memory, "bob", &nobody).await.err().unwrap();
    assert_eq!(error.causes, ["somebody holds the lock, and said so 0.0s ago"]);
    memory.pass(180).await;
    take(&memory, "bob", &nobody).await.unwrap();
}
