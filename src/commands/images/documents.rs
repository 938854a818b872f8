//! What `inspect` says of a container, and of an image, in Docker's fields.
//!
//! By hand: `docker inspect web | jq '.[0] | keys'`, `docker inspect debian:12`.
//!
//! Not all that Docker has: what people and scripts ask for. A field that Docker has and this does not is missing, and a template that names it is an error,
//! which an empty value would not be.

use super::containers::{Kept, KeptMount, Known};
use crate::docker::lists::{self, Does};
use crate::docker::volumes::DIRECTORY;
use crate::error::Result;
use crate::image::named::Named;
use crate::image::store::{Store, Stored};
use serde_json::{Map, Value, json};
use std::path::Path;

/// A moment that never was, as Docker writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container.
pub fn container(known: &Known, store: Option<&Store>) -> Map<String, Value> {
    let kept = known.kept();
    let record = known.image.as_ref().map(|(_, record)| record);
    let digest = known.image.as_ref().and_then(|(container, _)| container.image().ok());
    let id = digest.as_ref().and_then(|digest| image_id(store?, digest)).or(digest).unwrap_or_default();
    let command = record.map_or(&kept.process.args, |record| &record.command);
    let pid = match (&known.state, known.does) {
        (Some((_, state)), Does::Runs(_) | Does::Rests(_) | Does::Waits) => {
            state.init.as_ref().map_or(0, |init| init.pid)
        }
        _ => 0,
    };
    let code = match known.does {
        Does::Ended(_, code) => code,
        _ => 0,
    };
    let network = kept.network();
    let user = match (kept.process.user.uid, kept.process.user.gid) {
        (0, 0) => String::new(),
        (uid, gid) => format!("{uid}:{gid}"),
    };
    let document = json!({
        "Id": known.id,
        "Created": known.created,
        "Path": command.first(),
        "Args": command.get(1..).unwrap_or_default(),
        "Name": format!("/{}", known.name()),
        "Image": id,
        "State": {
            "Status": lists::status(known.does).0,
            "Running": matches!(known.does, Does::Runs(_) | Does::Rests(_)),
            "Paused": matches!(known.does, Does::Rests(_)),
            "Restarting": false,
            "Dead": false,
            "Pid": pid,
            "ExitCode": code,
            "Error": "",
            "StartedAt": if matches!(known.does, Does::Waits) { NEVER } else { &known.created },
            "FinishedAt": record.and_then(|record| record.ended.as_ref()).map_or(NEVER, |ended| &ended.at),
        },
        "Config": {
            "Hostname": kept.hostname,
            "User": user,
            "Tty": kept.process.terminal,
            "Env": *kept.process.env,
            "Cmd": command,
            "Image": record.map(|record| &record.image),
            "WorkingDir": kept.process.cwd,
            "Labels": record.map(|record| record.labels.clone()).unwrap_or_default(),
            "StopSignal": record.and_then(|record| record.stop_signal.as_ref()),
            "StopTimeout": record.and_then(|record| record.stop_timeout),
        },
        "HostConfig": {
            "NetworkMode": network,
            "AutoRemove": record.is_some_and(|record| record.removal == crate::image::container::Removal::AtEnd),
        },
        "Mounts": mounts(&kept, known),
    });
    match document {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn image_id(store: &Store, manifest: &str) -> Option<String> {
    let images = store.images().ok()?;
    images.iter().find(|image| image.manifest.digest().to_string() == manifest).map(|image| image.id.to_string())
}

/// Binds of the host's, what `--tmpfs` made, and the image's volumes. What every container has is not among them.
pub fn mounts(kept: &Kept, known: &Known) -> Vec<Value> {
    let own = known.image.as_ref().map(|(container, _)| container.path());
    let is_own = |mount: &KeptMount| own.is_some_and(|own| mount.source.starts_with(own));
    let is_volume = |mount: &KeptMount| own.is_some_and(|own| mount.source.starts_with(own.join(DIRECTORY)));
    let usual = |mount: &KeptMount| {
        mount.destination.starts_with("/dev") || mount.destination == Path::new("/run/.containerenv")
    };
    let shown = |mount: &&KeptMount| match mount.kind.as_str() {
        "tmpfs" => !usual(mount),
        _ => is_bind(mount) && (!is_own(mount) || is_volume(mount)),
    };
    let document = |mount: &KeptMount| {
        let has = |word: &str| mount.options.iter().any(|option| option == word);
        let propagation = mount
            .options
            .iter()
            .find(|option| ["private", "shared", "slave"].iter().any(|kind| option.trim_start_matches('r') == *kind));
        json!({
            "Type": if is_volume(mount) { "volume" } else if is_bind(mount) { "bind" } else { "tmpfs" },
            "Source": if is_bind(mount) { mount.source.display().to_string() } else { String::new() },
            "Destination": mount.destination,
            "Mode": mount.options.join(","),
            "RW": !has("ro") && !has("rro"),
            "Propagation": propagation.map_or("", |word| word.as_str()),
        })
    };
    kept.mounts.iter().filter(shown).map(document).collect()
}

fn is_bind(mount: &KeptMount) -> bool {
    mount.kind == "bind" || mount.options.iter().any(|option| option == "bind" || option == "rbind")
}

/// An image.
pub fn image(image: &Stored) -> Result<Value> {
    let whole: Value = serde_json::from_slice(&image.config_json).unwrap_or_default();
    let familiar = |name: &String| Named::parse(name).map_or_else(|_| name.clone(), |named| named.familiar());
    // What people ask for is there, even if the builder left it out.
    let mut config =
        json!({ "Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "User": "", "WorkingDir": "" });
    if let (Some(all), Some(said)) = (config.as_object_mut(), whole["config"].as_object()) {
        all.extend(said.clone());
    }
    let mut document = json!({
        "Id": image.id.to_string(),
        "RepoTags": image.names.iter().map(familiar).collect::<Vec<_>>(),
        "RepoDigests": image.digests.iter().map(familiar).collect::<Vec<_>>(),
        "Created": whole["created"].as_str().unwrap_or_default(),
        "Author": whole["author"].as_str().unwrap_or_default(),
        "Size": image.unpacked(),
        "Architecture": whole["architecture"],
        "Os": whole["os"],
        "Config": config,
        "RootFS": { "Type": "layers", "Layers": whole["rootfs"]["diff_ids"] },
        "Descriptor": image.manifest,
    });
    if let Some(variant) = whole["variant"].as_str() {
        document["Variant"] = variant.into();
    }
    Ok(document)
}
