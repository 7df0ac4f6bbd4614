//! The parameters of a call, read strictly: what is not known is refused, because it may have been meant to narrow down.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::Fault;

/// The parameters of a call.
#[derive(Debug)]
pub(super) struct Parameters<'a>(&'a [(String, String)]);

impl<'a> Parameters<'a> {
    pub(super) fn new(pairs: &'a [(String, String)]) -> Self {
        Self(pairs)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a str, Fault> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| Fault::validation(format!("{name} is required and is not there")))
    }

    pub(super) fn seconds(&self, name: &str) -> Result<Option<Duration>, Fault> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = text
            .parse()
            .map_err(|_| Fault::validation(format!("{name} must be a number of seconds")))?;
        Ok(Some(Duration::from_secs(seconds)))
    }

    /// Checks that there are no others than these; a name with `.` at its end is that of a list.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Fault> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            let is_known = ["Action", "Version"]
                .iter()
                .chain(known)
                .any(|known| match known.strip_suffix('.') {
                    Some(list) => name.strip_prefix(list).is_some_and(|rest| rest.starts_with(".member.")),
                    None => name == known,
                });
            let shown: String = name.chars().take(64).collect();
            if !is_known {
                let text = format!("{shown} is no parameter that this server takes for this action");
                return Err(Fault::validation(text));
            }
            if self.0.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(Fault::validation(format!("{shown} is given more than once")));
            }
        }
        Ok(())
    }

    /// `Tags.member.1.Key`, `Tags.member.1.Value` and so on.
    pub(super) fn tags(&self) -> Result<BTreeMap<String, String>, Fault> {
        let mut tags = BTreeMap::new();
        let (mut found, mut read) = (0, 0);
        found += self
            .0
            .iter()
            .filter(|(name, _)| name.starts_with("Tags.member."))
            .count();
        for number in 1..=iam::sts::MAX_TAGS {
            let part = |part: &str| self.get(&format!("Tags.member.{number}.{part}"));
            let Some(key) = part("Key") else { break };
            let value = part("Value");
            read += 1 + usize::from(value.is_some());
            if tags
                .insert(key.to_owned(), value.unwrap_or_default().to_owned())
                .is_some()
            {
                return Err(Fault::validation("Tags has a key more than once"));
            }
        }
        if found != read {
            let text = format!(
                "Tags must be Tags.member.N.Key and Tags.member.N.Value, N from 1 to {}",
                iam::sts::MAX_TAGS
            );
            return Err(Fault::validation(text));
        }
        Ok(tags)
    }
}
