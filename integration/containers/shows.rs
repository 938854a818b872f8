//! `inspect`.

use super::kit::{ended, place};
use serde_json::{Value, json};

#[test]
fn a_container_while_it_lives_and_after() {
    let Some(place) = place() else { return };
    let bind = format!("{}:/src:ro", place.path("bundle").display());
    let options =
        ["--network", "none", "-v", &bind, "--tmpfs", "/scratch", "-e", "C=d", "--label", "x=y", "-w", "/tmp"];
    let web = place.begin("web", &options, "sleep 1000");
    let look = |word: &str| -> Value { serde_json::from_str(&place.ok(&["inspect", word])).unwrap() };
    let (id, pid) = (place.id("web"), place.pid("web"));
    assert!(std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().ends_with("sleep\x001000\0"));
    for word in ["web", &id, &id[..6]] {
        assert_eq!(look(word)[0]["Id"], id, "{word}");
    }
    let alive = look("web")[0].clone();
    let state = &alive["State"];
    assert_eq!((&state["Status"], &state["Running"], &state["Pid"]), (&"running".into(), &true.into(), &pid.into()));
    // What the runtime says, too.
    assert_eq!((&alive["status"], &alive["pid"], &alive["id"]), (&"running".into(), &pid.into(), &id.clone().into()));
    assert!(alive["mounts"].as_array().unwrap().len() > 5 && alive["cgroup"].is_object());
    place.ok(&["stop", "-t", "0", "web"]);
    assert_eq!(ended(web).code, 137);
    let dead = look("web")[0].clone();
    let state = &dead["State"];
    assert_eq!((&state["Status"], &state["Running"], &state["Pid"]), (&"exited".into(), &false.into(), &0.into()));
    assert_eq!(
        (&state["ExitCode"], state["FinishedAt"].as_str().unwrap() > dead["Created"].as_str().unwrap()),
        (&137.into(), true)
    );
    for one in [&alive, &dead] {
        assert_eq!(
            (&one["Name"], &one["Path"], &one["Args"]),
            (&"/web".into(), &"sh".into(), &json!(["-c", "sleep 1000"]))
        );
        let config = &one["Config"];
        assert_eq!((&config["Image"], &config["WorkingDir"]), (&place.image().into(), &"/tmp".into()));
        assert_eq!(config["Labels"], json!({"tier": "web", "x": "y"}));
        assert_eq!(config["Cmd"], json!(["sh", "-c", "sleep 1000"]));
        let env = config["Env"].as_array().unwrap();
        assert!(env.contains(&"A=b".into()) && env.contains(&"C=d".into()), "{env:?}");
        assert_eq!(one["HostConfig"], json!({"NetworkMode": "none", "AutoRemove": false}));
        let mounts = one["Mounts"].as_array().unwrap();
        assert_eq!(mounts.len(), 2, "{mounts:?}");
        let find = |kind: &str| mounts.iter().find(|mount| mount["Type"] == kind).unwrap();
        let bind = find("bind");
        assert_eq!((&bind["Destination"], &bind["RW"]), (&"/src".into(), &false.into()));
        assert_eq!(bind["Source"], place.path("bundle").to_str().unwrap());
        assert_eq!((&find("tmpfs")["Destination"], &find("tmpfs")["RW"]), (&"/scratch".into(), &true.into()));
    }
    let shown = place.ok(&["inspect", "--format", "{{.Name}} {{.State.ExitCode}}", "web"]);
    assert_eq!(shown, "/web 137\n");
    place.refused(&["inspect", "-f", "{{.State.Nothing}}", "web"], "there is no field .State.Nothing");
}

#[test]
fn a_bundles_container_has_what_it_had() {
    let Some(place) = place() else { return };
    place.begin_bundle("web");
    let all: Value = serde_json::from_str(&place.ok(&["inspect", "web"])).unwrap();
    let one = &all[0];
    for key in [
        "ociVersion",
        "id",
        "status",
        "pid",
        "bundle",
        "rootfs",
        "created",
        "owner",
        "annotations",
        "config",
        "cgroup",
        "mounts",
    ] {
        assert!(!one[key].is_null(), "{key}");
    }
    let shown =
        place.ok(&["inspect", "-f", "{{.State.Pid}} {{.State.Running}} {{.Name}} {{.HostConfig.NetworkMode}}", "web"]);
    assert_eq!(shown, format!("{} true /web none\n", one["pid"]));
}

#[test]
fn an_image() {
    let Some(place) = place() else { return };
    let image = place.image();
    assert_eq!(place.call(&["run", "--name", "web", &image, "true"]).code, 0);
    let id = place.ok(&["inspect", "-f", "{{.Image}}", "web"]).trim_end().to_owned();
    let all: Value = serde_json::from_str(&place.ok(&["inspect", &id])).unwrap();
    let one = &all[0];
    let layout: Value = serde_json::from_slice(&std::fs::read(place.path("layout/index.json")).unwrap()).unwrap();
    assert_eq!(one["Descriptor"]["digest"], layout["manifests"][0]["digest"]);
    assert_eq!((&one["Id"], &one["Os"], &one["Author"]), (&id.clone().into(), &"linux".into(), &"somebody".into()));
    assert!(one["Size"].as_u64().unwrap() > 100_000 && one["Architecture"].is_string());
    assert_eq!(one["Config"]["Cmd"], json!(["sleep", "1000"]));
    assert_eq!((&one["Config"]["Labels"], &one["Config"]["Entrypoint"]), (&json!({"tier": "web"}), &Value::Null));
    assert!(one["Config"]["Env"].as_array().unwrap().contains(&"A=b".into()));
    assert_eq!((&one["RootFS"]["Type"], one["RootFS"]["Layers"].as_array().unwrap().len()), (&"layers".into(), 1));
    assert!(one["RepoTags"].is_array() && one["RepoDigests"].is_array() && one["Created"].is_string());
    // Both kinds of things in one call, each by its own kind, and neither.
    let both = place.ok(&["inspect", "-f", "{{.Id}}", "web", &id[7..19]]);
    assert_eq!(both, format!("{}\n{id}\n", place.id("web")));
    place.refused(&["inspect", "--type", "container", &id[7..19]], "does not exist");
    place.refused(&["inspect", "--type", "image", "web"], "there is no image of that name");
    place.refused(&["inspect", "web", "never-there"], "never-there: container does not exist");
    place.refused(&["inspect", "no/such:image"], "there is no container and no image of that name");
    assert_eq!(place.call(&["inspect", "web", "never-there"]).out, "");
}
