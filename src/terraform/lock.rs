use super::TerraformError;

/// Who holds the lock of a state, as the program tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLock {
    /// By which it can be broken.
    pub id: String,
    /// What is locked.
    pub path: String,
    /// What the owner does, such as `apply`.
    pub operation: String,
    /// `user@host`.
    pub who: String,
    /// Since when, as the owner's clock and program had it.
    pub created: String,
}

impl StateLock {
    /// The lock that made a command fail, if that is why.
    #[must_use]
    pub fn of(error: &TerraformError) -> Option<Self> {
        let TerraformError::Failed {
            diagnostics, output, ..
        } = error
        else {
            return None;
        };
        let text = diagnostics.iter().map(ToString::to_string).chain([output.clone()]);
        text.filter(|text| text.contains("Lock Info:"))
            .find_map(|text| Self::read(&text))
    }

    fn read(text: &str) -> Option<Self> {
        let (_, info) = text.split_once("Lock Info:")?;
        let field = |name: &str| {
            let mut lines = info.lines();
            let value = lines.find_map(|line| {
                // In a box, lines begin with a bar.
                let (key, value) = line.trim_start_matches(['│', ' ', '\t']).split_once(':')?;
                (key == name).then(|| value.trim().to_owned())
            });
            value.unwrap_or_default()
        };
        let created = field("Created");
        Some(Self {
            id: field("ID"),
            path: field("Path"),
            operation: field("Operation").trim_start_matches("OperationType").to_lowercase(),
            who: field("Who"),
            // Without the fractions of a second, which nobody reads.
            created: match created.split_once('.') {
                Some((seconds, rest)) => {
                    let zone = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                    format!("{seconds}{}", zone.trim_end_matches(" UTC"))
                }
                None => created,
            },
        })
    }
}

/// `alice@laptop since 2026-05-01 10:00:00 +0000 (apply, lock ID)`
impl std::fmt::Display for StateLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operation = if self.operation.is_empty() {
            String::new()
        } else {
            format!("{}, ", self.operation)
        };
        write!(f, "{} since {} ({operation}lock {})", self.who, self.created, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_read_with_and_without_a_box() {
        let plain = "Error message: 412\nLock Info:\n  ID:        108d87e9\n  Path:      acme-state/demo/terraform.tfstate\n  Operation: OperationTypeApply\n  Who:       root@vm\n  Version:   1.11.4\n  Created:   2026-11-25 19:17:52.19192605 +0000 UTC\n  Info:      \n";
        let lock = StateLock::read(plain).unwrap();
        assert_eq!(
            lock.to_string(),
            "root@vm since 2026-11-25 19:17:52 +0000 (apply, lock 108d87e9)"
        );
        assert_eq!(lock.path, "acme-state/demo/terraform.tfstate");
        let boxed: String = plain.lines().map(|line| format!("│ {line}\n")).collect();
        assert_eq!(StateLock::read(&boxed), Some(lock));
        assert_eq!(StateLock::read("no lock"), None);
    }
}
