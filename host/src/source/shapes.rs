//! What messages look like, learned: which keys follow each other, and to which columns they lead.
//!
//! The messages of a device differ in their values, hardly ever in their keys. So the keys seen are kept as a tree:
//! an edge is a key with the type of its value, a path from a root is a message. Parsing walks along: the next key is
//! compared with the one that followed last time, which nearly always is it, and no key is hashed, copied or joined.
//!
//! ```text
//! root ─ts:time─ ○ ─motor:{─ ○ ─rpm:f64─ ○ ─}─ ○ ─state:text─ ◉ shape: columns [motor.rpm f64, state text]
//!                                          └state:text─ …
//! ```
//! Does not parse. Invariants: a shape's columns have different names of 1 to 256 bytes, at most 1,024 of them; two
//! paths of a rule with the same set of columns lead to the same layout; the tree is bounded by [`MAX_NODES`] and
//! [`MAX_EDGES`] plus one message: when [`Shapes::is_full`], its owner clears it and it learns anew.

use std::collections::HashMap;

use wire::frame::{MAX_COLUMNS, MAX_NAME_BYTES};

use super::json::JsonFault;

/// Most nodes of a tree: some hundred device types.
pub(crate) const MAX_NODES: usize = 8_192;
/// Most different keys after one and the same beginning.
pub(crate) const MAX_EDGES: usize = 64;

/// The type of a value in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    F64,
    I64,
    Bool,
    Text,
    /// No value: the column is absent in this row.
    Null,
    /// The rule's time field, with or without a value.
    Time,
    /// Into an object, and out of it.
    Open,
    Close,
}

/// A set of columns of a rule, in the order first seen.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) columns: Vec<(Box<str>, Kind)>,
}

/// A rule and the columns, sorted by name.
type LayoutKey = (usize, Vec<(Box<str>, Kind)>);

/// A message's cells in their order, as columns of a layout.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Index of the layout.
    pub(crate) layout: u32,
    /// Per cell, its column.
    pub(crate) columns: Box<[u16]>,
}

/// A place in the tree.
pub(crate) type Place = u32;

#[derive(Debug)]
struct Node {
    /// The last one taken is first.
    edges: Vec<Edge>,
    scope: u32,
    parent: Place,
    /// The column that the edge to here added.
    column: Option<(Box<str>, Kind)>,
    shape: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) key: Box<str>,
    /// The key as it stands in JSON, with its quotes; empty if it would need escapes.
    pub(crate) quoted: Box<[u8]>,
    pub(crate) kind: Kind,
    pub(crate) to: Place,
}

/// An object that is being described: its dotted prefix and the scope around it.
#[derive(Debug)]
struct Scope {
    prefix: Box<str>,
    outer: u32,
}

/// The tree with all that was learned.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    nodes: Vec<Node>,
    scopes: Vec<Scope>,
    shapes: Vec<Shape>,
    layouts: Vec<Layout>,
    by_columns: HashMap<LayoutKey, u32>,
    roots: Vec<Option<Place>>,
    full: bool,
}

impl Shapes {
    /// Where messages of a rule begin.
    pub(crate) fn root(&mut self, rule: usize) -> Place {
        if let Some(Some(root)) = self.roots.get(rule) {
            return *root;
        }
        if self.scopes.is_empty() {
            self.scopes.push(Scope { prefix: "".into(), outer: 0 });
        }
        let root = self.add(Node { edges: Vec::new(), scope: 0, parent: 0, column: None, shape: None });
        if self.roots.len() <= rule {
            self.roots.resize(rule + 1, None);
        }
        if let Some(slot) = self.roots.get_mut(rule) {
            *slot = Some(root);
        }
        root
    }

    /// The edge that was taken last from here.
    #[inline]
    pub(crate) fn likely(&self, at: Place) -> Option<&Edge> {
        self.nodes.get(at as usize)?.edges.first()
    }

    /// Whether a key here is the rule's time field.
    pub(crate) fn is_field(&self, at: Place, key: &str, field: Option<&str>) -> bool {
        field.and_then(|field| field.strip_prefix(self.prefix(at))) == Some(key)
    }

    /// Takes the edge with this key and type, which is added if it is new.
    pub(crate) fn step(&mut self, at: Place, key: &str, kind: Kind) -> Result<Place, JsonFault> {
        let Some(node) = self.nodes.get_mut(at as usize) else { return Ok(at) };
        if let Some(found) = node.edges.iter().position(|edge| edge.kind == kind && *edge.key == *key) {
            node.edges.swap(0, found);
            return Ok(node.edges.first().map_or(at, |edge| edge.to));
        }
        self.grow(at, key, kind)
    }

