//! What Docker has, beside what we have of it: its profile of system calls, and the configuration that its daemon hands to a runtime.
mod daemon;
#[path = "../seccomp/profile.rs"]
mod profile;
mod seccomp;
