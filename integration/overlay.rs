//! A container whose root is made of an image's layers: no verb makes one without an image, so the library's own create does it, in a
//! process of its own (this test binary again), and the binary does the rest: start, exec, kill, stop, delete.

use crate::explain;
use crate::harness::{Bundle, Call, Container, Out, add_mount, bind, host};
use corten::plan::{self, Console, Request, Root, Start};
use corten::run::{self, Context};
use corten::setup::overlay::{After, Overlay};
use corten::setup::{label, program, rootfs};
use corten::state::{FORMAT, Process, State};
use serde_json::json;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// In the process of its own: the session's folder, and how many layers.
const SCENE: &str = "CORTEN_OVERLAY_SCENE";

/// What the scene makes a container of.
struct Image {
    bundle: Bundle,
    layers: usize,
    after: After,
    /// Major and minor version to plan for, where it is not this kernel's.
    kernel: Option<(u32, u32)>,
}

/// Where the scene's container lies: store and bundle in one.
fn place(home: &Path) -> PathBuf {
    home.join("store/containers/web")
}

fn layer(home: &Path, n: usize) -> PathBuf {
    home.join(format!("store/layers/{n:064x}"))
}

impl Image {
    /// Layers of busybox: the lowest is the whole, and each of the others adds a file.
    fn of(bundle: Bundle, layers: usize) -> Image {
        let home = &bundle.home;
        for name in ["rootfs", "upper", "work"] {
            std::fs::create_dir_all(place(home).join(name)).expect("store");
        }
        std::fs::create_dir(home.join("store/layers")).expect("store");
        std::fs::set_permissions(home.join("store"), PermissionsExt::from_mode(0o700)).expect("chmod");
        std::fs::rename(bundle.rootfs(), layer(home, 1)).expect("a layer");
        std::fs::create_dir(bundle.rootfs()).expect("mkdir");
        for n in 2..=layers {
            std::fs::create_dir_all(layer(home, n).join("srv")).expect("a layer");
            std::fs::write(layer(home, n).join(format!("srv/{n}")), "").expect("a layer");
        }
        Image { bundle, layers, after: After::Kept, kernel: None }
    }

    /// The call that makes the container, to be started.
    fn call(&self) -> Call {
        self.write_config();
        let program = std::env::current_exe().expect("this program");
        self.told(self.bundle.host(program).args(["overlay::scene", "--exact", "--nocapture", "--test-threads=1"]))
    }

    fn write_config(&self) {
        let config = serde_json::to_vec(&self.bundle.spec).expect("JSON");
        std::fs::write(place(&self.bundle.home).join("config.json"), config).expect("config.json");
    }

    fn told(&self, call: Call) -> Call {
        let kernel = self.kernel.unwrap_or_else(|| corten::input::host::Host::read().kernel);
        let scene = json!({
            "home": self.bundle.home,
            "id": self.bundle.id,
            "layers": self.layers,
            "removed": self.after == After::Removed,
            "kernel": [kernel.0, kernel.1],
        });
        call.env(SCENE, scene.to_string())
    }

    fn create(&self) -> Container<'_> {
        self.call().run().ok();
        self.bundle.adopt(&self.bundle.id)
    }

    fn upper(&self, name: &str) -> PathBuf {
        place(&self.bundle.home).join("upper").join(name)
    }
}

/// Makes a container in a process of its own; alone it does nothing.
#[test]
fn scene() {
    let Ok(scene) = std::env::var(SCENE) else { return };
    let scene: serde_json::Value = serde_json::from_str(&scene).expect("JSON");
    let home = PathBuf::from(scene["home"].as_str().expect("home"));
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    if let Err(error) = make(&home, &scene["id"], number(&scene["layers"]) as usize, &scene) {
        eprintln!("corten: create: {error}");
        std::process::exit(1);
    }
}

