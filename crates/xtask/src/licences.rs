//! `cargo xtask licences`: may we ship what we depend on?
//!
//! Reads `deny.toml`, so that users of cargo-deny get the same answer; this task needs nothing to be installed.
//! Every package that any feature of ours on any platform builds counts. That is what `cargo tree` says; Cargo.lock (and
//! with it `cargo metadata`) also names packages that a dependency's switched-off feature would need.

use crate::{step, workspace};
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};
use std::collections::BTreeSet;
use std::process::Stdio;

/// The part of `deny.toml` that is understood here; cargo-deny knows more.
#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Lists every package that breaks the policy, and fails if there is one.
pub(crate) fn run() -> anyhow::Result<()> {
    step::timed("licences", || {
        let path = workspace::root().join("deny.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let policy: Policy = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let packages = packages()?;
        let problems: Vec<String> = packages.iter().filter_map(|package| policy.problem(package)).collect();
        ensure!(
            problems.is_empty(),
            "deny.toml does not allow:\n  {}",
            problems.join("\n  ")
        );
        println!("{} packages, all allowed", packages.len());
        Ok(())
    })
}

impl Policy {
    fn problem(&self, package: &Package) -> Option<String> {
        let Package { name, version, license } = package;
        if let Some(ban) = self.bans.deny.iter().find(|ban| ban.name == *name) {
            return Some(format!("{name} {version}: banned: {}", ban.reason));
        }
        let Some(license) = license else {
            return Some(format!("{name} {version}: names no licence"));
        };
        // Older packages write `MIT/Apache-2.0` for `MIT OR Apache-2.0`.
        match Expression::parse_mode(license, ParseMode::LAX) {
            Err(error) => Some(format!(
                "{name} {version}: licence '{license}' cannot be read: {}",
                error.reason
            )),
            Ok(expression) if expression.evaluate(|required| self.allows(name, required)) => None,
            Ok(_) => Some(format!("{name} {version}: {license}")),
        }
    }

    fn allows(&self, name: &str, required: &LicenseReq) -> bool {
        let required = required.to_string();
        let exceptions = self
            .licenses
            .exceptions
            .iter()
            .filter(|e| e.name == name)
            .flat_map(|e| &e.allow);
        self.licenses
            .allow
            .iter()
            .chain(exceptions)
            .any(|allowed| *allowed == required)
    }
}

fn packages() -> anyhow::Result<BTreeSet<Package>> {
    let output = workspace::cargo()
        .args([
            "tree",
            "--workspace",
            "--all-features",
            "--target",
            "all",
            "--locked",
            "--edges",
            "normal,build,dev",
        ])
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo tree cannot be started")?;
    ensure!(output.status.success(), "cargo tree failed with {}", output.status);
    let text = String::from_utf8(output.stdout).context("the answer of cargo tree cannot be read")?;
    let packages: BTreeSet<Package> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(package)
        .collect::<Result<_, _>>()?;
    ensure!(!packages.is_empty(), "cargo tree named no package");
    Ok(packages)
}

/// `name v1.2.3|MIT`, with a path after the version for ours, and `(*)` at the end when it was named before.
fn package(line: &str) -> anyhow::Result<Package> {
    let parts = line.rsplit_once('|').and_then(|(package, license)| {
        let mut words = package.split(' ');
        Some((words.next()?, words.next()?.strip_prefix('v')?, license))
    });
    let (name, version, license) = parts.with_context(|| format!("cargo tree answered '{line}'"))?;
    let license = license.trim_end_matches("(*)").trim();
    let license = (!license.is_empty()).then(|| license.to_owned());
    Ok(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        license,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"]
        exceptions = [{ crate = "odd", allow = ["Zlib"] }]
        [bans]
        deny = [{ crate = "ring", reason = "one crypto provider" }]
    "#;

    #[test]
    fn lines_of_cargo_tree() {
        let check = |line: &str, license: Option<&str>| {
            let expected = Package {
                name: "a-b".to_owned(),
                version: "1.2.3".to_owned(),
                license: license.map(str::to_owned),
            };
            assert_eq!(package(line).unwrap(), expected, "{line}");
        };
        check("a-b v1.2.3|MIT OR Apache-2.0", Some("MIT OR Apache-2.0"));
        check("a-b v1.2.3 (proc-macro)|MIT/Apache-2.0 (*)", Some("MIT/Apache-2.0"));
        check("a-b v1.2.3 (/some/where)|", None);
        assert!(package("a-b").is_err());
    }

    #[test]
    fn what_is_allowed() {
        let policy: Policy = toml::from_str(POLICY).unwrap();
        let check = |name: &str, license: Option<&str>, expected: Option<&str>| {
            let package = Package {
                name: name.to_owned(),
                version: "1.0.0".to_owned(),
                license: license.map(str::to_owned),
            };
            let problem = policy.problem(&package);
            match expected {
                None => assert_eq!(problem, None),
                Some(said) => assert!(
                    problem.as_ref().is_some_and(|p| p.contains(said)),
                    "{license:?}: {problem:?}"
                ),
            }
        };
        check("a", Some("MIT"), None);
        check("a", Some("MIT/Apache-2.0"), None);
        check("a", Some("GPL-3.0-only OR MIT"), None);
        check("a", Some("ISC AND (Apache-2.0 OR GPL-2.0)"), None);
        check("a", Some("Apache-2.0 WITH LLVM-exception"), None);
        check("odd", Some("Zlib"), None);
        check("a", Some("Zlib"), Some("a 1.0.0: Zlib"));
        check("a", Some("MIT AND GPL-3.0-only"), Some("GPL-3.0-only"));
        check("a", Some("MIT WITH LLVM-exception"), Some("WITH"));
        check("a", Some("Whatever-1.0"), Some("cannot be read"));
        check("a", None, Some("names no licence"));
        check("ring", Some("MIT"), Some("banned: one crypto provider"));
    }

    /// The file that is used, not only one like it: the two bans must stay.
    #[test]
    fn our_policy_bans_a_second_crypto_stack() {
        let text = std::fs::read_to_string(workspace::root().join("deny.toml")).unwrap();
        let policy: Policy = toml::from_str(&text).unwrap();
        for name in ["ring", "openssl-sys"] {
            let license = Some("MIT".to_owned());
            assert!(
                policy
                    .problem(&Package {
                        name: name.to_owned(),
                        version: "1.0.0".to_owned(),
                        license
                    })
                    .is_some()
            );
        }
    }
}
