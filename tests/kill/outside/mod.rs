//! The outside world of one environment, on loopback and in memory: AWS, the Kubernetes API with its controllers, Argo CD's
//! API, the git host, and what the programs that mfsre calls do. It counts the calls, and can kill the caller at any one.

mod argocd;
mod aws;
mod cluster;
mod git_host;
mod http;
mod terraform;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use self::aws::Aws;
pub(crate) use self::cluster::{Away, Cluster};
pub(crate) use self::git_host::{GitHost, key_data};
use self::http::{Answer, Request};
pub(crate) use self::terraform::{Infrastructure, NodeGroup};

/// One runtime for all worlds of the process.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
});

/// What stands outside.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) aws: Aws,
    pub(crate) cluster: Cluster,
    pub(crate) git_host: GitHost,
    pub(crate) infrastructure: Infrastructure,
    /// The operator's AWS credentials have run out.
    pub(crate) expired: bool,
}

/// What goes wrong outside, from a call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The operator's AWS credentials run out.
    Expiry,
    /// The Kubernetes API goes away.
    Absence(Away),
}

/// At which moment the caller gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The number of the point.
    pub(crate) point: usize,
    pub(crate) signal: Signal,
}

/// A caller is held up at a call, so that another one can come in between.
struct Hold {
    point: usize,
    /// Told that it is held.
    held: std::sync::mpsc::Sender<()>,
    /// Lets it go on.
    release: tokio::sync::oneshot::Receiver<()>,
}

/// A world, and the watch over who calls it.
#[derive(Default)]
struct Watched {
    world: World,
    /// What was called, in order; a call that changes something is there twice, before and after its effect.
    points: Vec<String>,
    /// The calls that had their effect.
    effects: Vec<String>,
    moment: Option<Moment>,
    /// The number of the point from which on there is trouble.
    trouble: Option<(usize, Trouble)>,
    /// Calls that came to nothing because of it.
    refused: u64,
    /// The point at which the caller is held up.
    hold: Option<Hold>,
    caller: Option<Pid>,
    /// The caller is dead: what it has sent has no effect any more.
    dead: bool,
    /// Programs that are still at work, some perhaps after the death of their parent.
    programs: usize,
    /// Every secret that was sent, whether it had an effect or not.
    secrets: Vec<String>,
}

impl Watched {
    /// A moment at which the caller can die; says whether it is dead.
    fn point(&mut self, name: impl Into<String>) -> bool {
        let number = self.points.len();
        self.points.push(name.into());
        if let Some((_, trouble)) = self.trouble.take_if(|(point, _)| *point == number) {
            match trouble {
                Trouble::Expiry => self.world.expired = true,
                Trouble::Absence(away) => self.world.cluster.away = away,
            }
        }
        if let (Some(moment), Some(caller)) = (self.moment, self.caller)
            && moment.point == number
        {
            let _ = kill_process(caller, moment.signal);
            self.dead = moment.signal == Signal::KILL;
        }
        self.dead
    }
}

