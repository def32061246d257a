//! Reads a document once and keeps what a plan looks for, and nothing else.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::path::{Condition, Literal, Operator};
use super::plan::{DOCUMENT, Plan, Reference, SlotTest, Target};
use super::value::{Scalar, Span};

/// A document may be nested this deep. What is beyond is no data anybody publishes.
pub(crate) const MAX_DEPTH: usize = 100;

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not JSON, or cut off; with serde_json's message.
    Malformed(String),
    /// A number that no float can hold.
    NotFinite(String),
    TooDeep,
    /// More elements than the limit.
    TooManyElements,
}

/// One element of an iteration.
#[derive(Debug)]
struct Row {
    /// The row of the iteration around it.
    parent: usize,
    key: Key,
    /// Whether the filter lets it through, or it is the one that is asked for.
    passes: bool,
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Name(Span),
    Index(u32),
}

/// The elements of one iteration, in the order of the document; so those of one parent stand together.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<Row>,
    /// Rows times the iteration's width.
    slots: Vec<Scalar>,
    /// Whether there was an object or array to look into, be it empty.
    seen: bool,
}

/// What a reference leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Found {
    Scalar(Scalar),
    Index(u32),
}

/// A place in the plan that the reader has come to.
#[derive(Debug, Clone, Copy)]
struct State {
    node: usize,
    iteration: usize,
    row: usize,
    /// Whether the row begins here.
    begins: bool,
}

/// What was kept of a document.
#[derive(Debug)]
pub(crate) struct Capture<'p> {
    plan: &'p Plan,
    tables: Vec<Table>,
    text: String,
    states: Vec<State>,
    /// For each reference, what it last led to and from which row.
    found: RefCell<Vec<Option<(usize, Found)>>>,
    elements_left: usize,
    failure: Option<Unreadable>,
}

