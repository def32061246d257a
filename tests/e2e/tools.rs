//! The programs that the tests call themselves, from where mfsre finds them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use mfsre_sandbox::{Silent, Spec, StartedBy, ToolSettings, Toolset};

/// One runtime for every call of an asynchronous library.
pub(crate) static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    // There is one process-wide choice, made once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new().expect("the tests' runtime starts")
});

static SANDBOX_TOOLS: LazyLock<Toolset> = LazyLock::new(|| {
    RUNTIME
        .block_on(mfsre_sandbox::prepare(&spec(), &Silent))
        .unwrap_or_else(|e| panic!("the sandbox's tools are needed: {e}"))
});

fn spec() -> Spec {
    Spec {
        name: "tools".into(),
        dir: scratch().join("tools"),
        cache: None,
        cluster: "tools".into(),
        region: "eu-west-1".into(),
        cluster_version: "1.35".into(),
        git_listen: ([127, 0, 0, 1], 0).into(),
        git_repository: "mfsre/platform.git".into(),
        tools: ToolSettings::default(),
        nodes: 1,
        fast_hpa: false,
        started_by: StartedBy::Start,
    }
}

/// A program of the sandbox, such as `helm`.
pub(crate) fn tool(name: &str) -> &'static Path {
    &SANDBOX_TOOLS
        .get(name)
        .unwrap_or_else(|| panic!("{name} is not among the sandbox's tools"))
        .path
}

static TERRAFORM: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = RUNTIME.block_on(mfsre::terraform::Program::find(None));
    program
        .unwrap_or_else(|e| {
            panic!(
                "{e}: install Terraform 1.10 or newer, https://developer.hashicorp.com/terraform/install, or OpenTofu"
            )
        })
        .path
});

/// Terraform or OpenTofu.
pub(crate) fn terraform() -> &'static Path {
    &TERRAFORM
}

static OPENTOFU: LazyLock<PathBuf> = LazyLock::new(|| {
    let tofu = RUNTIME.block_on(mfsre_sandbox::check_tool("tofu", &spec(), &Silent));
    tofu.unwrap_or_else(|e| panic!("OpenTofu is needed: {e}")).path
});

/// OpenTofu.
pub(crate) fn opentofu() -> &'static Path {
    &OPENTOFU
}

/// The folder of mfsre's tools, which is filled once and shared.
pub(crate) fn cache() -> PathBuf {
    // Whatever is missing is fetched now, and not once for each test's home.
    LazyLock::force(&SANDBOX_TOOLS);
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("MFSRE_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|d| d.join("mfsre")))
        .or_else(|| variable("HOME").map(|d| d.join(".cache/mfsre")))
        .expect("HOME is set")
}

/// A folder that outlives the tests: Terraform's providers, and the logs of what failed.
pub(crate) fn scratch() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Where Terraform keeps providers that came over the network. Its cache is not made for two that fill it at once
/// (<https://developer.hashicorp.com/terraform/cli/config/config-file#provider-plugin-cache>), so each process of tests that
/// runs at the same time has one of its own.
pub(crate) fn providers() -> PathBuf {
    static HELD: LazyLock<(File, PathBuf)> = LazyLock::new(|| {
        let free = |number| {
            let dir = scratch().join(format!("providers-{number}"));
            std::fs::create_dir_all(&dir).unwrap();
            let lock = File::create(dir.with_extension("lock")).unwrap();
            lock.try_lock().ok().map(|()| (lock, dir))
        };
        (0..).find_map(free).expect("some number is free")
    });
    HELD.1.clone()
}
