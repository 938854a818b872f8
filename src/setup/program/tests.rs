use super::*;
use crate::sys::alone::{alone, command, is_alone, is_root, text};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

fn process(args: &[&str], env: &[&str], cwd: &str) -> Process {
    let args = args.iter().map(|text| text.to_string()).collect();
    Process { args, env: environment_of(env), cwd: cwd.into(), ..Process::default() }
}

fn environment_of(entries: &[&str]) -> Rc<Environment> {
    Rc::new(entries.iter().copied().collect())
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

#[test]
fn decides_in_order() {
    let inherited = Inherited { descriptors: 2, env: vec!["LISTEN_FDS=2".into()] };
    let decision = decide(&process(&["sh", "-c", "x"], &["A=1", "A=2"], "/srv"), &inherited).unwrap();
    assert_eq!(
        decision.make.unwrap().to_string(),
        "openat2(root, \"/srv\"); [openat2(root, \"/\"); mkdirat(\"/srv\", 0755); openat(\"/srv\", O_PATH|O_NOFOLLOW)]"
    );
    assert_eq!(decision.confirm.to_string(), "[openat2(\"/srv\", O_PATH|O_DIRECTORY); fchdir()]; getcwd()");
    assert_eq!(decision.close.to_string(), "close_range(5, ~0, CLOSE_RANGE_CLOEXEC)");
    assert_eq!(decision.execute.to_string(), "execve(\"$PATH/sh\", [\"sh\", \"-c\", \"x\"])");
    let Action::Find { env, .. } = decision.find else { panic!() };
    assert_eq!(env, environment_of(&["A=2", "LISTEN_FDS=2"]));
    assert_eq!(decide(&process(&["x"], &[], "/"), &Inherited::default()).unwrap().make, None);
}

#[test]
fn faults_have_a_place() {
    let said = |process: &Process| decide(process, &Inherited::default()).unwrap_err().to_string();
    assert_eq!(said(&process(&[], &[], "/")), "process.args: empty: there is no program to run");
    assert_eq!(said(&process(&["a", "b\0"], &[], "/")), "process.args[1]: holds a NUL byte");
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
    let env = environment_of(&["A=1", &format!("PATH=/nowhere:{here}")]);
    let found = |name: &str| find(&c(name), &env);
    let because = |name: &str| found(name).unwrap_err().because.unwrap().replace(here, "/here");
    assert_eq!(found("one").unwrap().to_str().unwrap(), at("one").to_str().unwrap());
    assert_eq!(because("nginxx"), "\"nginxx\": executable file not found in $PATH (/nowhere:/here)");
    assert_eq!(because("plain"), "\"plain\": /here/plain: permission denied: not executable (mode 0644)");
    assert_eq!(because("/none"), "\"/none\": no such file or directory");
    let directory = at("directory").to_str().unwrap().to_owned();
    assert_eq!(because(&directory), "\"/here/directory\": is a directory: permission denied");
    assert_eq!(because(""), "\"\": executable file not found in $PATH (/nowhere:/here)");
    let unset = find(&c("x"), &Environment::default()).unwrap_err().because.unwrap();
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
    std::fs::write(root.join("file"), "").unwrap();
    let fd = path::open_directory(&root).unwrap();
    for cwd in ["/a/b/../c", "/inside/x/y", "/outside/z"] {
        make_directory(fd.as_fd(), Path::new(cwd)).unwrap();
    }
    assert!(root.join("real/x/y").is_dir() && root.join(host.strip_prefix("/").unwrap()).join("z").is_dir());
    assert_eq!(std::fs::read_dir(&host).unwrap().count(), 0);
    let because = make_directory(fd.as_fd(), Path::new("/file/x")).unwrap_err().because.unwrap();
    assert_eq!(because, "working directory /file/x: cannot be made: not a directory");
}

#[test]
fn a_directory_outside_of_the_root_is_refused() {
    if !is_root() {
        return;
    }
    alone("setup::program::tests::a_directory_outside_of_the_root_is_refused", || {
        let dir = tempfile::tempdir().unwrap();
        let (outside, here) = (path::open_directory(Path::new("/usr")).unwrap(), std::env::current_dir().unwrap());
        let host = path::open_directory(Path::new("/")).unwrap();
        nix::unistd::chroot(dir.path()).unwrap();
        nix::unistd::fchdir(&outside).unwrap();
        let failure = Action::Confirm("/proc/self/fd/7".into()).apply(&mut Held { entered: true, ..Held::default() });
        let inside = Action::Confirm("/".into()).apply(&mut Held::default());
        nix::unistd::fchdir(&host).unwrap();
        nix::unistd::chroot(".").unwrap();
        std::env::set_current_dir(here).unwrap();
        let because = failure.unwrap_err().because.unwrap();
        assert_eq!(because, "working directory /proc/self/fd/7: lies outside of the container");
        inside.unwrap();
    });
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let enter = Action::Enter("/none/such".into()).apply(&mut Held::default()).unwrap_err();
    assert_eq!(enter.because.unwrap(), "working directory /none/such: no such file or directory");
}

#[test]
fn the_program_gets_its_environment_and_no_other_descriptor() {
    let test = "setup::program::tests::the_program_gets_its_environment_and_no_other_descriptor";
    for fallback in [false, true] {
        if is_alone() {
            // A descriptor that execve would keep.
            let leaked = nix::unistd::dup(std::io::stdin()).unwrap();
            let process =
                process(&["sh", "-c", "echo $A $HOME; ls /proc/$$/fd; exit 6"], &["A=1", "PATH=/bin", "A=2"], "/");
            let mut held =
                Held { home: Some("/home/x".into()), proc: Some(path::host_proc().unwrap()), ..Held::default() };
            let decision = decide(&process, &Inherited::default()).unwrap();
            [&decision.enter, &decision.confirm, &decision.find]
                .iter()
                .for_each(|action| action.apply(&mut held).unwrap());
            if std::env::var_os("FALLBACK").is_some() {
                exec::close_on_exec_each(held.proc().unwrap(), 3).unwrap();
            } else {
                decision.close.apply(&mut held).unwrap();
            }
            println!();
            panic!("{:?}", (decision.execute.apply(&mut held), leaked));
        }
        let mut command = command(test);
        if fallback {
            command.env("FALLBACK", "1");
        }
        let output = command.output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(6), "{said}");
        let lines: Vec<&str> = said.lines().skip_while(|line| *line != "2 /home/x").collect();
        assert_eq!(lines, ["2 /home/x", "0", "1", "2"], "{said}");
    }
}

#[test]
fn a_script_without_its_interpreter_is_diagnosed() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("run");
    std::fs::write(&script, "#!/none/sh\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let name = script.to_str().unwrap();
    let decision = decide(&process(&[name], &[], "/"), &Inherited::default()).unwrap();
    let mut held = Held::default();
    decision.find.apply(&mut held).unwrap();
    let failure = decision.execute.apply(&mut held).unwrap_err();
    assert_eq!(failure.errno, Errno::ENOENT);
    let wanted = format!("{name:?} exists, but its interpreter /none/sh does not (no such file or directory)");
    assert_eq!(failure.because.unwrap(), wanted);
}
