//! Filters in the kernel. A filter cannot be taken off, so each is installed in a process of its own: this test program again,
//! with the name of a scene in its environment.

use corten::input::config::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompRule};
use corten::setup::seccomp::{Filter, apply, decide_for, table};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

const SCENE: &str = "CORTEN_TEST_SECCOMP_SCENE";

fn rule(names: &[&str], action: Action, args: &[SeccompArg]) -> SeccompRule {
    SeccompRule { names: names.iter().copied().collect(), action, args: args.to_vec() }
}

fn install(default_action: Action, rules: Vec<SeccompRule>) -> Option<std::os::fd::OwnedFd> {
    let listener_path = rules.iter().any(|rule| rule.action == Action::Notify).then(|| "/nowhere".into());
    let profile =
        Seccomp { default_action, architectures: vec![Arch::X86_64], rules, listener_path, ..Seccomp::default() };
    nix::sys::prctl::set_no_new_privs().unwrap();
    apply(&decide(&profile), None).unwrap()
}

fn decide(profile: &Seccomp) -> Filter {
    decide_for(profile, Arch::X86_64).unwrap()
}

/// Fails in any case, so that nothing is left behind.
fn mkdir() -> Errno {
    nix::unistd::mkdir("/proc/corten-seccomp", Mode::S_IRWXU).unwrap_err()
}

/// Runs in the second process; in the first there is no scene.
#[test]
fn scene() {
    let deny = |action| vec![rule(&["mkdir", "mkdirat"], action, &[])];
    match std::env::var(SCENE).as_deref() {
        Err(_) => {}
        Ok("errno") => {
            assert_ne!(mkdir(), Errno::EXDEV);
            assert!(install(Action::Allow, deny(Action::Errno(libc::EXDEV as u16))).is_none());
            assert_eq!(mkdir(), Errno::EXDEV);
        }
        Ok("log") => {
            install(Action::Allow, deny(Action::Log));
            assert_ne!(mkdir(), Errno::ENOSYS);
        }
        Ok("trace") => {
            install(Action::Allow, deny(Action::Trace(1)));
            assert_eq!(mkdir(), Errno::ENOSYS, "nobody traces");
        }
        Ok("kill") => {
            install(Action::Allow, deny(Action::KillProcess));
            mkdir();
        }
        Ok("trap") => {
            install(Action::Allow, deny(Action::Trap));
            mkdir();
        }
        Ok("notify") => {
            assert!(install(Action::Allow, deny(Action::Notify)).is_some(), "no descriptor to answer on");
        }
        Ok("arguments") => {
            let above = SeccompArg { index: 1, op: Operator::Gt, value: 0xffff_ffff, value_two: 0 };
            let equal = SeccompArg { index: 1, op: Operator::Eq, value: 7, value_two: 0 };
            let rules = vec![
                rule(&["lseek"], Action::Errno(libc::EXDEV as u16), &[above]),
                rule(&["lseek"], Action::Errno(libc::EBADMSG as u16), &[equal]),
            ];
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            install(Action::Allow, rules);
            let seek = |to| nix::unistd::lseek(&file, to, nix::unistd::Whence::SeekSet);
            assert_eq!([seek(0), seek(8), seek(0xffff_ffff)], [Ok(0), Ok(8), Ok(0xffff_ffff)]);
            assert_eq!(
                [seek(7), seek(1 << 32), seek(7 | 1 << 40)],
                [Err(Errno::EBADMSG), Err(Errno::EXDEV), Err(Errno::EXDEV)]
            );
        }
        Ok("docker") => {
            if let Some(profile) = crate::profile::load(&crate::profile::dockers(), &["CAP_CHOWN"], Arch::X86_64) {
                nix::sys::prctl::set_no_new_privs().unwrap();
                apply(&decide(&profile), None).unwrap();
                assert_ne!(mkdir(), Errno::EPERM);
                let unshare = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS);
                assert_eq!(unshare, Err(Errno::EPERM), "Docker's profile has no unshare without CAP_SYS_ADMIN");
            }
        }
        Ok("refused") => {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).unwrap();
            }
            let filter = decide(&Seccomp { default_action: Action::Allow, ..Seccomp::default() });
            let failure = apply(&filter, None).unwrap_err();
            assert_eq!(failure.errno, Errno::EACCES);
            assert_eq!(failure.because.as_deref(), Some("a filter needs noNewPrivileges or CAP_SYS_ADMIN"));
        }
        Ok("newer") => {
            // Everything up to openat2 but two calls; what came later is unknown to this profile.
            let old = |call: &table::Call| call.number(Arch::X86_64).is_some_and(|number| number <= 437);
            let names: Vec<_> = table::all().filter(old).map(table::Call::name).collect();
            let names: Vec<_> = names.into_iter().filter(|&name| name != "mkdir" && name != "mkdirat").collect();
            install(Action::Errno(libc::EPERM as u16), vec![rule(&names, Action::Allow, &[])]);
            assert_eq!(mkdir(), Errno::EPERM, "an old call");
            let path = c"/proc";
            let faccessat2 = nix::unistd::faccessat(
                nix::fcntl::AT_FDCWD,
                path,
                nix::unistd::AccessFlags::F_OK,
                nix::fcntl::AtFlags::AT_EACCESS,
            );
            assert_eq!(faccessat2, Ok(()), "glibc falls back on ENOSYS, and fails on EPERM");
        }
        Ok(other) => panic!("no scene {other}"),
    }
    println!("the end of the scene");
}

fn play(scene: &str) -> Output {
    let arguments = ["kernel::scene", "--exact", "--nocapture", "--test-threads=1"];
    Command::new(std::env::current_exe().unwrap()).args(arguments).env(SCENE, scene).output().unwrap()
}

#[test]
fn actions_do_what_they_say() {
    for scene in ["errno", "log", "trace", "notify", "arguments", "newer", "docker", "refused"] {
        let output = play(scene);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("the end of the scene"), "{scene}: {output:?}");
    }
    for scene in ["kill", "trap"] {
        let output = play(scene);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{scene}: {output:?}");
    }
}