/// The servers of one world.
pub(crate) struct Outside {
    watched: Arc<Mutex<Watched>>,
    port: u16,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Where the servers of a world find one another.
#[derive(Clone)]
struct Place {
    port: u16,
    argocd: u16,
    /// The branch of the repository, a file that git writes.
    branch: PathBuf,
}

impl Place {
    /// The commit at the branch.
    fn head(&self) -> String {
        std::fs::read_to_string(&self.branch).map_or_else(|_| String::new(), |text| text.trim().to_owned())
    }
}

impl Outside {
    /// Serves `world`, whose repository has its branch in the file `branch`.
    pub(crate) fn start(world: World, branch: PathBuf) -> Self {
        let watched = Arc::new(Mutex::new(Watched {
            world,
            ..Watched::default()
        }));
        RUNTIME.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let argocd = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let place = Place {
                port: listener.local_addr().unwrap().port(),
                argocd: argocd.local_addr().unwrap().port(),
                branch,
            };
            let (all, logins) = (watched.clone(), watched.clone());
            let at = place.clone();
            let serve = async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(stream, all.clone(), at.clone()));
                }
            };
            let log_in = async move {
                while let Ok((stream, _)) = argocd.accept().await {
                    tokio::spawn(argocd::connection(stream, logins.clone()));
                }
            };
            Self {
                watched,
                port: place.port,
                tasks: vec![tokio::spawn(serve), tokio::spawn(log_in)],
            }
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap()
    }

    /// Starts a caller with `spawn`, who gets a signal at `moment`.
    pub(crate) fn watch(
        &self,
        moment: Option<Moment>,
        spawn: impl FnOnce() -> std::process::Child,
    ) -> std::process::Child {
        // No call comes through before it is known whose it is.
        let mut watched = self.lock();
        let child = spawn();
        watched.caller = Pid::from_raw(i32::try_from(child.id()).unwrap());
        watched.moment = moment;
        watched.points.clear();
        watched.effects.clear();
        watched.refused = 0;
        watched.dead = false;
        child
    }

    /// Has the next caller meet `trouble` from its call number `point` on.
    pub(crate) fn disturb(&self, point: usize, trouble: Trouble) {
        self.lock().trouble = Some((point, trouble));
    }

    /// Runs `meanwhile` while the next caller waits before its call number `point`, or the next one; says whether it came to that.
    pub(crate) fn between<T>(
        &self,
        point: usize,
        caller: impl FnOnce() -> T + Send,
        meanwhile: impl FnOnce(),
    ) -> (T, bool)
    where
        T: Send,
    {
        let (held, is_held) = std::sync::mpsc::channel();
        let (go, release) = tokio::sync::oneshot::channel();
        self.lock().hold = Some(Hold { point, held, release });
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                let finished = caller();
                // Whoever waits for a call that was not made is told so.
                self.lock().hold = None;
                finished
            });
            let came = is_held.recv().is_ok();
            if came {
                meanwhile();
            }
            let _ = go.send(());
            (caller.join().unwrap(), came)
        })
    }

    /// How many calls of the last caller came to nothing because of the trouble.
    pub(crate) fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Sends the caller a signal, between two of its calls.
    pub(crate) fn kill(&self, signal: Signal) {
        let mut watched = self.lock();
        if let Some(caller) = watched.caller {
            let _ = kill_process(caller, signal);
            watched.dead = signal == Signal::KILL;
        }
    }

    /// What the last caller called.
    pub(crate) fn points(&self) -> Vec<String> {
        self.lock().points.clone()
    }

    /// The calls of the last caller that had their effect, sorted.
    pub(crate) fn effects(&self) -> Vec<String> {
        let mut effects = self.lock().effects.clone();
        effects.sort();
        effects
    }

    /// Waits until programs that have outlived their parent have ended.
    pub(crate) fn wait_for_programs(&self) {
        let began = std::time::Instant::now();
        while self.lock().programs > 0 {
            assert!(began.elapsed().as_secs() < 30, "a program does not end");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Changes the world behind everybody's back.
    pub(crate) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.lock().world);
    }

    pub(crate) fn world(&self) -> World {
        self.lock().world.clone()
    }

    /// Every secret that was ever sent.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.lock().secrets.clone()
    }
}

async fn connection(mut stream: TcpStream, watched: Arc<Mutex<Watched>>, place: Place) {
    let mut head = [0; 512];
    let Ok(length) = stream.peek(&mut head).await else {
        return;
    };
    let hold = {
        let mut watched = watched.lock().unwrap();
        let point = watched.points.len();
        // Calls that are made at the same time come in another order each time.
        watched.hold.take_if(|hold| hold.point <= point)
    };
    if let Some(hold) = hold {
        let _ = hold.held.send(());
        let _ = hold.release.await;
    }
    if head[..length].starts_with(b"program ") {
        program(stream, &watched).await;
    } else if head[..length].windows(13).any(|w| w == b"/portforward?") {
        let closed = {
            let mut watched = watched.lock().unwrap();
            let closed = watched.world.expired || watched.world.cluster.is_away();
            watched.refused += u64::from(closed);
            closed
        };
        if !closed {
            argocd::forward(stream, place.argocd).await;
        }
    } else if let Some(request) = Request::read(&mut stream).await
        && let Some(answer) = call(&request, &watched, &place)
    {
        answer.write(&mut stream).await;
    }
}

