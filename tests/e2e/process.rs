//! Processes, as `/proc` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::canary::{Canary, Find};

/// Every process that has `dir` in its command line, its environment or as its working folder, with its command line.
pub(crate) fn processes_of(dir: &Path) -> BTreeMap<u32, String> {
    let mark = dir.as_os_str().as_bytes();
    let holds = |text: &[u8]| text.windows(mark.len()).any(|w| w == mark);
    all()
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let command = read(pid, "cmdline");
            let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let ours = holds(&command) || holds(&read(pid, "environ")) || folder.starts_with(dir);
            // A process that has ended and was not waited for yet has neither.
            ours.then(|| (pid, String::from_utf8_lossy(&command).replace('\0', " ")))
        })
        .collect()
}

fn all() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .expect("these tests look at /proc, which Linux has")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn read(pid: u32, file: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn parent(pid: u32) -> Option<u32> {
    // The name in parentheses may hold anything, parentheses too.
    let stat = String::from_utf8_lossy(&read(pid, "stat")).into_owned();
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).expect("a process id");
    kill_process(pid, signal).unwrap_or_else(|e| panic!("{signal:?} to {pid:?}: {e}"));
}

/// Waits until `check` gives something.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What every process below some others was started with, as far as a look every 20 ms can tell.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    roots: Arc<Mutex<BTreeSet<u32>>>,
    thread: Option<std::thread::JoinHandle<BTreeSet<Sample>>>,
}

/// Command line and environment of one process.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sample {
    pub(crate) command: Vec<u8>,
    pub(crate) environment: Vec<u8>,
}

impl Sampler {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let roots = Arc::new(Mutex::new(BTreeSet::new()));
        let (stopped, watched) = (stop.clone(), roots.clone());
        let thread = std::thread::spawn(move || {
            let mut samples = BTreeSet::new();
            let mut seen = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                let mut family = watched.lock().unwrap().clone();
                let mut rest: Vec<(u32, u32)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
                loop {
                    let (children, others): (Vec<_>, Vec<_>) =
                        rest.into_iter().partition(|(_, parent)| family.contains(parent));
                    if children.is_empty() {
                        break;
                    }
                    family.extend(children.iter().map(|(pid, _)| *pid));
                    rest = others;
                }
                for pid in family {
                    let command = read(pid, "cmdline");
                    // A process has another command line once it has become another program.
                    if !command.is_empty() && seen.insert(pid, command.clone()).as_ref() != Some(&command) {
                        let environment = read(pid, "environ");
                        samples.insert(Sample { command, environment });
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            samples
        });
        Self {
            stop,
            roots,
            thread: Some(thread),
        }
    }

    /// Watches this process and everything below it from now on.
    pub(crate) fn watch(&self, pid: u32) {
        self.roots.lock().unwrap().insert(pid);
    }

    pub(crate) fn finish(mut self) -> BTreeSet<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The secrets that processes were started with.
pub(crate) fn secrets_given(canary: &Canary, samples: &BTreeSet<Sample>) -> Vec<Find> {
    let search = |sample: &Sample| {
        let name = String::from_utf8_lossy(&sample.command).replace('\0', " ");
        let mut finds = canary.search(&format!("the command line of {name}"), &sample.command);
        finds.extend(canary.search(&format!("the environment of {name}"), &sample.environment));
        finds
    };
    samples.iter().flat_map(search).collect()
}
