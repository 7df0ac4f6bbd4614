//! An agent's environment as a list of pairs, in the order given; of equal names the last counts.

use crate::Error;
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
