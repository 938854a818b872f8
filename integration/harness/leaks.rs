//! What a test left on the host.
//!
//! Everything that a test makes carries its id: the session's folder, the cgroup, and through the folder every mount, every
//! command line and environment of the runtime. So tests can run beside one another, and each finds its own.

use super::{host, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};

/// The ids of the containers that a `--root` knows.
pub fn state_ids(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).map(|dir| dir.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let dirs = entries.iter().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    // What begins with a tilde is no id, but half-made or half-removed.
    dirs.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|name| !name.starts_with('~')).collect()
}

/// Finds what is left; `Err` lists it.
pub fn check(id: &str, home: &Path) -> Result<(), String> {
    let mut left = Vec::new();
    left.extend(mounts(id).into_iter().map(|m| format!("mount {m}")));
    left.extend(host::cgroups_named(id).iter().map(|d| format!("cgroup {}", d.display())));
    left.extend(inside(&home.join("root")).iter().map(|f| format!("state {}", f.display())));
    left.extend(inside(&home.join("tmp")).iter().map(|f| format!("temporary file {}", f.display())));
    for dir in ["/run/netns", "/tmp", "/run", "/dev/shm"] {
        let named = inside(Path::new(dir)).into_iter().filter(|f| f.to_string_lossy().contains(id) && *f != home);
        left.extend(named.map(|f| format!("file {}", f.display())));
    }
    // The parent of what was killed may take a moment to reap it; a zombie is not counted.
    if !within(super::seconds(2), || processes(id).is_empty()) {
        left.extend(processes(id).into_iter().map(|(pid, why)| format!("process {pid} ({why})")));
    }
    if left.is_empty() { Ok(()) } else { Err(left.join("\n  ")) }
}

/// Removes what is left by hand, so that a failed test does not disturb the next.
pub fn remove_all(id: &str, _home: &Path) {
    for (pid, _) in processes(id) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let mut places: Vec<String> =
        mounts(id).iter().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect();
    places.reverse();
    for place in places {
        let _ = nix::mount::umount2(place.as_str(), nix::mount::MntFlags::MNT_DETACH);
    }
    for dir in host::cgroups_named(id) {
        for file in ["freezer.state", "cgroup.freeze"] {
            let thawed = if file == "freezer.state" { "THAWED" } else { "0" };
            let _ = std::fs::write(dir.join(file), thawed);
        }
        for pid in host::read(dir.join("cgroup.procs")).split_whitespace() {
            if let Ok(pid) = pid.parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        within(super::seconds(1), || std::fs::remove_dir(&dir).is_ok() || !dir.exists());
    }
}

/// Lines of the host's mountinfo that carry the id.
fn mounts(id: &str) -> Vec<String> {
    host::read("/proc/self/mountinfo").lines().filter(|line| line.contains(id)).map(str::to_owned).collect()
}

/// What a directory holds.
pub fn inside(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).map(|dir| dir.flatten().map(|e| e.path()).collect()).unwrap_or_default()
}

/// Processes that carry the id in their cgroup, command line, environment or root, and which of these it is.
pub fn processes(id: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    let own_mounts = std::fs::read_link("/proc/self/ns/mnt").ok();
    for dir in inside(Path::new("/proc")) {
        let Some(pid) = dir.file_name().and_then(|n| n.to_str()?.parse::<i32>().ok()) else { continue };
        // The kernel's own threads, of which there are hundreds, execute nothing.
        let executes = || std::fs::read_link(dir.join("exe")).is_ok();
        if pid == 1 || pid == std::process::id() as i32 || !executes() || !host::alive(pid) {
            continue;
        }
        let has = |file: &str| host::read(dir.join(file)).contains(id);
        // Its root must be ours: any mount that leaks from a test appears in the mount namespaces of others too.
        let rooted = || {
            std::fs::read_link(dir.join("ns/mnt")).ok() != own_mounts
                && host::read(dir.join("mountinfo")).lines().any(|line| {
                    let words: Vec<_> = line.split(' ').collect();
                    words.len() > 4 && words[4] == "/" && words[3].contains(id)
                })
        };
        let why = if has("cgroup") {
            "in a cgroup"
        } else if has("cmdline") || has("environ") {
            "of the runtime"
        } else if rooted() {
            "in a root of ours"
        } else {
            continue;
        };
        found.push((pid, format!("{why}: {}", host::read(dir.join("cmdline")).replace('\0', " "))));
    }
    found
}
