//! The operations of the model as one tree per method, walked segment by segment on the raw path.
//!
//! A literal segment wins over a label. A label takes one segment; only one that begins an ARN may take more, because
//! some clients write an ARN into the path with its slashes as they are. What an ARN takes beyond its first segment is
//! whole pairs of kind and id (`runtime/NAME`, `runtime/NAME/runtime-endpoint/EP`), so that no verb behind it is
//! swallowed. The shortest label that leads to a route wins.

/// More segments than any route with a raw ARN has.
const MAX_SEGMENTS: usize = 24;
/// More labels than any template has; checked when the table is built.
pub(crate) const MAX_LABELS: usize = 6;

/// Routes of one method. `L` is what a route leads to.
#[derive(Debug)]
pub(crate) struct Tree<L> {
    nodes: Vec<Node<L>>,
}

#[derive(Debug)]
struct Node<L> {
    /// Sorted: a few comparisons find a segment sooner than its hash is made.
    literals: Vec<(&'static str, usize)>,
    label: Option<usize>,
    leaf: Option<L>,
}

/// The raw texts of a match's labels, in the template's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawLabels<'p> {
    texts: [&'p str; MAX_LABELS],
    count: usize,
}

impl<'p> RawLabels<'p> {
    /// In the template's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'p str> + '_ {
        self.texts.iter().take(self.count).copied()
    }
}

impl<L> Tree<L> {
    /// No routes.
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::new()],
        }
    }

    /// Adds a template such as `/runtimes/{agentRuntimeId}/versions/`. The first of two equal templates stays.
    pub(crate) fn add(&mut self, template: &'static str, leaf: L) {
        let mut at = 0;
        for segment in trim(template).split('/').filter(|segment| !segment.is_empty()) {
            at = if label_name(segment).is_some() {
                match self.nodes[at].label {
                    Some(next) => next,
                    None => {
                        let next = self.push();
                        self.nodes[at].label = Some(next);
                        next
                    }
                }
            } else {
                match self.nodes[at].literal(segment) {
                    Ok(next) => next,
                    Err(place) => {
                        let next = self.push();
                        self.nodes[at].literals.insert(place, (segment, next));
                        next
                    }
                }
            };
        }
        self.nodes[at].leaf.get_or_insert(leaf);
    }

    /// The route of a raw path. One trailing slash more or less makes no difference; empty segments are segments.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Option<(&L, RawLabels<'p>)> {
        let path = trim(path);
        let mut segments = [(0, 0); MAX_SEGMENTS];
        let mut count = 0;
        let mut start = 0;
        let slashes = path.bytes().enumerate().filter(|&(_, byte)| byte == b'/');
        for end in slashes.map(|(at, _)| at).chain([path.len()]) {
            *segments.get_mut(count)? = (start, end);
            start = end + 1;
            count += 1;
        }
        let mut labels = RawLabels {
            texts: [""; MAX_LABELS],
            count: 0,
        };
        let leaf = self.walk(0, path, segments.get(..count)?, &mut labels)?;
        Some((leaf, labels))
    }

    fn walk<'p>(
        &self,
        at: usize,
        path: &'p str,
        segments: &[(usize, usize)],
        labels: &mut RawLabels<'p>,
    ) -> Option<&L> {
        let node = &self.nodes[at];
        let Some((&(start, end), rest)) = segments.split_first() else {
            return node.leaf.as_ref();
        };
        if let Ok(next) = node.literal(&path[start..end])
            && let Some(leaf) = self.walk(next, path, rest, labels)
        {
            return Some(leaf);
        }
        let next = node.label?;
        if start == end {
            return None;
        }
        let first = &path[start..end];
        let longest = if begins_arn(first) { segments.len() } else { 1 };
        let parts = 1 + encoded_slashes(first);
        let depth = labels.count;
        segments.iter().take(longest).enumerate().find_map(|(more, &(_, end))| {
            if more > 0 && !(parts + more).is_multiple_of(2) {
                return None;
            }
            *labels.texts.get_mut(depth)? = &path[start..end];
            labels.count = depth + 1;
            let found = self.walk(next, path, &segments[more + 1..], labels);
            if found.is_none() {
                labels.count = depth;
            }
            found
        })
    }

    fn push(&mut self) -> usize {
        self.nodes.push(Node::new());
        self.nodes.len() - 1
    }
}

impl<L> Node<L> {
    fn new() -> Self {
        Self {
            literals: Vec::new(),
            label: None,
            leaf: None,
        }
    }

    /// Where a literal leads, or the place among the others that it would have.
    fn literal(&self, segment: &str) -> Result<usize, usize> {
        let found = self
            .literals
            .binary_search_by(|(literal, _)| (**literal).cmp(segment))?;
        Ok(self.literals[found].1)
    }
}

/// The names of a template's labels, in order.
pub(crate) fn label_names(template: &'static str) -> Vec<&'static str> {
    trim(template).split('/').filter_map(label_name).collect()
}

fn label_name(segment: &str) -> Option<&str> {
    segment
        .strip_prefix('{')?
        .strip_suffix('}')
        .map(|name| name.trim_end_matches('+'))
}

/// Without the leading slash and without one trailing slash.
fn trim(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path)
}

/// `arn:`, its colon perhaps percent-encoded.
fn begins_arn(segment: &str) -> bool {
    segment
        .strip_prefix("arn")
        .is_some_and(|rest| rest.starts_with(':') || rest.starts_with("%3A") || rest.starts_with("%3a"))
}

fn encoded_slashes(segment: &str) -> usize {
    let is_slash = |three: &&[u8]| matches!(three, [b'%', b'2', b'F' | b'f']);
    segment.as_bytes().windows(3).filter(is_slash).count()
}
