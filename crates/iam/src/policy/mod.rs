//! The AWS JSON policy language: what a policy says, and what it decides.
