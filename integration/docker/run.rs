//! The configurations, run: what the program inside finds.

use corten::docker::configure::{Container, Other};
use corten::docker::{Facts, Options, arguments, configure, here};
use corten::input::overrides::Caller;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory with a root of busybox, and the container's own directory beside it.
struct Place {
    directory: tempfile::TempDir,
    program: PathBuf,
}

const APPLETS: [&str; 16] = [
    "sh", "cat", "grep", "id", "ls", "true", "env", "pwd", "mount", "unshare", "hostname", "df", "ulimit", "echo",
    "stat", "touch",
];

impl Place {
    fn make() -> Result<Place, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root runs containers".to_owned());
        }
        let found = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = found.ok_or("busybox is not installed")?;
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        let root = directory.path().join("rootfs");
        for name in ["bin", "etc", "tmp", "own"] {
            std::fs::create_dir_all(root.join(name)).map_err(|e| e.to_string())?;
        }
        std::fs::copy(busybox, root.join("bin/busybox")).map_err(|e| e.to_string())?;
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).map_err(|e| e.to_string())?;
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:1000:100::/home/web:/bin/sh\n")
            .map_err(|e| e.to_string())?;
        std::fs::write(root.join("etc/group"), "root:x:0:\nusers:x:100:\nvideo:x:44:web\n")
            .map_err(|e| e.to_string())?;
        let built = std::env::var_os("CORTEN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_corten").into(), PathBuf::from);
        let program = std::path::absolute(built).map_err(|e| e.to_string())?;
        Ok(Place { directory, program })
    }

    fn configure(&self, line: &str, script: &str) -> Container {
        let command = clap::Command::new("run").disable_help_flag(true).no_binary_name(true).args(arguments());
        let words = line.split_whitespace().chain(["box", "sh", "-c", script]);
        let options = Options::typed(&command.try_get_matches_from(words).unwrap()).unwrap();
        let image =
            json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}, "config": {}});
        let rootfs = self.directory.path().join("rootfs");
        let read = |name: &str| std::fs::read(rootfs.join(name)).unwrap();
        let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let caller = Caller { dir: self.directory.path().to_owned(), ..Caller::default() };
        let facts = Facts {
            id: &here::new_id().unwrap(),
            rootfs: &rootfs,
            directory: self.directory.path(),
            passwd: &read("etc/passwd"),
            group: &read("etc/group"),
            caller: &caller,
            hostname: &name,
            arch: here::ARCH,
            kernel: (6, 12),
            processors: &here::processors,
            held: here::held(),
            program: &self.program,
            read: &|path| std::fs::read(path).map_err(|e| corten::error::Error::new(e.to_string())),
            devices: &here::devices,
            container: &|_| Ok(Other::default()),
        };
        configure(&serde_json::from_value(image).unwrap(), &options, &facts).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    /// Runs a script in a container with these options.
    fn run(&self, line: &str, script: &str) -> Output {
        let made = self.configure(line, script);
        for file in &made.files {
            std::fs::write(&file.path, &file.content).unwrap();
        }
        std::fs::write(self.directory.path().join("config.json"), &made.raw).unwrap();
        let state = self.directory.path().join("state");
        let id = format!("docker-run-{}-{}", std::process::id(), self.directory.path().file_name().unwrap().display());
        Command::new(&self.program)
            .arg("--root")
            .arg(state)
            .args(["run", "--bundle"])
            .arg(self.directory.path())
            .arg(id)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn prints(&self, line: &str, script: &str, expected: &str) {
        let out = self.run(line, script);
        let text = String::from_utf8_lossy(&out.stdout);
        assert_eq!(text, expected, "{line}: {script}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

macro_rules! place {
    () => {
        match Place::make() {
            Ok(place) => place,
            Err(why) => {
                let _ = writeln!(std::io::stderr(), "skip: docker run: {why}");
                return;
            }
        }
    };
}

#[test]
fn a_plain_container() {
    let place = place!();
    place.prints("", "id; pwd; echo $HOME $FOO", "uid=0(root) gid=0(root) groups=0(root)\n/\n/root\n");
    // 14 capabilities, a filter, no rights to mount, and what is hidden is hidden.
    place.prints(
        "",
        "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status",
        "CapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\n",
    );
    place.prints("", "unshare -m true 2>/dev/null; echo $?; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v :; echo x 2>/dev/null > /proc/sys/kernel/hostname; echo $?", "1\n\n1\n");
    place.prints("", "stat -c %a /etc/hosts; grep -c . /etc/resolv.conf >/dev/null; hostname > /tmp/h; cat /tmp/h /etc/hostname | grep -c .", "644\n2\n");
}

#[test]
fn users_and_mounts() {
    let place = place!();
    std::fs::create_dir(place.directory.path().join("source")).unwrap();
    std::fs::write(place.directory.path().join("source/f"), "mine\n").unwrap();
    place.prints(
        "-u web",
        "id; grep CapEff /proc/self/status; echo $HOME",
        "uid=1000(web) gid=100(users) groups=44(video),100(users)\nCapEff:\t0000000000000000\n/home/web\n",
    );
    place.prints("-v ./source:/a/b:ro", "cat /a/b/f; touch /a/b/g 2>/dev/null; echo $?", "mine\n1\n");
    place.prints(
        "--read-only --tmpfs /tmp",
        "touch /x 2>/dev/null; echo $?; touch /tmp/x; echo $?; (echo >> /etc/hosts) 2>/dev/null; echo $?",
        "1\n0\n1\n",
    );
    place.prints("--shm-size 1m", "df -k /dev/shm | grep -c ' 1024 '", "1\n");
    place.prints("--mount type=tmpfs,target=/own,tmpfs-size=64k", "df -k /own | grep -c ' 64 '", "1\n");
}

#[test]
fn networks_and_namespaces() {
    let place = place!();
    place.prints(
        "--network none --add-host db:10.0.0.7",
        "ls /sys/class/net | grep -v bonding; grep db /etc/hosts; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "lo\n10.0.0.7\tdb\n0\n",
    );
    let host = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    place.prints("", "ls -l /proc/self/ns/net | grep -o 'net:.*'", &format!("{host}\n"));
    place.prints("--hostname box", "hostname; cat /etc/hostname; echo $HOSTNAME", "box\nbox\nbox\n");
    place.prints("--dns 9.9.9.9", "grep nameserver /etc/resolv.conf", "nameserver 9.9.9.9\n");
    let own = std::process::id();
    place.prints("--pid host", &format!("ls -d /proc/{own}"), &format!("/proc/{own}\n"));
    place.prints("--uts host", "hostname", &format!("{}\n", nix::unistd::gethostname().unwrap().display()));
    place.prints("--sysctl kernel.shmmax=4096", "cat /proc/sys/kernel/shmmax", "4096\n");
}

#[test]
fn limits() {
    let place = place!();
    place.prints("--ulimit nofile=10:20", "ulimit -Sn; ulimit -Hn", "10\n20\n");
    let all = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes";
    place.prints(
        "-m 64m --pids-limit 9",
        &format!("cat {all} 2>/dev/null; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null"),
        "67108864\n9\n",
    );
}

#[test]
fn privileges() {
    let place = place!();
    place.prints("--privileged", "grep Seccomp: /proc/self/status; ls -d /dev/null; mount -t tmpfs x /tmp && echo mounted; ls /proc/acpi >/dev/null 2>&1", "Seccomp:\t0\n/dev/null\nmounted\n");
    place.prints(
        "--cap-drop ALL --security-opt no-new-privileges",
        "grep -E 'CapBnd|NoNewPrivs' /proc/self/status",
        "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n",
    );
    place.prints("--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", "Seccomp:\t0\n");
    place.prints("--cap-add SYS_ADMIN", "unshare -m true; echo $?", "0\n");
    place.prints("--device /dev/null:/dev/mine:r", "cat /dev/mine; stat -c %F /dev/mine", "character special file\n");
}

#[test]
fn init() {
    let place = place!();
    // Inside there is no dynamic loader.
    let elf = std::fs::read(&place.program).unwrap();
    if elf.windows(16).any(|window| window == b"/lib64/ld-linux-") {
        let _ = writeln!(std::io::stderr(), "skip: docker run: --init needs a static binary: set CORTEN_BIN");
        return;
    }
    place.prints("--init", "cat /proc/1/cmdline | grep -o '^/sbin/docker-init'; exit 3", "/sbin/docker-init\n");
    assert_eq!(place.run("--init", "exit 3").status.code(), Some(3));
    assert_eq!(place.run("--init --entrypoint /nope", "").status.code(), Some(127));
    // The host's binary cannot be written from inside.
    place.prints("--init", "(echo x > /sbin/docker-init) 2>/dev/null; echo $?", "1\n");
}
