//! `GET usage`.

use super::query::{Params, Query};
use super::{Observer, json};
use crate::journal::{DayUsage, Totals};
use domain::Error;
use front_door::service::OwnReply;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

/// Days that are answered unless the caller says which.
const USUAL_DAYS: i32 = 30;
/// As long as usage is kept.
const MOST_DAYS: i32 = 400;

#[derive(Serialize)]
struct Answer {
    from: Date,
    to: Date,
    usage: Vec<DayUsage>,
    total: Totals,
}

impl Observer {
    pub(super) async fn usage(&self, query: &Query) -> Result<OwnReply, Error> {
        let mut params = Params::new(query, &["runtime", "from", "to"]);
        let day = |text: &str| text.parse::<Date>().map_err(|_| "must be a day such as 2026-11-25");
        let from = params.read("from", day);
        let to = params.read("to", day);
        let runtime = self.whose(&mut params)?.runtime;
        let today = TimeZone::UTC.to_datetime(self.clock.now()).date();
        let to = to.unwrap_or(today);
        let from = from.unwrap_or_else(|| to.saturating_sub((USUAL_DAYS - 1).days()));
        if from > to {
            params.refuse("from", format!("must not be after {to}"));
        } else if to.saturating_sub(MOST_DAYS.days()) > from {
            params.refuse("from", format!("must be at most {MOST_DAYS} days before {to}"));
        }
        params.finish()?;
        let fits = |id: &str| runtime.as_ref().is_none_or(|runtime| runtime.is(id));
        let usage = self.journal.usage(&fits, from, to).await?;
        let mut total = Totals::default();
        usage.iter().for_each(|day| total.add(&day.totals));
        json(&Answer { from, to, usage, total })
    }
}
