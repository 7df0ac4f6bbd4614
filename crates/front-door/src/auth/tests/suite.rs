//! AWS's signing cases, as they ship inside the `aws-sigv4` crate.

use super::{Check, Payload, Refusal, key, parts, verifier, verify};
use crate::auth::authorization;
use crate::auth::canonical::Form;
use http::request::Parts;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Cases whose files are not one consistent signed request, with the reason. What can be checked of them is.
const NOT_WHOLE: &[(&str, &str)] = &[
    (
        "double-encode-path",
        "no string to sign and no secret; its two dates differ",
    ),
    ("double-url-encode", "no context, so no secret"),
    ("get-space-normalized", "a space in the request line is not HTTP"),
    ("get-space-unnormalized", "a space in the request line is not HTTP"),
];

struct Case {
    name: String,
    folder: PathBuf,
}

impl Case {
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_else(|e| panic!("{}/{file}: {e}", self.name))
    }
}

/// The cases, wherever this machine keeps the dev-dependency.
///
/// Asks cargo about a package that depends on nothing else: asking about this workspace would download all of it.
fn cases() -> Vec<Case> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let lock = fs::read_to_string(workspace.join("Cargo.lock")).unwrap();
    let entry = lock
        .split("[[package]]")
        .find(|entry| entry.contains("\"aws-sigv4\"\nversion"))
        .expect("in the lock");
    let version = entry.split('"').nth(3).expect("name, then version");
    let asking = tempfile::tempdir().unwrap();
    let manifest = asking.path().join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"asking\"\nedition = \"2024\"\n[workspace]\n[lib]\npath = \"Cargo.toml\"\n[dependencies]\n\
        aws-sigv4 = {{ version = \"={version}\", default-features = false, features = [\"sign-http\", \"http1\"] }}\n"
    );
    fs::write(&manifest, text).unwrap();
    fs::write(asking.path().join("Cargo.lock"), &lock).unwrap();

    let run = |program: &str, args: &[&OsStr]| {
        let program = std::env::var(program).unwrap_or_else(|_| program.to_lowercase());
        let done = Command::new(&program)
            .args(args)
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(
            done.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    };
    let rustc = run("RUSTC", &["-vV".as_ref()]);
    let host = rustc
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc says its host");
    let wanted = [
        "metadata",
        "--format-version=1",
        "--offline",
        "--filter-platform",
        host,
        "--manifest-path",
    ];
    let wanted: Vec<&OsStr> = wanted.iter().map(OsStr::new).chain([manifest.as_os_str()]).collect();
    let metadata: Value = serde_json::from_str(&run("CARGO", &wanted)).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let signer = packages
        .iter()
        .find(|package| package["name"] == "aws-sigv4")
        .expect("a dev-dependency");
    let manifest = PathBuf::from(signer["manifest_path"].as_str().unwrap());
    let folder = manifest.parent().unwrap().join("aws-signing-test-suite/v4");
    let mut cases: Vec<Case> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap())
        .map(|entry| Case {
            name: entry.file_name().into_string().unwrap(),
            folder: entry.path(),
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// Reads a request as a server would; a folded header is unfolded as RFC 9112, 5.2 says.
fn read_request(text: &str) -> Result<(Parts, &str), http::Error> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let head = head.replace("\n ", "  ");
    let mut lines = head.lines();
    let line = lines.next().unwrap();
    let (method, target) = line.split_once(' ').unwrap();
    let target = target.strip_suffix(" HTTP/1.1").unwrap_or(target);
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}")))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Ok((parts(method, target, &headers)?, body))
}

fn canonical_forms(parts: &Parts, payload: &str) -> Vec<String> {
    let header = parts.headers["authorization"].as_bytes();
    let signed = authorization::parse(header).unwrap().signed_headers;
    let forms = std::iter::once(Form::usual(parts)).chain(Form::others(parts, signed));
    let write = |form: Form<'_>| {
        let mut text = Vec::new();
        form.write(parts, signed, payload.as_bytes(), &mut text);
        String::from_utf8(text).unwrap()
    };
    forms.map(write).collect()
}