    #[cold]
    fn grow(&mut self, at: Place, key: &str, kind: Kind) -> Result<Place, JsonFault> {
        let mut scope = self.nodes.get(at as usize).map_or(0, |node| node.scope);
        let mut column = None;
        match kind {
            Kind::Close => scope = self.scopes.get(scope as usize).map_or(0, |inner| inner.outer),
            Kind::Time => {}
            Kind::F64 | Kind::I64 | Kind::Bool | Kind::Text | Kind::Null | Kind::Open => {
                let name = [self.prefix(at), key].concat();
                if name.is_empty() || name.len() > MAX_NAME_BYTES {
                    return Err(JsonFault::Name { bytes: name.len() });
                }
                if kind == Kind::Open {
                    self.scopes.push(Scope { prefix: [&name, "."].concat().into(), outer: scope });
                    scope = u32::try_from(self.scopes.len() - 1).unwrap_or(u32::MAX);
                } else {
                    column = Some((name.into(), kind));
                }
            }
        }
        let to = self.add(Node { edges: Vec::new(), scope, parent: at, column, shape: None });
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.edges.push(Edge { key: key.into(), quoted: quoted(key), kind, to });
            let last = node.edges.len() - 1;
            node.edges.swap(0, last);
            self.full |= node.edges.len() >= MAX_EDGES;
        }
        Ok(to)
    }

    /// The shape of a message that ends here.
    ///
    /// # Errors
    /// A name that occurs twice, too many columns, or none.
    #[inline]
    pub(crate) fn shape(&mut self, at: Place, rule: usize) -> Result<u32, JsonFault> {
        match self.nodes.get(at as usize).and_then(|node| node.shape) {
            Some(shape) => Ok(shape),
            None => self.describe(at, rule),
        }
    }

    #[cold]
    fn describe(&mut self, at: Place, rule: usize) -> Result<u32, JsonFault> {
        let mut names = Vec::new();
        let mut place = at;
        while let Some(node) = self.nodes.get(place as usize) {
            names.extend(node.column.clone());
            if node.parent == place || self.roots.contains(&Some(place)) {
                break;
            }
            place = node.parent;
        }
        names.reverse();
        let mut sorted = names.clone();
        sorted.sort();
        if let Some((name, _)) = sorted.windows(2).find_map(|pair| match pair {
            [one, two] if one.0 == two.0 => Some(one),
            _ => None,
        }) {
            return Err(JsonFault::DuplicateKey(name.as_ref().into()));
        }
        names.retain(|(_, kind)| *kind != Kind::Null);
        sorted.retain(|(_, kind)| *kind != Kind::Null);
        if names.is_empty() {
            return Err(JsonFault::NoValues);
        }
        if names.len() > MAX_COLUMNS {
            return Err(JsonFault::TooManyKeys);
        }
        let layout = self.layout((rule, sorted), &names);
        let columns = match self.layouts.get(layout as usize) {
            None => Box::default(),
            Some(known) => {
                let at: HashMap<_, _> = known.columns.iter().zip(0_u16..).collect();
                names.iter().map(|name| at.get(name).copied().unwrap_or_default()).collect()
            }
        };
        let shape = u32::try_from(self.shapes.len()).unwrap_or(u32::MAX);
        self.shapes.push(Shape { layout, columns });
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.shape = Some(shape);
        }
        Ok(shape)
    }

    fn layout(&mut self, key: LayoutKey, names: &[(Box<str>, Kind)]) -> u32 {
        *self.by_columns.entry(key).or_insert_with(|| {
            self.layouts.push(Layout { columns: names.to_vec() });
            u32::try_from(self.layouts.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// A shape by its index.
    #[inline]
    pub(crate) fn get(&self, shape: u32) -> Option<&Shape> {
        self.shapes.get(shape as usize)
    }

    /// A layout by its index.
    pub(crate) fn layout_of(&self, layout: u32) -> Option<&Layout> {
        self.layouts.get(layout as usize)
    }

    /// Whether so many different messages were seen that the tree should be [cleared](Shapes::clear).
    pub(crate) fn is_full(&self) -> bool {
        self.full || self.nodes.len() >= MAX_NODES
    }

    /// Forgets everything: indices given out before are void.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn prefix(&self, at: Place) -> &str {
        let scope = self.nodes.get(at as usize).map_or(0, |node| node.scope);
        self.scopes.get(scope as usize).map_or("", |scope| &scope.prefix)
    }

    fn add(&mut self, node: Node) -> Place {
        self.nodes.push(node);
        Place::try_from(self.nodes.len() - 1).unwrap_or(Place::MAX)
    }
}

fn quoted(key: &str) -> Box<[u8]> {
    if key.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        return Box::default();
    }
    ["\"", key, "\""].concat().into_bytes().into()
}
