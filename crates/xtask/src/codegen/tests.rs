//! The committed code is what the committed models give, and the generator knows every kind of shape.

use super::*;

#[test]
fn committed_code_is_fresh() {
    check().unwrap();
}
