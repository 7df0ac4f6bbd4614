//! Stopping one and many.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_is_stopped_and_its_end_is_the_answer() {
    let bed = Bed::new().await;
    let target = format!("sessions/{}/stop", id("x"));
    assert_eq!(bed.post(&target).await.unwrap_err().kind, Kind::NotFound);
    bed.lives(session("x", A, "DEFAULT", 0));
    bed.lives(session("y", A, "DEFAULT", 0));
    let stopped = bed.post(&target).await.unwrap();
    assert_eq!(
        (&stopped["state"], &stopped["reason"]),
        (&Value::from("TERMINATED"), &Value::from("stopped"))
    );
    assert_eq!(bed.page("sessions").await.0, ["y"]);
    let again = bed.post(&target).await.unwrap_err();
    assert_eq!(again.kind, Kind::NotFound);
    assert!(again.message.contains("already ended: stopped"), "{again}");
}

#[tokio::test(start_paused = true)]
async fn one_of_several_must_be_named() {
    let bed = Bed::new().await;
    for endpoint in ["DEFAULT", "prod"] {
        bed.lives(session("x", A, endpoint, 0));
    }
    let target = format!("sessions/{}/stop", id("x"));
    assert_eq!(bed.post(&target).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(bed.fake.reports().len(), 2, "none is stopped by guessing");
    bed.post(&format!("{target}?endpoint=prod")).await.unwrap();
    assert_eq!(bed.fake.reports()[0].endpoint.as_str(), "DEFAULT");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_starts_says_that_it_cannot_be_stopped_yet() {
    let bed = Bed::new().await;
    let mut starting = session("x", A, "DEFAULT", 0);
    starting.state = State::Provisioning;
    bed.lives(starting);
    let busy = bed.post(&format!("sessions/{}/stop", id("x"))).await.unwrap_err();
    assert_eq!(busy.kind, Kind::SessionBusy);
}

#[tokio::test(start_paused = true)]
async fn all_that_fit_are_stopped_and_nothing_by_an_empty_filter() {
    let bed = Bed::new().await;
    for n in 0..100 {
        bed.lives(session(&format!("a{n}"), A, "DEFAULT", n));
    }
    bed.lives(session("b", B, "DEFAULT", 0));
    let mut starting = session("c", A, "DEFAULT", 0);
    starting.state = State::Provisioning;
    bed.lives(starting);
    for empty in ["sessions/stop", "sessions/stop?all=false"] {
        invalid(bed.post(empty).await, &["all"]);
    }
    invalid(bed.post("sessions/stop?runtim=agent").await, &["runtim", "all"]);
    assert_eq!(bed.fake.reports().len(), 102);
    let answer = bed.post("sessions/stop?runtime=agent").await.unwrap();
    assert_eq!(answer["stopped"].as_array().unwrap().len(), 100);
    assert_eq!(names(&answer["failed"]), ["c"]);
    assert!(
        answer["failed"][0]["message"].as_str().unwrap().contains("retry"),
        "{answer}"
    );
    let answer = bed.post("sessions/stop?all=true").await.unwrap();
    assert_eq!(
        (names(&answer["stopped"]), names(&answer["failed"])),
        (vec!["b".to_owned()], vec!["c".to_owned()])
    );
}
