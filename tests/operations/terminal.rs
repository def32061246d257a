//! A terminal: a pseudo-terminal of a given width, and what it shows.

use std::collections::BTreeSet;
use std::process::Command;

/// Runs a program at a pseudo-terminal of its own. Each pair of the second argument is a text to wait for and what is typed
/// then. Python has what the standard library here has not.
const PTY: &str = r"
import fcntl, json, os, pty, select, struct, sys, termios, time
columns, script, command = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 40, columns, 0, 0))
    os.execv(command[0], command)
output, seen, end = b'', 0, time.time() + 60
while time.time() < end:
    if not select.select([terminal], [], [], 0.2)[0]:
        continue
    try:
        chunk = os.read(terminal, 65536)
    except OSError:
        break
    if not chunk:
        break
    output += chunk
    while script and (at := output.find(script[0][0].encode(), seen)) >= 0:
        seen = at + len(script[0][0].encode())
        os.write(terminal, script.pop(0)[1].encode())
else:
    os.kill(pid, 9)
sys.stdout.buffer.write(output)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
";

/// What a program showed at a terminal.
pub(crate) struct Shown {
    pub(crate) code: i32,
    /// Every line that was ever on the screen, without colours.
    pub(crate) lines: BTreeSet<String>,
    /// What is on it at the end, with what has scrolled out above.
    pub(crate) screen: String,
}

impl Shown {
    /// The lines that were ever on the screen and hold `text`.
    pub(crate) fn with(&self, text: &str) -> Vec<&str> {
        self.lines
            .iter()
            .map(String::as_str)
            .filter(|l| l.contains(text))
            .collect()
    }
}

/// Runs `command`, with its environment, at a terminal of `columns`.
pub(crate) fn run(command: &Command, columns: usize, script: &[(&str, &str)]) -> Shown {
    let mut wrapped = Command::new("python3");
    wrapped
        .args(["-c", PTY, &columns.to_string(), &serde_json::to_string(script).unwrap()])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .env("TERM", "xterm-256color");
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    let output = wrapped.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut screen = Screen::new(columns);
    screen.feed(&String::from_utf8(output.stdout).unwrap());
    Shown {
        code: output.status.code().unwrap(),
        lines: screen.seen,
        screen: screen.rows.iter().map(|row| format!("{}\n", row.trim_end())).collect(),
    }
}

/// As much of a terminal as progress bars and prompts use.
struct Screen {
    columns: usize,
    rows: Vec<String>,
    row: usize,
    column: usize,
    seen: BTreeSet<String>,
}

impl Screen {
    fn new(columns: usize) -> Self {
        Self {
            columns,
            rows: vec![String::new()],
            row: 0,
            column: 0,
            seen: BTreeSet::new(),
        }
    }

    fn feed(&mut self, text: &str) {
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            match c {
                '\u{1b}' => {
                    assert_eq!(characters.next(), Some('['), "only CSI sequences are known");
                    let mut argument = String::new();
                    let end = characters
                        .by_ref()
                        .find(|c| {
                            argument.push(*c);
                            c.is_ascii_alphabetic()
                        })
                        .unwrap();
                    argument.pop();
                    self.control(end, argument.parse().unwrap_or(if end == 'K' { 0 } else { 1 }));
                }
                '\r' => self.look(|s| s.column = 0),
                '\n' => self.look(Self::down),
                c => self.put(c),
            }
        }
        self.look(|_| ());
    }

    /// Writes down what the line shows before it changes.
    fn look(&mut self, then: impl FnOnce(&mut Self)) {
        let line = self.rows[self.row].trim_end().to_owned();
        if !line.is_empty() {
            self.seen.insert(line);
        }
        then(self);
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.push(String::new());
        }
    }

    fn control(&mut self, end: char, count: usize) {
        match end {
            'm' | 'h' | 'l' => {}
            'A' => self.look(|s| s.row = s.row.saturating_sub(count)),
            'B' => self.look(|s| (0..count).for_each(|_| s.down())),
            'C' => self.column += count,
            'D' => self.column = self.column.saturating_sub(count),
            'K' => self.look(|s| {
                let keep = if count == 2 { 0 } else { s.column };
                s.rows[s.row] = s.rows[s.row].chars().take(keep).collect();
            }),
            'J' => self.look(|s| s.rows.truncate(s.row + 1)),
            other => panic!("the control sequence {other:?} is not known"),
        }
    }

    fn put(&mut self, c: char) {
        if self.column == self.columns {
            self.look(|s| {
                s.column = 0;
                s.down();
            });
        }
        let mut row: Vec<char> = self.rows[self.row].chars().collect();
        row.resize(row.len().max(self.column + 1), ' ');
        row[self.column] = c;
        self.rows[self.row] = row.into_iter().collect();
        self.column += 1;
    }
}
