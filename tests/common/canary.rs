//! Looks for secrets where none may be, in whatever form.
//!
//! A test crate that includes this file has `report.rs` as its module `report`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::report;

/// Secrets in every form in which one may have been written down.
pub(crate) struct Canary {
    secrets: usize,
    forms: Vec<(String, Vec<u8>)>,
    automaton: AhoCorasick,
}

/// What was looked for, and in how many places, for the report.
#[derive(Default)]
pub(crate) struct Searched {
    canaries: AtomicU64,
    forms: AtomicU64,
    places: AtomicU64,
}

impl Searched {
    fn note(&self, canary: &Canary, places: u64) {
        self.canaries.fetch_add(canary.secrets as u64, Ordering::Relaxed);
        self.forms.fetch_add(canary.forms.len() as u64, Ordering::Relaxed);
        self.places.fetch_add(places, Ordering::Relaxed);
    }

    /// Tells what was searched; what was found has made the test fail before.
    pub(crate) fn report(&self, subject: &str) {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        report::figure(
            "canaries",
            subject,
            &[
                ("canaries", count(&self.canaries)),
                ("forms", count(&self.forms)),
                ("places", count(&self.places)),
                ("found", 0),
            ],
        );
    }
}

/// One place where a secret was found.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Find {
    pub(crate) place: String,
    pub(crate) form: String,
}

impl Canary {
    /// `secrets` by name.
    pub(crate) fn new(secrets: &[(&str, Vec<u8>)]) -> Self {
        let mut forms: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, secret) in secrets {
            for (form, bytes) in encodings(secret) {
                assert!(bytes.len() >= 16, "{name} as {form} is too short to be looked for");
                if !forms.iter().any(|(_, known)| *known == bytes) {
                    forms.push((format!("{name} {form}"), bytes));
                }
            }
        }
        let automaton = AhoCorasick::new(forms.iter().map(|(_, bytes)| bytes)).unwrap();
        Self {
            secrets: secrets.len(),
            forms,
            automaton,
        }
    }

    /// How many byte strings are looked for.
    pub(crate) fn forms(&self) -> usize {
        self.forms.len()
    }

    /// Looks into each place, by its name, and fails where a secret stands in one.
    pub(crate) fn assert_absent<T: AsRef<[u8]>>(
        &self,
        places: impl IntoIterator<Item = (String, T)>,
        searched: &Searched,
    ) {
        let mut count = 0;
        for (place, text) in places {
            count += 1;
            assert_eq!(self.search(&place, text.as_ref()), Vec::<Find>::new());
        }
        searched.note(self, count);
    }

    /// Every form in which a secret stands in `text`.
    pub(crate) fn search(&self, place: &str, text: &[u8]) -> Vec<Find> {
        let mut finds: Vec<Find> = self
            .automaton
            .find_overlapping_iter(text)
            .map(|found| Find {
                place: place.to_owned(),
                form: self.forms[found.pattern().as_usize()].0.clone(),
            })
            .collect();
        finds.sort();
        finds.dedup();
        finds
    }

    /// Searches every file below `dir` but those below one of `except`; plan files are opened. Returns how many files
    /// were searched as well.
    pub(crate) fn search_files(&self, dir: &Path, except: &[PathBuf]) -> (Vec<Find>, usize) {
        let mut finds = Vec::new();
        let mut files = 0;
        let mut pending = vec![dir.to_owned()];
        while let Some(path) = pending.pop() {
            // A link leads to Terraform's provider or out of the folder.
            let Ok(kind) = path.symlink_metadata().map(|m| m.file_type()) else {
                continue;
            };
            if except.contains(&path) || kind.is_symlink() {
                continue;
            }
            if kind.is_dir() {
                pending.extend(
                    std::fs::read_dir(&path)
                        .into_iter()
                        .flatten()
                        .flatten()
                        .map(|e| e.path()),
                );
            } else if kind.is_file() {
                let text = std::fs::read(&path).unwrap_or_default();
                files += 1;
                let place = path.display().to_string();
                finds.extend(self.search(&place, &text));
                finds.extend(self.search("a file's name", place.as_bytes()));
                if text.starts_with(b"PK") {
                    let unpacked = unzip(&path);
                    assert!(!unpacked.is_empty(), "{place} is an archive with something in it");
                    finds.extend(self.search(&format!("{place}, unpacked"), &unpacked));
                }
            }
        }
        (finds, files)
    }
}

