//! Proves that `docs/configuration.md` tells the truth: each key, each default, the environment form and the example.
//!
//! The program says itself which keys there are: serde answers a key that does not exist with the list of those that
//! do. Defaults are compared by setting what the page says and looking whether anything changes.
//!
//! Invariant: a key that is added, renamed or given another default without the page is a failing test.

use super::{Config, Layers};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../../../docs/configuration.md");
/// No section has such a key.
const NONSENSE: &str = "no_such_key";
/// How the page writes a part of a section's name that the operator chooses.
const ANY_NAME: &str = "NAME";
/// What a default may be besides a value.
const NO_VALUE: [&str; 3] = ["*none*", "*required*", "*see meaning*"];
/// Without these a section with a name of the operator's is refused.
const REQUIRED: [(&str, &[(&str, &str)]); 2] = [
    (
        "runtime.s3.NAME",
        &[
            ("ENDPOINT", "http://127.0.0.1:9000"),
            ("ACCESS_KEY_ID", "key"),
            ("SECRET_ACCESS_KEY", "secret"),
        ],
    ),
    ("runtime.roles.NAME", &[("ARN", "arn:aws:iam::123456789012:role/agent")]),
];

/// Section (empty: the top level) to its keys, each with its default as the page writes it.
type Sections = BTreeMap<String, BTreeMap<String, String>>;

fn read(variables: Vec<(String, String)>) -> anyhow::Result<Config> {
    let mut layers = Layers::default();
    layers.environment(variables.into_iter())?;
    layers.read()
}

/// `EYOT__SECTION__KEY`, as the page describes it.
fn variable(section: &str, key: &str) -> String {
    let path = [section, key].join(".");
    format!(
        "EYOT__{}",
        path.trim_start_matches('.').replace('.', "__").to_uppercase()
    )
}

/// The sections and keys that the page names.
fn on_the_page() -> Sections {
    let mut sections = Sections::new();
    let mut section = None;
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.strip_prefix("`[").and_then(|rest| rest.strip_suffix("]`"));
            section = name.or((heading == "Top level").then_some("")).map(str::to_owned);
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let (key, rest) = row.split_once("` | ").expect("a row begins with its key");
        let (default, meaning) = rest.split_once(" | ").expect("a default follows the key");
        assert!(meaning.len() > 10, "{key} has no meaning");
        let section = section.clone().expect("a row belongs to a section");
        let before = sections
            .entry(section)
            .or_default()
            .insert(key.to_owned(), default.to_owned());
        assert!(before.is_none(), "{key} is on the page twice");
    }
    sections
}

/// The keys that a section has, if it is one.
fn keys_of(section: &str) -> Option<Vec<String>> {
    let said = read(vec![(variable(section, NONSENSE), "{}".to_owned())])
        .unwrap_err()
        .to_string();
    let (_, listed) = said.split_once(&format!("unknown field `{NONSENSE}`, expected one of "))?;
    Some(
        listed
            .lines()
            .next()?
            .split(", ")
            .map(|key| key.trim_matches('`').to_owned())
            .collect(),
    )
}

/// The sections and keys that the program has.
fn in_the_program() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let mut open = vec![String::new()];
    while let Some(section) = open.pop() {
        let mut keys = BTreeSet::new();
        for key in keys_of(&section).expect("a section names its keys") {
            let below = format!("{section}.{key}").trim_start_matches('.').to_owned();
            let named = format!("{below}.{ANY_NAME}");
            match [below, named].into_iter().find(|name| keys_of(name).is_some()) {
                Some(deeper) => open.push(deeper),
                None => drop(keys.insert(key)),
            }
        }
        if !keys.is_empty() {
            found.insert(section, keys);
        }
    }
    found
}

#[test]
fn the_page_names_every_key_and_no_other() {
    let page: BTreeMap<_, BTreeSet<_>> = on_the_page()
        .into_iter()
        .map(|(section, keys)| (section, keys.into_keys().collect()))
        .collect();
    assert_eq!(
        page,
        in_the_program(),
        "left: docs/configuration.md, right: what the program takes"
    );
}

#[test]
fn every_default_on_the_page_is_the_programs() {
    for (section, keys) in on_the_page() {
        let required = REQUIRED.iter().filter(|(of, _)| *of == section);
        let required = required.flat_map(|(_, keys)| keys.iter());
        let base: Vec<_> = required
            .map(|(key, value)| (variable(&section, key), (*value).to_owned()))
            .collect();
        let untouched = format!("{:?}", read(base.clone()).unwrap());
        for (key, default) in keys {
            if NO_VALUE.contains(&default.as_str()) {
                let unset = default != "*none*" || untouched.contains(&format!("{key}: None"));
                assert!(unset, "[{section}] {key} is set by default");
                continue;
            }
            let value = default.trim_matches('`').to_owned();
            let mut variables = base.clone();
            variables.push((variable(&section, &key), value));
            let set = read(variables).unwrap_or_else(|error| panic!("[{section}] {key}: {error:#}"));
            assert_eq!(
                format!("{set:?}"),
                untouched,
                "[{section}] {key} is not {default} by default"
            );
        }
    }
}

#[test]
fn the_example_is_accepted() {
    let (_, from) = PAGE.split_once("```toml\n").expect("the page has an example");
    let (example, _) = from.split_once("```").expect("the example ends");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eyot.toml");
    std::fs::write(&file, example).unwrap();
    let mut layers = Layers::default();
    layers.file(&file).unwrap();
    let config: Config = layers.read().unwrap();
    assert_eq!(
        (config.region.as_str(), config.server.open_metrics),
        ("eu-west-1", false)
    );
    assert_eq!(config.runtime.session.limits.memory, 4 << 30);
    assert_eq!(config.runtime.s3["packages"].buckets, ["agents"]);
}