fn make(home: &Path, id: &serde_json::Value, layers: usize, scene: &serde_json::Value) -> corten::error::Result<()> {
    let id = id.as_str().expect("an id").to_owned();
    let mut host = corten::input::host::Host::read();
    let part = |n: usize| scene["kernel"][n].as_u64().expect("a number") as u32;
    host.kernel = (part(0), part(1));
    let bundle = corten::input::bundle::Bundle::load(&place(home))?;
    // As the kernel names it, and so the bundle: a path in it is known by its beginning.
    let store = home.join("store").canonicalize().expect("a store");
    let overlay = Overlay {
        lower: (1..=layers)
            .map(|n| store.join(layer(Path::new(""), n).strip_prefix("store").expect("below")))
            .collect(),
        store,
        upper: bundle.dir.join("upper"),
        work: bundle.dir.join("work"),
        after: if scene["removed"] == true { After::Removed } else { After::Kept },
    };
    let request = Request {
        id: id.clone(),
        bundle: bundle.dir.clone(),
        start: Start::WhenTold,
        console: Console::default(),
        pid_file: None,
        pidfd_socket: None,
        keyring: label::Keyring::New,
        root: Root::Overlay(overlay),
        way: rootfs::Way::Pivot,
        inherited: program::Inherited::default(),
    };
    let (plan, cgroup) = plan::container(&bundle.config, &host, &request)
        .map_err(|faults| corten::input::bundle::faults_error(&faults, "config.json"))?;
    std::fs::write(home.join("out/plan"), plan::explain::text(&plan, "create web", &host)).expect("written");
    let state = State {
        format: FORMAT,
        id,
        oci_version: bundle.config.oci_version.clone(),
        bundle: bundle.dir.clone(),
        rootfs: plan::rootfs_path(&bundle.dir, &bundle.config),
        annotations: bundle.config.annotations.clone(),
        owner: 0,
        created: corten::logger::rfc3339(std::time::SystemTime::now()),
        creator: Process::own(false, &corten::sys::spent::Spent::default()).expect("this process"),
        init: None,
        gate: true,
        ready: false,
        image_container: Some(bundle.dir.clone()),
        keeps_keyring: false,
        exact: false,
        cgroup,
    };
    let mut context = Context::new(state, bundle.dir.clone());
    context.store = Some(corten::state::store::Store::new(home.join("root")));
    context.configuration = bundle.raw;
    run::execute(&plan, &mut context)?;
    // Nothing is dropped: the container has it now.
    std::mem::forget(context);
    Ok(())
}

/// Linux before 6.13 is given names, and each kernel understands them.
fn ways() -> [Option<(u32, u32)>; 2] {
    [None, Some((6, 1))]
}

#[track_caller]
fn is_one_of_ours(out: Out) -> String {
    out.ok().out
}

#[test]
fn the_whole_life() {
    corten_only!("images");
    for kernel in ways() {
        let bundle = Bundle::busybox().args([
            "sh",
            "-c",
            "rm /etc/group; echo hello >/srv/said; trap exit TERM; sleep 100 & wait",
        ]);
        let image = Image { kernel, ..Image::of(bundle, 3) };
        let c = image.create();
        assert_eq!(c.status(), "created");
        c.start().ok();
        let shown =
            is_one_of_ours(c.sh("until [ -s /srv/said ]; do sleep 0.01; done; ls /srv; cat /srv/said; ls /etc"));
        assert_eq!(shown, "2\n3\nsaid\nhello\npasswd\n");
        let root = is_one_of_ours(c.sh("grep ' / / ' /proc/self/mountinfo"));
        assert!(root.contains(" - overlay overlay ") && root.contains("index=on"), "{root}");
        // The host has an empty directory, and no mount: what the container has written is beside it.
        let state = c.state();
        assert_eq!(state["rootfs"], place(&image.bundle.home).join("rootfs").to_str().expect("UTF-8"));
        assert_eq!(std::fs::read_dir(place(&image.bundle.home).join("rootfs")).expect("rootfs").count(), 0);
        assert!(!host::read("/proc/self/mountinfo").contains(&image.bundle.id));
        assert_eq!(host::read(image.upper("srv/said")), "hello\n");
        assert!(std::fs::symlink_metadata(image.upper("etc/group")).expect("a whiteout").file_type().is_char_device());
        assert!(layer(&image.bundle.home, 1).join("etc/group").exists(), "a layer is never written to");
        // What is in the container is seen through its process.
        assert!(Path::new(&format!("/proc/{}/root/srv/3", c.pid())).exists());
        c.verb("stop").ok();
        assert_eq!(c.status(), "stopped");
        c.delete().ok();
        // What it wrote outlives it, and another container may go on with it.
        assert_eq!(host::read(image.upper("srv/said")), "hello\n");
        let c = image.create();
        c.start().ok();
        // Its program writes it again: for a moment it is empty.
        assert_eq!(is_one_of_ours(c.sh("until [ -s /srv/said ]; do sleep 0.01; done; cat /srv/said")), "hello\n");
        c.stop();
        c.delete().ok();
    }
}

#[test]
fn many_layers() {
    corten_only!("images");
    for kernel in ways() {
        for layers in [1, 2, 40, 128] {
            let image = Image { kernel, ..Image::of(Bundle::busybox().args(["sleep", "100"]), layers) };
            let c = image.create();
            c.start().ok();
            assert_eq!(is_one_of_ours(c.sh("ls /srv 2>/dev/null | wc -l")), format!("{}\n", layers - 1));
            c.stop();
            c.delete().ok();
        }
    }
}

