//! The programs of the sandbox: versions, checksums and how each is built.
//!
//! A sha256 is written here only where a public source besides the download itself states it (distribution packages,
//! pinned installers of other projects): several for the files of linux on x86_64, one for some of the others. A
//! release without such a witness has no prebuilt entry and is built from Go modules, whose go.sum is the check.

/// The Kubernetes minor version that the pinned control plane has.
pub(crate) const KUBERNETES_MINOR: &str = "1.35";
/// The Argo CD release that the sandbox runs and whose install manifest it offers.
pub const ARGO_CD: &str = "v3.5.7";
/// sha256 of `manifests/install.yaml` of that release, as contained in the module that go.sum checks.
pub(crate) const ARGO_CD_INSTALL_SHA256: &str = "09bfbb9041b4a8503c6e4fa22cf41c403fa62be17526de353648a4551f5beb77";
/// The Go release that every go.mod under `tools/go` is content with.
pub(crate) const GO: &str = "1.26.6";

/// One program.
#[derive(Debug)]
pub(crate) struct Tool {
    /// The program's file name, which is also its name in settings and in the cache.
    pub name: &'static str,
    /// The pinned release.
    pub version: &'static str,
    /// Arguments that make it print its version; none where it cannot, so that one found on the machine is not taken.
    pub version_arguments: &'static [&'static str],
    /// Which other versions, found on the machine, do as well.
    pub accepts: Accepts,
    /// Official prebuilt files.
    pub prebuilt: &'static [Prebuilt],
    /// How to build it.
    pub build: GoBuild,
}

/// Which version found on the machine is good enough.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Accepts {
    /// The same major and minor version.
    SameMinor,
    /// The same major version, and at least this minor version.
    Minor(u64),
}

/// An official prebuilt file.
#[derive(Debug)]
pub(crate) struct Prebuilt {
    /// As in [`std::env::consts::OS`].
    pub os: &'static str,
    /// As in [`std::env::consts::ARCH`].
    pub arch: &'static str,
    /// Where its publisher offers it.
    pub url: &'static str,
    /// Its checksum.
    pub sha256: &'static str,
    /// The program's path inside, where the file is a `tar.gz`.
    pub member: Option<&'static str>,
}

/// A build from Go modules: a module of our own that pins everything.
#[derive(Debug)]
pub(crate) struct GoBuild {
    /// The package to build.
    pub package: &'static str,
    /// What the linker sets, as `-X` takes it.
    pub variables: &'static [&'static str],
    /// Build tags, separated by commas.
    pub tags: &'static str,
    /// The pinning module.
    pub go_mod: &'static str,
    /// Its checksums; with them no checksum database is needed.
    pub go_sum: &'static str,
}

macro_rules! go_build {
    ($module:literal, $package:expr, $variables:expr) => {
        go_build!($module, $package, $variables, "")
    };
    ($module:literal, $package:expr, $variables:expr, $tags:literal) => {
        GoBuild {
            package: $package,
            variables: $variables,
            tags: $tags,
            go_mod: include_str!(concat!("../../../tools/go/", $module, "/go.mod")),
            go_sum: include_str!(concat!("../../../tools/go/", $module, "/go.sum")),
        }
    };
}

const KUBERNETES_VARIABLES: &[&str] = &[
    "k8s.io/component-base/version.gitVersion=v1.35.4",
    "k8s.io/component-base/version.gitMajor=1",
    "k8s.io/component-base/version.gitMinor=35",
];

macro_rules! kubernetes {
    ($name:literal) => {
        Tool {
            name: $name,
            version: "v1.35.4",
            version_arguments: &["--version"],
            accepts: Accepts::SameMinor,
            prebuilt: &[],
            build: go_build!(
                "kubernetes",
                concat!("k8s.io/kubernetes/cmd/", $name),
                KUBERNETES_VARIABLES
            ),
        }
    };
}

/// The Prometheus release of the chart and of the alerts' tests. As a Go module it is v0.313.5.
const PROMETHEUS: &str = "v3.13.5";

// Of the service discoveries, most of them with a cloud's whole SDK, only that of Kubernetes is used here.
macro_rules! prometheus {
    ($name:literal) => {
        go_build!(
            "prometheus",
            concat!("github.com/prometheus/prometheus/cmd/", $name),
            &["github.com/prometheus/common/version.Version=3.13.5"],
            "remove_all_sd,enable_kubernetes_sd"
        )
    };
}