impl<'p> Capture<'p> {
    /// Reads a document, of which at most `max_elements` elements of iterations.
    pub(crate) fn read(plan: &'p Plan, document: &[u8], max_elements: usize) -> Result<Self, Unreadable> {
        // Some servers put a byte order mark in front, which RFC 8259 lets a reader ignore.
        let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
        let mut capture = Capture {
            plan,
            tables: plan.iterations.iter().map(|_| Table::default()).collect(),
            text: String::new(),
            states: Vec::new(),
            found: RefCell::new(vec![None; plan.references]),
            elements_left: max_elements,
            failure: None,
        };
        capture.tables[DOCUMENT] = Table {
            rows: vec![Row {
                parent: 0,
                key: Key::Index(0),
                passes: true,
            }],
            slots: vec![Scalar::Missing; plan.iterations[DOCUMENT].width],
            seen: true,
        };
        capture.states.push(State {
            node: plan.iterations[DOCUMENT].node,
            iteration: DOCUMENT,
            row: 0,
            begins: false,
        });
        let mut deserializer = serde_json::Deserializer::from_slice(document);
        let read = Place {
            capture: &mut capture,
            from: 0,
            depth: 0,
        }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
        match (capture.failure.take(), read) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => {
                let message = error.to_string();
                Err(if message.starts_with("number out of range") {
                    Unreadable::NotFinite(message)
                } else {
                    Unreadable::Malformed(message)
                })
            }
            (None, Ok(())) => Ok(capture),
        }
    }

    /// The text that spans point into.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the document has the objects or arrays that lead to the elements of an iteration, be they empty.
    pub(crate) fn has(&self, iteration: usize) -> bool {
        if iteration == DOCUMENT {
            return true;
        }
        let table = &self.tables[iteration];
        let around = self.plan.iterations[iteration].parent;
        table.seen || (self.has(around) && self.tables[around].rows.is_empty())
    }

    /// The rows of an iteration that all filters let through.
    pub(crate) fn rows(&self, iteration: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.tables[iteration].rows.len()).filter(move |&row| {
            let (mut iteration, mut row) = (iteration, row);
            loop {
                let this = &self.tables[iteration].rows[row];
                if !this.passes {
                    return false;
                }
                if iteration == DOCUMENT {
                    return true;
                }
                row = this.parent;
                iteration = self.plan.iterations[iteration].parent;
            }
        })
    }

    /// What a reference leads to from a row.
    pub(crate) fn find(&self, iteration: usize, row: usize, reference: &Reference) -> Found {
        self.look(iteration, row, reference, |iteration, row| {
            self.first(iteration, row, &reference.down, reference.target)
                .unwrap_or(Found::Scalar(Scalar::Missing))
        })
    }

    /// To how many places a reference leads from a row.
    pub(crate) fn count(&self, iteration: usize, row: usize, reference: &Reference) -> Found {
        self.look(iteration, row, reference, |iteration, row| {
            let count = self.count_below(iteration, row, &reference.down, reference.target);
            Found::Scalar(Scalar::Unsigned(count as u64))
        })
    }

    /// Goes out to the row where a reference's way down begins. Elements that share it stand together, and may be many, as
    /// may be what lies below; so what was found there is kept.
    fn look(
        &self,
        mut iteration: usize,
        mut row: usize,
        reference: &Reference,
        below: impl FnOnce(usize, usize) -> Found,
    ) -> Found {
        for _ in 0..reference.up {
            row = self.tables[iteration].rows[row].parent;
            iteration = self.plan.iterations[iteration].parent;
        }
        if reference.up == 0 || reference.down.is_empty() {
            return below(iteration, row);
        }
        if let Some((from, found)) = self.found.borrow()[reference.index]
            && from == row
        {
            return found;
        }
        let found = below(iteration, row);
        self.found.borrow_mut()[reference.index] = Some((row, found));
        found
    }

    fn first(&self, iteration: usize, row: usize, down: &[usize], target: Target) -> Option<Found> {
        let Some((&next, rest)) = down.split_first() else {
            let found = match target {
                Target::Slot(slot) => Found::Scalar(self.slots(iteration, row)[slot]),
                Target::Key => match self.tables[iteration].rows[row].key {
                    Key::Name(name) => Found::Scalar(Scalar::Text(name)),
                    Key::Index(index) => Found::Index(index),
                },
            };
            return (found != Found::Scalar(Scalar::Missing)).then_some(found);
        };
        self.children(next, row)
            .find_map(|child| self.first(next, child, rest, target))
    }

    fn count_below(&self, iteration: usize, row: usize, down: &[usize], target: Target) -> usize {
        match down.split_first() {
            None => usize::from(self.first(iteration, row, down, target).is_some()),
            Some((&next, rest)) => self
                .children(next, row)
                .map(|child| self.count_below(next, child, rest, target))
                .sum(),
        }
    }

    /// The rows of an iteration that lie in one row of the iteration around it and that the filter lets through.
    fn children(&self, iteration: usize, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let rows = &self.tables[iteration].rows;
        let begin = rows.partition_point(|candidate| candidate.parent < parent);
        (begin..rows.len())
            .take_while(move |&row| rows[row].parent == parent)
            .filter(move |&row| rows[row].passes)
    }

    fn slots(&self, iteration: usize, row: usize) -> &[Scalar] {
        let width = self.plan.iterations[iteration].width;
        &self.tables[iteration].slots[row * width..][..width]
    }

    fn keep(&mut self, text: &str) -> Span {
        // A body is far smaller than what 32 bits count.
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.push_str(text);
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        Span { start, end }
    }

    /// Puts a value into the slots of all states from `from` on.
    fn store(&mut self, from: usize, value: Scalar) {
        for state in &self.states[from..] {
            if let Some(slot) = self.plan.nodes[state.node].slot {
                let width = self.plan.iterations[state.iteration].width;
                self.tables[state.iteration].slots[state.row * width + slot] = value;
            }
        }
    }

    fn wants_text(&self, from: usize) -> bool {
        self.states[from..]
            .iter()
            .any(|state| self.plan.nodes[state.node].slot.is_some())
    }

    /// Marks that there is something to look into at the states from `from` on.
    fn enter(&mut self, from: usize, depth: usize) -> Result<(), Unreadable> {
        if depth >= MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        self.store(from, Scalar::Composite);
        for state in &self.states[from..] {
            for &iteration in &self.plan.nodes[state.node].iterations {
                self.tables[iteration].seen = true;
            }
        }
        Ok(())
    }

    /// Adds the states for a member or element, after those from `from` to `to`.
    fn step(&mut self, from: usize, to: usize, name: Option<&str>, index: u32) -> Result<(), Unreadable> {
        let mut key = None;
        for at in from..to {
            let state = self.states[at];
            let node = &self.plan.nodes[state.node];
            let next = match name {
                Some(name) => node.names.get(name),
                None => node.indexes.get(&index),
            };
            if let Some(&node) = next {
                self.states.push(State {
                    node,
                    begins: false,
                    ..state
                });
            }
            for &iteration in &node.iterations {
                let within = &self.plan.iterations[iteration];
                if name.is_some() && within.from_end.is_some() {
                    continue;
                }
                self.elements_left = self.elements_left.checked_sub(1).ok_or(Unreadable::TooManyElements)?;
                let key = match (name, key) {
                    (Some(_), Some(kept)) => kept,
                    (Some(name), None) if within.keyed => {
                        let kept = Key::Name(self.keep(name));
                        key = Some(kept);
                        kept
                    }
                    _ => Key::Index(index),
                };
                let table = &mut self.tables[iteration];
                let row = table.rows.len();
                table.rows.push(Row {
                    parent: state.row,
                    key,
                    passes: within.from_end.is_none(),
                });
                table.slots.resize(table.slots.len() + within.width, Scalar::Missing);
                self.states.push(State {
                    node: within.node,
                    iteration,
                    row,
                    begins: true,
                });
            }
        }
        Ok(())
    }

    /// Ends an array at the states from `from` to `to`: now it is known which element is the last.
    fn end(&mut self, from: usize, to: usize) {
        for state in &self.states[from..to] {
            for &iteration in &self.plan.nodes[state.node].iterations {
                let Some(from_end) = self.plan.iterations[iteration].from_end else {
                    continue;
                };
                let rows = &mut self.tables[iteration].rows;
                let begin = rows.partition_point(|row| row.parent < state.row);
                let wanted = usize::try_from(from_end).ok().and_then(|n| rows.len().checked_sub(n));
                if let Some(at) = wanted.filter(|at| *at >= begin) {
                    rows[at].passes = true;
                }
            }
        }
    }

    /// Ends the states from `to` on; the rows among them are complete, so their filters can be asked.
    fn leave(&mut self, to: usize) {
        while self.states.len() > to {
            let Some(state) = self.states.pop() else { return };
            let tests = &self.plan.iterations[state.iteration].tests;
            if state.begins && !tests.is_empty() {
                let slots = self.slots(state.iteration, state.row);
                let passes = tests.iter().all(|test| self.holds(test, slots[test.slot]));
                self.tables[state.iteration].rows[state.row].passes = passes;
            }
        }
    }

    /// Whether a test holds for a value. As in RFC 9535, what is missing equals nothing, and only numbers with numbers
    /// and text with text have an order.
    fn holds(&self, test: &SlotTest, value: Scalar) -> bool {
        let (operator, literal) = match &test.condition {
            None => return value != Scalar::Missing,
            Some(Condition::Compares(operator, literal)) => (operator, literal),
            Some(Condition::Matches(expression)) => {
                return match value {
                    Scalar::Missing | Scalar::Null | Scalar::Composite => false,
                    Scalar::Text(span) => expression.0.is_match(span.of(&self.text)),
                    _ => expression.0.is_match(&value.plain()),
                };
            }
        };
        let order = match (literal, value) {
            (Literal::Text(wanted), Scalar::Text(span)) => Some(span.of(&self.text).cmp(wanted.as_str())),
            (Literal::Number(wanted), value) => value.number().and_then(|number| number.partial_cmp(wanted)),
            (Literal::Boolean(wanted), Scalar::Boolean(value)) => Some(value.cmp(wanted)),
            (Literal::Null, Scalar::Null) => Some(std::cmp::Ordering::Equal),
            _ => None,
        };
        match operator {
            Operator::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Operator::NotEqual => order.is_none_or(std::cmp::Ordering::is_ne),
            Operator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Operator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Operator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Operator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }

    fn fail<E: serde::de::Error>(&mut self, failure: Unreadable) -> E {
        let error = E::custom(format_args!("{failure:?}"));
        self.failure = Some(failure);
        error
    }
}

