//! What `corten spec` writes: a configuration to start from.
//!
//! The content is that of `runc spec`, so that what one reads about runc holds here too: a shell on a read-only root, the usual
//! mounts, five new namespaces, three harmless capabilities. On a machine with one cgroup2 a sixth namespace, cgroup, is added, as runc does.
//! Try it by hand: `runc spec && less config.json`.
//!
//! What goes wrong: oci-spec keeps capabilities in hash sets, whose order changes from run to run. The text is put in order afterwards,
//! because a file that differs each time cannot be compared or kept in git.

use super::host::CgroupLayout;
use oci_spec::runtime::{
    LinuxBuilder, LinuxCapabilities, LinuxDeviceCgroupBuilder, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxResourcesBuilder, Process, RootBuilder, Spec, SpecBuilder, get_default_maskedpaths, get_default_mounts,
    get_default_readonly_paths,
};
use serde::Serialize;

/// The version of the runtime specification that new configurations name.
pub const OCI_VERSION: &str = "1.3.0";

/// The configuration that `corten spec` writes on a host with v1 hierarchies.
pub fn spec() -> Spec {
    use LinuxNamespaceType::{Ipc, Mount, Network, Pid, Uts};
    build(&[Pid, Network, Ipc, Uts, Mount])
}

/// The configuration that `corten spec` writes on a host with this layout: with a cgroup namespace where there is one cgroup2.
pub fn spec_for(layout: &CgroupLayout) -> Spec {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    match layout {
        CgroupLayout::Legacy { .. } => spec(),
        CgroupLayout::Unified { .. } => build(&[Pid, Network, Ipc, Uts, Mount, Cgroup]),
    }
}

fn build(kinds: &[LinuxNamespaceType]) -> Spec {
    let namespace =
        |kind: &LinuxNamespaceType| LinuxNamespaceBuilder::default().typ(*kind).build().expect("no required part");
    let deny_all = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build().expect("no required part");
    let resources = LinuxResourcesBuilder::default().devices(vec![deny_all]).build().expect("no required part");
    let mut linux = LinuxBuilder::default()
        .resources(resources)
        .namespaces(kinds.iter().map(namespace).collect::<Vec<_>>())
        .masked_paths(get_default_maskedpaths())
        .readonly_paths(get_default_readonly_paths())
        .build()
        .expect("no required part");
    linux.set_devices(None);
    // No inheritable capabilities: with them, a file's inheritable bits would come into force inside (CVE-2022-29162).
    let mut capabilities = LinuxCapabilities::default();
    capabilities.set_inheritable(None);
    let mut process = Process::default();
    process.set_terminal(Some(true)).set_capabilities(Some(capabilities));
    let mut spec = SpecBuilder::default()
        .version(OCI_VERSION)
        .process(process)
        .root(RootBuilder::default().path("rootfs").readonly(true).build().expect("no required part"))
        .hostname("corten")
        .mounts(get_default_mounts())
        .linux(linux)
        .build()
        .expect("no required part");
    spec.set_annotations(None);
    spec
}

/// Pretty JSON, indented by tabs as runc's and ended by a newline, the same at every call.
pub fn to_json(spec: &Spec) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    spec.serialize(&mut serializer).expect("a Spec has string keys only and memory does not fail");
    sort_capabilities(&String::from_utf8(out).expect("serde_json writes UTF-8"))
}

/// Sorts each run of lines that hold one capability. The alternative, a `serde_json::Value` in between, would sort all keys of the file.
fn sort_capabilities(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 1);
    let mut run: Vec<&str> = Vec::new();
    for line in json.lines().chain([""]) {
        let item = line.trim_end_matches(',');
        if item.trim_start().starts_with("\"CAP_") && item.ends_with('"') {
            run.push(item);
            continue;
        }
        run.sort_unstable();
        for (at, item) in run.iter().enumerate() {
            out.push_str(item);
            out.push_str(if at + 1 < run.len() { ",\n" } else { "\n" });
        }
        run.clear();
        if !line.is_empty() {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::host::Host;

    #[test]
    fn the_text_is_the_same_each_time_and_reads_back() {
        let text = to_json(&spec());
        for _ in 0..20 {
            assert_eq!(to_json(&spec()), text);
        }
        assert!(
            text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"root\": {\n\t\t\"path\": \"rootfs\",\n"),
            "{text}"
        );
        assert!(text.ends_with("\n}\n"));
        assert!(
            text.contains("\"CAP_AUDIT_WRITE\",\n\t\t\t\t\"CAP_KILL\",\n\t\t\t\t\"CAP_NET_BIND_SERVICE\"\n\t\t\t]"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec());
    }

    #[test]
    fn no_inheritable_capabilities() {
        assert!(!to_json(&spec()).contains("inheritable"));
    }

    #[test]
    fn a_cgroup_namespace_where_there_is_one_cgroup2() {
        assert!(to_json(&spec_for(&Host::fixed().cgroups)).contains("\"type\": \"cgroup\"\n\t\t\t}\n\t\t]"));
        assert_eq!(spec_for(&Host::fixed_v1().cgroups), spec());
    }

    #[test]
    fn is_what_runc_writes() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(done) = std::process::Command::new("runc").arg("spec").current_dir(dir.path()).output() else {
            eprintln!("skipped: no runc in PATH");
            return;
        };
        assert!(done.status.success(), "{done:?}");
        let theirs = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        let mut theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
        let mut ours: serde_json::Value = serde_json::from_str(&to_json(&spec_for(&Host::read().cgroups))).unwrap();
        for name in ["ociVersion", "hostname"] {
            theirs[name] = serde_json::Value::Null;
            ours[name] = serde_json::Value::Null;
        }
        assert_eq!(ours, theirs);
    }
}
