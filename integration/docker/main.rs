//! What Docker has, beside what we have of it: its profile of system calls, the configuration that its daemon hands to a runtime, and its init.
mod daemon;
mod dockerd;
mod init;
#[path = "../seccomp/profile.rs"]
mod profile;
mod run;
mod seccomp;
