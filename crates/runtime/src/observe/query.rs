//! Query parameters: read strictly, all complaints at once.

use super::Observer;
use crate::control::own_arn;
use crate::session::report::{Report, State};
use domain::Error;
use domain::arn::ResourceArn;
use domain::error::FieldError;
use domain::id::{EndpointName, RuntimeId, RuntimeName, Version};
use std::fmt::Display;

/// A request's query, as `(name, value)`.
pub(super) type Query = [(String, String)];

const STATES: [(&str, State); 6] = [
    ("PROVISIONING", State::Provisioning),
    ("ACTIVE", State::Active),
    ("IDLE", State::Idle),
    ("PAUSED", State::Paused),
    ("TERMINATING", State::Terminating),
    ("TERMINATED", State::Terminated),
];

/// Which sessions are meant.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) runtime: Option<Runtime>,
    pub(super) endpoint: Option<EndpointName>,
    pub(super) version: Option<Version>,
    pub(super) state: Option<State>,
}

/// A runtime as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Runtime {
    Id(RuntimeId),
    /// All that have or had the name.
    Name(RuntimeName),
}

/// Reads parameters and collects what is wrong with them.
#[derive(Debug)]
pub(super) struct Params<'a> {
    query: &'a Query,
    wrong: Vec<FieldError>,
}

impl<'a> Params<'a> {
    /// Of a request that knows these names.
    pub(super) fn new(query: &'a Query, known: &[&str]) -> Self {
        let mut params = Self {
            query,
            wrong: Vec::new(),
        };
        for (at, (name, _)) in query.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                params.refuse(
                    name,
                    format!("is no parameter of this request; it has {}", known.join(", ")),
                );
            } else if query[..at].iter().any(|(earlier, _)| earlier == name) {
                params.refuse(name, "is given more than once");
            }
        }
        params
    }

    pub(super) fn refuse(&mut self, name: &str, message: impl Display) {
        self.wrong.push(FieldError {
            name: name.to_owned(),
            message: message.to_string(),
        });
    }

    /// A parameter as `read` reads it.
    pub(super) fn read<T, E: Display>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let (_, value) = self.query.iter().find(|(n, _)| n == name)?;
        match read(value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(name, why);
                None
            }
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.read(name, |value| match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false"),
        })
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, name: &str, least: usize, most: usize) -> Option<usize> {
        self.read(name, |value| {
            let number = value.parse().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("must be a number from {least} to {most}"))
        })
    }

    /// What was read is good only if this is.
    pub(super) fn finish(self) -> Result<(), Error> {
        if self.wrong.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid_fields(self.wrong))
        }
    }
}

impl Observer {
    /// Reads `runtime` and `endpoint`, which may also be named by an endpoint's ARN.
    pub(super) fn whose(&self, params: &mut Params<'_>) -> Result<Filter, Error> {
        let mut filter = Filter {
            endpoint: params.read("endpoint", EndpointName::parse),
            ..Filter::default()
        };
        let Some(text) = params.read("runtime", |text| Ok::<_, String>(text.to_owned())) else {
            return Ok(filter);
        };
        if text.starts_with("arn:") {
            match own_arn("runtime", &text, &self.region, &self.account)? {
                ResourceArn::Runtime(arn) => filter.runtime = Some(Runtime::Id(arn.id)),
                ResourceArn::Endpoint(arn) => {
                    if filter
                        .endpoint
                        .as_ref()
                        .is_some_and(|endpoint| *endpoint != arn.endpoint)
                    {
                        params.refuse("endpoint", format!("is not the '{}' that the ARN names", arn.endpoint));
                    }
                    filter.runtime = Some(Runtime::Id(arn.runtime.id));
                    filter.endpoint = Some(arn.endpoint);
                }
            }
        } else if let Ok(id) = RuntimeId::parse(&text) {
            filter.runtime = Some(Runtime::Id(id));
        } else if let Ok(name) = RuntimeName::parse(&text) {
            filter.runtime = Some(Runtime::Name(name));
        } else {
            params.refuse(
                "runtime",
                format!("'{text}' is neither an id, a name nor an ARN of a runtime"),
            );
        }
        Ok(filter)
    }

    /// Reads all that narrows sessions down.
    pub(super) fn filter(&self, params: &mut Params<'_>) -> Result<Filter, Error> {
        let state = params.read("state", |text| {
            let found = STATES.iter().find(|(name, _)| *name == text);
            found.map(|(_, state)| *state).ok_or_else(|| {
                let names = STATES.map(|(name, _)| name).join(", ");
                format!("must be one of {names}")
            })
        });
        Ok(Filter {
            version: params.read("version", Version::parse),
            state,
            ..self.whose(params)?
        })
    }
}

impl Runtime {
    pub(super) fn is(&self, id: &str) -> bool {
        match self {
            Self::Id(wanted) => wanted.as_str() == id,
            // An id is its runtime's name and ten characters of its own.
            Self::Name(name) => id.rsplit_once('-').is_some_and(|(of, _)| of == name.as_str()),
        }
    }
}

impl Filter {
    pub(super) fn fits(&self, report: &Report) -> bool {
        let Self {
            runtime,
            endpoint,
            version,
            state,
        } = self;
        runtime.as_ref().is_none_or(|runtime| runtime.is(report.runtime_id()))
            && endpoint.as_ref().is_none_or(|endpoint| *endpoint == report.endpoint)
            && version.is_none_or(|version| version == report.version)
            && state.is_none_or(|state| state == report.state)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there is at most one session of an id that fits.
    pub(super) fn names_one(&self) -> bool {
        matches!(self.runtime, Some(Runtime::Id(_))) && self.endpoint.is_some()
    }

    /// The filter as one text, the same for the same filter: a token of one list must not continue another.
    pub(super) fn text(&self) -> String {
        format!("{self:?}")
    }
}
