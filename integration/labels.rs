//! Labels of security modules: that what was asked for is what the program has, or that it does not start.

use crate::harness::{Bundle, host, runtime};

const NAME: &str = "/proc/self/attr/current";

/// A profile in the kernel, for one test: everything is allowed but `/secret`.
struct Profile {
    name: String,
}

impl Profile {
    /// Loads one of its own for this bundle.
    fn load(b: &Bundle, kind: &str) -> Profile {
        let name = format!("{}-{kind}", b.id);
        let source = b.path(&format!("{kind}.profile"));
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  network,\n  mount,\n  \
             signal,\n  ptrace,\n  unix,\n  deny /secret rw,\n}}\n"
        );
        std::fs::write(&source, text).unwrap();
        b.host("apparmor_parser").args(["--replace", "--skip-cache"]).args([&source]).run().ok();
        Profile { name }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // The bundle and the profile's source in it may be gone by now.
        let _ = std::fs::write("/sys/kernel/security/apparmor/.remove", &self.name);
    }
}

macro_rules! needs_apparmor {
    () => {
        if !host::read("/sys/module/apparmor/parameters/enabled").starts_with('Y') {
            skip!("this kernel runs without AppArmor");
        }
        if !host::has_program("apparmor_parser") {
            skip!("apparmor_parser is not installed");
        }
    };
}

#[test]
fn a_profile_is_taken_on_and_enforced() {
    needs_apparmor!();
    for no_new_privileges in [true, false] {
        let b = Bundle::busybox().file("secret", 0o644, "the secret\n").file("known", 0o644, "known\n");
        let profile = Profile::load(&b, "run");
        let b = b.sh(&format!("cat {NAME}; cat /known; cat /secret")).edit(|s| {
            s["process"]["apparmorProfile"] = profile.name.clone().into();
            s["process"]["noNewPrivileges"] = no_new_privileges.into();
        });
        let out = b.run().fails().stdout(&format!("{} (enforce)\nknown\n", profile.name));
        out.stderr_has("ermission denied");
    }
}

#[test]
fn without_a_profile_nothing_is_confined() {
    needs_apparmor!();
    let own = host::read(NAME);
    Bundle::busybox().args(["cat", NAME]).run().ok().stdout(&own);
}

#[test]
fn exec_takes_the_containers_profile_or_its_own() {
    needs_apparmor!();
    let b = Bundle::busybox().file("secret", 0o644, "the secret\n").args(["sleep", "1000"]);
    let (first, second) = (Profile::load(&b, "init"), Profile::load(&b, "exec"));
    let b = b.edit(|s| s["process"]["apparmorProfile"] = first.name.clone().into());
    let c = b.start();
    c.exec(["cat", NAME]).ok().stdout(&format!("{} (enforce)\n", first.name));
    c.exec(["cat", "/secret"]).fails().stderr_has("ermission denied");
    c.exec_with(&["--apparmor", &second.name], &["cat", NAME]).ok().stdout(&format!("{} (enforce)\n", second.name));
}

#[test]
fn a_profile_that_is_not_loaded() {
    needs_apparmor!();
    let b = Bundle::busybox().edit(|s| s["process"]["apparmorProfile"] = "corten-nobody-has-this".into());
    let out = b.run().code(1).stdout("");
    if runtime().is_corten() {
        out.stderr_has("no profile corten-nobody-has-this is loaded in AppArmor");
    } else {
        b.runc_leaves_its_cgroup();
    }
}

/// A user namespace, a terminal, a read-only root: whatever else is asked for, the profile is there.
#[test]
fn a_profile_beside_everything_else() {
    needs_apparmor!();
    let b = Bundle::busybox().user_namespace();
    let profile = Profile::load(&b, "users");
    let b = b.args(["cat", NAME]).edit(|s| {
        s["process"]["apparmorProfile"] = profile.name.clone().into();
        s["process"]["user"] = serde_json::json!({"uid": 5, "gid": 5});
        s["root"]["readonly"] = true.into();
    });
    b.run().ok().stdout(&format!("{} (enforce)\n", profile.name));
}

/// CVE-2019-16884, the second half: what the container puts over /proc does not swallow the label.
#[test]
fn cve_2019_16884_the_label_is_really_applied() {
    needs_apparmor!();
    let b = Bundle::busybox();
    let profile = Profile::load(&b, "volume");
    let fake = b.mkdir("fake");
    std::fs::create_dir_all(fake.join("self/attr/apparmor")).unwrap();
    for file in ["self/attr/exec", "self/attr/current", "self/attr/apparmor/exec"] {
        std::fs::write(fake.join(file), "").unwrap();
    }
    let b = b.edit(|s| {
        s["process"]["apparmorProfile"] = profile.name.clone().into();
        crate::harness::add_mount(s, crate::harness::bind(&fake, "/proc", &["rbind"]));
    });
    let out = b.run();
    if runtime().is_corten() {
        out.code(1).stderr_has("not a procfs");
    } else {
        out.fails();
        b.runc_leaves_its_cgroup();
    }
}
