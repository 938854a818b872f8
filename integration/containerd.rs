//! The same binary under containerd: `ctr run --runc-binary`.
//!
//! A containerd of the test's own: its root, state and socket lie in the session's folder, and its namespace bears the
//! test's id, so that cgroups (`/ID/NAME`) and shims are found by it.

use crate::harness::{Bundle, Call, Out, Running, host, soon};

struct Containerd<'a> {
    b: &'a Bundle,
    daemon: Option<Running>,
    image: String,
}

/// Starts one, with an image of busybox. `Err` says what is missing here.
fn containerd(b: &Bundle) -> Result<Containerd<'_>, String> {
    for program in ["containerd", "ctr", "umoci", "containerd-shim-runc-v2"] {
        if !host::has_program(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let home = b.home.display();
    // An image without a network: an empty one and a layer with the bundle's root.
    b.shell(
        "umoci init --layout image && umoci new --image image:box && umoci unpack --image image:box unpacked &&
         rm -rf unpacked/rootfs && cp -a bundle/rootfs unpacked/rootfs &&
         umoci config --image image:box --config.env PATH=/bin --config.cmd sh &&
         umoci repack --image image:box unpacked && tar -C image -cf image.tar . && rm -rf unpacked image",
    )
    .ok();
    std::fs::write(
        b.path("config.toml"),
        format!(
            "version = 2\nroot = \"{home}/croot\"\nstate = \"{home}/cstate\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = \"{home}/c.sock\"\n[ttrpc]\n  address = \"{home}/c.sock.ttrpc\"\n"
        ),
    )
    .unwrap();
    let daemon = b.host("containerd").args(["-c", "config.toml"]).spawn();
    let mut c = Containerd { b, daemon: Some(daemon), image: String::new() };
    if !soon(|| c.ctr(["version"]).run().status == 0) {
        return Err("containerd does not start here".into());
    }
    c.ctr(["image", "import", "--base-name", "example/box", "--snapshotter", "native", "image.tar"]).run().ok();
    c.image = c.ctr(["image", "ls", "-q"]).run().ok().text().to_owned();
    Ok(c)
}

impl Containerd<'_> {
    fn ctr<'s>(&self, words: impl IntoIterator<Item = &'s str>) -> Call {
        let socket = self.b.path("c.sock");
        self.b.host("ctr").args(["--address", socket.to_str().unwrap(), "--namespace", &self.b.id]).args(words)
    }

    fn run(&self, options: &[&str], name: &str, args: &[&str]) -> Out {
        let binary = self.b.binary.to_str().unwrap();
        let words = ["run", "--snapshotter", "native", "--runc-binary", binary];
        let call = || self.ctr(words).args(options).args([&self.image, name]).args(args).run();
        let out = call();
        // ctr's: now and then it has left before what a short program wrote was copied. Seen once, with runc; of Corten none of it is forgiven.
        let again = !crate::harness::runtime().is_corten() && options.contains(&"--rm");
        if again && out.status == 0 && out.out.is_empty() { call() } else { out }
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(nix::sys::signal::SIGTERM);
            soon(|| crate::harness::processes_of(&self.b.id).is_empty());
        }
        // What a client's namespace makes above a container is the client's: the runtime removes its own only.
        let ours = format!("/{}", self.b.id);
        for dir in host::cgroups_named(&self.b.id) {
            if dir.to_string_lossy().ends_with(&ours) {
                let _ = std::fs::remove_dir(dir);
            }
        }
    }
}

