//! Each option of `run IMAGE`: a command line, and what the program inside sees of it.

use super::kit::{Place, place};
use std::fs;
use std::path::Path;

/// What the program's output is.
#[derive(Clone, Copy, Debug)]
enum Sees<'a> {
    /// This, and nothing else.
    Just(&'a str),
    /// This among other things.
    Among(&'a str),
    /// Not this.
    Not(&'a str),
}
use Sees::{Among, Just, Not};

/// Runs the script in the place's image, and looks at what it printed. Its errors are output too.
#[track_caller]
fn sees(place: &Place, options: &[&str], script: &str, expected: Sees) {
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
fn run(place: &Place, options: &[&str], script: &str) -> super::kit::Done {
    let (image, script) = (place.image(), format!("exec 2>&1; {script}"));
    let words = ["run", "--rm"].into_iter().chain(options.iter().copied());
    let words: Vec<&str> = words.chain([image.as_str(), "sh", "-c", script.as_str()]).collect();
    let done = place.command("root").current_dir(place.path("")).env("MINE", "caller's").args(words).output();
    done.unwrap().into()
}

/// Nothing was run, and the error says why.
#[track_caller]
fn refused(place: &Place, options: &[&str], why: &str) {
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
    refused(&place, &["-v", "data:/m"], "named volumes (data) are not in this version");
}

#[test]
fn rights() {
    let Some(place) = place() else { return };
    fs::write(
        place.path("nodirs.json"),
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let status = |field: &str| format!("busybox grep '^{field}:' /proc/self/status");
    let (caps, mount) = (status("CapEff"), "busybox mount -t tmpfs x /tmp && echo mounted");
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let all = own.lines().find(|line| line.starts_with("CapPrm:")).unwrap().replace("CapPrm", "CapEff");
    for (options, script, expected) in [
        (&[][..], caps.as_str(), Just("CapEff:\t00000000a80425fb")),
        (&["--cap-drop", "ALL"], &caps, Just("CapEff:\t0000000000000000")),
        (&["--cap-drop", "ALL", "--cap-add", "CHOWN"], "busybox chown 1:1 /tmp && echo done", Just("done")),
        (&["--cap-drop=CHOWN"], "busybox chown 1:1 /tmp", Among("Operation not permitted")),
        (&["--cap-add=SYS_ADMIN"], mount, Just("mounted")),
        (&[], mount, Among("permission denied")),
        (&["--cap-add=ALL"], &caps, Just(&all)),
        (&["--privileged"], &caps, Just(&all)),
        (&["--privileged"], mount, Just("mounted")),
        (&["--privileged"], &status("Seccomp"), Just("Seccomp:\t0")),
        (
            &["--privileged"],
            "busybox test -w /proc/sys/kernel/hostname && busybox grep -c 'sysfs rw' /proc/mounts",
            Just("1"),
        ),
        (&["--privileged"], "busybox ls /dev", Among("loop-control")),
        (&[], "busybox ls /dev", Not("loop-control")),
        (&[], "busybox wc -c </proc/keys; busybox grep -c '/proc/sys proc ro' /proc/mounts", Just("0\n1")),
        (&["--security-opt", "systempaths=unconfined"], "busybox grep -c '/proc/sys' /proc/mounts", Just("0")),
        (&[], &status("Seccomp"), Just("Seccomp:\t2")),
        (&["--security-opt=seccomp=unconfined"], &status("Seccomp"), Just("Seccomp:\t0")),
        (&["--security-opt", "seccomp=nodirs.json"], "busybox mkdir /tmp/x", Among("Operation not permitted")),
        (&["--security-opt", "no-new-privileges"], &status("NoNewPrivs"), Just("NoNewPrivs:\t1")),
        (
            &["--security-opt", "label=disable", "--security-opt", "apparmor=unconfined"],
            &status("NoNewPrivs"),
            Just("NoNewPrivs:\t0"),
        ),
        (&["-u", "7"], &caps, Just("CapEff:\t0000000000000000")),
    ] {
        sees(&place, options, script, expected);
    }
    refused(&place, &["--cap-add=NOPE"], "NOPE");
    refused(&place, &["--security-opt", "seccomp=/no/such.json"], "no such file");
}

#[test]
fn devices() {
    let Some(place) = place() else { return };
    let zero = "busybox head -c 3 /dev/z | busybox wc -c";
    sees(&place, &["--device", "/dev/zero:/dev/z"], zero, Just("3"));
    sees(&place, &["--device", "/dev/zero:/dev/z:r"], "busybox stat -c %t:%T /dev/z", Just("1:5"));
    sees(&place, &[], zero, Among("No such file"));
    if Path::new("/dev/fuse").exists() {
        // Made by hand, the node is there, and what it leads to is not.
        sees(&place, &[], "busybox mknod /tmp/f c 10 229; cat </tmp/f", Among("Operation not permitted"));
        sees(&place, &["--device=/dev/fuse:/dev/f:w"], "cat </dev/f", Among("Operation not permitted"));
        // Opened; a read without a mount is what it refuses.
        sees(&place, &["--device=/dev/fuse:/dev/f:rw"], "exec 3<>/dev/f && echo open", Just("open"));
    }
    refused(&place, &["--device", "/dev/nope"], "--device /dev/nope: ");
}

/// Where the container finds its own limit, for each layout of cgroups.
struct Group {
    controller: &'static str,
    v1: &'static str,
    v2: &'static str,
}

#[test]
fn limits() {
    let Some(place) = place() else { return };
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok();
    let has = |controller: &str| match &unified {
        Some(all) => all.split_whitespace().any(|one| one == controller),
        None => Path::new("/sys/fs/cgroup").join(controller).exists(),
    };
    let group = |controller, v1, v2| Group { controller, v1, v2 };
    let processors = std::thread::available_parallelism().unwrap().get();
    for (options, place_of, v1, v2) in [
        (&["-m", "64m"][..], group("memory", "memory.limit_in_bytes", "memory.max"), "67108864", "67108864"),
        (&["-m", "64m"], group("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"), "134217728", "67108864"),
        (
            &["-m=64m", "--memory-swap=96m"],
            group("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
            "100663296",
            "33554432",
        ),
        (&["--cpus", "0.5"], group("cpu", "cpu.cfs_quota_us", "cpu.max"), "50000", "50000 100000"),
        (&["--cpu-shares", "512"], group("cpu", "cpu.shares", "cpu.weight"), "512", "59"),
        (&["--cpuset-cpus", "0"], group("cpuset", "cpuset.cpus", "cpuset.cpus"), "0", "0"),
        (&["--pids-limit", "9"], group("pids", "pids.max", "pids.max"), "9", "9"),
        (&["--pids-limit=-1"], group("pids", "pids.max", "pids.max"), "max", "max"),
    ] {
        if !has(place_of.controller) {
            // Not ignored: a limit that is forgotten is worse than none. No limit at all needs nobody.
            if options != ["--pids-limit=-1"] {
                refused(&place, options, place_of.controller);
            }
            continue;
        }
        let (file, expected) = match unified {
            Some(_) => (format!("/sys/fs/cgroup/{}", place_of.v2), v2),
            None => (format!("/sys/fs/cgroup/{}/{}", place_of.controller, place_of.v1), v1),
        };
        sees(&place, options, &format!("cat {file}"), Just(expected));
    }
    if has("cpuset") && processors > 1 {
        sees(&place, &["--cpuset-cpus", "1"], "busybox nproc", Just("1"));
    }
    if has("pids") {
        sees(&place, &["--pids-limit", "4"], "for i in 1 2 3 4 5 6; do sleep 1 & done", Among("can't fork"));
    }
    if has("memory") {
        let done = run(
            &place,
            &["-m", "16m", "--memory-swap", "16m"],
            "x=$(busybox head -c 60000000 /dev/zero | busybox tr '\\0' x)",
        );
        assert!(done.code == 137 && done.err.contains("memory limit"), "{} {}", done.code, done.err);
    }
    refused(&place, &["--cpus", "9999"], "is not between");
    refused(&place, &["--memory-swap", "1g"], "needs --memory");
    // Below that one; it stays, as a parent that had to be made does.
    let parent = format!("corten-options-{}", std::process::id());
    sees(
        &place,
        &["--cgroup-parent", &format!("/{parent}"), "--cgroupns=host"],
        "cat /proc/self/cgroup",
        Among(&format!(":/{parent}/")),
    );
    let made = std::iter::once("/sys/fs/cgroup".into())
        .chain(fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path()))
        .map(|hierarchy| hierarchy.join(&parent));
    for directory in made.filter(|path| path.exists()) {
        fs::remove_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    }
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
