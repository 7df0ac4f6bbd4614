//! How an agent's failures are put into words for a caller.

use super::config::write_size;
use sandbox::{Exit, Limits};
use std::fmt::Write;

/// Characters of an agent's own words that an error carries in its detail.
pub(crate) const EXCERPT: usize = 1500;

/// `exited with code 3`, `was killed for its memory limit of 2GiB`.
pub(crate) fn how_it_ended(exit: &Exit, limits: &Limits) -> String {
    match *exit {
        Exit {
            out_of_memory: true, ..
        } => format!("was killed for its memory limit of {}", write_size(limits.memory)),
        Exit {
            signal: Some(signal), ..
        } => format!("was killed by {}", signal_name(signal)),
        Exit { code: Some(code), .. } => format!("exited with code {code}"),
        Exit {
            code: None,
            signal: None,
            ..
        } => "ended".to_owned(),
    }
}

/// At most `max` characters from the end, whole lines if possible, without control characters.
pub(crate) fn tail(text: &str, max: usize) -> String {
    let clean = printable(text);
    let clean = clean.trim();
    let count = clean.chars().count();
    if count <= max {
        return clean.to_owned();
    }
    let cut: String = clean.chars().skip(count - max + 1).collect();
    let whole_lines = cut.split_once('\n').map_or(cut.as_str(), |(_, rest)| rest);
    format!("…{}", if whole_lines.is_empty() { &cut } else { whole_lines })
}

/// At most `max` characters from the start, without control characters.
pub(crate) fn head(text: &str, max: usize) -> String {
    let clean = printable(text);
    let clean = clean.trim();
    if clean.chars().count() <= max {
        return clean.to_owned();
    }
    let mut cut: String = clean.chars().take(max - 1).collect();
    cut.push('…');
    cut
}

/// `3000`, `3000 and 9229`.
pub(crate) fn list_ports(ports: &[u16]) -> String {
    let mut text = String::new();
    for (index, port) in ports.iter().enumerate() {
        let joint = match index {
            0 => "",
            _ if index + 1 == ports.len() => " and ",
            _ => ", ",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{joint}{port}");
    }
    text
}

/// Line ends and tabs stay; escape sequences of colours lose their escape, which makes them harmless.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let limits = (&crate::session::config::SandboxLimits::default()).into();
        let check = |code, signal, out_of_memory, said: &str| {
            assert_eq!(
                how_it_ended(
                    &Exit {
                        code,
                        signal,
                        out_of_memory
                    },
                    &limits
                ),
                said
            );
        };
        check(Some(3), None, false, "exited with code 3");
        check(None, Some(11), false, "was killed by signal 11 (SIGSEGV)");
        check(None, Some(34), false, "was killed by signal 34");
        check(None, Some(9), true, "was killed for its memory limit of 2GiB");
        check(None, None, false, "ended");
    }

    #[test]
    fn excerpts_are_short_and_printable() {
        assert_eq!(tail("  a\x1b[31mb\r\nc\0  ", 500), "a[31mb\nc");
        assert_eq!(tail("first\nsecond\nthird", 10), "…third");
        assert_eq!(tail(&"x".repeat(20), 10).chars().count(), 10);
        assert_eq!(head("abcdef", 4), "abc…");
        assert_eq!(head("äöüß", 4), "äöüß");
        assert_eq!(tail(" \n", 500), "");
    }

    #[test]
    fn ports() {
        assert_eq!(list_ports(&[3000]), "3000");
        assert_eq!(list_ports(&[1, 2, 3]), "1, 2 and 3");
    }
}
