//! Where a token comes from. Variables and programs are those of this process, so these tests use files.

use std::path::PathBuf;

use mfsre::git::TokenSource;
use secrecy::ExposeSecret as _;

async fn read(contents: Option<&str>) -> Result<String, mfsre::error::Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    if let Some(contents) = contents {
        std::fs::write(&path, contents).unwrap();
    }
    let token = TokenSource::gitea().or_file(Some(path)).find().await?;
    Ok(token.unwrap().expose_secret().to_owned())
}

#[tokio::test]
async fn a_file_gives_its_one_word() {
    assert_eq!(read(Some("canary-of-a-token\n")).await.unwrap(), "canary-of-a-token");
}

#[tokio::test]
async fn a_file_that_gives_none_is_told_without_its_contents() {
    for contents in [Some(""), Some(" \n"), Some("canary one\n"), Some("canary\ntwo\n"), None] {
        let error = read(contents).await.unwrap_err();
        assert_eq!(error.kind.exit_code(), 78);
        let text = error.render(false);
        assert!(text.contains("token") && text.contains("hint:"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn no_file_is_named_by_default() {
    assert_eq!(TokenSource::gitea().or_file(None), TokenSource::gitea());
    let named = TokenSource::gitea().or_file(Some(PathBuf::from("x")));
    assert_ne!(named, TokenSource::gitea());
}
