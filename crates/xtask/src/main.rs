//! (module doc to come)
fn main() {}
