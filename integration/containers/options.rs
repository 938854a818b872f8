//! Each option of `run IMAGE`: a command line, and what the program inside sees of it.

use super::kit::{Place, place};
use std::fs;
use std::path::Path;

/// What the program's output is.
#[derive(Clone, Copy, Debug)]
pub enum Sees<'a> {
    /// This, and nothing else.
    Just(&'a str),
    /// This among other things.
    Among(&'a str),
    /// Not this.
    Not(&'a str),
}
pub use Sees::{Among, Just, Not};

/// Runs the script in the place's image, and looks at what it printed. Its errors are output too.
#[track_caller]
pub fn sees(place: &Place, options: &[&str], script: &str, expected: Sees) {
    let done = run(place, options, script);
    let out = done.out.trim_end();
    let fits = match expected {
        Just(text) => out == text,
        Among(text) => out.contains(text),
        Not(text) => !out.contains(text) && !out.is_empty(),
    };
    assert!(fits, "{options:?} {script:?}: {out:?} is not {expected:?}; {} {}", done.code, done.err);
}

/// Busybox's programs that the image has no links for are its first words.
pub fn run(place: &Place, options: &[&str], script: &str) -> super::kit::Done {
    let (image, script) = (place.image(), format!("exec 2>&1; {script}"));
    let words = ["run", "--rm"].into_iter().chain(options.iter().copied());
    let words: Vec<&str> = words.chain([image.as_str(), "sh", "-c", script.as_str()]).collect();
    let done = place.command("root").current_dir(place.path("")).env("MINE", "caller's").args(words).output();
    done.unwrap().into()
}

/// Nothing was run, and the error says why.
#[track_caller]
pub fn refused(place: &Place, options: &[&str], why: &str) {
    let done = run(place, options, "echo ran");
    assert!(done.code == 125 && done.out.is_empty(), "{options:?}: {} {}{}", done.code, done.out, done.err);
    assert!(done.err.contains(why), "{options:?}: {why:?} is not in: {}", done.err);
}

const HOST: &str = "/proc/self/ns";

fn own_namespace(kind: &str) -> String {
    fs::read_link(Path::new(HOST).join(kind)).unwrap().display().to_string()
}

#[test]
fn the_programs_surroundings() {
    let Some(place) = place() else { return };
    fs::write(place.path("vars"), "X=1\n# no\nY=two words\nMINE\nNOBODYS\n").unwrap();
    for (options, script, expected) in [
        (&["-e", "C=d", "-e", "MINE", "-e", "A"][..], "echo $C/$MINE/${A-gone}", Just("d/caller's/gone")),
        (&["--env-file", "vars", "-e", "X=2"], "echo $X/$Y/$MINE/${NOBODYS-unset}", Just("2/two words/caller's/unset")),
        (&["-w", "/made/here"], "pwd", Just("/made/here")),
        (&["-u", "7:8"], "id -u; id -g", Just("7\n8")),
        (&["-u", "root"], "echo $HOME", Just("/root")),
        (&["--hostname", "box"], "busybox hostname; cat /etc/hostname; echo $HOSTNAME", Just("box\nbox\nbox")),
        (&["-h", "box"], "busybox hostname", Just("box")),
        (&["--add-host", "db:10.1.2.3", "--add-host", "six=[::1]"], "cat /etc/hosts", Among("10.1.2.3\tdb\n::1\tsix")),
        (
            &["--dns", "9.9.9.9", "--dns", "1.1.1.1"],
            "busybox grep name /etc/resolv.conf",
            Just("nameserver 9.9.9.9\nnameserver 1.1.1.1"),
        ),
        (
            &["--ulimit", "nofile=100:200", "--ulimit", "core=0"],
            "ulimit -Sn; ulimit -Hn; ulimit -c",
            Just("100\n200\n0"),
        ),
        (&["--platform", "linux"], "echo here", Just("here")),
        (&["--pull", "never"], "echo here", Just("here")),
        (&["--userns", "host", "--restart", "no"], "busybox readlink /proc/self/ns/user", Just(&own_namespace("user"))),
        (&["-i", "-i", "--rm=false", "--rm"], "echo here", Just("here")),
    ] {
        sees(&place, options, script, expected);
    }
    assert_eq!(place.stored("containers").len(), 0, "the last --rm counts");
}

#[test]
fn namespaces_of_the_host_and_of_ones_own() {
    let Some(place) = place() else { return };
    for (option, kind, words) in [
        ("--network=host", "net", ""),
        ("--pid=host", "pid", ""),
        ("--ipc=host", "ipc", ""),
        ("--uts=host", "uts", ""),
        ("--cgroupns=host", "cgroup", ""),
        ("--network=none", "net", "own"),
        ("--ipc=private", "ipc", "own"),
        ("--ipc=shareable", "ipc", "own"),
        ("--label=x", "pid", "own"),
        ("--label=x", "uts", "own"),
        ("--label=x", "mnt", "own"),
    ] {
        let own = own_namespace(kind);
        let expected = if words == "own" { Not(&own) } else { Just(&own) };
        sees(&place, &[option], &format!("busybox readlink /proc/self/ns/{kind}"), expected);
    }
    // The network is the host's unless something else is said.
    sees(&place, &[], "busybox readlink /proc/self/ns/net", Just(&own_namespace("net")));
    sees(&place, &["--network", "none"], "busybox ls /sys/class/net", Just("lo"));
    sees(&place, &["--network", "none"], "busybox ping -c 1 -q 127.0.0.1", Among(" 0% packet loss"));
    sees(&place, &["--network", "none"], "cat /etc/hosts", Among("127.0.0.1\tlocalhost"));
    sees(&place, &["--ipc", "none"], "busybox test -e /dev/shm || echo none", Just("none"));
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" /dev/shm ");
    if host {
        let marker = tempfile::Builder::new().prefix("corten-options-").tempdir_in("/dev/shm").unwrap();
        sees(
            &place,
            &["--ipc", "host"],
            "busybox ls /dev/shm",
            Among(marker.path().file_name().unwrap().to_str().unwrap()),
        );
    }
    sees(&place, &["--shm-size", "1m"], "busybox df /dev/shm", Among(" 1024 "));
    sees(
        &place,
        &["--network=none", "--sysctl", "net.ipv4.ip_forward=1"],
        "cat /proc/sys/net/ipv4/ip_forward",
        Just("1"),
    );
    sees(&place, &["--sysctl", "kernel.shmmax=12345"], "cat /proc/sys/kernel/shmmax", Just("12345"));
}

#[test]
fn another_containers_namespaces() {
    let Some(place) = place() else { return };
    let web = place.begin(
        "web",
        &["--network", "none", "--hostname", "webhost"],
        "echo hello >/dev/shm/word; exec sleep 1000",
    );
    let prefix = place.id("web")[..6].to_owned();
    let pid = place.pid("web");
    for (option, kind) in [("network", "net"), ("pid", "pid"), ("ipc", "ipc")] {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
        for word in ["web", &prefix] {
            let option = format!("--{option}=container:{word}");
            sees(&place, &[&option], &format!("busybox readlink /proc/self/ns/{kind}"), Just(&theirs));
        }
    }
    sees(&place, &["--network=container:web"], "busybox hostname; cat /etc/hostname", Just("webhost\nwebhost"));
    sees(&place, &["--pid=container:web"], "busybox ps", Among("sleep 1000"));
    // One /dev/shm, for reading and for writing.
    sees(&place, &["--ipc=container:web"], "cat /dev/shm/word; echo back >/dev/shm/answer", Just("hello"));
    assert_eq!(place.ok(&["exec", "web", "cat", "/dev/shm/answer"]), "back\n");
    sees(&place, &[], "busybox ls -A /dev/shm; echo end", Just("end"));
    for (options, why) in [
        (&["--network=container:web", "--dns=1.1.1.1"][..], "--dns: is decided by the container web"),
        (&["--network=container:web", "--hostname=x"], "--hostname x: is decided"),
        (&["--network=container:web", "-p", "80:80"], "-p: is decided"),
        (&["--ipc=container:nobody"], "no container nobody is running"),
        (&["--pid=container:we"], "no container we is running"),
    ] {
        refused(&place, options, why);
    }
    place.ok(&["stop", "-t", "0", "web"]);
    super::kit::ended(web);
    refused(&place, &["--ipc=container:web"], "no container web is running");
    // Of one without /dev/shm only the namespace is shared.
    let bare = place.begin("bare", &["--ipc", "none"], "exec sleep 1000");
    sees(&place, &["--ipc=container:bare"], "busybox test -e /dev/shm || echo none", Just("none"));
    place.ok(&["stop", "-t", "0", "bare"]);
    super::kit::ended(bare);
}

#[test]
fn mounts_and_a_root_that_is_read_only() {
    let Some(place) = place() else { return };
    fs::create_dir(place.path("given")).unwrap();
    fs::write(place.path("given/file"), "data\n").unwrap();
    let given = place.path("given").display().to_string();
    let bind = format!("type=bind,source={given},target=/m");
    for (options, script, expected) in [
        (&["-v", &format!("{given}:/m")][..], "cat /m/file; echo w >/m/written", Just("data")),
        (&["-v", "./given:/m:ro"], "cat /m/file; touch /m/x", Among("data\ntouch: /m/x: Read-only file system")),
        (&["-v", "./new/deep:/m"], "busybox ls -d /m", Just("/m")),
        (&["--mount", &bind], "echo w2 >>/m/written; cat /m/written", Just("w\nw2")),
        (&["--mount", &format!("{bind},readonly")], "touch /m/x", Among("Read-only file system")),
        (
            &["--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700"],
            "busybox stat -c %a /t; busybox df /t",
            Among(" 1024 "),
        ),
        (
            &["--tmpfs", "/t:size=2m,mode=750,exec"],
            "busybox stat -c %a /t; busybox grep ' /t ' /proc/mounts",
            Among("750\ntmpfs /t tmpfs rw,nosuid,nodev,relatime,size=2048k"),
        ),
        (&["--tmpfs", "/t"], "busybox grep ' /t ' /proc/mounts", Among("nosuid,nodev,noexec")),
        (&["--read-only"], "touch /x; touch /dev/shm/y && echo shm", Just("touch: /x: Read-only file system\nshm")),
        (&["--read-only", "--tmpfs", "/tmp"], "touch /tmp/x && echo made", Just("made")),
        (&["-v", "./given/file:/etc/hosts:ro"], "cat /etc/hosts", Just("data")),
    ] {
        sees(&place, options, script, expected);
    }
    assert_eq!(fs::read_to_string(place.path("given/written")).unwrap(), "w\nw2\n");
    assert!(place.path("new/deep").is_dir(), "-v makes what is missing");
    refused(&place, &["--mount", "type=bind,source=/no/such,target=/m"], "/no/such does not exist");
    refused(&place, &["-v", "/data"], "-v /data: a volume without a name is not in this version");
    refused(&place, &["-v", "data:/m"], "named volumes (data) are not in this version");
}

#[test]
fn the_reaper_is_a_copy_of_the_program_and_nothing_of_the_hosts() {
    let Some(place) = place() else { return };
    sees(&place, &["--init"], "cat /proc/1/comm; echo $$", Among("docker-init\n"));
    sees(
        &place,
        &["--init"],
        "busybox test -f /sbin/docker-init && busybox grep -c /sbin/docker-init /proc/mounts",
        Just("1"),
    );
    sees(
        &place,
        &["--init"],
        "sh -c 'sleep 0.1 & exit'; sleep 0.5; busybox grep -l '^State:.Z' /proc/[0-9]*/status",
        Among(""),
    );
    assert_eq!(run(&place, &["--init"], "exit 4").code, 4);
    assert_eq!(run(&place, &["--init"], "kill -TERM $$").code, 143);
    // Written to by nobody, not even by who may mount.
    let script = "busybox mount -o remount,rw /sbin/docker-init; echo x >>/sbin/docker-init || echo refused";
    sees(&place, &["--init", "--cap-add=SYS_ADMIN"], script, Among("refused"));
}

#[test]
fn a_terminal_where_there_is_one() {
    let Some(place) = place() else { return };
    refused(&place, &["-t"], "-t: the input device is not a TTY");
    let image = place.image();
    let mut script = place.command("root");
    let program = script.get_program().to_owned();
    let line = format!(
        "{} --root {} run --rm -it {image} sh -c 'busybox tty; echo $TERM'",
        program.display(),
        place.path("root").display()
    );
    // script(1) has a terminal for it.
    script = std::process::Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .env("CORTEN_STORE", place.path("store"))
        .stdin(std::process::Stdio::null());
    let Ok(done) = script.output() else {
        eprintln!("skipped: needs the program script");
        return;
    };
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(out.contains("/dev/pts/0\r\nxterm\r\n"), "{out:?}");
}

#[test]
fn what_has_no_effect_is_said_and_what_cannot_work_is_refused() {
    let Some(place) = place() else { return };
    let warned = |options: &[&str], words: &str| {
        let done = run(&place, options, "echo ran");
        assert!(done.out == "ran\n" && done.err.contains(words), "{options:?}: {}{}", done.out, done.err);
    };
    warned(&["-p", "80:80", "-P"], "-p 80:80 -P: published ports are discarded when using host network mode");
    warned(&["-p", "80:80", "--network=none"], "the container's network has no connection");
    for (options, why) in [
        (
            &["--network", "bridge"][..],
            "--network bridge: not in this version: there are host, none and container:NAME",
        ),
        (&["--network", "blue"], "--network blue"),
        (&["--pid", "x"], "--pid x: is neither host nor container:NAME"),
        (&["--uts", "x"], "--uts x"),
        (&["-d"], "-d: "),
        (&["--restart", "always"], "--restart always: not in this version"),
        (&["--gpus", "all"], "--gpus all: not in this version"),
        (&["--link", "db"], "--link db"),
        (&["--volumes-from", "db"], "--volumes-from db"),
        (&["--log-driver", "none"], "--log-driver none"),
        (&["--health-cmd", "true"], "--health-cmd true"),
        (&["--userns", "remap"], "--userns remap"),
        (&["--nonsense"], "unexpected argument '--nonsense'"),
        (&["--pull", "sometimes"], "--pull sometimes"),
        (&["--platform", "linux/s390x"], "asked was linux/s390x"),
        (&["--sysctl", "net.ipv4.ip_forward=1"], "there is no network namespace"),
        (&["--sysctl", "kernel.pid_max=9"], "belongs to the whole host"),
        (&["--ulimit", "nofile=2:1"], "the soft limit is above the hard one"),
        (&["-u", "nobody-here"], "not in the container's /etc/passwd"),
        (&["--name", "a/b"], "--name a/b"),
        (&["--env-file", "/no/such"], "--env-file /no/such: /no/such: no such file"),
        (&["--stop-signal", "NOPE"], "--stop-signal NOPE: is no signal"),
        (&["--cgroup-parent", "../x"], "has .. in it"),
        (&["--hostname", "a b"], "--hostname \"a b\""),
    ] {
        refused(&place, options, why);
    }
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
}
