//! Corten, a minimal container runtime. Read `input`, `plan`, `setup`, `run`, `state` in this order: see docs/design.md.
pub mod cli;
pub mod commands;
#[cfg(feature = "image")]
pub mod docker;
pub mod error;
#[cfg(feature = "image")]
pub mod image;
pub mod input;
pub mod logger;
pub mod plan;
pub mod run;
pub mod setup;
pub mod state;
pub mod sys;
