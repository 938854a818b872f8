//! The default filter is Docker's: after its conditions are resolved, rule by rule.

use crate::profile;
use corten::docker::seccomp;
use corten::input::bundle;
use corten::input::config::{Action, Arch, Seccomp};
use corten::setup::caps;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What holds for one name, as text.
type Rules = BTreeSet<(String, String)>;

fn rules(profile: &Seccomp) -> Rules {
    let one = |rule: &corten::input::config::SeccompRule| {
        let verdict = format!("{:?} {:?}", rule.action, rule.args);
        rule.names.iter().map(|name| (name.to_owned(), verdict.clone())).collect::<Vec<_>>()
    };
    profile.rules.iter().flat_map(one).collect()
}

/// Our JSON by the way that every configuration takes.
fn read(profile: Value) -> Seccomp {
    let document = json!({
        "ociVersion": "1.3.0", "root": {"path": "r"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/"},
        "linux": {"seccomp": profile},
    });
    let (config, _) = bundle::parse(document.to_string().as_bytes()).expect("a configuration");
    config.linux.seccomp.expect("a filter").as_ref().clone()
}

const SETS: [&[&str]; 14] = [
    &[],
    &["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_NET_RAW"],
    &["CAP_SYS_ADMIN"],
    &["CAP_SYS_PTRACE"],
    &["CAP_SYS_MODULE"],
    &["CAP_SYS_TIME", "CAP_SYS_NICE"],
    &["CAP_BPF"],
    &["CAP_PERFMON", "CAP_SYSLOG"],
    &["CAP_DAC_READ_SEARCH"],
    &["CAP_SYS_BOOT", "CAP_SYS_PACCT"],
    &["CAP_SYS_RAWIO"],
    &["CAP_SYS_TTY_CONFIG"],
    &["CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE", "CAP_SYS_TIME"],
    &caps::NAMES,
];

fn mask(names: &[&str]) -> u64 {
    names.iter().filter_map(|name| caps::number(name)).map(|number| 1 << number).sum()
}

#[test]
fn the_default_filter_is_dockers() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        for set in SETS {
            let Some(theirs) = profile::load(&profile::dockers(), set, arch) else { return };
            let ours = read(seccomp::default(mask(set), arch));
            let (mine, original) = (rules(&ours), rules(&theirs));
            let missing: Vec<_> = original.difference(&mine).collect();
            let more: Vec<_> = mine.difference(&original).collect();
            assert!(missing.is_empty() && more.is_empty(), "{arch:?} {set:?}: missing {missing:?}, more {more:?}");
            assert_eq!((ours.default_action, theirs.default_action), (Action::Errno(1), Action::Errno(1)));
            let sorted = |list: &[Arch]| list.iter().copied().collect::<BTreeSet<_>>();
            assert_eq!(sorted(&ours.architectures), sorted(&theirs.architectures), "{arch:?}");
        }
    }
}

/// Profiles in files are resolved by us; here by the tests' own reader.
#[test]
fn a_profile_in_a_file_is_resolved() {
    let files = [profile::dockers(), "/usr/share/containers/seccomp.json".to_owned()];
    for file in files.iter().filter(|file| std::path::Path::new(file).exists()) {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            for set in SETS {
                let text = std::fs::read(file).unwrap();
                let ours =
                    read(seccomp::resolve(&text, mask(set), arch, (6, 12)).unwrap_or_else(|e| panic!("{file}: {e}")));
                let theirs = profile::load(file, set, arch).unwrap();
                assert_eq!(rules(&ours), rules(&theirs), "{file} {arch:?} {set:?}");
                assert_eq!(ours.default_action, theirs.default_action, "{file}");
            }
        }
    }
}
