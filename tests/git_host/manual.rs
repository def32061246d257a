//! Deploy keys on a host that mfsre has no API of.

use mfsre::git::{DeployKeyHost, Manual, Registration};

use crate::server::OURS;

#[tokio::test]
async fn a_host_without_an_api_leaves_it_to_a_person() {
    let manual = Manual::new("git@git.example.com:acme/platform.git");
    assert_eq!(manual.find(OURS).await.unwrap(), None);
    assert!(!manual.remove(OURS).await.unwrap());
    let Registration::Manual { instructions } = manual.register("Argo CD", OURS).await.unwrap() else {
        panic!("registered by whom?")
    };
    insta::assert_snapshot!(instructions);
}
