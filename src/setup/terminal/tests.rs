use super::*;
use crate::input::config::User;
use crate::sys::alone::{alone, is_root};
use nix::mount::{MsFlags, mount as mount_at};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::stat;
use std::os::unix::net::UnixListener;

fn process(uid: u32) -> Process {
    let size = Some(ConsoleSize { height: 24, width: 80 });
    Process { terminal: true, console_size: size, user: User { uid, ..User::default() }, ..Process::default() }
}

#[test]
fn the_watcher_decides_on_size_and_newlines() {
    let here = Some(ConsoleSize { height: 50, width: 132 });
    let [Action::Open { size, newline, .. }, Action::Send, Action::Control] =
        decide_exec(&process(0), Watcher::Here(here))[..]
    else {
        panic!()
    };
    assert_eq!((size, newline), (here, Newline::Plain));
    let actions = decide_create(&process(7), Watcher::Socket);
    assert_eq!(actions[1..], [Action::Console, Action::Send, Action::Control]);
    assert_eq!(
        actions[0].to_string(),
        "openat2(root, \"dev/pts/ptmx\"); fstatfs(); fstat(); openat(proc, \"self/fd/N\", O_RDWR|O_NOCTTY); ioctl(TIOCSPTLCK, 0); \
         ioctl(TIOCGPTPEER); ioctl(TIOCSWINSZ, 24x80); fchown(slave, 7)"
    );
}

/// Directory of a root; what was mounted below is taken away before it is removed.
struct Root(tempfile::TempDir);

impl Root {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for mounted in ["dev/console", "dev/pts"] {
            let _ = nix::mount::umount2(&self.path().join(mounted), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// A root with a devpts of its own, in a mount namespace of its own.
fn root() -> (Root, Held) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount_at(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    let dir = Root(tempfile::Builder::new().prefix("process-").tempdir().unwrap());
    std::fs::create_dir_all(dir.path().join("dev/pts")).unwrap();
    let options = Some("newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount_at(Some("devpts"), &dir.path().join("dev/pts"), Some("devpts"), MsFlags::empty(), options).unwrap();
    let root = path::open_directory(dir.path()).unwrap();
    (dir, Held { root: Some(root), proc: Some(path::host_proc().unwrap()), ..Held::default() })
}

#[test]
fn the_container_gets_its_own_terminal() {
    if !is_root() {
        return;
    }
    alone("setup::terminal::tests::the_container_gets_its_own_terminal", || {
        let (dir, mut held) = root();
        let (ours, theirs) = socket::pair().unwrap();
        held.console = Some(theirs);
        let actions = decide_create(&process(1000), Watcher::Here(None));
        actions[..3].iter().for_each(|action| action.apply(&mut held).unwrap());
        let message = socket::receive(&ours).unwrap().unwrap();
        assert_eq!(message.bytes, b"/dev/pts/0");
        let master = message.fd.unwrap();
        assert_eq!(tty::size(&master), Ok((24, 80)));
        assert!(held.master.is_none() && held.console.is_none());
        // The console is the slave, which belongs to the user.
        let console = stat(&dir.path().join("dev/console")).unwrap();
        let slave = stat(&dir.path().join("dev/pts/0")).unwrap();
        assert_eq!((console.st_rdev, console.st_uid, console.st_gid), (slave.st_rdev, 1000, 5));
        // A new session takes it on.
        let old = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
        nix::unistd::setsid().unwrap();
        actions[3].apply(&mut held).unwrap();
        nix::unistd::write(std::io::stdout(), b"a\nb\n").unwrap();
        let mut text = [0; 16];
        let length = nix::unistd::read(&master, &mut text).unwrap();
        let tty = std::fs::File::open("/dev/tty").is_ok();
        // stdout is the new terminal by now: what is said must go the old way.
        dup2_stdout(&old).unwrap();
        // Closed, it would hang up on this session before the verdict.
        std::mem::forget(master);
        assert_eq!((&text[..length], tty), (&b"a\nb\n"[..], true));
    });
}

#[test]
fn what_is_not_a_terminal_of_the_container_is_refused() {
    if !is_root() {
        return;
    }
    alone("setup::terminal::tests::what_is_not_a_terminal_of_the_container_is_refused", || {
        let (dir, mut held) = root();
        let open = decide_exec(&process(0), Watcher::Socket).remove(0);
        let dev = dir.path().join("dev");
        // /dev/console leads elsewhere.
        open.apply(&mut held).unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "canary").unwrap();
        std::os::unix::fs::symlink("/victim", dev.join("console")).unwrap();
        let failure = Action::Console.apply(&mut held).unwrap_err();
        assert_eq!((failure.errno, std::fs::read(&victim).unwrap()), (Errno::ELOOP, b"canary".to_vec()));
        // ptmx is another device, then a fifo, then not there.
        let because = |held: &mut Held| open.apply(held).unwrap_err().because.unwrap();
        let ptmx = dev.join("pts/ptmx");
        mount_at(Some("/dev/null"), &ptmx, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let wrong = "process.terminal: /dev/pts/ptmx of the container is not the multiplexer of a devpts";
        assert_eq!(because(&mut held), wrong);
        nix::mount::umount(&ptmx).unwrap();
        drop((held.terminal.take(), held.master.take()));
        nix::mount::umount(&dev.join("pts")).unwrap();
        nix::unistd::mkfifo(&ptmx, Mode::from_bits_truncate(0o666)).unwrap();
        assert_eq!(because(&mut held), wrong);
        std::fs::remove_file(&ptmx).unwrap();
        assert!(because(&mut held).contains("no devpts mounted"));
    });
}

#[test]
fn a_console_socket_may_have_a_long_path() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    for path in [dir.path().join("short"), long.join("socket")] {
        // Bound under a short name, then moved to the long one.
        let listener = UnixListener::bind(dir.path().join("bound")).unwrap();
        std::fs::rename(dir.path().join("bound"), &path).unwrap();
        let console = connect(&path).unwrap();
        let pty = nix::pty::openpty(None, None).unwrap();
        send_master(&console, &pty.master).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let message = socket::receive(&accepted).unwrap().unwrap();
        assert!(message.bytes.starts_with(b"/dev/pts/"));
        assert_eq!(tty::number(message.fd.unwrap()), tty::number(&pty.master));
    }
    let because = connect(&dir.path().join("none")).unwrap_err().because.unwrap();
    assert!(because.ends_with("/none: no such file or directory"), "{because}");
}