/// Every program that is built from Go, in the order in which they are fetched.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "etcd",
        version: "v3.6.16",
        version_arguments: &["--version"],
        accepts: Accepts::Minor(5),
        prebuilt: &[],
        build: go_build!("etcd", "go.etcd.io/etcd/server/v3", &[]),
    },
    kubernetes!("kube-apiserver"),
    kubernetes!("kube-controller-manager"),
    kubernetes!("kube-scheduler"),
    // Not a part of the platform, but what a person looks around with.
    Tool {
        name: "kubectl",
        version: "v1.35.4",
        version_arguments: &["version", "--client"],
        accepts: Accepts::Minor(30),
        prebuilt: &[],
        build: go_build!("kubernetes", "k8s.io/kubernetes/cmd/kubectl", KUBERNETES_VARIABLES),
    },
    Tool {
        name: "kwok",
        version: "v0.8.0",
        version_arguments: &["--version"],
        accepts: Accepts::Minor(6),
        prebuilt: &[
            Prebuilt {
                os: "linux",
                arch: "x86_64",
                url: "https://github.com/kubernetes-sigs/kwok/releases/download/v0.8.0/kwok-linux-amd64",
                sha256: "f5a4385a2ae1b9dd7f8acae18e002a75c0ebba124ae9d7259aa8dadb50711f46",
                member: None,
            },
            Prebuilt {
                os: "linux",
                arch: "aarch64",
                url: "https://github.com/kubernetes-sigs/kwok/releases/download/v0.8.0/kwok-linux-arm64",
                sha256: "628f7d277860f524a2a775c217adcc58828e7b59ab0933680315784f1b8b0e37",
                member: None,
            },
            Prebuilt {
                os: "macos",
                arch: "aarch64",
                url: "https://github.com/kubernetes-sigs/kwok/releases/download/v0.8.0/kwok-darwin-arm64",
                sha256: "69a064ec98d37844d9d742b5b28ff57825659a983ccc3e208daa6948b94d64ba",
                member: None,
            },
        ],
        build: go_build!("kwok", "sigs.k8s.io/kwok/cmd/kwok", &[]),
    },
    Tool {
        name: "helm",
        version: "v3.22.0",
        version_arguments: &["version", "--short"],
        accepts: Accepts::Minor(14),
        prebuilt: &[
            Prebuilt {
                os: "linux",
                arch: "x86_64",
                url: "https://get.helm.sh/helm-v3.22.0-linux-amd64.tar.gz",
                sha256: "1e4ab49e429626cf6c6958d914248b78c9730803c2751b87627e171dc800e7bb",
                member: Some("linux-amd64/helm"),
            },
            Prebuilt {
                os: "linux",
                arch: "aarch64",
                url: "https://get.helm.sh/helm-v3.22.0-linux-arm64.tar.gz",
                sha256: "f14e804dfee240f55525b667488fe9adca349e63e00c9af634c0beb1421ac310",
                member: Some("linux-arm64/helm"),
            },
        ],
        build: go_build!(
            "helm",
            "helm.sh/helm/v3/cmd/helm",
            &["helm.sh/helm/v3/internal/version.version=v3.22.0"]
        ),
    },
    Tool {
        name: "kustomize",
        version: "v5.8.1",
        version_arguments: &["version"],
        accepts: Accepts::Minor(4),
        prebuilt: &[
            Prebuilt {
                os: "linux",
                arch: "x86_64",
                url: "https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv5.8.1/kustomize_v5.8.1_linux_amd64.tar.gz",
                sha256: "029a7f0f4e1932c52a0476cf02a0fd855c0bb85694b82c338fc648dcb53a819d",
                member: Some("kustomize"),
            },
            Prebuilt {
                os: "linux",
                arch: "aarch64",
                url: "https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv5.8.1/kustomize_v5.8.1_linux_arm64.tar.gz",
                sha256: "0953ea3e476f66d6ddfcd911d750f5167b9365aa9491b2326398e289fef2c142",
                member: Some("kustomize"),
            },
            Prebuilt {
                os: "macos",
                arch: "x86_64",
                url: "https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv5.8.1/kustomize_v5.8.1_darwin_amd64.tar.gz",
                sha256: "ee7cf0c1e3592aa7bb66ba82b359933a95e7f2e0b36e5f53ed0a4535b017f2f8",
                member: Some("kustomize"),
            },
            Prebuilt {
                os: "macos",
                arch: "aarch64",
                url: "https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv5.8.1/kustomize_v5.8.1_darwin_arm64.tar.gz",
                sha256: "8886f8a78474e608cc81234f729fda188a9767da23e28925802f00ece2bab288",
                member: Some("kustomize"),
            },
        ],
        build: go_build!("kustomize", "sigs.k8s.io/kustomize/kustomize/v5", &[]),
    },
    Tool {
        // The server, the repo-server and the application controller are this one program under other names.
        // The command line tool that its project releases is the same program, so one on PATH does as well.
        name: "argocd",
        version: ARGO_CD,
        version_arguments: &["version", "--client", "--short"],
        accepts: Accepts::SameMinor,
        prebuilt: &[],
        build: go_build!(
            "argo-cd",
            "github.com/argoproj/argo-cd/v3/cmd",
            &["github.com/argoproj/argo-cd/v3/common.version=3.5.7"]
        ),
    },
    Tool {
        name: "prometheus",
        version: PROMETHEUS,
        version_arguments: &["--version"],
        accepts: Accepts::Minor(5),
        prebuilt: &[],
        build: prometheus!("prometheus"),
    },
    Tool {
        name: "prometheus-adapter",
        version: "v0.12.0",
        version_arguments: &[],
        accepts: Accepts::SameMinor,
        prebuilt: &[],
        build: go_build!("prometheus-adapter", "sigs.k8s.io/prometheus-adapter/cmd/adapter", &[]),
    },
];