/// Everything in a zip archive. Python is a prerequisite of the sandbox.
fn unzip(path: &Path) -> Vec<u8> {
    const PROGRAM: &str = "import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
for name in archive.namelist(): sys.stdout.buffer.write(archive.read(name))";
    let output = Command::new("python3")
        .args(["-c", PROGRAM])
        .arg(path)
        .output()
        .expect("Python 3 is needed: https://www.python.org/downloads/");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn encodings(secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![("as it is".to_owned(), secret.to_owned())];
    if let Ok(text) = std::str::from_utf8(secret) {
        let json = serde_json::to_string(text).unwrap();
        let escaped = json.trim_matches('"').to_owned();
        // A JSON document inside another one.
        let twice = serde_json::to_string(&escaped).unwrap();
        forms.push(("escaped for JSON twice".into(), twice.trim_matches('"').into()));
        forms.push(("escaped for JSON".into(), escaped.into()));
    }
    let percent = |reserved: &dyn Fn(u8) -> bool, upper: bool| -> Vec<u8> {
        let encode = |byte: &u8| match (reserved(*byte), upper) {
            (false, _) => vec![*byte],
            (true, true) => format!("%{byte:02X}").into_bytes(),
            (true, false) => format!("%{byte:02x}").into_bytes(),
        };
        secret.iter().flat_map(encode).collect()
    };
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    forms.push(("encoded for a URL".into(), percent(&|b| !unreserved(b), true)));
    forms.push((
        "encoded for a URL in small letters".into(),
        percent(&|b| !unreserved(b), false),
    ));
    forms.push(("in hexadecimal".into(), hex::encode(secret).into()));
    forms.push(("in capital hexadecimal".into(), hex::encode_upper(secret).into()));
    for alignment in 0..3 {
        let shifted = [&vec![0; alignment], secret].concat();
        // Characters that hold bits of the neighbours as well are left out on both sides.
        let first = (alignment * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        for (alphabet, text) in [
            ("base64", STANDARD_NO_PAD.encode(&shifted)),
            ("base64url", URL_SAFE_NO_PAD.encode(&shifted)),
        ] {
            let name = format!("in {alphabet} at alignment {alignment}");
            forms.push((name, text.as_bytes()[first..last].to_owned()));
        }
    }
    forms
}

/// What of an OpenSSH private key in PEM gives it away: its seed, and each line of the body that no public key shares.
pub(crate) fn parts_of_key(pem: &str) -> Vec<(String, Vec<u8>)> {
    let key = ssh_key::PrivateKey::from_openssh(pem).unwrap();
    let seed = key.key_data().ed25519().unwrap().private.to_bytes().to_vec();
    let body: Vec<&str> = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    // The first line holds the format's name and the beginning of the public key.
    let lines = body.iter().enumerate().skip(1).filter(|(_, line)| line.len() >= 16);
    let mut parts = vec![("private key".to_owned(), pem.trim().into()), ("seed".to_owned(), seed)];
    parts.extend(lines.map(|(i, line)| (format!("line {i} of the private key"), line.as_bytes().to_vec())));
    parts
}

#[test]
fn a_planted_secret_is_found_in_every_form() {
    let secret = b"p\"w{9\n+/\xc3\xa9 a secret of some length".to_vec();
    let canary = Canary::new(&[("secret", secret.clone())]);
    let json = serde_json::to_string(std::str::from_utf8(&secret).unwrap()).unwrap();
    let url = url::form_urlencoded::byte_serialize(&secret).collect::<String>();
    assert!(canary.search("nowhere", b"nothing").is_empty());
    for (planted, form) in [
        (secret.clone(), "as it is"),
        (json.clone().into_bytes(), "escaped for JSON"),
        (
            serde_json::to_string(&json).unwrap().into_bytes(),
            "escaped for JSON twice",
        ),
        (url.replace('+', "%20").into_bytes(), "encoded for a URL"),
        (hex::encode(&secret).into_bytes(), "in hexadecimal"),
    ] {
        let text = [b"before".to_vec(), planted, b"after".to_vec()].concat();
        let found = canary.search("here", &text);
        let wanted = format!("secret {form}");
        assert!(
            found.iter().any(|f| f.form == wanted),
            "{wanted} is to be found: {found:?}"
        );
    }
    for before in ["", "x", "xy", "xyz"] {
        let text = [before.as_bytes(), &secret, b"after"].concat();
        for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            let found = canary.search("here", encoded.as_bytes());
            assert!(
                !found.is_empty(),
                "{} bytes before it hide it in {encoded}",
                before.len()
            );
        }
    }
}
