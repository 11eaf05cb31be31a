//! Directories as text: a repair leaves out or redirects single nodes, and keeps every other byte,
//! so that node types and fields of other programs stay.

use std::ops::Range;

/// The text of a directory, cut at its nodes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawTree<'a> {
    before: &'a [u8],
    pub(crate) nodes: Vec<&'a [u8]>,
    after: &'a [u8],
}

impl<'a> RawTree<'a> {
    /// Cuts the text of a directory; `None` if it is no object with one list of nodes.
    pub(crate) fn cut(json: &'a [u8]) -> Option<Self> {
        let mut lists =
            members(json)?.into_iter().filter(|(key, _)| &json[key.clone()] == b"\"nodes\"");
        let (Some((_, list)), None) = (lists.next(), lists.next()) else { return None };
        let (nodes, inside) = items(json, list)?;
        let nodes = nodes.into_iter().map(|node| &json[node]).collect();
        Some(Self { before: &json[..inside.start], nodes, after: &json[inside.end..] })
    }

    /// The directory with these nodes instead.
    pub(crate) fn with_nodes(&self, nodes: &[Vec<u8>]) -> Vec<u8> {
        [self.before, &nodes.join(&b','), self.after].concat()
    }
}

/// The text of a node with another value of a field, both in JSON; `None` if it is no object.
pub(crate) fn with_field(node: &[u8], field: &str, value: &str) -> Option<Vec<u8>> {
    let members = members(node)?;
    let key = format!("\"{field}\"");
    // Of several the last one counts.
    let known = members.iter().rfind(|(name, _)| node[name.clone()] == *key.as_bytes());
    let (place, text) = match (known, members.last()) {
        (Some((_, place)), _) => (place.clone(), value.to_owned()),
        (None, Some((_, last))) => (last.end..last.end, format!(",{key}:{value}")),
        (None, None) => return None,
    };
    Some([&node[..place.start], text.as_bytes(), &node[place.end..]].concat())
}

/// Places of the keys and values of an object.
fn members(json: &[u8]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let mut members = Vec::new();
    let mut at = expect(json, space(json, 0), b'{')?;
    if json.get(space(json, at)) == Some(&b'}') {
        return Some(members);
    }
    loop {
        let key = value(json, space(json, at))?;
        at = expect(json, space(json, key.end), b':')?;
        let value = value(json, space(json, at))?;
        at = space(json, value.end);
        members.push((key, value));
        match json.get(at)? {
            b',' => at += 1,
            b'}' => return Some(members),
            _ => return None,
        }
    }
}

/// Places of the items of a list, and of everything between its brackets.
fn items(json: &[u8], list: Range<usize>) -> Option<(Vec<Range<usize>>, Range<usize>)> {
    let mut items = Vec::new();
    let start = expect(json, list.start, b'[')?;
    let mut at = space(json, start);
    if json.get(at) == Some(&b']') {
        return Some((items, start..at));
    }
    loop {
        let item = value(json, space(json, at))?;
        at = space(json, item.end);
        items.push(item);
        match json.get(at)? {
            b',' => at += 1,
            b']' => return Some((items, start..at)),
            _ => return None,
        }
    }
}

fn space(json: &[u8], at: usize) -> usize {
    let rest = json.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn expect(json: &[u8], at: usize, byte: u8) -> Option<usize> {
    (json.get(at) == Some(&byte)).then_some(at + 1)
}

/// The place of the value that begins at `start`.
fn value(json: &[u8], start: usize) -> Option<Range<usize>> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match json.get(at)? {
            b'"' => at = end_of_text(json, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' if depth > 0 => at += 1,
            b',' | b':' => return None,
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ => {
                let is_inside = |byte: &&u8| !b",:{}[]\" \t\r\n".contains(byte);
                at += json[at..].iter().take_while(is_inside).count();
            }
        }
        if depth == 0 {
            return Some(start..at);
        }
    }
}

/// The place behind the text that begins at `start`.
fn end_of_text(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlobId;

    #[test]
    fn cut_directory_is_put_together_again() {
        for (json, nodes) in [
            (r#"{"nodes":[]}"#, 0),
            ("{\"nodes\":[{\"name\":\"a\"},7]}\n", 2),
            (r#" { "x" : [1,{"nodes":[2]}] , "nodes" : [ {"a":"]}\"\\"} , "t" ] , "y":null } "#, 2),
            (r#"{"nodes":[{"x":1e999,"y":"\ud800"}],"z":{}}"#, 1),
        ] {
            let raw = RawTree::cut(json.as_bytes()).unwrap();
            assert_eq!(raw.nodes.len(), nodes, "{json}");
            let same: Vec<Vec<u8>> = raw.nodes.iter().map(|node| node.to_vec()).collect();
            let again = raw.with_nodes(&same);
            assert_eq!(RawTree::cut(&again).unwrap().nodes, raw.nodes, "{json}");
            let without = raw.with_nodes(&[]);
            assert_eq!(RawTree::cut(&without).unwrap().nodes, [&b""[..]; 0], "{json}");
        }
        for bad in ["", "[]", "{", r#"{"nodes":7}"#, r#"{"nodes":[1"#, r#"{"nodes":[],"nodes":[]}"#]
        {
            assert_eq!(RawTree::cut(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_one_field_is_replaced() {
        let (old, new) = (BlobId::digest(b"old"), BlobId::digest(b"new"));
        let node =
            |id| format!(r#"{{"name":"{old}","a":{{"subtree":7}},"subtree": "{id}","x":[1]}}"#);
        let id = format!("\"{new}\"");
        let replaced = with_field(node(old).as_bytes(), "subtree", &id).unwrap();
        assert_eq!(String::from_utf8(replaced).unwrap(), node(new));
        let added = with_field(br#"{"name":"a" }"#, "size", "5").unwrap();
        assert_eq!(String::from_utf8(added).unwrap(), r#"{"name":"a","size":5 }"#);
        assert_eq!(with_field(b"[]", "size", "5"), None);
    }
}
