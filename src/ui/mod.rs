//! What people and programs see. Used by the commands only.

mod console;
mod printer;
mod prompt;
mod table;

pub use console::Console;
pub use printer::{ColorChoice, OutputFormat, Printer};
pub use prompt::Prompt;
pub use table::table;