#[test]
fn readonly_with_mounts_in_it() {
    corten_only!("images");
    let bundle = Bundle::busybox().args(["sleep", "100"]);
    let given = bundle.path("given");
    std::fs::write(&given, "from the host\n").expect("written");
    let bundle = bundle.edit(|spec| {
        spec["root"]["readonly"] = json!(true);
        add_mount(spec, bind(&given, "/etc/new/hosts", &["rbind"]));
    });
    let image = Image::of(bundle, 2);
    let c = image.create();
    c.start().ok();
    assert_eq!(is_one_of_ours(c.sh("cat /etc/new/hosts")), "from the host\n");
    c.sh("echo x >/srv/y").stderr_has("Read-only file system");
    c.stop();
    c.delete().ok();
}

#[test]
fn removed_at_its_end_it_writes_nothing_to_the_disk() {
    corten_only!("images");
    let image = Image { after: After::Removed, ..Image::of(Bundle::busybox().args(["sleep", "100"]), 2) };
    let c = image.create();
    c.start().ok();
    let root = is_one_of_ours(c.sh("grep ' / / ' /proc/self/mountinfo"));
    assert!(root.contains("volatile"), "{root}");
    c.stop();
    c.delete().ok();
}

#[test]
fn what_runs_keeps_its_directory() {
    corten_only!("images");
    let image = Image::of(Bundle::busybox().args(["sleep", "100"]), 2);
    let c = image.create();
    c.start().ok();
    // The same directory, by another container's id.
    let mut other = Image { bundle: Bundle::empty(), layers: 2, after: After::Kept, kernel: None };
    std::fs::remove_dir_all(other.bundle.home.join("root")).expect("rmdir");
    symlink(image.bundle.home.join("store"), other.bundle.home.join("store")).expect("symlink");
    other.bundle.spec["linux"]["cgroupsPath"] = json!(format!("/{}", other.bundle.id));
    let refused = other.call().run().code(1);
    assert!(refused.err.contains("a container that still runs writes to"), "{}", refused.tell());
    assert_eq!(is_one_of_ours(c.sh("echo alive")), "alive\n");
    c.stop();
    c.delete().ok();
}

#[test]
fn a_layer_that_is_missing_is_named() {
    corten_only!("images");
    let image = Image::of(Bundle::busybox().args(["sleep", "100"]), 2);
    let gone = layer(&image.bundle.home, 2);
    std::fs::remove_dir_all(&gone).expect("removed");
    let refused = image.call().run().code(1);
    let name = gone.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    assert!(refused.err.contains(name) && refused.err.contains("ENOENT"), "{}", refused.tell());
}

#[test]
fn hooks_of_the_runtime_reach_the_root_through_the_process() {
    corten_only!("images");
    let bundle = Bundle::busybox().args(["sleep", "100"]);
    let seen = bundle.path("out/seen");
    let script = format!(
        "read state; pid=${{state##*\\\"pid\\\":}}; pid=${{pid%%[,\\}}]*}}; rootfs={}; \
         ls $rootfs >{seen:?}; ls /proc/$pid/root/$rootfs/srv >>{seen:?}",
        place(&bundle.home).join("rootfs").display(),
    );
    let bundle = bundle.edit(|spec| {
        spec["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    });
    let image = Image::of(bundle, 2);
    let c = image.create();
    assert_eq!(host::read(&seen), "2\n", "empty for the host, whole in the namespace");
    c.start().ok();
    c.stop();
    c.delete().ok();
}

#[test]
fn explain_prints_what_happens() {
    corten_only!("explain");
    if !host::has_program("strace") {
        skip!("strace is not installed");
    }
    for kernel in ways() {
        for propagation in ["private", "shared"] {
            let bundle = Bundle::busybox().args(["true"]).edit(|spec| {
                spec["linux"]["rootfsPropagation"] = propagation.into();
            });
            let image = Image { kernel, after: After::Removed, ..Image::of(bundle, 3) };
            let (file, home) = (image.bundle.path("out/strace"), &image.bundle.home);
            image.write_config();
            let program = std::env::current_exe().expect("this program");
            let call = image.bundle.host("strace").args(["-f", "-qq", "-y", "-s", "4096", "-o"]);
            let call = call.args([file.as_os_str(), program.as_os_str()]);
            let traced =
                image.told(call.args(["overlay::scene", "--exact", "--nocapture", "--test-threads=1"])).spawn();
            let c = image.bundle.adopt(&image.bundle.id);
            assert!(crate::harness::soon(|| image.bundle.status(&c.id) == "created"), "{}", traced.stderr());
            c.start().ok();
            c.wait_for("stopped");
            traced.wait().ok();
            let plan = host::read(home.join("out/plan"));
            assert!(plan.contains("overlay"), "{plan}");
            // The other side is the test binary's, with all that it does beside.
            // Whenever std closes a descriptor, its debug build asks whether it is open.
            let differences = explain::differences(&plan, &file, &["child"], &["F_GETFD"]);
            assert_eq!(differences, Vec::<String>::new());
            c.delete().ok();
        }
    }
}
