//! The whole tree in memory, before anything is written.
//!
//! Here two entries with one name, a file that is also a directory, and links that lead out are found. The check of
//! links is exact, not lexical: the tree holds every link that the file system will hold.
//!
//! Invariant: in an accepted plan no entry lies below a file or a link.

use super::archive::Entry;
use super::path::{self, MAX_PATH};
use super::{UnpackLimits, refused};
use crate::Error;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_DIR: u32 = 0o040_000;
const TYPE_LINK: u32 = 0o120_000;

/// Links that one resolution may pass, as in the kernel.
const MAX_HOPS: u32 = 40;

/// Path components that the check of all links together may pass. A real package needs a few for each link.
const MAX_STEPS: u32 = 5_000_000;

/// What will be where. Keys sort a directory before what is in it.
pub(super) struct Plan {
    nodes: BTreeMap<String, Node>,
}

/// One thing in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A directory, named or implied.
    Dir,
    /// A regular file.
    File {
        /// Its owner may execute it.
        executable: bool,
    },
    /// A symbolic link, with its target once that has been read.
    Link(Option<String>),
}

impl Plan {
    /// Lays out the entries; with it the path of each, `None` for the root itself.
    pub(super) fn new(entries: &[Entry], limits: &UnpackLimits) -> Result<(Self, Vec<Option<String>>), Error> {
        if entries.is_empty() {
            return Err(Error::Artifact(
                "the code package is an empty archive; pack the agent's files into it, its entry point (such as main.py) among them".to_owned(),
            ));
        }
        let mut plan = Self { nodes: BTreeMap::new() };
        let mut paths = Vec::with_capacity(entries.len());
        for entry in entries {
            let node = kind_of(entry)?;
            let path = path::clean(&entry.name)?;
            if let Some(path) = &path {
                plan.add(path, node, limits)?;
            } else if node != Node::Dir {
                return Err(refused(&entry.shown(), "is a file with a directory's name; pack again"));
            }
            paths.push(path);
        }
        Ok((plan, paths))
    }

    /// Every node, parents first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Notes a link's target. Whether it stays inside is known once all targets are: [`Plan::check_links`].
    pub(super) fn set_target(&mut self, path: &str, target: &[u8]) -> Result<(), Error> {
        let target = std::str::from_utf8(target).map_err(|_| refused(path, "is a link whose target is not UTF-8"))?;
        let bad = target.is_empty() || target.len() > MAX_PATH || target.chars().any(char::is_control);
        if bad {
            return Err(refused(
                path,
                "is a link whose target is empty, too long or has control characters",
            ));
        }
        if target.starts_with('/') {
            let why = format!(
                "is a link to the absolute path {target:?}; only relative links inside the package are allowed"
            );
            return Err(refused(path, why));
        }
        if let Some(Node::Link(slot)) = self.nodes.get_mut(path) {
            *slot = Some(target.to_owned());
        }
        Ok(())
    }

    /// Follows every link to its end through all others.
    pub(super) fn check_links(&self) -> Result<(), Error> {
        let mut steps = MAX_STEPS;
        for (path, node) in &self.nodes {
            if let Node::Link(Some(target)) = node {
                self.follow(path, target, &mut steps)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, node: Node, limits: &UnpackLimits) -> Result<(), Error> {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            match self.nodes.get(parent) {
                Some(Node::Dir) => {}
                Some(_) => {
                    let why =
                        format!("lies in {parent:?}, which is itself a file or a link in the archive; pack again");
                    return Err(refused(path, why));
                }
                None => {
                    self.nodes.insert(parent.to_owned(), Node::Dir);
                }
            }
        }
        match self.nodes.entry(path.to_owned()) {
            Slot::Vacant(slot) => {
                slot.insert(node);
            }
            // Archivers list a directory again when they add to it, and it may have been implied before.
            Slot::Occupied(slot) if node == Node::Dir && *slot.get() == Node::Dir => {}
            Slot::Occupied(_) => {
                return Err(refused(path, "is in the archive twice; pack again, each file once"));
            }
        }
        if self.nodes.len() > limits.entries {
            return Err(Error::Artifact(format!(
                "the code package has more than {} files and directories; leave out what the agent does not need",
                limits.entries
            )));
        }
        Ok(())
    }

    fn follow(&self, path: &str, target: &str, steps: &mut u32) -> Result<(), Error> {
        let mut here = parent(path).to_owned();
        // Components still to walk, the next one last.
        let mut rest: Vec<&str> = target.rsplit('/').collect();
        let mut hops = 0;
        while let Some(component) = rest.pop() {
            *steps = steps
                .checked_sub(1)
                .ok_or_else(|| refused(path, "is one of too many links that lead to links"))?;
            match component {
                "" | "." => continue,
                ".." if here.is_empty() => {
                    let why =
                        format!("is a link to {target:?}, which leads out of the package; remove it or copy the file");
                    return Err(refused(path, why));
                }
                ".." => {
                    let up = parent(&here).len();
                    here.truncate(up);
                    continue;
                }
                name => {
                    if !here.is_empty() {
                        here.push('/');
                    }
                    here.push_str(name);
                }
            }
            if let Some(Node::Link(Some(next))) = self.nodes.get(&here) {
                hops += 1;
                if hops > MAX_HOPS {
                    return Err(refused(path, "is a link in a circle of links; remove it"));
                }
                let up = parent(&here).len();
                here.truncate(up);
                rest.extend(next.rsplit('/'));
            }
        }
        Ok(())
    }
}

/// What an entry is, by its name and by its Unix mode where it has one.
fn kind_of(entry: &Entry) -> Result<Node, Error> {
    let mode = entry.unix_mode.unwrap_or(0);
    let named_dir = entry.name.ends_with(b"/");
    match mode & TYPE_MASK {
        TYPE_LINK if named_dir => Err(refused(&entry.shown(), "is a link with a directory's name; pack again")),
        TYPE_LINK if entry.size > MAX_PATH as u64 => Err(refused(&entry.shown(), "is a link with an overlong target")),
        TYPE_LINK => Ok(Node::Link(None)),
        0 | TYPE_FILE | TYPE_DIR if named_dir || mode & TYPE_MASK == TYPE_DIR => {
            if entry.size == 0 {
                Ok(Node::Dir)
            } else {
                Err(refused(
                    &entry.shown(),
                    "is a directory with content of its own; pack again",
                ))
            }
        }
        0 | TYPE_FILE => Ok(Node::File {
            executable: mode & 0o100 != 0,
        }),
        _ => Err(refused(
            &entry.shown(),
            "is a device, pipe or socket; only files, directories and relative links are allowed",
        )),
    }
}

/// Everything before the last slash; empty for a path in the root.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
