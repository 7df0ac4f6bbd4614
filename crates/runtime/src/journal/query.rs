//! Reading what is kept: ended sessions, the newest first, and usage. What is not written yet is read as if it were.

use super::documents::session_key;
use super::{DayUsage, Journal, Shared};
use crate::session::report::Report;
use domain::Error;
use domain::id::SessionId;
use jiff::civil::Date;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::timeout;

/// Records read at a time.
const PAGE: usize = 200;
/// Records looked at for one page of a list; a filter that fits few must not read all of a long history at once.
const MOST_LOOKED_AT: usize = 2000;
/// How long a question about usage waits for what is not written yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// A part of the list of ended sessions.
#[derive(Debug, Default)]
pub struct Page {
    /// The reports, the newest first. May be empty although more follow.
    pub reports: Vec<Report>,
    /// Behind which key the list goes on, unless this is its end.
    pub after: Option<String>,
}

impl Journal {
    /// The last end of each session of this id that fits: the same id may have lived on several runtimes and endpoints.
    /// With `only_one`, the first that is found: the one that ended last.
    pub(crate) async fn find(
        &self,
        session: &SessionId,
        fits: &(dyn Fn(&Report) -> bool + Sync),
        only_one: bool,
    ) -> Result<Vec<Report>, Error> {
        let fits = |report: &Report| report.session_id == *session && fits(report);
        let (mut found, mut seen): (Vec<Report>, HashSet<(String, String)>) = Default::default();
        let mut after = None;
        loop {
            let page = self.list(&fits, after.as_deref(), PAGE).await?;
            for report in page.reports {
                if seen.insert((report.agent_runtime_arn.0.clone(), report.endpoint.to_string())) {
                    found.push(report);
                }
            }
            after = page.after;
            if only_one && !found.is_empty() {
                found.truncate(1);
                return Ok(found);
            }
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// At most `limit` ended sessions that fit, behind a key that an earlier page answered; stable whatever ends
    /// meanwhile.
    pub(crate) async fn list(
        &self,
        fits: &(dyn Fn(&Report) -> bool + Sync),
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Error> {
        let mut page = Page::default();
        let Some(shared) = self.shared() else { return Ok(page) };
        let mut cursor = after.map(str::to_owned);
        // Before storage is read: what is written in between is then seen twice and taken once, instead of never.
        let unwritten = shared.unwritten(after);
        for (key, report) in unwritten {
            if page.reports.len() == limit {
                page.after = cursor;
                return Ok(page);
            }
            cursor = Some(key);
            page.reports.extend(Some(report).filter(|report| fits(report)));
        }
        let mut looked_at = 0;
        loop {
            let rows = shared.documents.sessions(cursor.as_deref(), PAGE).await?;
            let last = rows.len() < PAGE;
            for (key, report) in rows {
                if page.reports.len() == limit {
                    page.after = cursor;
                    return Ok(page);
                }
                cursor = Some(key);
                page.reports.extend(report.filter(|report| fits(report)));
                looked_at += 1;
            }
            if last {
                return Ok(page);
            }
            if looked_at >= MOST_LOOKED_AT {
                page.after = cursor;
                return Ok(page);
            }
        }
    }

    /// What runtimes whose ids fit used from one day to another, both included, in order of days.
    pub(crate) async fn usage(
        &self,
        fits: &(dyn Fn(&str) -> bool + Sync),
        from: Date,
        to: Date,
    ) -> Result<Vec<DayUsage>, Error> {
        let Some(shared) = self.shared() else {
            return Ok(Vec::new());
        };
        let _ = timeout(PATIENCE, self.flush()).await;
        let mut usage = shared.documents.usage(from, to).await?;
        usage.retain(|day| fits(day.agent_runtime_arn.runtime_id()));
        Ok(usage)
    }
}

impl Shared {
    /// Ended sessions that are not written yet, behind a key, the newest first.
    fn unwritten(&self, after: Option<&str>) -> Vec<(String, Report)> {
        let pending = self.pending();
        let all = pending
            .newest()
            .map(|ended| (session_key(ended.number), Report::clone(&ended.report)));
        all.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .collect()
    }
}
