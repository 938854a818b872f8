//! Corten, a minimal container runtime. Read `input`, `plan`, `setup`, `run`, `state` in this order: see docs/design.md.
pub mod error;
pub mod input;
pub mod setup;
pub mod sys;
