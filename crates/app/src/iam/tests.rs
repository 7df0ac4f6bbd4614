//! What is asked of the server, and what people see. The commands against a real server are in `tests/test_iam.py`.

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Result<Args, clap::Error> {
    let words = std::iter::once("iam").chain(line.split_whitespace());
    Line::try_parse_from(words).map(|line| line.args)
}

#[test]
fn commands_need_to_know_whose_and_what() {
    for good in [
        "whoami",
        "users list",
        "users create alice",
        "keys create --user alice",
        "keys rotate AKIA --user alice --output json",
        "roles create agent --trust-policy trust.json --max-session 7200",
        "policies put --role agent invoke policy.json",
        "policies list --user alice --account 123456789012",
        "revoke ASIA",
        "revoke --role arn --session name",
    ] {
        assert!(parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "users create",
        "keys create",
        "keys delete --user alice",
        "roles create agent",
        "policies list",
        "policies list --user a --role b",
        "policies put --role agent invoke",
        "revoke",
        "revoke --role arn",
        "revoke ASIA --role arn --session name",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_are_parts_of_a_path_and_nothing_more() {
    let iam = Iam {
        client: Client::new(Connection {
            control_url: String::new(),
            data_url: String::new(),
            region: String::new(),
            access_key_id: String::new(),
            secret: String::new(),
            session_token: None,
        }),
        account: Some("999999999999".to_owned()),
        output: Output::Table,
    };
    assert_eq!(
        iam.target(&["users", "a/../b?c", "keys"], &[]),
        "/_eyot/iam/users/a%2F..%2Fb%3Fc/keys?accountId=999999999999"
    );
}

#[test]
fn lists_are_joined_for_people() {
    let document = json!({"policies": ["a", "b"], "none": [], "one": "x", "n": 7});
    for (pointer, text) in [
        ("/policies", "a, b"),
        ("/none", ""),
        ("/one", "x"),
        ("/n", "7"),
        ("/missing", ""),
    ] {
        assert_eq!(joined(&document, pointer), text);
    }
}
