use std::sync::Mutex;
use std::sync::atomic::AtomicI64;

use jiff::SignedDuration;

use super::*;

/// A lock in memory, with a clock that [`Memory::pass`] drives.
#[derive(Default)]
struct Memory {
    note: Mutex<Option<Note>>,
    away: AtomicBool,
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

    fn holder(&self) -> Option<String> {
        let note = self.note.lock().unwrap().clone()?;
        Some(serde_json::from_str::<Holder>(&note.text).unwrap().user)
    }
}

impl Store for Memory {
    fn read(&self) -> BoxFuture<'_, Result<Option<Note>>> {
        Box::pin(async {
            self.ask()?;
            Ok(self.note.lock().unwrap().clone())
        })
    }

    fn create<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.ask()?;
            let mut note = self.note.lock().unwrap();
            if note.is_some() {
                return Ok(false);
            }
            *note = Some(Note {
                text: text.to_owned(),
                version: 1,
                put: self.now(),
            });
            Ok(true)
        })
    }

    fn overwrite<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<i64>> {
        Box::pin(async move {
            // Whoever else wants to, comes in between.
            tokio::task::yield_now().await;
            self.ask()?;
            let mut note = self.note.lock().unwrap();
            let version = note.as_ref().map_or(0, |note| note.version) + 1;
            *note = Some(Note {
                text: text.to_owned(),
                version,
                put: self.now(),
            });
            Ok(version)
        })
    }

    fn remove(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.ask()?;
            *self.note.lock().unwrap() = None;
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
        place: format!("the place of {user}"),
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
    first.give_back().await.unwrap();
    assert_eq!(memory.holder(), None);
    take(&memory, "bob", &nobody).await.unwrap();
    assert_eq!(memory.holder().unwrap(), "bob");
}

fn beaten(error: &Error) {
    assert_eq!(error.kind, ErrorKind::Locked);
    assert_eq!(error.causes, ["it has just taken over the lock of one that had died"]);
}

fn put(memory: &Memory) -> Timestamp {
    memory.note.lock().unwrap().as_ref().unwrap().put
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
    other.give_back().await.unwrap();
    assert_eq!(memory.holder(), None);
}

#[tokio::test]
async fn of_two_who_take_over_one_stands_back_and_the_other_keeps_it() {
    let (memory, nobody) = (Arc::<Memory>::default(), Cancellation::default());
    drop(take(&memory, "alice", &nobody).await.unwrap());
    memory.pass(200).await;
    let (bob, carol) = tokio::join!(take(&memory, "bob", &nobody), take(&memory, "carol", &nobody));
    let (winner, user) = match (bob, carol) {
        (Ok((lease, _)), Err(error)) => {
            beaten(&error);
            (lease, "bob")
        }
        (Err(error), Ok((lease, _))) => {
            beaten(&error);
            (lease, "carol")
        }
        (bob, carol) => panic!("both: {}, {}", bob.is_ok(), carol.is_ok()),
    };
    // Whatever the other wrote is written over by the next renewal.
    memory.pass(60).await;
    assert_eq!(memory.holder().as_deref(), Some(user));
    winner.give_back().await.unwrap();
    assert_eq!(memory.holder(), None);
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
    let error = alice.give_back().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Locked);
    assert_eq!(error.message, "another mfsre has taken over the lock");
    assert_eq!(memory.holder().as_deref(), Some("bob"), "it is left to him");
    bob.give_back().await.unwrap();
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
