//! What keeps the platform in order: Argo CD, and `up` itself.

use std::time::Duration;

use super::{Story, ready};
use crate::process::eventually;
use crate::project::ENVIRONMENT;
use crate::tools::terraform;

const DEPLOYMENT: &str = "cd/charts/exporter/templates/deployment.yaml";

impl Story<'_> {
    /// The rendered code runs without mfsre: whoever has the credentials plans with Terraform alone, on the same state.
    pub(super) fn terraform_by_hand_plans_no_change(&self) {
        let output = self
            .project
            .command(terraform())
            .args(["plan", "-input=false", "-no-color", "-detailed-exitcode"])
            .current_dir(self.project.infra())
            .envs(self.aws.variables())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{printed}{failed}");
        assert!(printed.contains("No changes."), "{printed}");
    }

    pub(super) fn a_change_by_hand_is_healed(&self) {
        self.kubectl.run(&[
            "--namespace",
            "workloads",
            "scale",
            "deployment/exporter",
            "--replicas=3",
        ]);
        let replicas = || self.kubectl.field("workloads", "deployment/exporter", "/spec/replicas");
        eventually("Argo CD has undone the change", Duration::from_secs(60), || {
            (replicas() == 1).then_some(())
        });
    }

    pub(super) fn a_broken_child_is_named_and_mended(&self) {
        let shipped = std::fs::read_to_string(self.project.root().join(DEPLOYMENT)).unwrap();
        let broken = shipped.replace("  replicas: 1\n", "  replicas: -1\n");
        assert_ne!(broken, shipped, "the chart sets its number of replicas");
        let template = format!("templates/{DEPLOYMENT}");
        self.project.write(&template, &broken);
        let up = self.project.run(&["up", ENVIRONMENT, "--timeout", "60s"]);
        let error = &up.exit(3)["error"];
        let text = error.to_string();
        for told in ["exporter is OutOfSync", "spec.replicas: Invalid value: -1"] {
            assert!(
                text.contains(told),
                "the error names the child and the reason, {told:?}: {error}"
            );
        }
        let applications = self.argo_cd().applications();
        assert_eq!(
            applications["workloads"].1, "Degraded",
            "the child's root is unhealthy: {applications:?}"
        );
        assert_eq!(applications["addons"], ready(), "another root is not");
        let status = self.project.run(&["status", ENVIRONMENT]);
        assert_eq!(status.exit(3)["healthy"], false, "`status` tells as well");

        std::fs::remove_dir_all(self.project.root().join("templates")).unwrap();
        let up = self.project.run(&["up", ENVIRONMENT]);
        assert_eq!(
            up.exit(0)["ok"],
            true,
            "without the broken template `up` converges: {up}"
        );
        assert_eq!(self.argo_cd().applications()["workloads"], ready());
    }
}
