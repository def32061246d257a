//! What keeps the platform in order: Argo CD, an autoscaler, and `up` itself.

use std::time::Duration;

use super::{Story, ready};
use crate::process::eventually;
use crate::project::ENVIRONMENT;

const DEPLOYMENT: &str = "cd/charts/exporter/templates/deployment.yaml";

impl Story<'_> {
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

    pub(super) fn a_scaled_deployment_stays_scaled_and_synced(&self) {
        // What a HorizontalPodAutoscaler does: it patches the scale subresource.
        self.kubectl.run(&[
            "--namespace",
            "workloads",
            "patch",
            "deployment/main-service",
            "--subresource=scale",
            "--type=merge",
            "--patch={\"spec\":{\"replicas\":4}}",
        ]);
        let argo_cd = self.argo_cd();
        for _ in 0..3 {
            let (sync, _) = argo_cd.refreshed("main-service");
            assert_eq!(sync, "Synced", "the number of replicas is no business of Git's");
            std::thread::sleep(Duration::from_secs(1));
        }
        let replicas = self
            .kubectl
            .field("workloads", "deployment/main-service", "/spec/replicas");
        assert_eq!(replicas, 4, "nobody has scaled it back");
        let healthy = || (argo_cd.refreshed("main-service") == ready()).then_some(());
        eventually(
            "main-service is healthy with four replicas",
            Duration::from_secs(60),
            healthy,
        );
        let ready = self
            .kubectl
            .field("workloads", "deployment/main-service", "/status/readyReplicas");
        assert_eq!(ready, 4);
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
