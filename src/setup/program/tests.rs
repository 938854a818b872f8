use super::*;
use std::os::unix::fs::PermissionsExt;

fn process(args: &[&str], env: &[&str], cwd: &str) -> Process {
    let strings = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
    Process { args: strings(args), env: strings(env), cwd: cwd.into(), ..Process::default() }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

#[test]
fn decides_in_order() {
    let inherited = Inherited { descriptors: 2, env: vec!["LISTEN_FDS=2".into()] };
    let decision = decide(&process(&["sh", "-c", "x"], &["A=1", "A=2"], "/srv"), &inherited).unwrap();
    assert_eq!(decision.make.unwrap().to_string(), "openat2(root, \"/srv\", O_PATH|O_DIRECTORY); [mkdirat()]");
    assert_eq!(decision.confirm.to_string(), "[chdir(\"/srv\")]; getcwd()");
    assert_eq!(decision.close.to_string(), "close_range(5, ~0, CLOSE_RANGE_CLOEXEC)");
    assert_eq!(decision.execute.to_string(), "execve(\"$PATH/sh\", [\"sh\", \"-c\", \"x\"])");
    let Action::Find { env, .. } = decision.find else { panic!() };
    assert_eq!(env, [c("A=2"), c("LISTEN_FDS=2")]);
    assert_eq!(decide(&process(&["x"], &[], "/"), &Inherited::default()).unwrap().make, None);
}

#[test]
fn faults_have_a_place() {
    let said = |process: &Process| decide(process, &Inherited::default()).unwrap_err().to_string();
    assert_eq!(said(&process(&[], &[], "/")), "process.args: empty: there is no program to run");
    assert_eq!(said(&process(&["a", "b\0"], &[], "/")), "process.args[1]: holds a NUL byte");
    assert_eq!(said(&process(&["a"], &["A=1", "B"], "/")), "process.env[1]: \"B\" is not KEY=value");
    assert_eq!(said(&process(&["a"], &["=B"], "/")), "process.env[0]: \"=B\" is not KEY=value");
    assert_eq!(said(&process(&["a"], &["B=\0"], "/")), "process.env[0]: holds a NUL byte");
}

#[test]
fn programs_are_found_in_path_and_refusals_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, mode) in [("one", 0o755), ("plain", 0o644)] {
        std::fs::write(at(name), "").unwrap();
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::create_dir(at("directory")).unwrap();
    let here = dir.path().to_str().unwrap();
    let env = [c("A=1"), c(&format!("PATH=/nowhere:{here}"))];
    let found = |name: &str| find(&c(name), &env);
    let because = |name: &str| found(name).unwrap_err().because.unwrap().replace(here, "/here");
    assert_eq!(found("one").unwrap().to_str().unwrap(), at("one").to_str().unwrap());
    assert_eq!(because("nginxx"), "\"nginxx\": executable file not found in $PATH (/nowhere:/here)");
    assert_eq!(because("plain"), "\"plain\": /here/plain: permission denied: not executable (mode 0644)");
    assert_eq!(because("/none"), "\"/none\": no such file or directory");
    let directory = at("directory").to_str().unwrap().to_owned();
    assert_eq!(because(&directory), "\"/here/directory\": is a directory: permission denied");
    assert_eq!(because(""), "\"\": executable file not found in $PATH (/nowhere:/here)");
    let unset = find(&c("x"), &[]).unwrap_err().because.unwrap();
    assert_eq!(unset, "\"x\": executable file not found in $PATH (PATH is not set)");
}

#[test]
fn working_directories_are_made_inside_the_root_only() {
    let dir = tempfile::tempdir().unwrap();
    let (root, host) = (dir.path().join("root"), dir.path().join("host"));
    std::fs::create_dir_all(root.join("real")).unwrap();
    std::fs::create_dir(&host).unwrap();
    std::os::unix::fs::symlink("/real", root.join("inside")).unwrap();
    std::os::unix::fs::symlink(&host, root.join("outside")).unwrap();
    std::os::unix::fs::symlink("../../../real", root.join("up")).unwrap();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let fd = nix::fcntl::open(&root, flags, Mode::empty()).unwrap();
    make_directory(&fd, Path::new("/a/b/../c")).unwrap();
    make_directory(&fd, Path::new("/inside/x/y")).unwrap();
    make_directory(&fd, Path::new("/up/z")).unwrap();
    // A link whose target does not exist below the root cannot be passed.
    assert!(make_directory(&fd, Path::new("/outside/x")).is_err());
    for made in ["a/b", "a/c", "real/x/y", "real/z"] {
        assert!(root.join(made).is_dir(), "{made}");
    }
    assert_eq!(std::fs::read_dir(&host).unwrap().count(), 0);
}
