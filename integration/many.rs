//! Many containers at once.

use crate::harness::{Bundle, host, runtime, slow, soon};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// How many: runc takes ten times as long for each, and so does a machine that is emulated.
fn number() -> usize {
    if runtime().is_corten() && slow() == 1 { 200 } else { 40 }
}

/// 200 containers that live at the same time, started 8 at a time; every exit code is right, nothing is left.
#[test]
fn two_hundred_at_once() {
    let b = Bundle::busybox().sh("while ! test -e /go; do sleep 1; done; exit 0");
    b.write_config();
    let count = number();
    let ids: Vec<_> = (0..count).map(|n| format!("{}-{n:03}", b.id)).collect();
    // A configuration of its own for each, beside the one root.
    for (n, id) in ids.iter().enumerate() {
        let dir = b.mkdir(&format!("bundles/{n}"));
        let mut spec = b.spec.clone();
        spec["linux"]["cgroupsPath"] = format!("/{id}").into();
        spec["root"]["path"] = b.rootfs().to_str().into();
        spec["process"]["args"] =
            serde_json::json!(["sh", "-c", format!("while ! test -e /go; do sleep 1; done; exit {}", n % 100)]);
        std::fs::write(dir.join("config.json"), spec.to_string()).unwrap();
    }
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let runs = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(id) = ids.get(n) else { break };
                    let bundle = b.path(&format!("bundles/{n}"));
                    let mut run = b
                        .call(["run", "-b", bundle.to_str().unwrap(), id])
                        .timeout(crate::harness::timeout() * 6)
                        .spawn();
                    // The next one starts when this one runs.
                    let up = soon(|| run.has_ended() || b.status(id) == "running");
                    assert!(up && !run.has_ended(), "{id} does not run: {}", run.stderr());
                    runs.lock().unwrap().push((n, run));
                }
            });
        }
    });
    assert_eq!(b.cli(["list", "-q"]).ok().lines().len(), count, "all live at once");
    let took = start.elapsed();
    std::fs::write(b.in_rootfs("go"), "").unwrap();
    for (n, run) in runs.into_inner().unwrap() {
        run.wait().code((n % 100) as i32).silent();
    }
    assert_eq!(b.cli(["list", "-q"]).ok().out, "");
    assert!(host::cgroups_named(&b.id).is_empty());
    eprintln!("{count} containers were up after {took:?}");
}

/// create, start, exec, kill, delete by 8 at a time.
#[test]
fn whole_lives_in_parallel() {
    let all: Vec<_> = (0..8).map(|_| Bundle::busybox().args(["sleep", "1000"])).collect();
    let rounds = if runtime().is_corten() && slow() == 1 { 10 } else { 3 };
    std::thread::scope(|scope| {
        for b in &all {
            scope.spawn(move || {
                for n in 0..rounds {
                    let c = b.start();
                    c.sh(&format!("exit {n}")).code(n);
                    c.stop();
                    c.delete().ok();
                }
            });
        }
    });
}

/// One `--root` for all.
#[test]
fn one_root_for_all() {
    let b = Bundle::busybox();
    b.write_config();
    let count = if runtime().is_corten() && slow() == 1 { 48 } else { 16 };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    let id = format!("{}-{n:03}", b.id);
                    let dir = b.mkdir(&format!("bundles/{n}"));
                    let mut spec = b.spec.clone();
                    spec["linux"]["cgroupsPath"] = format!("/{id}").into();
                    spec["root"]["path"] = b.rootfs().to_str().into();
                    std::fs::write(dir.join("config.json"), spec.to_string()).unwrap();
                    b.cli(["create", "-b", dir.to_str().unwrap(), &id]).ok();
                    b.cli(["start", &id]).ok();
                    b.cli(["delete", "--force", &id]).ok();
                }
            });
        }
    });
}
