//! A policy as it is kept: read once, in the form that decisions need.
//!
//! Invariant: whatever is in a [`Policy`] has been understood. A document with an unknown key, a repeated key or a
//! value that its place cannot have is refused as a whole.

use super::condition::Condition;
use super::context::NoContext;
use super::glob::Glob;
use super::invalid::{At, Invalid};
use super::lookup::Lookup;
use super::principals::Principals;
use super::template::Pattern;
use super::{json, statement};
use std::sync::Arc;

/// Bytes of a document of any kind, white space and all: what is read at most before anything is counted.
const BYTES: usize = 96 * 1024;

/// What a policy is attached to, which decides what may be in it and how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user or a role: at most 10,240 characters besides white space, what AWS allows a role's own policies (a
    /// user's get 2,048 there, a managed policy 6,144).
    Identity,
    /// A runtime or an endpoint: at most 20,480 characters, as AgentCore's model says.
    Resource,
    /// A role, to say who may take it: at most 4,096 characters besides white space, what AWS grants on request (2,048
    /// without).
    Trust,
    /// One session of a role: at most 2,048 characters, as STS's model says.
    Session,
}

/// A policy.
#[derive(Debug)]
pub struct Policy {
    name: Arc<str>,
    kind: Kind,
    statements: Box<[Statement]>,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Lets.
    Allow,
    /// Keeps from, whatever else lets.
    Deny,
}

/// One statement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sid: Option<Arc<str>>,
    pub(super) effect: Effect,
    /// `None` in kinds that are about whom they are attached to.
    pub(super) principals: Option<Principals>,
    pub(super) actions: Actions,
    /// `None` in kinds that are about what they are attached to.
    pub(super) resources: Option<Resources>,
    pub(super) conditions: Box<[Condition]>,
}

#[derive(Debug)]
pub(super) struct Actions {
    pub(super) inverted: bool,
    /// In lower case.
    pub(super) patterns: Box<[Glob]>,
}

#[derive(Debug)]
pub(super) struct Resources {
    pub(super) inverted: bool,
    pub(super) patterns: Box<[Pattern]>,
}

impl Policy {
    /// Reads a policy, which is then named after its kind.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, Invalid> {
        kind.check_length(text)?;
        let document = json::read(text)?;
        let statements = statement::document(kind, &document)?;
        Ok(Self {
            name: Arc::from(kind.noun()),
            kind,
            statements,
        })
    }

    /// The same policy under a name, which decisions give back.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self { name, ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it is attached to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Checks that a resource-based policy speaks of the resource that it is to be attached to, or of `*`; AWS refuses
    /// others, for they could never take effect.
    pub fn check_is_about(&self, resource: &str) -> Result<(), Invalid> {
        let lookup = Lookup::new(&NoContext);
        for (index, statement) in self.statements.iter().enumerate() {
            let names = |pattern| Pattern::matches(pattern, resource, &lookup) == Some(true);
            let resources = statement.resources.as_ref();
            if resources.is_some_and(|resources| !resources.inverted && !resources.patterns.iter().all(names)) {
                let list = At::ROOT.key("Statement");
                return Err(list
                    .index(index)
                    .key("Resource")
                    .fault("this is another resource", format!("write '{resource}' or '*'")));
            }
        }
        Ok(())
    }

    pub(super) fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

impl Kind {
    /// In the words of AWS's messages.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Identity => "identity-based policy",
            Self::Resource => "resource-based policy",
            Self::Trust => "role trust policy",
            Self::Session => "session policy",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Identity => "identity-based policies",
            Self::Resource => "resource-based policies",
            Self::Trust => "role trust policies",
            Self::Session => "session policies",
        }
    }

    fn check_length(self, text: &str) -> Result<(), Invalid> {
        let (limit, spaces, counted) = match self {
            Self::Identity => (10_240, false, "10,240 characters, white space not counted"),
            Self::Resource => (20_480, true, "20,480 characters"),
            Self::Trust => (4_096, false, "4,096 characters, white space not counted"),
            Self::Session => (2_048, true, "2,048 characters"),
        };
        let fits = text.len() <= BYTES && text.chars().filter(|c| spaces || !c.is_whitespace()).count() <= limit;
        if fits {
            return Ok(());
        }
        Err(At::ROOT.fault(
            "the text is too long",
            format!("write at most {counted}, the limit of {}", self.plural()),
        ))
    }
}

impl Actions {
    /// Whether they hold this action, given in lower case.
    pub(super) fn cover(&self, action: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(action)) != self.inverted
    }
}

impl Resources {
    pub(super) fn cover<'a>(&'a self, resource: &str, lookup: &Lookup<'a>, effect: Effect) -> bool {
        let mut unresolved = false;
        for pattern in &self.patterns {
            match pattern.matches(resource, lookup) {
                Some(true) => return !self.inverted,
                Some(false) => {}
                None => unresolved = true,
            }
        }
        // As with negated conditions: what a missing value leaves open never widens access.
        self.inverted && (!unresolved || effect == Effect::Deny)
    }
}
