//! A document that is being changed: opened as far as changes reach into it, bytes elsewhere. What
//! no change reaches keeps every byte; arrays that one reaches into get the indexes of their items
//! as names, as the server's array builder gives them.

use std::collections::{HashMap, HashSet};

use backup_core::source::SourceResult;

use crate::mongodb::raw::{Value, close, elements, get, kind, put};

/// A value of a document that is being changed.
enum Node<'a> {
    Bytes(Value<'a>),
    Document(Vec<Field<'a>>),
    Array(Vec<Self>),
}

type Field<'a> = (&'a [u8], Node<'a>);

const NULL: Node<'static> = Node::Bytes(Value { kind: kind::NULL, bytes: &[] });

/// Longest gap that an update can open in an array (the server's limit).
const PADDING: usize = 1_500_000;

/// A document after a difference of version 2.
pub(super) fn patched(document: &[u8], diff: &[u8]) -> SourceResult<Vec<u8>> {
    let mut fields = fields_of(document)?;
    patch(&mut fields, diff)?;
    Ok(encoded(&fields))
}

/// A document after `$unset` and `$set` of dotted paths.
pub(super) fn modified(document: &[u8], modifier: &[u8]) -> SourceResult<Vec<u8>> {
    let mut fields = fields_of(document)?;
    let section = |name| SourceResult::Ok(get(modifier, name)?.and_then(Value::document));
    if let Some(paths) = section("$unset")? {
        for path in elements(paths) {
            unset(&mut fields, path?.name)?;
        }
    }
    if let Some(paths) = section("$set")? {
        for path in elements(paths) {
            let path = path?;
            set(&mut fields, path.name, path.value)?;
        }
    }
    Ok(encoded(&fields))
}

fn fields_of(document: &[u8]) -> SourceResult<Vec<Field<'_>>> {
    elements(document)
        .map(|element| element.map(|element| (element.name, Node::Bytes(element.value))))
        .collect()
}

fn items_of(array: &[u8]) -> SourceResult<Vec<Node<'_>>> {
    elements(array).map(|element| element.map(|element| Node::Bytes(element.value))).collect()
}

fn encoded(fields: &[Field<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_fields(fields.iter().map(|(name, node)| (*name, node)), &mut out);
    out
}

fn write_fields<'b, 'a: 'b>(
    fields: impl Iterator<Item = (impl AsRef<[u8]>, &'b Node<'a>)>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    for (name, node) in fields {
        match node {
            Node::Bytes(value) => {
                put(out, value.kind, name.as_ref());
                out.extend_from_slice(value.bytes);
            }
            Node::Document(fields) => {
                put(out, kind::DOCUMENT, name.as_ref());
                let fields: Vec<_> = fields.iter().map(|(name, node)| (*name, node)).collect();
                write_boxed(&fields, out);
            }
            Node::Array(items) => {
                put(out, kind::ARRAY, name.as_ref());
                let names: Vec<String> = (0..items.len()).map(|index| index.to_string()).collect();
                let fields: Vec<_> = names.iter().map(String::as_bytes).zip(items).collect();
                write_boxed(&fields, out);
            }
        }
    }
    close(out, start);
}

fn write_boxed(fields: &[(&[u8], &Node<'_>)], out: &mut Vec<u8>) {
    write_fields(fields.iter().copied(), out);
}

impl<'a> Node<'a> {
    /// The fields of a document; `None` if it is none.
    fn document(&mut self) -> SourceResult<Option<&mut Vec<Field<'a>>>> {
        if let Self::Bytes(value) = self
            && let Some(bytes) = value.document()
        {
            *self = Self::Document(fields_of(bytes)?);
        }
        Ok(match self {
            Self::Document(fields) => Some(fields),
            _ => None,
        })
    }

    /// The items of an array; `None` if it is none.
    fn array(&mut self) -> SourceResult<Option<&mut Vec<Self>>> {
        if let Self::Bytes(value) = self
            && let Some(bytes) = value.array()
        {
            *self = Self::Array(items_of(bytes)?);
        }
        Ok(match self {
            Self::Array(items) => Some(items),
            _ => None,
        })
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Bytes(value) if value.kind == kind::NULL)
    }
}

/// A change of a field by a difference.
enum Change<'a> {
    /// Goes; an insertion of that name comes at the end.
    Remove,
    Update(Value<'a>),
    Inside(&'a [u8]),
}

/// Changes every field of a name, as `applyDiffToObject` of the server does.
fn patch<'a>(fields: &mut Vec<Field<'a>>, diff: &'a [u8]) -> SourceResult<()> {
    let mut changes = HashMap::new();
    let mut new = Vec::new();
    for (section, changed) in [("d", false), ("u", true), ("i", false)] {
        let Some(section_of) = get(diff, section)?.and_then(Value::document) else { continue };
        for element in elements(section_of) {
            let element = element?;
            let change = if changed { Change::Update(element.value) } else { Change::Remove };
            changes.insert(element.name, change);
            if section != "d" {
                new.push((element.name, Node::Bytes(element.value)));
            }
        }
    }
    for element in elements(diff) {
        let element = element?;
        if let (Some(name), Some(change)) = (inner(element.name), element.value.document()) {
            changes.insert(name, Change::Inside(change));
        }
    }
    let mut changed = HashSet::new();
    for (name, mut node) in std::mem::take(fields) {
        match changes.get(name) {
            None => {}
            Some(Change::Remove) => continue,
            Some(Change::Update(value)) => {
                node = Node::Bytes(*value);
                changed.insert(name);
            }
            Some(Change::Inside(change)) => patch_value(&mut node, change)?,
        }
        fields.push((name, node));
    }
    fields.extend(new.into_iter().filter(|(name, _)| !changed.contains(name)));
    Ok(())
}

