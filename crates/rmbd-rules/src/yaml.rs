//! YAML as a tree, each node with its place in the text. An alias is the node that it stands for, so that a tree is
//! never larger than its text.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, options};

use crate::NESTING_MAX;
use crate::error::{Place, Wrong, WrongRules, shown};

/// Which node of [`Yaml`] it is.
pub(crate) type NodeId = usize;

/// A text of YAML.
#[derive(Debug)]
pub(crate) struct Yaml<'t> {
    nodes: Vec<Node<'t>>,
    root: Option<NodeId>,
}

/// A word, a list, or a mapping.
#[derive(Debug)]
pub(crate) struct Node<'t> {
    pub(crate) place: Place,
    pub(crate) content: Content<'t>,
}

#[derive(Debug)]
pub(crate) enum Content<'t> {
    /// A text, which may mean nothing, a number and so on where it is plain: neither quoted nor a block.
    Word {
        text: Cow<'t, str>,
        is_plain: bool,
    },
    List(Vec<NodeId>),
    /// Keys and values, as they are written. A key may be there twice.
    Mapping(Vec<(NodeId, NodeId)>),
}

impl Content<'_> {
    /// Whether it is nothing: `~`, `null`, or no text at all.
    pub(crate) fn is_null(&self) -> bool {
        match self {
            Self::Word { text, is_plain } => {
                *is_plain && matches!(&**text, "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }
}

impl<'t> Yaml<'t> {
    /// Reads a text with at most one document.
    pub(crate) fn read(text: &'t str) -> Result<Self, Wrong> {
        let options = options! {
            emit_comments: false,
            flow_nesting_limit: NESTING_MAX,
            block_nesting_limit: NESTING_MAX,
        };
        let mut builder = Builder::default();
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| {
                let wrong = WrongRules::Yaml(shown(&error.info()));
                Wrong(Some(Place::of(error.marker())), wrong)
            })?;
            builder.take(event, span)?;
        }
        Ok(Self {
            nodes: builder.nodes,
            root: builder.root,
        })
    }

    /// The node that has all others. None: the text has nothing but comments.
    pub(crate) const fn root(&self) -> Option<NodeId> {
        self.root
    }

    /// A node, by the number that the root or a node above it has.
    pub(crate) fn node(&self, id: NodeId) -> &Node<'t> {
        &self.nodes[id]
    }
}

/// What has been read of a text.
#[derive(Debug, Default)]
struct Builder<'t> {
    nodes: Vec<Node<'t>>,
    root: Option<NodeId>,
    /// Lists and mappings that have not ended, from the outermost.
    open: Vec<Open>,
    /// Nodes that have an anchor, and have ended.
    anchors: HashMap<usize, NodeId>,
    documents: usize,
}

#[derive(Debug)]
struct Open {
    place: Place,
    anchor: usize,
    /// Of a mapping: keys and values in turn.
    children: Vec<NodeId>,
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), Wrong> {
        let place = Place::of(&span.start);
        if event.tag().is_some() {
            return Err(place.wrong(WrongRules::Tag));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(place.wrong(WrongRules::SecondDocument));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let is_plain = style == ScalarStyle::Plain;
                self.push(place, anchor, Content::Word { text, is_plain });
            }
            Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) => {
                self.begin(place, anchor)?;
            }
            Event::SequenceEnd => self.end(Content::List),
            Event::MappingEnd => self.end(|children| {
                let pairs = children.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                Content::Mapping(pairs.collect())
            }),
            Event::Alias(anchor) => {
                // What has not ended stands for itself without an end.
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(place.wrong(WrongRules::Loop));
                };
                self.attach(*node);
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize) -> Result<(), Wrong> {
        if self.open.len() == NESTING_MAX {
            return Err(place.wrong(WrongRules::TooDeep));
        }
        self.open.push(Open {
            place,
            anchor,
            children: Vec::new(),
        });
        Ok(())
    }

    fn end(&mut self, content: impl FnOnce(Vec<NodeId>) -> Content<'t>) {
        // The parser ends only what it began.
        if let Some(open) = self.open.pop() {
            self.push(open.place, open.anchor, content(open.children));
        }
    }

    fn push(&mut self, place: Place, anchor: usize, content: Content<'t>) {
        let id = self.nodes.len();
        self.nodes.push(Node { place, content });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.attach(id);
    }

    fn attach(&mut self, id: NodeId) {
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.root = Some(id),
        }
    }
}
