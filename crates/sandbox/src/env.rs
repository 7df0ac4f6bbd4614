//! An agent's environment as a list of pairs, in the order given; of equal names the last counts.

use crate::supervised::Record;
use crate::{Error, Listen};
use std::path::Path;

/// The value of a name.
pub(crate) fn get<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// Sets a name, whatever it was.
pub(crate) fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    env.retain(|(key, _)| key != name);
    env.push((name.to_owned(), value));
}

/// Sets a name to a path if it is not set.
pub(crate) fn default(env: &mut Vec<(String, String)>, name: &str, value: &Path) -> Result<(), Error> {
    if get(env, name).is_none() {
        let text = value
            .to_str()
            .ok_or_else(|| Error::Host(format!("{} is not UTF-8", value.display())))?;
        env.push((name.to_owned(), text.to_owned()));
    }
    Ok(())
}

/// Tells the agent where this process listens inside.
pub(crate) fn listen(env: &mut Vec<(String, String)>, listen: &[Listen], record: &Record) {
    for Listen { address, variables } in listen {
        let Some(real) = record.listens_at(*address) else {
            continue;
        };
        let url = match real.port() {
            80 => format!("http://{}", real.ip()),
            _ => format!("http://{real}"),
        };
        for name in variables {
            if get(env, name).is_none() {
                set(env, name, url.clone());
            }
        }
    }
}
