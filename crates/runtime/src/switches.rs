//! What a runtime's owner can switch without a new version: tags of the runtime whose names begin with `eyot:`.
//!
//! AWS's API has no members for what Eyot does beyond it, and a tag is the one thing that every AWS client can set, at
//! creation or later. A change is in force for sessions and calls that begin after it.
//!
//! Invariant: a tag of ours that cannot be understood is refused when it is set. One that is in the records all the same,
//! from before Eyot knew switches or from a newer Eyot, is left out with a warning: it must not keep a runtime from
//! serving.

use domain::Error;
use domain::id::RuntimeId;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the names of our tags begin with.
const PREFIX: &str = "eyot:";
const PAUSE_AFTER: &str = "eyot:pause-after";
const AGENT_ERRORS: &str = "eyot:agent-errors";
const WARM: &str = "eyot:warm";
const NEVER: &str = "never";
/// More is a typing mistake.
const MOST_WARM: usize = 1000;

/// What the owner has switched; nothing where the server's configuration decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// `eyot:pause-after`: when an idle session is paused.
    pub pause_after: Option<PauseAfter>,
    /// `eyot:agent-errors`: whether callers get what the agent said, in `x-eyot-agent-error`.
    pub agent_errors: Option<bool>,
    /// `eyot:warm`: the least number of warm sandboxes of each endpoint.
    pub warm: Option<usize>,
}

/// When an idle session is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseAfter {
    /// `never`.
    Never,
    /// After so long without a call, such as `30s`.
    Idle(Duration),
}

impl Switches {
    /// Reads the tags of a runtime. The error names the tag that is wrong.
    pub fn read(tags: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut switches = Self::default();
        for (name, value) in ours(tags) {
            switches.set(name, value)?;
        }
        Ok(switches)
    }

    /// Reads the tags of a runtime that are in its record, where nobody can be told what is wrong with them.
    pub(crate) fn recorded(runtime: &RuntimeId, tags: &BTreeMap<String, String>) -> Self {
        let mut switches = Self::default();
        for (name, value) in ours(tags) {
            if let Err(error) = switches.set(name, value) {
                tracing::warn!(%runtime, %error, "a tag is not understood and left out");
            }
        }
        switches
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            PAUSE_AFTER => self.pause_after = Some(pause_after(value)?),
            AGENT_ERRORS => self.agent_errors = Some(on_off(value)?),
            WARM => self.warm = Some(warm(value)?),
            _ => {
                let known = format!("{PAUSE_AFTER}, {AGENT_ERRORS} and {WARM}");
                return Err(wrong(name, &format!("is not a switch of Eyot, which knows {known}")));
            }
        }
        Ok(())
    }
}

/// Refuses tags of ours on anything but a runtime.
pub(crate) fn refuse(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    match ours(tags).next() {
        Some((name, _)) => Err(wrong(
            name,
            "is a switch of Eyot, and switches are tags of the runtime: set it on the runtime",
        )),
        None => Ok(()),
    }
}

fn ours(tags: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    tags.range(PREFIX.to_owned()..)
        .take_while(|(name, _)| name.starts_with(PREFIX))
}

fn pause_after(value: &str) -> Result<PauseAfter, Error> {
    if value == NEVER {
        return Ok(PauseAfter::Never);
    }
    value
        .parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .map(PauseAfter::Idle)
        .ok_or_else(|| wrong(PAUSE_AFTER, "must be a duration such as 30s or 5m, or 'never'"))
}

fn on_off(value: &str) -> Result<bool, Error> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(wrong(AGENT_ERRORS, "must be 'on' or 'off'")),
    }
}

fn warm(value: &str) -> Result<usize, Error> {
    let number = value.parse().ok().filter(|number| *number <= MOST_WARM);
    number.ok_or_else(|| wrong(WARM, &format!("must be a number from 0 to {MOST_WARM}")))
}

fn wrong(tag: &str, message: &str) -> Error {
    Error::invalid_field(format!("tags.{tag}"), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tags: &[(&str, &str)]) -> Result<Switches, Error> {
        let tags = tags
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Switches::read(&tags.collect())
    }

    #[test]
    fn tags_of_ours_are_switches_and_others_are_not_looked_at() {
        assert_eq!(
            read(&[("team", "x"), ("eyo", "1"), ("f", "")]).unwrap(),
            Switches::default()
        );
        let all = [
            ("a", "b"),
            ("eyot:agent-errors", "on"),
            ("eyot:pause-after", "1m 30s"),
            ("eyot:warm", "3"),
            ("z", ""),
        ];
        let expected = Switches {
            pause_after: Some(PauseAfter::Idle(Duration::from_secs(90))),
            agent_errors: Some(true),
            warm: Some(3),
        };
        assert_eq!(read(&all).unwrap(), expected);
        assert_eq!(
            read(&[("eyot:pause-after", "never")]).unwrap().pause_after,
            Some(PauseAfter::Never)
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (name, value) in [
            ("eyot:agent-errors", "yes"),
            ("eyot:pause-after", "soon"),
            ("eyot:pause-after", "-3s"),
            ("eyot:warm", "1001"),
            ("eyot:warm", "-1"),
            ("eyot:wram", "1"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.message.contains(name), "{name}={value}: {error}");
        }
    }

    #[test]
    fn what_a_record_holds_is_read_as_far_as_it_is_understood() {
        let tags = [("eyot:new", "1"), ("eyot:warm", "2"), ("eyot:agent-errors", "?")];
        let tags = tags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let read = Switches::recorded(&RuntimeId::parse("a-0123456789").unwrap(), &tags.into());
        let expected = Switches {
            warm: Some(2),
            ..Switches::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn elsewhere_they_are_refused() {
        let tags = |name: &str| BTreeMap::from([(name.to_owned(), "1".to_owned())]);
        assert!(refuse(&tags("eyo")).is_ok());
        let error = refuse(&tags("eyot:warm")).unwrap_err();
        assert!(error.message.contains("tags of the runtime"), "{error}");
    }
}
