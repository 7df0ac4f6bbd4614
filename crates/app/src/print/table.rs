//! Tables, ages and sizes for people.

use jiff::Timestamp;
use serde_json::Value;

/// The longest text in a column that is not for pasting.
const SHORT: usize = 40;

/// Rows of cells, aligned when they are printed.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which end at the same place.
    right: Vec<usize>,
}

impl Table {
    pub(crate) fn new(head: &[&str], right: &[usize]) -> Self {
        Self {
            rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()],
            right: right.to_vec(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The table as text, each row a line.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if self.right.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A duration in its largest unit: `42s`, `5m`, `3h`, `9d`.
pub(crate) fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// How long ago a member's time is; nothing if it has none.
pub(crate) fn age(document: &Value, pointer: &str, now: Timestamp) -> String {
    match time(document, pointer) {
        Some(at) => duration(now.as_second() - at.as_second()),
        None => String::new(),
    }
}

/// A member's time, with how far away it is.
pub(crate) fn moment(document: &Value, pointer: &str, now: Timestamp) -> String {
    let Some(at) = time(document, pointer) else {
        return String::new();
    };
    let away = at.as_second() - now.as_second();
    if away > 0 {
        format!("{at:.0} (in {})", duration(away))
    } else {
        format!("{at:.0} ({} ago)", duration(-away))
    }
}

fn time(document: &Value, pointer: &str) -> Option<Timestamp> {
    document.pointer(pointer)?.as_str()?.parse().ok()
}

/// A text that is cut where it is long.
pub(crate) fn short(text: &str) -> String {
    if text.chars().count() <= SHORT {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(SHORT - 1).collect();
    cut.push('…');
    cut
}

/// A number of bytes: `17 B`, `1.5 kB`, `2.0 GB`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(crate) fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" {
                format!("{number} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A member that is a number of bytes.
pub(crate) fn bytes_of(document: &Value, pointer: &str) -> String {
    bytes(document.pointer(pointer).and_then(Value::as_u64).unwrap_or_default())
}

/// A member that is a number with a fraction.
pub(crate) fn decimal(document: &Value, pointer: &str) -> String {
    let number = document.pointer(pointer).and_then(Value::as_f64).unwrap_or_default();
    format!("{number:.2}")
}
