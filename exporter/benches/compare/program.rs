//! The programs that are measured.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A running exporter that has one core.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts it on a free port. It inherits the core, so that Go's runtime counts one as well.
    pub(crate) fn start(
        cpu: usize,
        own_cpu: usize,
        program: &PathBuf,
        arguments: &dyn Fn(u16) -> Vec<OsString>,
    ) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        pin(cpu);
        let child = Command::new(program)
            .args(arguments(port))
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        pin(own_cpu);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "{} does not listen", program.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address }
    }

    /// Processor time that it used, of all its threads.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name, in parentheses, may hold anything. After it utime and stime are the 12th and 13th field (proc(5)).
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// A line about memory of proc_pid_status(5), in bytes: `VmHWM` is the most that it ever had resident, `RssAnon` what is no
    /// file's of what it has now.
    pub(crate) fn memory(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Leaves this thread, and those it starts from now on, one core.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).unwrap();
}

/// The first and the last core that this process may use.
pub(crate) fn first_and_last_cpu() -> (usize, usize) {
    let set = sched_getaffinity(None).unwrap();
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
    let first = cpus.next().unwrap();
    (first, cpus.next_back().unwrap_or(first))
}

/// Processor, memory and kernel of this machine.
pub(crate) fn machine() -> String {
    let read = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or("").to_owned();
        line.split_once(':')
            .map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    format!(
        "{}, {} cores, memory {}, Linux {}",
        read("/proc/cpuinfo", "model name"),
        std::thread::available_parallelism().map_or(0, usize::from),
        read("/proc/meminfo", "MemTotal"),
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
    )
}

/// Builds json_exporter from the Go module that pins it.
pub(crate) fn build_json_exporter() -> PathBuf {
    const PACKAGE: &str = "github.com/prometheus-community/json_exporter";
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/go/json_exporter");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("json_exporter");
    let status = Command::new("go")
        .current_dir(&module)
        .env("GOFLAGS", "-mod=readonly")
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
        .arg(&program)
        .arg(PACKAGE)
        .status()
        .expect("go is needed to build json_exporter; or name one with --json-exporter");
    assert!(
        status.success(),
        "json_exporter cannot be built from {}",
        module.display()
    );
    program
}
