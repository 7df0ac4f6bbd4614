//! Laying sources of configuration over each other, remembering which one set what.

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

const PREFIX: &str = "EYOT__";

/// Values from several sources; later ones win.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    merged: Table,
    /// Which source set the value at a dotted path.
    origins: BTreeMap<String, String>,
    /// The text of environment variables that read as something else than a string, by dotted path.
    texts: BTreeMap<String, String>,
}

impl Layers {
    /// Adds a TOML file.
    pub(crate) fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        let table: Table = toml::from_str(&text).with_context(|| format!("{} is not valid TOML", path.display()))?;
        self.merge(table, &path.display().to_string());
        Ok(())
    }

    /// Adds `EYOT__SECTION__KEY=value` variables. A value that reads as TOML is that; anything else is a string.
    pub(crate) fn environment(&mut self, vars: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
        for (name, text) in vars {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
            if path.iter().any(String::is_empty) {
                bail!("the environment variable {name} does not name a key: write {PREFIX}SECTION__KEY");
            }
            let value = scalar(&text);
            if !(value.is_str() || value.is_array() || value.is_table()) {
                self.texts.insert(path.join("."), text);
            }
            self.set(
                &path.iter().map(String::as_str).collect::<Vec<_>>(),
                value,
                &format!("environment variable {name}"),
            );
        }
        Ok(())
    }

    /// Adds one value, such as a command-line flag's.
    pub(crate) fn set(&mut self, path: &[&str], value: Value, origin: &str) {
        let nested = path.iter().rev().fold(value, |inner, key| {
            Value::Table(Table::from_iter([((*key).to_owned(), inner)]))
        });
        if let Value::Table(table) = nested {
            self.merge(table, origin);
        }
    }

    /// Reads the result as `T`; an error names the key and its source.
    pub(crate) fn read<T: DeserializeOwned>(mut self) -> anyhow::Result<T> {
        let mut before: Option<(String, String)> = None;
        loop {
            let error = match serde_path_to_error::deserialize(Value::Table(self.merged.clone())) {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            let path = error.path().to_string();
            let cause = error.into_inner().to_string();
            // A variable has no quotes, so whether `123456789012` is a number or a text only its key can tell.
            match self.texts.remove(&path) {
                Some(text) => {
                    let keys: Vec<&str> = path.split('.').collect();
                    let origin = self.origins.get(&path).cloned().unwrap_or_default();
                    self.set(&keys, Value::String(text), &origin);
                    before = Some((path, cause));
                }
                // What was wrong with the value that was meant says more than that a text will not do either.
                None => match before {
                    Some((same, first)) if same == path => return Err(self.explain(&path, &first)),
                    _ => return Err(self.explain(&path, &cause)),
                },
            }
        }
    }

    fn explain(&self, path: &str, cause: &str) -> anyhow::Error {
        // The reader adds lines of its own about where; the path says it better.
        let cause = cause.trim().lines().next().unwrap_or_default();
        let hint = if cause.contains("unsigned duration") {
            ", such as \"30s\" or \"15m\""
        } else {
            ""
        };
        let set = |(set, _): &(&String, &String)| *set == path || set.starts_with(&format!("{path}."));
        match self.origins.iter().rev().find(set) {
            _ if path == "." => anyhow::anyhow!("configuration: {cause}"),
            Some((_, origin)) => anyhow::anyhow!("configuration key '{path}' (from {origin}): {cause}{hint}"),
            None => anyhow::anyhow!("configuration key '{path}': {cause}{hint}"),
        }
    }

    fn merge(&mut self, table: Table, origin: &str) {
        merge_into(&mut self.merged, table, "", origin, &mut self.origins);
    }
}

fn merge_into(base: &mut Table, over: Table, path: &str, origin: &str, origins: &mut BTreeMap<String, String>) {
    for (key, value) in over {
        let here = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge_into(below, above, &here, origin, origins),
            (None, Value::Table(above)) => {
                let mut fresh = Table::new();
                merge_into(&mut fresh, above, &here, origin, origins);
                base.insert(key, Value::Table(fresh));
            }
            (_, value) => {
                origins.insert(here, origin.to_owned());
                base.insert(key, value);
            }
        }
    }
}

fn scalar(text: &str) -> Value {
    let as_toml = toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| table.remove("v"));
    as_toml.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        name: String,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        count: u32,
        text: String,
    }

    fn vars(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn later_sources_win_key_by_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("eyot.toml");
        std::fs::write(&file, "name = 'file'\n[inner]\ncount = 1\ntext = 'file'\n").unwrap();
        let mut layers = Layers::default();
        layers.file(&file).unwrap();
        layers
            .environment(vars(&[
                ("EYOT__INNER__COUNT", "2"),
                ("UNRELATED", "x"),
                ("EYOT__NAME", "env"),
            ]))
            .unwrap();
        layers.set(&["name"], Value::String("flag".into()), "--name");
        let read: Sample = layers.read().unwrap();
        assert_eq!(
            read,
            Sample {
                name: "flag".into(),
                inner: Inner {
                    count: 2,
                    text: "file".into()
                }
            }
        );
    }

    #[test]
    fn a_variable_of_digits_is_a_text_where_a_text_belongs() {
        let mut layers = Layers::default();
        layers
            .environment(vars(&[("EYOT__NAME", "123456789012"), ("EYOT__INNER__COUNT", "7")]))
            .unwrap();
        let read: Sample = layers.read().unwrap();
        assert_eq!((read.name.as_str(), read.inner.count), ("123456789012", 7));
    }

    #[test]
    fn mistakes_name_the_key_and_the_source() {
        let check = |pairs: &[(&str, &str)], wanted: &[&str]| {
            let mut layers = Layers::default();
            layers.environment(vars(pairs)).unwrap();
            let message = layers.read::<Sample>().unwrap_err().to_string();
            for part in wanted {
                assert!(message.contains(part), "{message} lacks {part}");
            }
        };
        check(
            &[("EYOT__INNER__COUNT", "many")],
            &["inner.count", "EYOT__INNER__COUNT"],
        );
        check(&[("EYOT__INNER__COUNTS", "1")], &["inner.counts", "unknown field"]);
        check(&[("EYOT__NONSENSE", "1")], &["nonsense"]);
        check(
            &[("EYOT__INNER__COUNT", "-1")],
            &["inner.count", "EYOT__INNER__COUNT", "integer `-1`, expected u32"],
        );
        assert!(Layers::default().environment(vars(&[("EYOT__A____B", "1")])).is_err());
    }
}
