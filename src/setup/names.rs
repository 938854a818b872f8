//! Host name and domain name, see uts_namespaces(7).
//!
//! **What the kernel offers.** A uts namespace holds the two names that uname(2) reports, at most 64 bytes each.
//!
//! **Try it.** `unshare --uts sh -c 'hostname web; hostname'; hostname`: the second name is the old one.
//!
//! **What we do.** sethostname(2) and setdomainname(2) in the child, inside the new or joined namespace.
//!
//! **What goes wrong.** Without a uts namespace of its own the child would rename the host, so the check of the configuration
//! refuses that. A new user namespace may set them only because it also owns the uts namespace.

use crate::input::config::Config;
use crate::sys::{Called, Failure, Result, cred};
use nix::errno::Errno;
use std::fmt;

use super::Held;

/// One name to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `hostname`
    Host(String),
    /// `domainname`
    Domain(String),
}

/// Names that are set. An empty one is none, as with runc.
pub fn decide(config: &Config) -> Vec<Action> {
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let host = given(&config.hostname).map(Action::Host);
    host.into_iter().chain(given(&config.domainname).map(Action::Domain)).collect()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Host(name) => write!(f, "sethostname({name:?})"),
            Action::Domain(name) => write!(f, "setdomainname({name:?})"),
        }
    }
}

impl Action {
    /// Sets the name.
    pub fn apply(&self, _held: &mut Held) -> Result<()> {
        let (key, name, done) = match self {
            Action::Host(name) => ("hostname", name, nix::unistd::sethostname(name)),
            Action::Domain(name) => ("domainname", name, cred::set_domain_name(name)),
        };
        done.called(|| self.to_string()).map_err(|failure| explain(failure, key, name))
    }
}

fn explain(failure: Failure, key: &str, name: &str) -> Failure {
    match failure.errno {
        Errno::EINVAL => failure.because(format!("{key}: {} bytes are more than the kernel's 64", name.len())),
        Errno::EPERM => failure.because(format!("{key}: the uts namespace belongs to another user namespace")),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::alone::{alone, is_alone, is_root};

    #[test]
    fn both_names_in_order_and_empty_ones_left_out() {
        let config =
            Config { hostname: Some("web".into()), domainname: Some("example.org".into()), ..Config::default() };
        let shown: Vec<String> = decide(&config).iter().map(Action::to_string).collect();
        assert_eq!(shown, ["sethostname(\"web\")", "setdomainname(\"example.org\")"]);
        assert_eq!(decide(&Config { hostname: Some(String::new()), ..Config::default() }), []);
    }

    #[test]
    fn names_are_set_in_the_namespace_and_long_ones_refused() {
        if !is_root() {
            return;
        }
        let host = nix::unistd::gethostname().unwrap();
        alone("setup::names::tests::names_are_set_in_the_namespace_and_long_ones_refused", || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).unwrap();
            let apply = |action: Action| action.apply(&mut Held::default());
            apply(Action::Host("process-web".into())).unwrap();
            apply(Action::Domain("example.org".into())).unwrap();
            let names = nix::sys::utsname::uname().unwrap();
            assert_eq!((names.nodename(), names.domainname()), ("process-web".as_ref(), "example.org".as_ref()));
            let because = apply(Action::Host("x".repeat(65))).unwrap_err().because.unwrap();
            assert_eq!(because, "hostname: 65 bytes are more than the kernel's 64");
        });
        let now = nix::unistd::gethostname().unwrap();
        assert!(is_alone() || now == host);
    }
}
