//! Tokens made with real keys, against a provider in this process.

mod bed;
mod claims;
mod fetching;
mod flood;
mod forms;
mod outage;
mod properties;
mod rules;
mod signatures;
mod vectors;

use bed::{Bed, Case};

/// Shows each case's token to the same provider and compares code and text of the verdict.
async fn check(cases: Vec<Case>) {
    let bed = Bed::start().await;
    for case in cases {
        let config = bed.config(case.config.clone());
        let verdict = bed.providers.verify(&config, &case.token).await;
        let verdict = verdict
            .map(|_| ())
            .map_err(|refusal| (refusal.code(), refusal.to_string()));
        match (&case.expected, &verdict) {
            (Ok(()), Ok(())) => {}
            (Err((code, text)), Err((got_code, got_text))) => {
                assert_eq!(code, got_code, "{}: {got_text}", case.name);
                assert!(got_text.contains(text), "{}: '{got_text}' lacks '{text}'", case.name);
                assert!(
                    got_text.starts_with("OAuth authorization failed: "),
                    "{}: {got_text}",
                    case.name
                );
            }
            _ => panic!("{}: expected {:?}, got {verdict:?}", case.name, case.expected),
        }
    }
}

#[test]
fn there_are_hundreds_of_cases() {
    let all = [
        claims::cases().len(),
        forms::cases().len(),
        rules::cases().len(),
        signatures::cases().len(),
    ];
    assert!(all.iter().sum::<usize>() >= 600, "{all:?}");
}
