//! What was decided, written to the audit log.

use super::Authority;
use crate::audit::{Decided, Entry, Who};
use crate::context::Context;
use crate::service::StsRecord;
use iam::keys::Key;
use iam::policy::{Decision, Denial};

impl Authority {
    /// Writes down that somebody was not believed.
    pub(crate) async fn refused(&self, context: &Context, code: &str) {
        if !self.audit.wants(Decided::Deny, true) {
            return;
        }
        let entry = Entry {
            reason: code,
            ..self.entry(context, Decided::Deny)
        };
        self.audit.write(&entry).await;
    }

    /// Writes down what became of a call of STS: each decision, and a refusal that no policy is the reason of.
    pub(crate) async fn record_sts(&self, context: &Context, key: Option<&Key>, record: &StsRecord) {
        let last = record.judged.last();
        let issued = record.issued.as_deref();
        let about = |decided| Entry {
            principal: match key {
                Some(key) => Some(Who::from(&**key.principal())),
                None => record.federated.as_deref().map(Who::from),
            },
            action: record.action,
            resource: record.role.as_deref(),
            ..self.entry(context, decided)
        };
        for judged in &record.judged {
            let decided = Decided::of(&judged.decision);
            if self.audit.wants(decided, false) {
                let action = Some(judged.action);
                let entry = Entry {
                    action,
                    issued: issued.filter(|_| action == record.action),
                    ..about(decided)
                };
                self.record(entry, &judged.decision).await;
            }
        }
        let (decided, reason) = match record.refusal {
            Some(_) if last.is_some_and(|last| !last.decision.is_allowed()) => return,
            Some(code) => (Decided::Deny, code),
            None if last.is_some() => return,
            None => (Decided::Allow, "needs no permission"),
        };
        if self.audit.wants(decided, false) {
            let entry = Entry {
                reason,
                issued,
                ..about(decided)
            };
            self.audit.write(&entry).await;
        }
    }

    /// A line about nobody and nothing.
    pub(super) fn entry<'a>(&self, context: &'a Context, decision: Decided) -> Entry<'a> {
        Entry {
            time: self.clock.now(),
            request_id: context.request_id,
            source_ip: context.origin.address,
            principal: None,
            operation: context.metrics.name,
            action: None,
            resource: None,
            decision,
            reason: "",
            policy: None,
            statement: None,
            issued: None,
        }
    }

    /// Writes down what policies decided.
    pub(super) async fn record(&self, entry: Entry<'_>, decision: &Decision) {
        let deciding = match decision {
            Decision::Allowed(grant) => grant.identity.as_ref().or(grant.resource.as_ref()),
            Decision::Denied(Denial::Explicit { by, .. }) => Some(by),
            Decision::Denied(Denial::Implicit { .. }) => None,
        };
        let statement = deciding.map(|by| by.sid.as_deref().map_or_else(|| by.index.to_string(), str::to_owned));
        let entry = Entry {
            reason: &decision.to_string(),
            policy: deciding.map(|by| &*by.policy),
            statement: statement.as_deref(),
            ..entry
        };
        self.audit.write(&entry).await;
    }
}