/// A call over HTTP; no answer to one who is dead.
fn call(request: &Request, watched: &Mutex<Watched>, place: &Place) -> Option<Answer> {
    let watched = &mut *watched.lock().unwrap();
    if watched.dead {
        return None;
    }
    watched.secrets.extend(request.secrets());
    let name = request.name();
    if watched.point(&name) {
        return None;
    }
    let world = &mut watched.world;
    let path = request.path();
    let answer = if path.starts_with("/github/") {
        world.git_host.answer(request)
    } else if path.starts_with("/api/") || path.starts_with("/apis/") || path == "/version" || path == "/api" {
        if world.cluster.is_away() {
            watched.refused += 1;
            return None;
        }
        if world.expired {
            watched.refused += 1;
            return Some(Cluster::unknown_caller());
        }
        world.cluster.settle(&world.git_host, &place.head());
        let answer = world.cluster.answer(request);
        world.cluster.settle(&world.git_host, &place.head());
        answer
    } else if world.expired {
        watched.refused += 1;
        return Some(Aws::expired(request));
    } else {
        world.aws.answer(request, &world.infrastructure, place.port)
    };
    if request.changes() {
        let done = format!("{name}, done");
        watched.effects.push(done.clone());
        if watched.point(done) {
            return None;
        }
    }
    Some(answer)
}

/// A program that mfsre has called, as its stand-in on PATH tells: `program NAME ARGUMENTS`. Terraform's work is done here; of
/// git the real one is at work, and its end is told by a second line. Both go on when their parent has died.
async fn program(stream: TcpStream, watched: &Mutex<Watched>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let Ok(Some(line)) = lines.next_line().await else {
        return;
    };
    let line = line.trim_start_matches("program ").to_owned();
    let (name, arguments) = line.split_once(' ').unwrap_or((&line, ""));
    let answer = if name == "key" {
        let known = watched.lock().unwrap().world.git_host.knows(arguments);
        (if known { "known\n" } else { "unknown\n" }).to_owned()
    } else {
        let told = format!("{name} {}", subcommand(arguments));
        {
            let mut watched = watched.lock().unwrap();
            watched.programs += 1;
            if !watched.dead {
                watched.point(&told);
            }
        }
        let answer = if name == "terraform" {
            let mut watched = watched.lock().unwrap();
            let loaded = watched.world.cluster.has_load_balancers();
            let expired = watched.world.expired;
            watched.refused += u64::from(expired && Infrastructure::asks_aws(arguments));
            let answer = watched.world.infrastructure.terraform(arguments, loaded, expired);
            if watched.world.infrastructure.is_gone() {
                watched.world.cluster = Cluster::default();
            }
            answer
        } else {
            let _ = write.write_all(b"go\n").await;
            let _ = lines.next_line().await;
            "0\n".to_owned()
        };
        let mut watched = watched.lock().unwrap();
        watched.programs -= 1;
        if !READING.contains(&told.as_str()) {
            let done = format!("{told}, done");
            watched.effects.push(done.clone());
            if !watched.dead {
                watched.point(done);
            }
        }
        answer
    };
    let _ = write.write_all(answer.as_bytes()).await;
}

/// Programs that change nothing, so that it is all the same when they are cut off.
const READING: [&str; 14] = [
    "terraform version",
    "terraform output",
    "terraform show",
    "terraform state",
    "git cat-file",
    "git config",
    "git diff",
    "git ls-files",
    "git ls-remote",
    "git ls-tree",
    "git rev-parse",
    "git symbolic-ref",
    "git var",
    "git log",
];

/// The first word that is neither an option nor an option's value.
fn subcommand(arguments: &str) -> &str {
    let mut words = arguments.split(' ');
    while let Some(word) = words.next() {
        match word {
            "-C" | "-c" => {
                words.next();
            }
            word if word.starts_with('-') => {}
            word => return word,
        }
    }
    ""
}

/// Lays `patch` over `value`, as a merge patch and, nearly, a server-side apply do.
fn merge(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(value), Value::Object(patch)) => {
            for (key, new) in patch {
                if new.is_null() {
                    value.remove(key);
                } else {
                    merge(value.entry(key.clone()).or_insert(Value::Null), new);
                }
            }
        }
        (value, Value::Object(patch)) => {
            *value = Value::Object(serde_json::Map::new());
            merge(value, &Value::Object(patch.clone()));
        }
        (value, patch) => *value = patch.clone(),
    }
}
