//! The journal over records that can fail, hang, lie about an answer, or die.

mod crash;
mod disk;
mod reading;
mod writing;

use super::*;
use crate::memory::Memory;
use disk::{Disk, Mood};
use domain::id::SessionId;
use jiff::Timestamp;
use jiff::civil::Date;
use prometheus_client::registry::Registry;

const A: &str = "a-0123456789";
const B: &str = "b-0123456789";
const NOON: &str = "2026-11-25T12:00:00Z";

/// A journal and what it stands on.
struct Bed {
    memory: Arc<Memory>,
    disk: Arc<Disk>,
    metrics: Arc<Metrics>,
    journal: Journal,
}

impl Bed {
    async fn new(history: usize) -> Self {
        Self::on(Arc::default(), history).await
    }

    /// A further process on what an earlier one left.
    async fn on(memory: Arc<Memory>, history: usize) -> Self {
        let disk = Arc::new(Disk::new(Arc::clone(&memory)));
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let journal = open(Arc::clone(&disk) as Arc<dyn Records>, Arc::clone(&metrics), history).await;
        Self {
            memory,
            disk,
            metrics,
            journal,
        }
    }

    /// How many documents there are of a kind.
    fn count(&self, kind: &str) -> usize {
        self.memory.census().get(kind).copied().unwrap_or(0)
    }

    /// All ended sessions as a list shows them, by the beginnings of their names.
    async fn listed(&self) -> Vec<String> {
        let page = self.journal.list(&|_| true, None, usize::MAX).await.unwrap();
        assert_eq!(page.after, None);
        page.reports.iter().map(name).collect()
    }

    /// All usage of all days.
    async fn totals(&self) -> Totals {
        let mut all = Totals::default();
        for day in self.journal.usage(&|_| true, Date::MIN, Date::MAX).await.unwrap() {
            all.add(&day.totals);
        }
        all
    }
}

async fn open(records: Arc<dyn Records>, metrics: Arc<Metrics>, history: usize) -> Journal {
    let now: Timestamp = NOON.parse().unwrap();
    let parts = Parts {
        records,
        clock: Clock::from_fn(move || now),
        metrics,
        history,
    };
    Journal::open(parts).await.unwrap()
}

fn name(report: &Report) -> String {
    report.session_id.as_str().trim_end_matches('-').to_owned()
}

fn living(name: &str) -> Report {
    Report::sample(name, A).in_sandbox(name)
}