/// Reads the value at one place, for the states from `from` on; without states it is skipped, checked all the same.
struct Place<'c, 'p> {
    capture: &'c mut Capture<'p>,
    from: usize,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.capture.store(self.from, Scalar::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.capture.store(self.from, Scalar::Boolean(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.capture.store(self.from, Scalar::Signed(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.capture.store(self.from, Scalar::Unsigned(value));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.capture.store(self.from, Scalar::Float(value));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        if self.capture.wants_text(self.from) {
            let span = self.capture.keep(value);
            self.capture.store(self.from, Scalar::Text(span));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { capture, from, depth } = self;
        capture.enter(from, depth).map_err(|failure| capture.fail(failure))?;
        let to = capture.states.len();
        let mut index = 0_u32;
        while elements
            .next_element_seed(Element {
                capture,
                from,
                to,
                index,
                depth: depth + 1,
            })?
            .is_some()
        {
            // No body is so long that this would matter.
            index = index.saturating_add(1);
        }
        capture.end(from, to);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { capture, from, depth } = self;
        capture.enter(from, depth).map_err(|failure| capture.fail(failure))?;
        let to = capture.states.len();
        while members.next_key_seed(Member { capture, from, to })?.is_some() {
            members.next_value_seed(Place {
                capture,
                from: to,
                depth: depth + 1,
            })?;
            capture.leave(to);
        }
        Ok(())
    }
}

/// Reads one element of an array, for the states from `from` to `to` on the array.
struct Element<'c, 'p> {
    capture: &'c mut Capture<'p>,
    from: usize,
    to: usize,
    index: u32,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self {
            capture,
            from,
            to,
            index,
            depth,
        } = self;
        capture
            .step(from, to, None, index)
            .map_err(|failure| capture.fail(failure))?;
        Place {
            capture,
            from: to,
            depth,
        }
        .deserialize(deserializer)?;
        capture.leave(to);
        Ok(())
    }
}

/// Reads the name of a member and adds the states for it.
struct Member<'c, 'p> {
    capture: &'c mut Capture<'p>,
    from: usize,
    to: usize,
}

impl<'de> DeserializeSeed<'de> for Member<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Member<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a member")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(), E> {
        let Self { capture, from, to } = self;
        capture
            .step(from, to, Some(name), 0)
            .map_err(|failure| capture.fail(failure))
    }
}
