//! `cargo xtask licences`: may we ship what we depend on?
//!
//! Reads `deny.toml`, so that users of cargo-deny get the same answer; this task needs nothing to be installed.
//! Every package that any feature on any platform can bring in counts.

use crate::{step, workspace};
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

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

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
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
        let metadata: Metadata = workspace::metadata(&["--all-features"])?;
        let problems: Vec<String> = metadata
            .packages
            .iter()
            .filter_map(|package| policy.problem(package))
            .collect();
        ensure!(
            problems.is_empty(),
            "deny.toml does not allow:\n  {}",
            problems.join("\n  ")
        );
        println!("{} packages, all allowed", metadata.packages.len());
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
