//! From an image's configuration to a config.json: image-spec, conversion.md.
//!
//! By hand: `jq .config blobs/sha256/HEX` beside `jq .process config.json`. The fields that have a counterpart are copied, `User` is looked
//! up in the image (see `user`), the rest becomes annotations. Labels are annotations too, and a label wins over a field as
//! the specification says; but a label that a runtime would take for a setting of the host is left out and reported
//! (CVE-2024-3154 set systemd properties that way).

use crate::error::Result;
use crate::input::config::User;
use crate::input::template::{self, Template};
use crate::input::user::{self, UserRequest};
use oci_spec::image::{Config, ImageConfiguration};
use std::collections::BTreeMap;

/// Keys of annotations that some runtime, shim or engine acts upon.
const SETTINGS: [&str; 10] = [
    "org.systemd.property.",
    "run.oci.",
    "org.criu.",
    "io.container.",
    "io.containerd.",
    "io.kubernetes.",
    "io.podman.",
    "io.katacontainers.",
    "dev.gvisor.",
    "com.github.containers.",
];

/// A config.json and what it leaves out.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// What is written.
    pub spec: Template,
    /// Labels that did not become annotations.
    pub left_out: Vec<String>,
}

/// Fills `base`, what `corten spec` prints, with what the image says. `passwd` and `group` are the contents of the image's files.
pub fn convert(image: &ImageConfiguration, base: Template, passwd: &[u8], group: &[u8]) -> Result<Converted> {
    let nothing = Config::default();
    let config = image.config().as_ref().unwrap_or(&nothing);
    let mut spec = base;
    let args = [config.entrypoint(), config.cmd()].into_iter().flatten().flatten().cloned().collect::<Vec<_>>();
    if !args.is_empty() {
        spec.process.args = args;
    }
    spec.process.env = env(config.env().as_deref().unwrap_or_default(), &spec.process.env);
    spec.process.cwd = cwd(config.working_dir().as_deref().unwrap_or_default());
    let User { uid, gid, additional_gids, .. } =
        user::resolve(&UserRequest::of_image(config.user().as_deref().unwrap_or_default())?, passwd, group)?;
    spec.process.user = template::User { uid, gid, additional_gids };
    spec.root.readonly = false;
    let (found, left_out) = annotations(image, config);
    spec.annotations.extend(found);
    Ok(Converted { spec, left_out })
}

/// The image's variables, and those of the base that it does not set (`PATH`, `TERM`).
fn env(image: &[String], base: &[String]) -> Vec<String> {
    let key = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let missing = base.iter().filter(|entry| !image.iter().any(|set| key(set) == key(entry)));
    image.iter().chain(missing).cloned().collect()
}

/// Absolute: config.json wants it so, and `WorkingDir` is counted from the root where it is not.
fn cwd(working_dir: &str) -> String {
    if working_dir.starts_with('/') { working_dir.to_owned() } else { format!("/{working_dir}") }
}

/// The annotations, and the labels left out.
fn annotations(image: &ImageConfiguration, config: &Config) -> (BTreeMap<String, String>, Vec<String>) {
    let joined = |list: &Option<Vec<String>>| {
        let mut list = list.clone().unwrap_or_default();
        list.sort();
        Some(list.join(",")).filter(|list| !list.is_empty())
    };
    let fields = [
        ("os", Some(image.os().to_string())),
        ("architecture", Some(image.architecture().to_string())),
        ("variant", image.variant().clone()),
        ("os.version", image.os_version().clone()),
        ("os.features", joined(image.os_features())),
        ("author", image.author().clone()),
        ("created", image.created().clone()),
        ("stopSignal", config.stop_signal().clone()),
        ("exposedPorts", joined(config.exposed_ports())),
    ];
    let mut annotations = BTreeMap::new();
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            annotations.insert(format!("org.opencontainers.image.{name}"), value);
        }
    }
    let (mut left_out, empty) = (Vec::new(), Default::default());
    for (label, value) in config.labels().as_ref().unwrap_or(&empty) {
        match SETTINGS.iter().any(|prefix| label.starts_with(prefix)) {
            true => left_out.push(label.clone()),
            false => drop(annotations.insert(label.clone(), value.clone())),
        }
    }
    left_out.sort();
    (annotations, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(config: &str) -> Converted {
        let image = format!(
            r#"{{"os":"linux","architecture":"amd64","created":"2024-01-01T00:00:00Z","rootfs":{{"type":"layers","diff_ids":[]}},"config":{config}}}"#
        );
        convert(&serde_json::from_str(&image).unwrap(), template::spec(), b"www:x:33:34::/:\n", b"mail:x:8:www\n")
            .unwrap()
    }

    #[test]
    fn process() {
        let spec = converted(
            r#"{"Entrypoint":["/bin/nginx","-g"],"Cmd":["x y"],"Env":["PATH=/b","A=1=2"],"WorkingDir":"srv","User":"www"}"#,
        )
        .spec;
        let process = &spec.process;
        assert_eq!(process.args, ["/bin/nginx", "-g", "x y"]);
        assert_eq!(process.env[..2], ["PATH=/b", "A=1=2"]);
        assert_eq!(process.env.iter().filter(|entry| entry.starts_with("PATH=")).count(), 1);
        assert_eq!(process.cwd, "/srv");
        assert_eq!((process.user.uid, process.user.gid), (33, 34));
        assert_eq!(process.user.additional_gids, [8]);
        assert!(!spec.root.readonly);
    }

    #[test]
    fn an_empty_configuration_keeps_the_base() {
        for config in
            ["null", "{}", r#"{"Cmd":null,"Entrypoint":null,"Env":null,"Labels":null,"ExposedPorts":null,"User":""}"#]
        {
            assert_eq!(converted(config).spec.process, template::spec().process);
        }
    }

    #[test]
    fn annotations_and_labels() {
        let converted = converted(
            r#"{"StopSignal":"SIGQUIT","ExposedPorts":{"80/tcp":{},"443/tcp":{}},"Labels":{"a":"b",
                "org.opencontainers.image.created":"never","org.systemd.property.ExecStart":"x","run.oci.hooks.stderr":"/x"}}"#,
        );
        let found = converted.spec.annotations;
        let expected = [
            ("a", "b"),
            ("org.opencontainers.image.architecture", "amd64"),
            ("org.opencontainers.image.created", "never"),
            ("org.opencontainers.image.exposedPorts", "443/tcp,80/tcp"),
            ("org.opencontainers.image.os", "linux"),
            ("org.opencontainers.image.stopSignal", "SIGQUIT"),
        ];
        let found: BTreeMap<&str, &str> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected.into());
        assert_eq!(converted.left_out, ["org.systemd.property.ExecStart", "run.oci.hooks.stderr"]);
    }
}
