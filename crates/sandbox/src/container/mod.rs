//! The default driver: namespaces, capabilities, seccomp and limits around each sandbox, built by the guest.
