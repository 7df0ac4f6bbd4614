//! Reads one profile of a credentials file, as AWS's command line writes them.
//!
//! ```text
//! [default]
//! aws_access_key_id = AKIA...
//! aws_secret_access_key = ...
//! ```
//!
//! Only keys that stand in the file: a profile that tells how to get some (`role_arn`, `credential_process`, `sso_*`) is
//! refused by name, never guessed at.

use super::Keys;
use crate::artifacts::Secret;
use std::path::Path;

/// The largest file that is read.
const LARGEST: u64 = 1 << 20;
/// What a profile may say instead of keys.
const UNKNOWN: [&str; 5] = [
    "role_arn",
    "source_profile",
    "credential_process",
    "sso_session",
    "web_identity_token_file",
];

/// Reads a profile's keys; the error says what is wrong with the file, and no secret.
pub(super) async fn read(file: &Path, name: &str) -> Result<Keys, String> {
    let cannot = |why: String| format!("the profile '{name}' of {}: {why}", file.display());
    let data = tokio::fs::metadata(file).await.map_err(|e| cannot(e.to_string()))?;
    if data.len() > LARGEST {
        return Err(cannot(format!("the file has more than {LARGEST} bytes")));
    }
    let text = tokio::fs::read_to_string(file)
        .await
        .map_err(|e| cannot(e.to_string()))?;
    parse(&text, name).map_err(cannot)
}

fn parse(text: &str, name: &str) -> Result<Keys, String> {
    let (mut found, mut inside) = (false, false);
    let (mut id, mut secret, mut token) = (None, None, None);
    for (number, line) in text.lines().enumerate() {
        let whole = line.trim();
        if whole.is_empty() || whole.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = whole.strip_prefix('[') {
            let Some((section, _)) = section.split_once(']') else {
                return Err(format!("line {} begins a section that does not end", number + 1));
            };
            inside = section.trim() == name;
            found |= inside;
            continue;
        }
        // A line that is set in belongs to the setting before it, whose value is a block; none of ours is.
        if !inside || line.starts_with([' ', '\t']) {
            continue;
        }
        let Some((key, value)) = whole.split_once('=') else {
            return Err(format!("line {} is neither a section nor a setting", number + 1));
        };
        let (key, value) = (key.trim(), value.trim());
        match key {
            "aws_access_key_id" => id = Some(value.to_owned()),
            "aws_secret_access_key" => secret = Some(Secret::new(value)),
            "aws_session_token" => token = Some(Secret::new(value)),
            _ if UNKNOWN.contains(&key) => {
                return Err(format!(
                    "`{key}` is not understood here: use a profile that has the keys themselves, and `assume_role` in \
                     the server's configuration"
                ));
            }
            _ => {}
        }
    }
    if !found {
        return Err("there is no such section".to_owned());
    }
    match (id, secret) {
        (Some(access_key_id), Some(secret_access_key)) if !access_key_id.is_empty() => Ok(Keys {
            access_key_id,
            secret_access_key,
            session_token: token,
        }),
        _ => Err("it needs aws_access_key_id and aws_secret_access_key".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Result<(&str, &str, Option<&str>), &str>) {
        match (parse(text, "agents"), expected) {
            (Ok(keys), Ok((id, secret, token))) => {
                assert_eq!(
                    (&*keys.access_key_id, keys.secret_access_key.reveal()),
                    (id, secret),
                    "{text}"
                );
                assert_eq!(keys.session_token.as_ref().map(Secret::reveal), token, "{text}");
            }
            (Err(said), Err(expected)) => assert!(said.contains(expected), "{text}: {said}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn a_profile_is_read_as_the_command_line_writes_it() {
        let keys = "aws_access_key_id=AKIA1\naws_secret_access_key = a/b+c=\n";
        check(&format!("[agents]\n{keys}"), Ok(("AKIA1", "a/b+c=", None)));
        check(
            &format!(
                "# mine\n[default]\naws_access_key_id = other\n\n[ agents ] ; x\r\n{keys}aws_session_token=t==\n[z]\naws_session_token=no\n"
            ),
            Ok(("AKIA1", "a/b+c=", Some("t=="))),
        );
        check(
            &format!("[agents]\nregion = eu-west-1\ns3 =\n  max_concurrent_requests = 1\n{keys}"),
            Ok(("AKIA1", "a/b+c=", None)),
        );
        check("", Err("no such section"));
        check(&format!("[default]\n{keys}"), Err("no such section"));
        check(
            "[agents]\naws_access_key_id = AKIA1\n",
            Err("needs aws_access_key_id and"),
        );
        check(
            "[agents]\naws_access_key_id =\naws_secret_access_key = x\n",
            Err("needs aws_access_key_id"),
        );
        check("[agents\n", Err("line 1 begins a section"));
        check("[agents]\nhush hush\n", Err("line 2 is neither"));
        check(
            "[agents]\nrole_arn = arn:aws:iam::1:role/x\n",
            Err("`role_arn` is not understood"),
        );
        check(
            &format!("[agents]\n{keys}credential_process = /bin/x\n"),
            Err("`credential_process`"),
        );
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        let said = read(&file, "agents").await.unwrap_err();
        assert!(said.contains("'agents'") && said.contains("credentials"), "{said}");
        std::fs::write(&file, "x".repeat(2 << 20)).unwrap();
        assert!(read(&file, "agents").await.unwrap_err().contains("more than"));
    }

    proptest! {
        #[test]
        fn no_file_panics_and_no_error_quotes_it(text in "(\\[agents\\]\n)?[a-z_=\\[\\] \t\r\n#;\u{e9}]{0,200}hush") {
            if let Err(said) = parse(&text, "agents") {
                prop_assert!(!said.contains("hush"), "{said}");
            }
        }
    }
}
