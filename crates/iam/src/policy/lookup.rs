//! What one decision has looked up of the call.
//!
//! Policies ask for the same few keys in statement after statement, and a context may have to compute what it answers;
//! so it is asked once.

use super::context::{Context, Value, Values};
use memchr::arch::all::is_equal;
use std::borrow::Cow;
use std::cell::OnceCell;

/// Keys whose values are kept. Policies that name more are rare, and ask again each time.
const KEPT: usize = 8;

/// The context, asked once for each of the first keys.
pub(super) struct Lookup<'a> {
    context: &'a dyn Context,
    kept: [OnceCell<(&'a str, Option<Values<'a>>)>; KEPT],
}

impl<'a> Lookup<'a> {
    pub(super) fn new(context: &'a dyn Context) -> Self {
        Self {
            context,
            kept: [const { OnceCell::new() }; KEPT],
        }
    }

    /// Hands over the values of a key, given in lower case.
    pub(super) fn with<R>(&self, key: &'a str, then: impl FnOnce(&[Value<'a>]) -> R) -> R {
        let fresh;
        let values = match self.kept(key) {
            Some(values) => values,
            None => {
                fresh = self.context.get(key);
                &fresh
            }
        };
        then(values.as_ref().map(Values::as_slice).unwrap_or_default())
    }

    /// What a variable stands for: the only value of its key, unless that is empty.
    pub(super) fn text(&self, key: &'a str) -> Option<Cow<'_, str>> {
        let text = match self.kept(key) {
            Some(values) => match values.as_ref()?.as_slice() {
                [only] => only.as_text(),
                _ => return None,
            },
            None => self.context.get(key)?.single()?.into_text(),
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// The place of a key; nothing where all are taken by others.
    fn kept(&self, key: &'a str) -> Option<&Option<Values<'a>>> {
        self.kept.iter().find_map(|place| {
            let (taken_by, values) = place.get_or_init(|| (key, self.context.get(key)));
            is_equal(taken_by.as_bytes(), key.as_bytes()).then_some(values)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Answers each key with itself, and counts.
    #[derive(Default)]
    struct Echo(RefCell<Vec<String>>);

    impl Context for Echo {
        fn get(&self, key: &str) -> Option<Values<'_>> {
            self.0.borrow_mut().push(key.to_owned());
            match key {
                "none" => None,
                "empty" => Some(Values::text("")),
                "two" => Some(Values::texts(["a", "b"])),
                key => Some(Values::text(key.to_owned())),
            }
        }
    }

    #[test]
    fn a_key_is_asked_for_once_and_too_many_are_still_answered() {
        let echo = Echo::default();
        let keys: Vec<String> = (0..2 * KEPT).map(|n| format!("key{n}")).collect();
        let lookup = Lookup::new(&echo);
        for _ in 0..3 {
            for key in &keys {
                assert_eq!(lookup.text(key).unwrap(), *key);
                lookup.with(key, |values| assert_eq!(values, [Value::Text(key.as_str().into())]));
            }
        }
        let asked = |key: &String| echo.0.borrow().iter().filter(|asked| *asked == key).count();
        let counts: Vec<usize> = keys.iter().map(asked).collect();
        assert_eq!(counts, [[1; KEPT], [6; KEPT]].concat());
    }

    #[test]
    fn only_one_value_that_is_not_empty_is_a_text() {
        for many in [0, KEPT] {
            let echo = Echo::default();
            let others: Vec<String> = (0..many).map(|n| n.to_string()).collect();
            let lookup = Lookup::new(&echo);
            others.iter().for_each(|key| drop(lookup.text(key)));
            assert_eq!(["none", "empty", "two"].map(|key| lookup.text(key)), [None, None, None]);
            lookup.with("none", |values| assert!(values.is_empty()));
            lookup.with("two", |values| assert_eq!(values.len(), 2));
        }
    }
}
