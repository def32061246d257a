//! Moves between places that are kept in memory: cut off at every call, before and after it had its effect, and with
//! somebody else at work meanwhile.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde_json::json;

use super::migrate::{Keep, Migration, steps};
use super::place::StatePlace;
use crate::cancellation::Cancellation;
use crate::error::{Error, ErrorKind, Result};
use crate::terraform::State;
use crate::workflow::{Confirm, Event, Journal, Reporter, perform};

/// A state with so many resources.
fn state(lineage: &str, serial: u64, resources: usize) -> State {
    let resources: Vec<_> = (0..resources)
        .map(|i| json!({ "name": i, "instances": [{}] }))
        .collect();
    let state = json!({
        "version": 4, "serial": serial, "lineage": lineage, "outputs": {}, "resources": resources,
    });
    State::read(serde_json::to_string_pretty(&state).unwrap()).unwrap()
}

/// Everything outside of the process.
#[derive(Default)]
struct World {
    from: Option<State>,
    to: Option<State>,
    kept: Vec<State>,
    calls: usize,
    /// Cut off at this call: before its effect, or after it.
    cut: Option<(usize, bool)>,
    /// What somebody else does right before this call.
    others: Option<(usize, Others)>,
}

type Others = fn(&mut World);

#[derive(Clone)]
struct Outside(Arc<Mutex<World>>);

impl Outside {
    fn call<T>(&self, effect: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let mut world = self.0.lock().unwrap();
        let number = world.calls;
        world.calls += 1;
        if let Some((at, others)) = world.others
            && at == number
        {
            others(&mut world);
        }
        let cut = || Error::interrupted();
        match world.cut {
            Some((at, false)) if at == number => Err(cut()),
            Some((at, true)) if at == number => {
                let _ = effect(&mut world);
                Err(cut())
            }
            _ => effect(&mut world),
        }
    }
}

#[derive(Clone, Copy)]
enum Which {
    From,
    To,
}

struct Place(Outside, Which);

impl Place {
    fn of(world: &mut World, which: Which) -> &mut Option<State> {
        match which {
            Which::From => &mut world.from,
            Which::To => &mut world.to,
        }
    }
}

impl StatePlace for Place {
    fn pull(&self) -> BoxFuture<'_, Result<Option<State>>> {
        let pulled = self.0.call(|world| Ok(Self::of(world, self.1).clone()));
        Box::pin(async { pulled })
    }

    /// By Terraform's rules, which also count a serial up where something changes.
    fn push<'a>(&'a self, state: &'a State, force: bool) -> BoxFuture<'a, Result<()>> {
        let pushed = self.0.call(|world| {
            let there = Self::of(world, self.1);
            let refused = |why: String| Error::failed("terraform state push failed").cause(why);
            if let Some(found) = there.as_ref().filter(|_| !force) {
                if found.lineage != state.lineage {
                    return Err(refused("cannot import state with lineage".into()));
                }
                let differs = !found.holds_the_same(state);
                if found.serial > state.serial || found.serial == state.serial && differs {
                    let (new, old) = (state.serial, found.serial);
                    return Err(refused(format!(
                        "cannot import state with serial {new} over newer state with serial {old}"
                    )));
                }
            }
            let counted = there.is_some();
            *there = Some(if counted {
                state.with_serial(state.serial + 1).unwrap()
            } else {
                state.clone()
            });
            Ok(())
        });
        Box::pin(async { pushed })
    }
}

struct Copies(Outside);

impl Keep for Copies {
    fn keep<'a>(&'a self, what: &'a str, state: &'a State) -> BoxFuture<'a, Result<PathBuf>> {
        let kept = self.0.call(|world| {
            world.kept.push(state.clone());
            Ok(PathBuf::from(what))
        });
        Box::pin(async { kept })
    }
}

struct Nobody;

impl Reporter for Nobody {
    fn report(&self, _: Event) {}
}

impl Confirm for Nobody {
    fn possible(&self, _: &str) -> Result<()> {
        Err(Error::usage("there is nobody to ask"))
    }

    fn confirm<'a>(&'a self, question: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async { self.possible(question).map(|()| false) })
    }
}

/// One run of the command.
async fn run(outside: &Outside, in_place: bool, agreed: bool) -> Result<bool> {
    let mut migration = Migration {
        from: Some(Box::new(Place(outside.clone(), Which::From))),
        to: Box::new(Place(outside.clone(), if in_place { Which::From } else { Which::To })),
        in_place,
        from_name: "the old place".into(),
        to_name: "the new place".into(),
        environment: "demo".into(),
        keep: Box::new(Copies(outside.clone())),
        confirm: Arc::new(Nobody),
        agreed,
        state: None,
        found: None,
        copy: None,
        backups: Vec::new(),
        moved: false,
    };
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), "backend migrate")?;
    perform(
        &steps(),
        &mut migration,
        &mut journal,
        &Nobody,
        &Cancellation::default(),
    )
    .await?;
    Ok(migration.moved)
}

