//! 1. What was asked: the bundle's configuration, the id, and the facts of the host that a plan may depend on.
pub mod again;
pub mod bundle;
pub mod capability;
pub mod check;
pub mod config;
mod convert;
pub mod host;
pub mod id;
mod keys;
pub mod names;
pub mod overrides;
mod place;
pub mod signal;
mod spec;
pub mod template;
pub mod user;
pub mod variables;
mod walk;

/// One thing that is wrong with what was asked, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The JSON place as a person writes it: `mounts[3].destination`, `linux.uidMappings`.
    pub place: String,
    /// The plain cause: `set, but there is no user namespace`.
    pub cause: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(place: impl Into<String>, cause: impl Into<String>) -> Self {
        Fault { place: place.into(), cause: cause.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.cause)
    }
}
