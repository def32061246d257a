//! All paths of a mapping as one tree, so that a document is read once whatever the number of metrics.

use std::collections::HashMap;

use super::path::{Condition, Path, Root, Step, Test};

/// The iteration that stands for the document itself: one element, which has no parent.
pub(crate) const DOCUMENT: usize = 0;

/// What is looked for at one place of a document.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) names: HashMap<Box<str>, usize>,
    pub(crate) indexes: HashMap<u32, usize>,
    /// Iterations over what is in here.
    pub(crate) iterations: Vec<usize>,
    /// Where the value goes in the row of its element.
    pub(crate) slot: Option<usize>,
}

/// A test of a filter on the value in a slot.
#[derive(Debug)]
pub(crate) struct SlotTest {
    pub(crate) slot: usize,
    pub(crate) condition: Option<Condition>,
}

/// One `[*]`, `.*`, filter or index from the end at one place. Each element it finds is a row with one slot for each value that is looked for.
#[derive(Debug)]
pub(crate) struct Iteration {
    /// The iteration around this one.
    pub(crate) parent: usize,
    /// The node of an element.
    pub(crate) node: usize,
    /// Slots of a row.
    pub(crate) width: usize,
    /// Only this element of an array, counted from its end, where 1 is the last.
    pub(crate) from_end: Option<u32>,
    /// The filter as it was written.
    filter: Vec<Test>,
    /// The same on the slots of a row: all must hold for an element to count.
    pub(crate) tests: Vec<SlotTest>,
    /// Whether the elements' names are looked for.
    pub(crate) keyed: bool,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
    pub(crate) iterations: Vec<Iteration>,
    /// How many references there are.
    pub(crate) references: usize,
}

/// What a metric takes its values from: the elements of an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) iteration: usize,
    /// The node that `@` means: an element's, or further down where the path goes on after the iteration.
    node: usize,
}

/// What a reference finds in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A value.
    Slot(usize),
    /// The name or index of the element itself.
    Key,
}

/// The way from a row to a value.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    /// Its place among all of the plan.
    pub(crate) index: usize,
    /// So many iterations out.
    pub(crate) up: usize,
    /// Then into these, each time to the first element that leads on.
    pub(crate) down: Vec<usize>,
    /// Then there.
    pub(crate) target: Target,
    /// As it was written, for messages.
    pub(crate) written: Box<str>,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            iterations: vec![Iteration {
                parent: DOCUMENT,
                node: 0,
                width: 0,
                from_end: None,
                filter: Vec::new(),
                tests: Vec::new(),
                keyed: false,
            }],
            references: 0,
        }
    }

    /// The scope of metrics that have one sample for each element of `path`, or one in all.
    pub(crate) fn scope(&mut self, path: Option<&Path>) -> Scope {
        let document = Scope {
            iteration: DOCUMENT,
            node: 0,
        };
        match path {
            None => document,
            Some(path) => self.descend(document, &path.steps, &mut Vec::new()),
        }
    }

    /// How many iterations are around the elements of a scope.
    pub(crate) fn depth(&self, scope: Scope) -> usize {
        let mut depth = 0;
        let mut iteration = scope.iteration;
        while iteration != DOCUMENT {
            iteration = self.iterations[iteration].parent;
            depth += 1;
        }
        depth
    }

    /// The way from a row of `scope` to what `path` leads to; `None` where `^` leads out of the document, or where the
    /// document's name is asked for.
    pub(crate) fn reference(&mut self, scope: Scope, path: &Path, written: &str) -> Option<Reference> {
        let depth = self.depth(scope);
        let up = match path.root {
            Root::Document => depth,
            Root::Element(levels) => levels,
        };
        if up > depth {
            return None;
        }
        let from = if up == 0 && path.root != Root::Document {
            scope
        } else {
            let mut iteration = scope.iteration;
            for _ in 0..up {
                iteration = self.iterations[iteration].parent;
            }
            Scope {
                iteration,
                node: self.iterations[iteration].node,
            }
        };
        let mut down = Vec::new();
        let to = self.descend(from, &path.steps, &mut down);
        let target = if path.key {
            if to.iteration == DOCUMENT {
                return None;
            }
            self.iterations[to.iteration].keyed = true;
            Target::Key
        } else {
            Target::Slot(self.slot(to))
        };
        self.references += 1;
        Some(Reference {
            index: self.references - 1,
            up,
            down,
            target,
            written: written.into(),
        })
    }

    fn slot(&mut self, at: Scope) -> usize {
        let iteration = &mut self.iterations[at.iteration];
        *self.nodes[at.node].slot.get_or_insert_with(|| {
            iteration.width += 1;
            iteration.width - 1
        })
    }

    fn descend(&mut self, from: Scope, steps: &[Step], through: &mut Vec<usize>) -> Scope {
        let mut at = from;
        for step in steps {
            match step {
                Step::Name(name) => {
                    at.node = match self.nodes[at.node].names.get(name.as_str()) {
                        Some(&node) => node,
                        None => {
                            let node = self.add_node();
                            self.nodes[at.node].names.insert(name.as_str().into(), node);
                            node
                        }
                    };
                }
                Step::Index(index) => {
                    at.node = match self.nodes[at.node].indexes.get(index) {
                        Some(&node) => node,
                        None => {
                            let node = self.add_node();
                            self.nodes[at.node].indexes.insert(*index, node);
                            node
                        }
                    };
                }
                Step::Each(filter) => at = self.iterate(at, filter, None, through),
                Step::FromEnd(index) => at = self.iterate(at, &[], Some(*index), through),
            }
        }
        at
    }

    fn iterate(&mut self, over: Scope, filter: &[Test], from_end: Option<u32>, through: &mut Vec<usize>) -> Scope {
        let same = self.nodes[over.node].iterations.iter().find(|&&known| {
            let known = &self.iterations[known];
            known.filter == filter && known.from_end == from_end
        });
        let iteration = match same {
            Some(&known) => known,
            None => self.add_iteration(over, filter, from_end),
        };
        through.push(iteration);
        Scope {
            iteration,
            node: self.iterations[iteration].node,
        }
    }

    fn add_iteration(&mut self, over: Scope, filter: &[Test], from_end: Option<u32>) -> usize {
        let node = self.add_node();
        let iteration = self.iterations.len();
        self.iterations.push(Iteration {
            parent: over.iteration,
            node,
            width: 0,
            from_end,
            filter: filter.to_vec(),
            tests: Vec::new(),
            keyed: false,
        });
        self.nodes[over.node].iterations.push(iteration);
        for test in filter {
            let to = self.descend(Scope { iteration, node }, &test.steps, &mut Vec::new());
            let slot = self.slot(to);
            self.iterations[iteration].tests.push(SlotTest {
                slot,
                condition: test.condition.clone(),
            });
        }
        iteration
    }

    fn add_node(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }
}
