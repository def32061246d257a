//! How long each part took.

use std::time::Instant;

/// Collects the share of each part, and prints it at the end.
#[derive(Default)]
pub(crate) struct Report {
    parts: Vec<(String, f64)>,
}

impl Report {
    /// Does a part and remembers how long it took.
    pub(crate) fn part(&mut self, name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
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