#[test]
fn every_whole_case_verifies_and_only_with_its_own_key_time_and_scope() {
    let cases = cases();
    assert!(cases.len() >= 38, "only {} cases found", cases.len());
    for (name, _) in NOT_WHOLE {
        assert!(
            cases.iter().any(|case| case.name == *name),
            "{name} is gone: shorten the table"
        );
    }
    let mut verified = 0;
    for case in cases
        .iter()
        .filter(|case| NOT_WHOLE.iter().all(|(name, _)| *name != case.name))
    {
        let signed = case.read("header-signed-request.txt");
        let (parts, body) = read_request(&signed).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let context: Value = serde_json::from_str(&case.read("context.json")).unwrap();
        let credentials = &context["credentials"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let own = key(
            &text(&credentials["access_key_id"]),
            &text(&credentials["secret_access_key"]),
            credentials["token"].as_str(),
        );
        let check = |own: &crate::auth::AccessKey, region: &str, service: &str, time: &str| {
            verify(&verifier(own.clone(), region, service, time), &parts, body.as_bytes())
        };
        let (region, service, time) = (
            text(&context["region"]),
            text(&context["service"]),
            text(&context["timestamp"]),
        );
        let caller = check(&own, &region, &service, &time).unwrap_or_else(|refusal| {
            let expected = case.read("header-canonical-request.txt");
            let payload = expected.lines().last().unwrap();
            panic!(
                "{}: {refusal}\nexpected {expected}\nmade {:#?}",
                case.name,
                canonical_forms(&parts, payload)
            )
        });
        assert_eq!(caller.access_key_id, own.id, "{}", case.name);

        let mut other = own.clone();
        other.secret.push('x');
        assert_eq!(
            check(&other, &region, &service, &time),
            Err(Refusal::SignatureDoesNotMatch),
            "{}",
            case.name
        );
        assert!(
            matches!(
                check(&own, "eu-west-1", &service, &time),
                Err(Refusal::ScopeRegion { .. })
            ),
            "{}",
            case.name
        );
        assert!(
            matches!(check(&own, &region, "other", &time), Err(Refusal::ScopeService { .. })),
            "{}",
            case.name
        );
        assert!(matches!(
            check(&own, &region, &service, "2015-08-30T12:41:01Z"),
            Err(Refusal::Expired { .. })
        ));
        verified += 1;
    }
    assert!(verified >= 34, "only {verified} cases were whole");
}

#[test]
fn the_canonical_request_of_every_case_is_among_ours() {
    for case in cases() {
        let expected = case.read("header-canonical-request.txt");
        let payload = expected.lines().last().unwrap();
        let sent = case.read("header-signed-request.txt");
        if sent.lines().next().is_some_and(|line| line.matches(' ').count() > 2) {
            // Cannot arrive over HTTP; `canonical` tests what would be made of such a path.
            assert!(
                read_request(&sent).is_err() && case.name.starts_with("get-space"),
                "{}",
                case.name
            );
            continue;
        }
        let (mut parts, _) = read_request(&sent).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        if case.name == "double-encode-path" {
            parts.headers.insert("x-amz-date", "20210511T154045Z".parse().unwrap());
        }
        let forms = canonical_forms(&parts, payload);
        assert!(
            forms.contains(&expected.trim_end().to_owned()),
            "{}: {expected}\nmade {forms:#?}",
            case.name
        );
    }
}

#[test]
fn a_case_with_a_declared_payload_says_so() {
    let mut declared = 0;
    for case in cases() {
        let sent = case.read("header-signed-request.txt");
        if !sent.contains("x-amz-content-sha256:") {
            continue;
        }
        let (parts, _) = read_request(&sent).unwrap();
        let own = key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None);
        let verifier = verifier(own, "us-east-1", "service", "2015-08-30T12:36:00Z");
        let Payload::Declared(hash) = verifier.check(&parts).unwrap().payload() else {
            panic!("{}: not declared", case.name)
        };
        assert_eq!(
            hex::encode(hash),
            parts.headers["x-amz-content-sha256"].to_str().unwrap()
        );
        declared += 1;
    }
    assert!(declared >= 2, "{declared} cases declare a payload");
}
