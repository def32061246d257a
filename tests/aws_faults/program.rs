//! Faults as a user meets them.

use crate::aws::{FakeAws, error};
use crate::calls::{SECRET_ACCESS_KEY, healthy};
use crate::canary::{Canary, Searched};
use crate::common::{Finished, Project};

/// `mfsre secrets show` against an AWS that answers `code` to the reading of the secret.
async fn refused_with(status: u16, code: &'static str, message: &'static str, searched: &Searched) -> Finished {
    let healthy = healthy();
    let fake = FakeAws::start(move |seen| match seen.operation.as_str() {
        "GetSecretValue" => error(seen, status, code, message),
        _ => healthy(seen),
    })
    .await;
    let project = Project::demo();
    let mut command = project.mfsre(&["secrets", "show", "argocd-password", "demo", "--reveal"]);
    command
        .env("AWS_ENDPOINT_URL", fake.url.as_str().trim_end_matches('/'))
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    let (finished, files) = tokio::task::spawn_blocking(move || {
        let finished = project.finish(command);
        let files = project
            .files()
            .into_iter()
            .map(|file| (file.clone(), project.read(&file)));
        (finished, files.collect::<Vec<_>>())
    })
    .await
    .unwrap();
    let canary = Canary::new(&[("the secret access key", SECRET_ACCESS_KEY.into())]);
    let printed = [
        ("standard output", finished.stdout.clone()),
        ("standard error", finished.stderr.clone()),
    ];
    let printed = printed.map(|(place, text)| (place.to_owned(), text));
    canary.assert_absent(files.into_iter().chain(printed), searched);
    let seen = fake.seen();
    assert!(seen.iter().any(|seen| seen.operation == "GetSecretValue"), "{finished}");
    finished
}

#[tokio::test]
async fn what_aws_refuses_is_told_with_the_next_step() {
    let (mut all, searched) = (String::new(), Searched::default());
    for (status, code, message) in [
        (
            400,
            "AccessDeniedException",
            "User: arn:aws:iam::000000000000:user/alice is not authorized to perform: secretsmanager:GetSecretValue",
        ),
        (
            400,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ),
        (
            400,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        (
            400,
            "InvalidSignatureException",
            "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z",
        ),
    ] {
        all.push_str(&refused_with(status, code, message, &searched).await.to_string());
        all.push('\n');
    }
    insta::assert_snapshot!(all);
    searched.report("what AWS refuses, as the program tells it");
}