/// Programs that only the project's own checks need.
pub(crate) const CHECKS: &[Tool] = &[
    Tool {
        name: "promtool",
        version: PROMETHEUS,
        version_arguments: &["--version"],
        accepts: Accepts::Minor(5),
        prebuilt: &[],
        build: prometheus!("promtool"),
    },
    Tool {
        name: "actionlint",
        version: "v1.7.12",
        version_arguments: &["-version"],
        accepts: Accepts::Minor(7),
        prebuilt: &[],
        build: go_build!("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", &[]),
    },
    Tool {
        // What mfsre drives in place of Terraform where somebody prefers it; the tests do both.
        name: "tofu",
        version: "v1.12.6",
        version_arguments: &["version"],
        accepts: Accepts::Minor(10),
        prebuilt: &[],
        build: go_build!(
            "opentofu",
            "github.com/opentofu/opentofu/cmd/tofu",
            &["github.com/opentofu/opentofu/version.dev=no"]
        ),
    },
];

/// The module from which the install manifest can be taken.
pub(crate) const ARGO_CD_MODULE: &str = "github.com/argoproj/argo-cd/v3@v3.5.7";
/// Where its project publishes the install manifest.
pub(crate) const ARGO_CD_INSTALL_URL: &str =
    "https://raw.githubusercontent.com/argoproj/argo-cd/v3.5.7/manifests/install.yaml";

/// The program called `name`.
pub(crate) fn tool(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_and_addresses_are_well_formed() {
        for tool in TOOLS {
            assert!(tool.version.starts_with('v'), "{}", tool.name);
            for prebuilt in tool.prebuilt {
                assert_eq!(
                    hex::decode(prebuilt.sha256).map(|bytes| bytes.len()),
                    Ok(32),
                    "{}",
                    prebuilt.url
                );
                assert!(prebuilt.url.starts_with("https://"), "{}", prebuilt.url);
                assert!(prebuilt.url.contains(tool.version), "{}", prebuilt.url);
            }
        }
    }

    #[test]
    fn each_module_pins_the_version_that_the_table_names() {
        for tool in TOOLS.iter().chain(CHECKS) {
            // Prometheus 3.x.y is the module's v0.30x.y: a module of version 3 would have another path.
            let version = tool.version.replace("v3.13.5", "v0.313.5");
            assert!(
                tool.build.go_mod.lines().any(|line| {
                    let mut words = line.split_whitespace();
                    words
                        .next()
                        .is_some_and(|module| tool.build.package.starts_with(module))
                        && words.next() == Some(&version)
                }),
                "{} {}",
                tool.name,
                tool.version
            );
        }
    }
}
