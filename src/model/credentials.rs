//! Credentials in addresses, which nothing that is shown may repeat.

use std::ops::Range;

/// Where the credentials are in a URL, or in an address as git takes it (`user@host:path`); `None` where it has none. The user
/// name alone is one for HTTP, where it is a token, and none for SSH.
#[must_use]
pub fn credentials(address: &str) -> Option<Range<usize>> {
    let (scheme, start) = match address.find("://") {
        Some(colon) => (&address[..colon], colon + "://".len()),
        None => ("", 0),
    };
    let rest = &address[start..];
    let authority = rest.split('/').next().unwrap_or_default();
    let end = authority.rfind('@').or_else(|| {
        // A password with a slash in it, or else a port and an @ in the path, which is rare enough.
        rest.rfind('@').filter(|_| authority.contains(':'))
    })?;
    let ssh = scheme.is_empty() || scheme.ends_with("ssh");
    (!ssh || rest[..end].contains(':')).then(|| start..start + end)
}

/// `text` with asterisks for the credentials of every address in it, one for each byte, so that places in it stay the same.
#[must_use]
pub fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| c.is_whitespace() || "\"'`".contains(c)) {
        match credentials(piece) {
            Some(secret) => {
                shown.push_str(&piece[..secret.start]);
                shown.extend(std::iter::repeat_n('*', secret.len()));
                shown.push_str(&piece[secret.end..]);
            }
            None => shown.push_str(piece),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_something_is_hidden_and_what_only_names_somebody_is_not() {
        for (text, shown) in [
            ("https://user:s3cret@host/a/b", "https://***********@host/a/b"),
            ("http://s3cret@host/a", "http://******@host/a"),
            ("https://user:s3/cret@host/a", "https://************@host/a"),
            ("https://user:12/cret@host/a", "https://************@host/a"),
            ("url: \"https://u:p@h/x@y\" # or", "url: \"https://***@h/x@y\" # or"),
            ("[https://u:é@h, ssh://u:p@h/x]", "[https://****@h, ssh://***@h/x]"),
            ("user:s3cret@host:a/b", "***********@host:a/b"),
        ] {
            assert_eq!(without_credentials(text), shown);
            assert_eq!(text.len(), shown.len());
        }
        for text in [
            "git@github.com:acme/platform.git",
            "[ssh://git@host:22/a@b.git]",
            "https://host/a:b@c",
            "acme/app:1@sha256:abc",
            "arn:aws:iam::123456789012:role/x",
        ] {
            assert_eq!(without_credentials(text), text);
        }
    }
}