#[test]
fn runs_execs_kills_removes() {
    // ctr's own configuration has cpu.shares.
    needs_controller!("cpu");
    let b = Bundle::busybox();
    let c = match containerd(&b) {
        Ok(c) => c,
        Err(why) => skip!("{why}"),
    };
    c.run(&["--rm"], "one", &["echo", "hello"]).ok().stdout("hello\n");
    c.run(&["--rm"], "two", &["sh", "-c", "exit 7"]).code(7);

    c.run(&["--detach"], "web", &["sleep", "1000"]).ok();
    c.ctr(["task", "ls"]).run().ok().stdout_has("RUNNING");
    c.ctr(["task", "exec", "--exec-id", "e1", "web", "echo", "from exec"]).run().ok().stdout("from exec\n");
    c.ctr(["task", "exec", "--exec-id", "e2", "web", "sh", "-c", "exit 5"]).run().code(5);
    c.ctr(["task", "ps", "web"]).run().ok();
    c.ctr(["task", "pause", "web"]).run().ok();
    c.ctr(["task", "ls"]).run().ok().stdout_has("PAUSED");
    c.ctr(["task", "resume", "web"]).run().ok();
    // The first process of a pid namespace ignores TERM: KILL.
    c.ctr(["task", "kill", "--signal", "SIGKILL", "web"]).run().ok();
    assert!(soon(|| c.ctr(["task", "ls"]).run().out.contains("STOPPED")));
    c.ctr(["task", "delete", "web"]).run();
    c.ctr(["container", "delete", "web"]).run().ok();
    assert_eq!(c.ctr(["task", "ls", "-q"]).run().ok().out, "");
}

#[test]
fn limits_networks_and_mounts() {
    // ctr's own configuration has cpu.shares.
    needs_controller!("cpu");
    let b = Bundle::busybox();
    let c = match containerd(&b) {
        Ok(c) => c,
        Err(why) => skip!("{why}"),
    };
    let data = b.mkdir("data");
    std::fs::write(data.join("f"), "of the host\n").unwrap();
    let mount = format!("type=bind,src={},dst=/data,options=rbind:ro", data.display());
    c.run(&["--rm", "--mount", &mount], "mounted", &["cat", "/data/f"]).ok().stdout("of the host\n");
    c.run(&["--rm", "--net-host"], "hosted", &["readlink", "/proc/self/ns/net"])
        .ok()
        .stdout(&format!("{}\n", std::fs::read_link("/proc/self/ns/net").unwrap().display()));
    c.run(&["--rm", "--env", "A=b", "--cwd", "/tmp"], "env", &["sh", "-c", "echo $A; pwd"]).ok().stdout("b\n/tmp\n");
    c.run(&["--rm", "--privileged"], "mighty", &["sh", "-c", "mount -t tmpfs x /mnt && echo mounted"])
        .ok()
        .stdout("mounted\n");
    c.run(&["--rm", "--seccomp"], "filtered", &["grep", "^Seccomp:", "/proc/self/status"]).ok().stdout("Seccomp:\t2\n");
    if host::has_controller("memory") {
        c.run(&["--detach", "--memory-limit", "67108864"], "limited", &["sleep", "1000"]).ok();
        let file = if host::layout() == host::Layout::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        let read = host::read(host::cgroup(&b.id, "memory").join("limited").join(file));
        c.ctr(["task", "kill", "--signal", "SIGKILL", "limited"]).run().ok();
        assert!(soon(|| c.ctr(["task", "ls"]).run().out.contains("STOPPED")));
        c.ctr(["task", "delete", "limited"]).run();
        c.ctr(["container", "delete", "limited"]).run().ok();
        assert_eq!(read, "67108864\n");
    }
}

#[test]
fn what_a_client_shows_of_our_errors() {
    // ctr's own configuration has cpu.shares.
    needs_controller!("cpu");
    let b = Bundle::busybox();
    let c = match containerd(&b) {
        Ok(c) => c,
        Err(why) => skip!("{why}"),
    };
    // The shim shows the last error of the JSON log.
    c.run(&["--rm"], "bad", &["no-such-program"])
        .fails()
        .stderr_has("no-such-program")
        .stderr_has_one_of(&["no such file or directory", "executable file not found"]);
    let out = c.run(&["--rm", "--mount", "type=bind,src=/no/such,dst=/x,options=rbind"], "bad2", &["true"]);
    out.fails().stderr_has("/no/such");
}
