//! The agent that ships inside `eyot`: for `eyot quickstart`, for tests and for benchmarks.
//!
//! An agent is any program that answers two requests on port 8080: `GET /ping` says how it is, `POST /invocations`
//! does the work. Nothing else is asked of it; this one needs the standard library and no SDK. `agent` holds what it
//! does, `http` the protocol, `json` the notation.
//!
//! One thread for each connection: a session has one caller, or a few.

mod agent;
mod http;
mod json;

use agent::Agent;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;

/// Where the platform looks for an agent unless told otherwise.
const PORT: u16 = 8080;

fn main() -> io::Result<()> {
    let port = match std::env::var("PORT") {
        Ok(text) => text
            .parse()
            .map_err(|e| io::Error::other(format!("PORT={text} is not a port: {e}")))?,
        Err(_) => PORT,
    };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    say(&format!("listening on port {port}"));
    let agent = Arc::new(Agent::default());
    for stream in listener.incoming() {
        // A connection that broke before it was accepted is its client's affair.
        let Ok(stream) = stream else { continue };
        let agent = Arc::clone(&agent);
        thread::Builder::new().spawn(move || {
            if let Err(error) = agent.serve(&stream) {
                say(&format!("connection ended: {error}"));
            }
        })?;
    }
    Ok(())
}

/// What an agent prints is its log.
#[expect(clippy::print_stderr, reason = "this is how an agent logs")]
fn say(line: &str) {
    eprintln!("{line}");
}
