//! Bearer tokens: what a provider says about itself, the keys that it signs with, and what a token proves.
//!
//! Invariant: nothing here fails open. Invariant: a token is in no log and no error.
