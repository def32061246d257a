//! The paths of a mapping: a part of JSONPath ([RFC 9535](https://www.rfc-editor.org/rfc/rfc9535)) that can be followed
//! while a document streams by.
//!
//! ```text
//! path     = root *step ["~"]          "~" is the name (or index) of what the path leads to
//! root     = "$" / "@" / 1*"^"         document / element / element around it, one "^" for each level
//! step     = "." name / ".*" / "[" selector "]"
//! selector = string / index / "-" index / "*" / "?" filter
//! filter   = ["("] test *("&&" test) [")"]
//! test     = "@" *("." name / "[" string / index "]") [("==" / "!=" / "<" / "<=" / ">" / ">=") literal / "=~" string]
//! literal  = string / number / "true" / "false" / "null"
//! ```

use std::fmt;

use regex_lite::Regex;

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// `$`
    Document,
    /// `@` is 0, `^` is 1, `^^` is 2.
    Element(usize),
}

/// One step down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// A member of an object.
    Name(String),
    /// An element of an array, from 0.
    Index(u32),
    /// An element of an array, counted from its end: 1 is the last.
    FromEnd(u32),
    /// Each member or element for which all tests hold; all of them without a test.
    Each(Vec<Test>),
}

/// One condition of a filter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Test {
    /// From the element down; names and indexes only.
    pub(crate) steps: Vec<Step>,
    /// `None`: something is there.
    pub(crate) condition: Option<Condition>,
}

/// What a value must be like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Compares(Operator, Literal),
    /// Its text matches somewhere.
    Matches(Expression),
}

/// How a value is compared with a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Text(String),
    Number(f64),
    Boolean(bool),
    Null,
}

/// A regular expression. Two are the same if they are written the same.
#[derive(Debug, Clone)]
pub(crate) struct Expression(pub(crate) Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A path that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    pub(crate) root: Root,
    pub(crate) steps: Vec<Step>,
    /// The name or index of the element that the path leads to, instead of its value.
    pub(crate) key: bool,
}

/// A path that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathError {
    /// Where in the path, in characters from 0.
    pub(crate) at: usize,
    pub(crate) message: String,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (character {} of the path)", self.message, self.at + 1)
    }
}

impl Path {
    /// Reads a path.
    pub(crate) fn parse(text: &str) -> Result<Self, PathError> {
        let mut reader = Reader {
            characters: text.chars().collect(),
            at: 0,
        };
        let path = reader.path()?;
        if reader.at < reader.characters.len() {
            return Err(reader
                .error("a path cannot go on like this; a step is .name, [\"name\"], [0], [*] or [?@.name == \"x\"]"));
        }
        Ok(path)
    }

    /// The way to the object or array whose elements the path looks at first.
    pub(crate) fn container(&self) -> Self {
        let names = |step: &&Step| matches!(step, Step::Name(_) | Step::Index(_));
        Self {
            root: self.root,
            steps: self.steps.iter().take_while(names).cloned().collect(),
            key: false,
        }
    }

    /// Whether it may find several places.
    pub(crate) fn iterates(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Each(_)))
    }

    /// Whether text that stands where a path may stand is meant as one.
    pub(crate) fn looks_like(text: &str) -> bool {
        text.starts_with(['$', '@', '^'])
    }
}

struct Reader {
    characters: Vec<char>,
    at: usize,
}

