//! The plainest stores that could be right: ordered maps.

use crate::records::{Expect, Record, Revision, Write};
use bytes::Bytes;
use std::collections::BTreeMap;

/// One kind of records. A revision that the model cannot know yet (of a write earlier in the same commit) is `None`.
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    records: BTreeMap<String, (Option<Revision>, Bytes)>,
    newest: Revision,
}

impl Model {
    pub(super) fn revision(&self, key: &str) -> Option<Revision> {
        self.records.get(key)?.0
    }

    /// The first write whose condition does not hold, if any.
    pub(super) fn refuses<'a>(&self, writes: &'a [Write]) -> Option<&'a Write> {
        let mut state = self.clone();
        writes.iter().find(|write| {
            let present = state.records.get(&write.key).map(|(revision, _)| *revision);
            let holds = match write.expect {
                Expect::Absent => present.is_none(),
                Expect::Revision(revision) => present == Some(Some(revision)),
                Expect::Anything => true,
            };
            state.apply(write, None);
            !holds
        })
    }

    /// Takes over a commit that was made, and checks its revisions.
    pub(super) fn committed(&mut self, writes: &[Write], revisions: &[Revision]) {
        assert_eq!(writes.len(), revisions.len(), "one revision for each write");
        for (write, revision) in writes.iter().zip(revisions) {
            if write.value.is_some() {
                assert!(
                    *revision > self.newest,
                    "revision {revision} comes after {}",
                    self.newest
                );
                self.newest = *revision;
            } else {
                assert_eq!(*revision, 0, "a deletion has no revision");
            }
            self.apply(write, Some(*revision));
        }
    }

    pub(super) fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Record> {
        let wanted = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let record = |(key, (revision, value)): (&String, &(Option<Revision>, Bytes))| Record {
            kind: kind.to_owned(),
            key: key.clone(),
            revision: revision.expect("no commit is under way"),
            value: value.clone(),
        };
        self.records
            .iter()
            .filter(|(key, _)| wanted(key))
            .take(limit)
            .map(record)
            .collect()
    }

    fn apply(&mut self, write: &Write, revision: Option<Revision>) {
        match &write.value {
            Some(value) => self.records.insert(write.key.clone(), (revision, value.clone())),
            None => self.records.remove(&write.key),
        };
    }
}
