//! `--cap-add`, `--cap-drop`, `--privileged`, `--security-opt`: what the program may do.
//!
//! By hand: `docker run --rm --cap-drop ALL --cap-add NET_BIND_SERVICE busybox grep Cap /proc/self/status`. A capability may be written with or without
//! `CAP_`, in either case. First what is dropped goes, then what is added comes: `--cap-drop ALL --cap-add X` leaves X, in any order; with
//! `--cap-add ALL` it is everything but what is dropped.
//!
//! What goes wrong: who is not root inside gets no capability in force, only the bounding set, since that is what execve(2) would leave. The inheritable set
//! stays empty (CVE-2022-29162). The default system-call filter follows the capabilities: who may mount may call mount.

use super::configure::Facts;
use super::defaults;
use super::options::Options;
use super::seccomp;
use super::wrong;
use crate::error::Result;
use crate::setup::caps;
use serde_json::{Value, json};
use std::path::Path;

/// What the options grant and withhold.
#[derive(Debug, PartialEq)]
pub struct Privileges {
    /// Bit n is capability n.
    pub capabilities: u64,
    /// `linux.seccomp`; none: no filter.
    pub seccomp: Option<Value>,
    /// `process.noNewPrivileges`
    pub no_new_privileges: bool,
    /// `process.apparmorProfile`
    pub apparmor: Option<String>,
    /// Whether /proc and /sys keep their masks.
    pub masks: Masks,
}

/// `--security-opt systempaths=unconfined`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masks {
    /// As always.
    Kept,
    /// Nothing is hidden.
    Off,
}

enum Profile {
    Default,
    Off,
    File(String),
}

/// Reads the four options.
pub fn privileges(options: &Options, facts: &Facts) -> Result<Privileges> {
    let capabilities = capabilities(options, facts.held)?;
    let mut found = Privileges {
        capabilities,
        seccomp: None,
        no_new_privileges: false,
        apparmor: None,
        masks: if options.privileged { Masks::Off } else { Masks::Kept },
    };
    let mut profile = if options.privileged { Profile::Off } else { Profile::Default };
    for text in &options.security_opt {
        // An old form has a colon.
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let refuse = |cause: &str| Err(wrong("--security-opt", text, cause));
        match split.unwrap_or((text, "")) {
            ("no-new-privileges", "true" | "1") => found.no_new_privileges = true,
            ("no-new-privileges", "") if split.is_none() => found.no_new_privileges = true,
            ("no-new-privileges", "false" | "0") => found.no_new_privileges = false,
            ("no-new-privileges", _) => return refuse("is true or false"),
            ("seccomp", "unconfined") => profile = Profile::Off,
            ("seccomp", "builtin" | "default") => profile = Profile::Default,
            ("seccomp", "") => return refuse("names no profile"),
            ("seccomp", file) => profile = Profile::File(file.to_owned()),
            ("apparmor", "unconfined") => found.apparmor = None,
            ("apparmor", "") => return refuse("names no profile"),
            ("apparmor", name) => found.apparmor = Some(name.to_owned()),
            // Nothing is labelled in this version, so that is what is asked for.
            ("label", "disable") => {}
            ("label", _) => return refuse("labels are not in this version, except label=disable"),
            ("systempaths", "unconfined") => found.masks = Masks::Off,
            _ => {
                return refuse(
                    "not in this version; there are seccomp, no-new-privileges, apparmor, label=disable and systempaths=unconfined",
                );
            }
        }
    }
    found.seccomp = match profile {
        Profile::Off => None,
        Profile::Default => Some(seccomp::default(capabilities, facts.arch)),
        Profile::File(file) => {
            let at = |e: crate::error::Error| e.at(format!("--security-opt seccomp={file}"));
            let text = (facts.read)(&facts.caller.dir.join(Path::new(&file))).map_err(at)?;
            Some(seccomp::resolve(&text, capabilities, facts.arch, facts.kernel).map_err(at)?)
        }
    };
    Ok(found)
}

fn named(option: &str, text: &str) -> Result<u64> {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(caps::ALL);
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    caps::number(&full)
        .map(|number| 1 << number)
        .ok_or_else(|| wrong(option, text, "is no capability; capabilities(7) lists them"))
}

/// The set as a mask. What stands for all of them stays within `held`: nobody can give what he has not.
fn capabilities(options: &Options, held: u64) -> Result<u64> {
    let read = |option: &str, list: &[String]| -> Result<(u64, u64)> {
        list.iter().try_fold((0, 0), |(all, one), text| {
            let mask = named(option, text)?;
            Ok(if mask == caps::ALL { (mask, one) } else { (all, one | mask) })
        })
    };
    let (add_all, add) = read("--cap-add", &options.cap_add)?;
    let (drop_all, drop) = read("--cap-drop", &options.cap_drop)?;
    let usual: u64 =
        defaults::CAPABILITIES.iter().filter_map(|name| caps::number(name)).map(|number| 1 << number).sum();
    Ok(match (options.privileged, add_all != 0, drop_all != 0) {
        (true, ..) => caps::ALL & held,
        (_, true, _) => caps::ALL & held & !drop,
        (_, false, true) => add,
        _ => (usual & !drop) | add,
    })
}

/// `process.capabilities`.
pub fn sets(mask: u64, uid: u32) -> Value {
    let names = caps::names(mask);
    match uid {
        0 => json!({"bounding": names, "effective": names, "permitted": names}),
        _ => json!({ "bounding": names }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> Result<Vec<&'static str>> {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let options = Options { cap_add: list(add), cap_drop: list(drop), ..Options::default() };
        capabilities(&options, caps::ALL).map(caps::names)
    }

    #[test]
    fn sums() {
        assert_eq!(of(&[], &[]).unwrap().len(), 14);
        assert_eq!(of(&["net_admin"], &["all"]).unwrap(), ["CAP_NET_ADMIN"]);
        assert_eq!(of(&[], &["ALL"]).unwrap(), [""; 0]);
        assert_eq!(of(&["MKNOD"], &["CAP_MKNOD"]).unwrap().len(), 14);
        assert_eq!(of(&["SYS_TIME"], &["cap_mknod"]).unwrap().len(), 14);
        let but = of(&["ALL"], &["MKNOD"]).unwrap();
        assert!(but.len() == 40 && !but.contains(&"CAP_MKNOD"));
        for (add, drop, words) in
            [("foo", "ALL", "--cap-add foo"), ("ALL", "CAP_ALL", "--cap-drop CAP_ALL"), ("", "", "--cap-add \"\"")]
        {
            let error = of(&[add], &[drop]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn all_is_what_can_be_given() {
        let privileged = Options { privileged: true, cap_drop: vec!["ALL".to_owned()], ..Options::default() };
        assert_eq!(capabilities(&privileged, 0b111), Ok(0b111));
        let all = Options { cap_add: vec!["ALL".to_owned()], ..Options::default() };
        assert_eq!(capabilities(&all, 0b101), Ok(0b101));
    }

    #[test]
    fn who_is_not_root_gets_an_upper_limit_only() {
        assert_eq!(
            sets(1, 0),
            json!({"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]})
        );
        assert_eq!(sets(1, 1000), json!({"bounding": ["CAP_CHOWN"]}));
    }
}