fn outside(from: Option<State>, to: Option<State>) -> Outside {
    Outside(Arc::new(Mutex::new(World {
        from,
        to,
        ..World::default()
    })))
}

/// The error of a run that changed nothing.
async fn refused(from: Option<State>, to: Option<State>) -> Error {
    let outside = outside(from.clone(), to.clone());
    let error = run(&outside, false, true).await.unwrap_err();
    let world = outside.0.lock().unwrap();
    assert_eq!((&world.from, &world.to), (&from, &to));
    error
}

/// What may be in the new place before, and that the state goes there.
fn targets() -> Vec<Option<State>> {
    vec![
        None,
        // As `init` of an S3 backend leaves it.
        Some(state("other", 0, 0)),
        // An older version of the same state.
        Some(state("a", 3, 9)),
        // It was moved away from there before.
        Some(state("a", 6, 9).farewell("the old place").unwrap()),
        Some(state("a", 40, 9).farewell("the old place").unwrap()),
    ]
}

#[tokio::test]
async fn cut_off_at_any_call_it_is_finished_by_the_next_run() {
    let mut cut_off = 0;
    for target in targets() {
        for in_place in [false, true] {
            for number in 0.. {
                let mut reached = false;
                for after in [false, true] {
                    let outside = outside(Some(state("a", 7, 12)), target.clone());
                    outside.0.lock().unwrap().cut = Some((number, after));
                    let first = run(&outside, in_place, true).await;
                    reached |= first.is_err();
                    {
                        let mut world = outside.0.lock().unwrap();
                        world.cut = None;
                        let whole = |s: &Option<State>| s.as_ref().is_some_and(|s| s.resources == 12);
                        assert!(whole(&world.from) || whole(&world.to), "{number} {after}: it is lost");
                    }
                    if first.is_err() {
                        cut_off += 1;
                        run(&outside, in_place, true).await.unwrap();
                    }
                    let world = outside.0.lock().unwrap();
                    let arrived = if in_place { &world.from } else { &world.to };
                    let arrived = arrived.as_ref().unwrap();
                    assert!(arrived.holds_the_same(&state("a", 0, 12)), "{number} {after}");
                    assert!(arrived.serial >= 7);
                    if !in_place {
                        let left = world.from.as_ref().unwrap();
                        assert_eq!(left.moved_to.as_deref(), Some("the new place"));
                        assert!(world.kept.iter().any(|kept| kept.resources == 12), "a copy is kept");
                        let lost = target.iter().any(|t| !world.kept.iter().any(|kept| kept == t));
                        assert!(!lost, "what was in the new place is kept too");
                    }
                }
                if !reached {
                    break;
                }
            }
        }
    }
    assert!(cut_off >= 60, "only {cut_off} runs were cut off");
}

#[tokio::test]
async fn a_second_run_finds_nothing_to_do() {
    let outside = outside(Some(state("a", 7, 12)), None);
    assert!(run(&outside, false, true).await.unwrap());
    let before = outside.0.lock().unwrap().to.clone();
    assert!(!run(&outside, false, false).await.unwrap(), "and does not ask");
    assert_eq!(outside.0.lock().unwrap().to, before);
}

#[tokio::test]
async fn a_change_in_the_old_place_meanwhile_is_not_lost() {
    // The calls are: read, look, keep, put, read back, leave word.
    let outside = outside(Some(state("a", 7, 12)), None);
    outside.0.lock().unwrap().others = Some((5, |world| world.from = Some(state("a", 8, 13))));
    let error = run(&outside, false, true).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Locked);
    assert!(error.message.contains("while it was moved"), "{error:?}");
    run(&outside, false, true).await.unwrap();
    let world = outside.0.lock().unwrap();
    assert_eq!(world.to.as_ref().unwrap().resources, 13);
    assert!(world.from.as_ref().unwrap().is_empty());
}

#[tokio::test]
async fn a_state_that_is_not_this_one_is_never_written_over() {
    let (mine, theirs) = (Some(state("a", 7, 12)), Some(state("b", 2, 3)));
    let error = refused(mine.clone(), theirs).await;
    assert!(error.message.contains("a state of something else"), "{error:?}");
    let error = refused(mine, Some(state("a", 9, 11))).await;
    assert!(error.message.contains("changed since"), "{error:?}");
    insta::assert_snapshot!(error.render(false));
}

#[tokio::test]
async fn what_comes_out_different_is_told_and_the_old_place_stays() {
    let outside = outside(Some(state("a", 7, 12)), None);
    // Somebody puts another state there before it is read back.
    outside.0.lock().unwrap().others = Some((4, |world| world.to = Some(state("a", 8, 2))));
    let error = run(&outside, false, true).await.unwrap_err();
    assert!(error.message.contains("is not what was put there"), "{error:?}");
    assert_eq!(outside.0.lock().unwrap().from, Some(state("a", 7, 12)));
}

#[tokio::test]
async fn nothing_is_moved_without_consent() {
    let outside = outside(Some(state("a", 7, 12)), None);
    let error = run(&outside, false, false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    assert_eq!(outside.0.lock().unwrap().to, None);
}
