//! The table, the types and the hand-written part agree.

use crate::*;

#[test]
fn by_name_and_in_the_table_are_the_same() {
    assert_eq!(OPERATIONS.len(), 250);
    let found = operation(Plane::Control, "CreateAgentRuntime").unwrap();
    assert!(std::ptr::eq(found, operations::CREATE_AGENT_RUNTIME));
    assert!(OPERATIONS.iter().filter(|operation| operation.is_switched_on()).count() >= 19);
}