/// The field that a section `s<field>` is about.
fn inner(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(b"s")
}

fn patch_value<'a>(node: &mut Node<'a>, diff: &'a [u8]) -> SourceResult<()> {
    if get(diff, "a")?.and_then(Value::boolean) == Some(true) {
        if let Some(items) = node.array()? {
            return patch_array(items, diff);
        }
    } else if let Some(fields) = node.document()? {
        return patch(fields, diff);
    }
    // A later operation overwrites it: that is what made the difference impossible.
    *node = NULL;
    Ok(())
}

fn patch_array<'a>(items: &mut Vec<Node<'a>>, diff: &'a [u8]) -> SourceResult<()> {
    if let Some(length) = get(diff, "l")?.and_then(Value::index) {
        items.truncate(length);
        _ = length.checked_sub(1).and_then(|last| padded(items, last));
    }
    for element in elements(diff) {
        let element = element?;
        let Some((section, index)) = element.name.split_first() else { continue };
        let Some(item) = index_of(index).and_then(|index| padded(items, index)) else { continue };
        match (section, element.value.document()) {
            (b'u', _) => *item = Node::Bytes(element.value),
            (b's', Some(change)) => patch_value(item, change)?,
            _ => {}
        }
    }
    Ok(())
}

fn index_of(name: &[u8]) -> Option<usize> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// The item at `index`, after as many nulls as are missing.
fn padded<'a, 'b>(items: &'b mut Vec<Node<'a>>, index: usize) -> Option<&'b mut Node<'a>> {
    if index >= items.len() {
        if index - items.len() > PADDING {
            return None;
        }
        items.resize_with(index + 1, || NULL);
    }
    items.get_mut(index)
}

/// The first part of a dotted path and the others.
fn cut(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|byte| *byte == b'.') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

fn find<'a, 'b>(fields: &'b mut [Field<'a>], name: &[u8]) -> Option<&'b mut Node<'a>> {
    fields.iter_mut().find(|(of, _)| *of == name).map(|(_, node)| node)
}

fn unset<'a>(fields: &mut Vec<Field<'a>>, path: &'a [u8]) -> SourceResult<()> {
    let (name, rest) = cut(path);
    match rest {
        None => {
            if let Some(at) = fields.iter().position(|(of, _)| *of == name) {
                fields.remove(at);
            }
            Ok(())
        }
        Some(rest) => match find(fields, name) {
            Some(node) => unset_value(node, rest),
            None => Ok(()),
        },
    }
}

fn unset_value<'a>(node: &mut Node<'a>, path: &'a [u8]) -> SourceResult<()> {
    if let Some(fields) = node.document()? {
        return unset(fields, path);
    }
    let Some(items) = node.array()? else { return Ok(()) };
    let (index, rest) = cut(path);
    match (index_of(index).and_then(|index| items.get_mut(index)), rest) {
        // Items are not removed: the others would move.
        (Some(item), None) => *item = NULL,
        (Some(item), Some(rest)) => unset_value(item, rest)?,
        (None, _) => {}
    }
    Ok(())
}

fn set<'a>(fields: &mut Vec<Field<'a>>, path: &'a [u8], new: Value<'a>) -> SourceResult<()> {
    let (name, rest) = cut(path);
    let node = match fields.iter().position(|(of, _)| *of == name) {
        Some(at) => &mut fields[at].1,
        None => {
            fields.push((name, Node::Document(Vec::new())));
            let at = fields.len() - 1;
            &mut fields[at].1
        }
    };
    match rest {
        None => *node = Node::Bytes(new),
        Some(rest) => set_value(node, rest, new)?,
    }
    Ok(())
}

fn set_value<'a>(node: &mut Node<'a>, path: &'a [u8], new: Value<'a>) -> SourceResult<()> {
    if let Some(fields) = node.document()? {
        return set(fields, path, new);
    }
    // Anything else is overwritten by a later operation.
    let Some(items) = node.array()? else { return Ok(()) };
    let (index, rest) = cut(path);
    let Some(item) = index_of(index).and_then(|index| padded(items, index)) else { return Ok(()) };
    match rest {
        None => *item = Node::Bytes(new),
        Some(rest) => {
            if item.is_null() {
                *item = Node::Document(Vec::new());
            }
            set_value(item, rest, new)?;
        }
    }
    Ok(())
}
