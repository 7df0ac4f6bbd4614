//! Holds the crates to the table under `## Crate dependencies` in ARCHITECTURE.md. Only a test: there is no task.
//!
//! Each row is `| crate | may depend on |`. A crate may depend only on crates of rows below its own, so the table cannot
//! allow a circle or a step up; development and build dependencies count like any other.

#![cfg(test)]

use crate::workspace;
use serde::Deserialize;
use std::path::{Path, PathBuf};

const HEADING: &str = "## Crate dependencies";

/// Crates in the order of the rows, each with what it may depend on.
type Table = Vec<(String, Vec<String>)>;

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    /// Only crates of this repository have one.
    path: Option<PathBuf>,
}

#[test]
fn the_crates_depend_as_the_architecture_says() {
    let document = std::fs::read_to_string(workspace::root().join("ARCHITECTURE.md")).unwrap();
    let table = parse(&document).unwrap();
    let metadata: Metadata = workspace::metadata(&["--no-deps"]).unwrap();
    let crates: Table = metadata.packages.iter().map(edges).collect();
    assert_eq!(problems(&table, &crates), Vec::<String>::new());
}

/// What the table says; an error if it is missing or cannot be read.
fn parse(document: &str) -> Result<Table, String> {
    let mut lines = document.lines().skip_while(|line| line.trim() != HEADING);
    lines
        .next()
        .ok_or(format!("ARCHITECTURE.md has no heading '{HEADING}'"))?;
    let rows: Vec<Vec<&str>> = lines
        .take_while(|line| !line.starts_with('#'))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim().trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    match rows.as_slice() {
        [header, rule, rows @ ..]
            if header == &["crate", "may depend on"] && rule.iter().all(|c| c.starts_with("--")) =>
        {
            rows.iter().map(|row| parse_row(row)).collect()
        }
        _ => Err(format!("'{HEADING}' has no table '| crate | may depend on |'")),
    }
}

fn parse_row(row: &[&str]) -> Result<(String, Vec<String>), String> {
    let plain = |name: &str| name.trim().trim_matches('`').to_owned();
    match row {
        [name, allowed] => Ok((
            plain(name),
            allowed.split(',').map(plain).filter(|name| !name.is_empty()).collect(),
        )),
        _ => Err(format!("a row with {} columns: {row:?}", row.len())),
    }
}

/// A crate is named by its folder.
fn edges(package: &Package) -> (String, Vec<String>) {
    let folder = package.manifest_path.parent().expect("a manifest is in a folder");
    let to = package
        .dependencies
        .iter()
        .filter_map(|dependency| dependency.path.as_deref());
    (name(folder), to.map(name).collect())
}

fn name(folder: &Path) -> String {
    folder
        .file_name()
        .expect("a crate's folder has a name")
        .to_string_lossy()
        .into_owned()
}

fn problems(table: &Table, crates: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, (from, allowed)) in table.iter().enumerate() {
        if !crates.iter().any(|(name, _)| name == from) {
            problems.push(format!("the table has {from}, the workspace has not"));
        }
        for to in allowed {
            if !table.iter().skip(index + 1).any(|(below, _)| below == to) {
                problems.push(format!(
                    "the table lets {from} depend on {to}, which is no row below it"
                ));
            }
        }
    }
    for (from, to) in crates {
        match table.iter().filter(|(name, _)| name == from).collect::<Vec<_>>()[..] {
            [(_, allowed)] => problems.extend(
                to.iter()
                    .filter(|to| !allowed.contains(to))
                    .map(|to| format!("{from} must not depend on {to}")),
            ),
            [] => problems.push(format!("the table has no row for {from}")),
            _ => problems.push(format!("the table has more than one row for {from}")),
        }
    }
    problems
}

mod cases {
    use super::*;

    const DOCUMENT: &str = "\
# Architecture
| crate | may depend on |
|---|---|
| other | table |

## Crate dependencies

Down only.

| crate | may depend on |
|---|---|
| app | `storage`, domain |
| storage | domain |
| domain | |

## Next
| crate | may depend on |
";

    fn table(rows: &[(&str, &[&str])]) -> Table {
        rows.iter()
            .map(|(from, to)| ((*from).to_owned(), to.iter().map(|to| (*to).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn the_table_under_the_heading_is_read() {
        let expected = table(&[
            ("app", &["storage", "domain"]),
            ("storage", &["domain"]),
            ("domain", &[]),
        ]);
        assert_eq!(parse(DOCUMENT).unwrap(), expected);
    }

    #[test]
    fn a_missing_or_broken_table_is_an_error() {
        for broken in [
            "",
            "# Architecture\n",
            "## Crate dependencies\n\nnone\n",
            "## Crate dependencies\n## Next\n| crate | may depend on |\n|---|---|\n| a | |\n",
            "## Crate dependencies\n| crate | needs |\n|---|---|\n| a | |\n",
            "## Crate dependencies\n| crate | may depend on |\n|---|---|\n| a | b | c |\n",
        ] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn every_way_to_disagree_is_named() {
        let good = parse(DOCUMENT).unwrap();
        let check = |table: &Table, crates: &[(&str, &[&str])], expected: &[&str]| {
            assert_eq!(problems(table, &self::table(crates)), expected);
        };
        check(&good, &[("app", &["domain"]), ("storage", &[]), ("domain", &[])], &[]);
        check(
            &good,
            &[("app", &[]), ("storage", &["app"]), ("domain", &[])],
            &["storage must not depend on app"],
        );
        check(
            &good,
            &[("app", &[]), ("storage", &[])],
            &["the table has domain, the workspace has not"],
        );
        let more: &[(&str, &[&str])] = &[("app", &[]), ("storage", &[]), ("domain", &[]), ("new", &[])];
        check(&good, more, &["the table has no row for new"]);
        let circle = table(&[("a", &["b"]), ("b", &["a"])]);
        let up = "the table lets b depend on a, which is no row below it";
        check(&circle, &[("a", &["b"]), ("b", &["a"])], &[up]);
        let twice = table(&[("a", &[]), ("a", &[])]);
        check(&twice, &[("a", &[])], &["the table has more than one row for a"]);
    }
}
