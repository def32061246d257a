//! How long each part took.

use std::time::Instant;

/// Collects the share of each part, and prints it at the end.
#[derive(Default)]
pub(crate) struct Report {
    parts: Vec<(String, f64)>,
    only: Vec<String>,
}

impl Report {
    /// Does only the parts whose names begin with one of these; with none, all.
    pub(crate) fn only(names: &[&str]) -> Self {
        Self {
            parts: Vec::new(),
            only: names.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    /// Does a part and remembers how long it took.
    pub(crate) fn part(&mut self, name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        if !self.only.is_empty() && !self.only.iter().any(|only| name.starts_with(only.as_str())) {
            return Ok(());
        }
        println!("\n== {name}");
        let started = Instant::now();
        let result = work();
        self.parts.push((name.to_owned(), started.elapsed().as_secs_f64()));
        if result.is_err() {
            self.print();
        }
        result
    }

    /// Prints every part's share.
    pub(crate) fn print(&self) {
        let total: f64 = self.parts.iter().map(|p| p.1).sum();
        println!("\n{:44} {:>8}  share", "part", "seconds");
        for (name, seconds) in &self.parts {
            println!(
                "{name:44} {seconds:8.1}  {:4.0} %",
                100.0 * seconds / total.max(f64::MIN_POSITIVE)
            );
        }
        println!("{:44} {total:8.1}", "total");
    }
}