impl Reader {
    fn error(&self, message: impl Into<String>) -> PathError {
        PathError {
            at: self.at,
            message: message.into(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn path(&mut self) -> Result<Path, PathError> {
        let root = match self.peek() {
            Some('$') => Root::Document,
            Some('@') => Root::Element(0),
            Some('^') => Root::Element(self.characters.iter().take_while(|c| **c == '^').count()),
            _ => {
                return Err(self.error("a path begins with $ (the document), @ (the element) or ^ (the one around it)"));
            }
        };
        self.at += match root {
            Root::Element(levels) if levels > 0 => levels,
            _ => 1,
        };
        let steps = self.steps(true)?;
        let key = self.take('~');
        if key
            && matches!(
                (root, steps.last()),
                (Root::Document, None) | (_, Some(Step::Name(_) | Step::Index(_)))
            )
        {
            self.at -= 1;
            return Err(self.error("only what [*], .* or a filter finds has a name worth asking for"));
        }
        Ok(Path { root, steps, key })
    }

    fn steps(&mut self, iterating: bool) -> Result<Vec<Step>, PathError> {
        let mut steps = Vec::new();
        loop {
            let begin = self.at;
            let step = if self.take('.') {
                if self.take('*') {
                    Step::Each(Vec::new())
                } else {
                    Step::Name(self.name()?)
                }
            } else if self.take('[') {
                self.space();
                let step = self.selector()?;
                self.space();
                if !self.take(']') {
                    return Err(self.error("] is missing"));
                }
                step
            } else {
                return Ok(steps);
            };
            if !iterating && matches!(step, Step::Each(_) | Step::FromEnd(_)) {
                self.at = begin;
                return Err(self.error("a test inside a filter takes names and indexes from the beginning only"));
            }
            steps.push(step);
        }
    }

    fn name(&mut self) -> Result<String, PathError> {
        if self.peek() == Some('.') {
            return Err(self.error("`..` is not supported: write the way out, with .* where names differ"));
        }
        let begin = self.at;
        while self
            .peek()
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-') || !c.is_ascii())
        {
            self.at += 1;
        }
        if begin == self.at {
            return Err(self.error("a name is missing; one with special characters is written [\"like this\"]"));
        }
        Ok(self.characters[begin..self.at].iter().collect())
    }

    fn selector(&mut self) -> Result<Step, PathError> {
        match self.peek() {
            Some('*') => {
                self.at += 1;
                Ok(Step::Each(Vec::new()))
            }
            Some('?') => {
                self.at += 1;
                self.filter().map(Step::Each)
            }
            Some('\'' | '"') => self.string().map(Step::Name),
            Some(c) if c.is_ascii_digit() => self.index().map(Step::Index),
            Some('-') => {
                self.at += 1;
                match self.index()? {
                    0 => Err(self.error("the last element is -1")),
                    index => Ok(Step::FromEnd(index)),
                }
            }
            _ => Err(self.error("expected \"name\", an index, * or a filter such as ?@.state == \"ACTIVE\"")),
        }
    }

    fn index(&mut self) -> Result<u32, PathError> {
        let begin = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let digits: String = self.characters[begin..self.at].iter().collect();
        if self.peek() == Some(':') {
            return Err(self.error("slices are not supported: take [*] or one index"));
        }
        if digits.is_empty() {
            return Err(self.error("a number is missing"));
        }
        digits.parse().map_err(|_| self.error("this index is too large"))
    }

    fn string(&mut self) -> Result<String, PathError> {
        let quote = self.peek();
        let begin = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => {
                    self.at = begin;
                    return Err(self.error("this text has no closing quote"));
                }
                c if c == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(c @ ('\\' | '\'' | '"')) => text.push(c),
                        _ => return Err(self.error("after \\ comes a quote or another \\")),
                    }
                    self.at += 1;
                }
                Some(c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    fn filter(&mut self) -> Result<Vec<Test>, PathError> {
        self.space();
        let enclosed = self.take('(');
        let mut tests = Vec::new();
        loop {
            self.space();
            tests.push(self.test()?);
            self.space();
            if self.peek() == Some('|') {
                return Err(self.error("|| is not supported: write one metric for each case, under the same name"));
            }
            if !self.take('&') {
                break;
            }
            if !self.take('&') {
                return Err(self.error("conditions are joined by &&"));
            }
        }
        if enclosed && !self.take(')') {
            return Err(self.error(") is missing"));
        }
        Ok(tests)
    }

    fn test(&mut self) -> Result<Test, PathError> {
        if !self.take('@') {
            return Err(self.error("a test begins with @, the element that is looked at"));
        }
        let steps = self.steps(false)?;
        self.space();
        let operator = match (self.peek(), self.characters.get(self.at + 1)) {
            (Some('='), Some('~')) => {
                self.at += 2;
                self.space();
                let condition = self.expression().map(Condition::Matches)?;
                return Ok(Test {
                    steps,
                    condition: Some(condition),
                });
            }
            (Some('='), Some('=')) => Some((Operator::Equal, 2)),
            (Some('!'), Some('=')) => Some((Operator::NotEqual, 2)),
            (Some('<'), Some('=')) => Some((Operator::LessOrEqual, 2)),
            (Some('>'), Some('=')) => Some((Operator::GreaterOrEqual, 2)),
            (Some('<'), _) => Some((Operator::Less, 1)),
            (Some('>'), _) => Some((Operator::Greater, 1)),
            _ => None,
        };
        let Some((operator, length)) = operator else {
            return Ok(Test { steps, condition: None });
        };
        self.at += length;
        self.space();
        let literal = self.literal()?;
        if !matches!(operator, Operator::Equal | Operator::NotEqual)
            && matches!(literal, Literal::Boolean(_) | Literal::Null)
        {
            return Err(self.error("true, false and null have no order: compare with == or !="));
        }
        Ok(Test {
            steps,
            condition: Some(Condition::Compares(operator, literal)),
        })
    }

    fn expression(&mut self) -> Result<Expression, PathError> {
        if !matches!(self.peek(), Some('\'' | '"')) {
            return Err(self.error("after =~ comes a regular expression in quotes, such as \"^web-\""));
        }
        let begin = self.at;
        let text = self.string()?;
        Regex::new(&text).map(Expression).map_err(|error| PathError {
            at: begin,
            message: error.to_string(),
        })
    }

    fn literal(&mut self) -> Result<Literal, PathError> {
        if matches!(self.peek(), Some('\'' | '"')) {
            return self.string().map(Literal::Text);
        }
        let begin = self.at;
        while self
            .peek()
            .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
        {
            self.at += 1;
        }
        let word: String = self.characters[begin..self.at].iter().collect();
        let literal = match word.as_str() {
            "true" => Some(Literal::Boolean(true)),
            "false" => Some(Literal::Boolean(false)),
            "null" => Some(Literal::Null),
            number => super::value::number(number).map(Literal::Number),
        };
        literal.ok_or_else(|| {
            self.at = begin;
            self.error("compare with \"text\", a number, true, false or null")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Step {
        Step::Name(name.to_owned())
    }

    #[test]
    fn every_step_is_read() {
        let path = Path::parse(r#"$.a['b c'][0].*[*]["d"][-2]"#).unwrap();
        assert_eq!(path.root, Root::Document);
        assert_eq!(
            path.steps,
            [
                name("a"),
                name("b c"),
                Step::Index(0),
                Step::Each(vec![]),
                Step::Each(vec![]),
                name("d"),
                Step::FromEnd(2)
            ]
        );
        assert!(!path.key);
    }

    #[test]
    fn roots_and_keys() {
        assert_eq!(Path::parse("@").unwrap().root, Root::Element(0));
        assert_eq!(Path::parse("^^.name").unwrap().root, Root::Element(2));
        assert!(Path::parse("@~").unwrap().key);
        assert!(Path::parse("^~").unwrap().key);
        assert!(Path::parse("$.apps.*~").unwrap().key);
        assert!(Path::parse("$~").is_err());
        assert!(Path::parse("@.name~").is_err());
    }

    #[test]
    fn filters_are_read_with_and_without_parentheses() {
        let test = |operator, literal| Test {
            steps: vec![name("state")],
            condition: Some(Condition::Compares(operator, literal)),
        };
        for text in [
            "$[?@.state == 'ACTIVE']",
            "$[?(@.state==\"ACTIVE\")]",
            "$[ ?( @.state == 'ACTIVE' ) ]",
        ] {
            assert_eq!(
                Path::parse(text).unwrap().steps,
                [Step::Each(vec![test(
                    Operator::Equal,
                    Literal::Text("ACTIVE".to_owned())
                )])],
                "{text}"
            );
        }
        let path = Path::parse("$[?@.state != null && @.state >= -1.5e3 && @.a[0]]").unwrap();
        assert_eq!(
            path.steps,
            [Step::Each(vec![
                test(Operator::NotEqual, Literal::Null),
                test(Operator::GreaterOrEqual, Literal::Number(-1500.0)),
                Test {
                    steps: vec![name("a"), Step::Index(0)],
                    condition: None
                },
            ])]
        );
        let path = Path::parse(r#"$[?@.state =~ "^A"]"#).unwrap();
        let [Step::Each(tests)] = &path.steps[..] else {
            panic!("{path:?}")
        };
        assert!(matches!(&tests[0].condition, Some(Condition::Matches(expression)) if expression.0.is_match("ACTIVE")));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, at, message) in [
            ("", 0, "begins with $"),
            ("a.b", 0, "begins with $"),
            ("$.", 2, "name is missing"),
            ("$..a", 2, "`..` is not supported"),
            ("$.a b", 3, "cannot go on"),
            ("$[0", 3, "] is missing"),
            ("$[-0]", 4, "the last element is -1"),
            ("$[-]", 3, "a number is missing"),
            ("$[-3:]", 4, "slices"),
            ("$[0:2]", 3, "slices"),
            ("$[99999999999]", 13, "too large"),
            ("$['a]", 2, "closing quote"),
            ("$['\\n']", 4, "after \\"),
            ("$[?a]", 3, "begins with @"),
            ("$[?@.a == b]", 10, "compare with"),
            ("$[?@.a =~ b]", 10, "in quotes"),
            ("$[?@.a =~ '(']", 10, "group"),
            ("$[?@[-1]]", 4, "from the beginning only"),
            ("$[?@.a == 1e999]", 10, "compare with"),
            ("$[?@.a < true]", 13, "no order"),
            ("$[?(@.a]", 7, ") is missing"),
            ("$[?@.a & @.b]", 8, "joined by &&"),
            ("$[?@.a || @.b]", 7, "|| is not supported"),
            ("$[?@[*]]", 4, "names and indexes from the beginning only"),
        ] {
            let error = Path::parse(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }
}
