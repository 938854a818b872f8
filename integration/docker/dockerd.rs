//! A dockerd of a test's own: its data, its socket, its containerd and its cgroup bear the test's names.
//!
//! By hand: `dockerd --data-root D --exec-root E -H unix://S`, then `docker -H unix://S …`.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Dockerd {
    directory: PathBuf,
    process: Child,
    cgroup: String,
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // SIGTERM lets it end its own containerd.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        // What it leaves behind: the host's network namespace as a mount, and its cgroups.
        let _ = Command::new("umount").arg(self.at("exec/netns/default")).stderr(Stdio::null()).status();
        let _ = Command::new("sh")
            .args(["-c", &format!("rmdir /sys/fs/cgroup/{0} /sys/fs/cgroup/*/{0} 2>/dev/null", self.cgroup)])
            .status();
    }
}

impl Dockerd {
    /// Starts it by this command, which is `dockerd` or ends in executing it, with these settings besides those of every test.
    pub fn start(mut command: Command, directory: &Path, cgroup: &str, settings: &Value) -> Result<Dockerd, String> {
        for program in ["dockerd", "docker", "containerd"] {
            let found =
                Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                return Err(format!("{program} is not installed"));
            }
        }
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can run dockerd".to_owned());
        }
        let at = |name: &str| directory.join(name);
        let mut configuration = json!({
            "data-root": at("data"), "exec-root": at("exec"), "pidfile": at("pid"),
            "hosts": [format!("unix://{}", at("sock").display())],
            "exec-opts": ["native.cgroupdriver=cgroupfs"], "cgroup-parent": cgroup, "bridge": "none", "iptables": false,
        });
        for (key, value) in settings.as_object().into_iter().flatten() {
            configuration[key] = value.clone();
        }
        std::fs::write(at("daemon.json"), configuration.to_string()).map_err(|e| e.to_string())?;
        let log = std::fs::File::create(at("log")).map_err(|e| e.to_string())?;
        command.arg("--config-file").arg(at("daemon.json")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().map_err(|e| e.to_string())?;
        let mut daemon = Dockerd { directory: directory.to_owned(), process, cgroup: cgroup.to_owned() };
        let begin = Instant::now();
        while !daemon.ask(&["version"]).is_ok_and(|out| out.contains("Server")) {
            let gone = daemon.process.try_wait().is_ok_and(|status| status.is_some());
            if gone || begin.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(at("log")).unwrap_or_default();
                return Err(format!("dockerd does not come up here: {}", log.lines().last().unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    /// One of its files: `sock`, `exec/containerd/containerd.sock`.
    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The client.
    pub fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.at("sock").display())).current_dir("/tmp");
        command
    }

    /// What the client says, or complains of.
    pub fn ask(&self, words: &[&str]) -> Result<String, String> {
        let out = self.client().args(words).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }
}
