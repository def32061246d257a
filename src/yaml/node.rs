use std::ops::Range;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StructureStyle};

use super::YamlError;

/// Deeper files are none of ours; it bounds the recursion.
const DEEPEST: usize = 64;

/// A part of a document, with the bytes it takes.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Scalar(Scalar),
    Mapping(Mapping),
    Sequence {
        items: Vec<Node>,
        flow: bool,
        span: Range<usize>,
    },
    Alias {
        anchor: usize,
        span: Range<usize>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) value: String,
    pub(super) style: ScalarStyle,
    pub(super) span: Range<usize>,
    pub(super) tag: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Mapping {
    pub(super) entries: Vec<(Node, Node)>,
    pub(super) flow: bool,
    pub(super) span: Range<usize>,
}

impl Scalar {
    /// Whether nothing is written, or null.
    pub(super) fn is_nothing(&self) -> bool {
        self.style == ScalarStyle::Plain && matches!(self.value.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Mapping {
    pub(super) fn entry(&self, key: &str) -> Option<(&Scalar, &Node)> {
        self.entries.iter().find_map(|(k, value)| match k {
            Node::Scalar(scalar) if scalar.value == key => Some((scalar, value)),
            _ => None,
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }
}

impl Node {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "a value",
            Self::Mapping(_) => "a mapping",
            Self::Sequence { .. } => "a list",
            Self::Alias { .. } => "an alias",
        }
    }

    pub(super) fn span(&self) -> Range<usize> {
        match self {
            Self::Scalar(scalar) => scalar.span.clone(),
            Self::Mapping(mapping) => mapping.span.clone(),
            Self::Sequence { span, .. } | Self::Alias { span, .. } => span.clone(),
        }
    }

    /// The end of the last byte that belongs to it.
    pub(super) fn end(&self) -> usize {
        match self {
            // Where nothing is written, the parser points to what comes next.
            Self::Scalar(scalar) if scalar.span.is_empty() => 0,
            Self::Mapping(mapping) if !mapping.flow => mapping
                .entries
                .iter()
                .map(|(key, value)| key.end().max(value.end()))
                .max()
                .unwrap_or(mapping.span.end),
            Self::Sequence {
                items,
                flow: false,
                span,
            } => items.iter().map(Node::end).max().unwrap_or(span.end),
            other => other.span().end,
        }
    }

    /// Whether the two say the same, however they are written.
    pub(super) fn says(&self, other: &Node) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => {
                // Whether it is quoted decides whether `1` is a number.
                let quoted = |s: &Scalar| s.style != ScalarStyle::Plain;
                a.value == b.value && a.tag == b.tag && quoted(a) == quoted(b)
            }
            (Self::Mapping(a), Self::Mapping(b)) => {
                a.entries.len() == b.entries.len()
                    && a.entries
                        .iter()
                        .zip(&b.entries)
                        .all(|(a, b)| a.0.says(&b.0) && a.1.says(&b.1))
            }
            (Self::Sequence { items: a, .. }, Self::Sequence { items: b, .. }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says(b))
            }
            (Self::Alias { anchor: a, .. }, Self::Alias { anchor: b, .. }) => a == b,
            _ => false,
        }
    }
}

/// The only document of `text`; `None` where it holds none.
pub(super) fn parse(text: &str) -> Result<Option<Node>, YamlError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        text,
    };
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Err(YamlError::new(
                    "the file holds more than one document",
                    Some(reader.bytes(&span)),
                ));
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => root = Some(reader.node(event, &span, 0)?),
        }
    }
    Ok(root.filter(|node| !matches!(node, Node::Scalar(scalar) if scalar.is_nothing())))
}

struct Reader<'a, I> {
    events: I,
    text: &'a str,
}

impl<'a, I> Reader<'a, I>
where
    I: Iterator<Item = Result<(Event<'a>, Span), granit_parser::ScanError>>,
{
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, YamlError> {
        self.events.next().transpose().map_err(|error| {
            let at = error.marker().byte_offset().map(|offset| {
                let start = offset.min(self.text.len());
                start..start
            });
            YamlError::new(format!("this is not YAML that can be read: {}", error.info()), at)
        })
    }

    fn bytes(&self, span: &Span) -> Range<usize> {
        // A parser of a string knows every byte.
        span.byte_range().unwrap_or(self.text.len()..self.text.len())
    }

    fn inner(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        self.next()?
            .ok_or_else(|| YamlError::new("the document ends too early", None))
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, YamlError> {
        let bytes = self.bytes(span);
        if depth > DEEPEST {
            return Err(YamlError::new(
                format!("the file is nested deeper than {DEEPEST} levels"),
                Some(bytes),
            ));
        }
        match event {
            Event::Scalar(value, style, _, tag) => Ok(Node::Scalar(Scalar {
                value: value.into_owned(),
                style,
                span: bytes,
                tag: tag.map(|tag| tag.to_string()),
            })),
            Event::Alias(anchor) => Ok(Node::Alias { anchor, span: bytes }),
            Event::SequenceStart(style, ..) => {
                let mut items = Vec::new();
                loop {
                    match self.inner()? {
                        (Event::SequenceEnd, end) => {
                            let span = bytes.start..self.bytes(&end).end;
                            let flow = style == StructureStyle::Flow;
                            return Ok(Node::Sequence { items, flow, span });
                        }
                        (event, span) => items.push(self.node(event, &span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(style, ..) => {
                let mut entries: Vec<(Node, Node)> = Vec::new();
                loop {
                    let key = match self.inner()? {
                        (Event::MappingEnd, end) => {
                            return Ok(Node::Mapping(Mapping {
                                entries,
                                flow: style == StructureStyle::Flow,
                                span: bytes.start..self.bytes(&end).end,
                            }));
                        }
                        (event, span) => self.node(event, &span, depth + 1)?,
                    };
                    if entries.iter().any(|(known, _)| known.says(&key)) {
                        let name = match &key {
                            Node::Scalar(scalar) => scalar.value.clone(),
                            other => other.kind().to_owned(),
                        };
                        return Err(YamlError::new(format!("{name} is set twice"), Some(key.span())));
                    }
                    let (event, span) = self.inner()?;
                    let value = self.node(event, &span, depth + 1)?;
                    entries.push((key, value));
                }
            }
            other => Err(YamlError::new(format!("{other:?} is not expected here"), Some(bytes))),
        }
    }
}
