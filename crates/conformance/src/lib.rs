//! Unmodified clients against the real binary.
//!
//! The tests of this crate use the AWS SDK for Rust; those with boto3 and the `bedrock-agentcore` package are in `tests/`
//! at the top of the repository. `cargo xtask test` builds the binary, says where it is (`EYOT_BIN`) and runs both.
