//! `ps`, with and without a word.

use super::kit::{ended, place};
use serde_json::Value;

#[test]
fn both_kinds_in_dockers_columns() {
    let Some(place) = place() else { return };
    let web = place.begin("web", &["--label", "a=b"], "sleep 1000");
    place.begin_bundle("bundled");
    let image = place.image();
    assert_eq!(place.call(&["run", "--name", "done", &image, "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(place.call(&["run", "--rm", "--name", "gone", &image, "sh", "-c", "exit 4"]).code, 4);

    let columns = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let running = place.ok(&["ps"]);
    let lines: Vec<&str> = running.lines().collect();
    assert_eq!(columns(lines[0]), ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert_eq!(lines.len(), 3, "{running}");
    // The newest first.
    let bundle = columns(lines[1]);
    assert_eq!((&bundle[0], &bundle[2], &bundle[5]), (&"bundled".into(), &"\"sleep 1000\"".into(), &"bundled".into()));
    assert_eq!(bundle[1], place.path("bundle").display().to_string());
    let cells = columns(lines[2]);
    let id = place.id("web");
    assert_eq!((&cells[0][..], &cells[1], &cells[2][..]), (&id[..12], &image, "\"sh -c sleep 1000\""));
    assert!(cells[3].ends_with(" ago") && cells[4].starts_with("Up ") && cells[5] == "web", "{cells:?}");

    let all = place.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}"]);
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 3, "{all}");
    assert!(lines[0].starts_with("done exited Exited (3) ") && lines[0].ends_with(" ago"), "{all}");
    assert!(lines[1].starts_with("bundled running Up ") && lines[2].starts_with("web running Up "), "{all}");

    // Ids: of images' containers short or whole, of bundles' always whole.
    assert_eq!(place.ok(&["ps", "-q"]), format!("bundled\n{}\n", &id[..12]));
    assert_eq!(place.ok(&["ps", "-q", "--no-trunc"]), format!("bundled\n{id}\n"));
    place.ok(&["kill", "web"]);
    assert_eq!(ended(web).code, 137);
    assert!(place.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).contains("web Exited (137) "));
}

#[test]
fn filters_and_formats() {
    let Some(place) = place() else { return };
    let _web = place.begin(
        "web",
        &["--network", "none", "-v", &format!("{}:/src:ro", place.path("bundle").display())],
        "sleep 1000",
    );
    let image = place.image();
    assert_eq!(
        place.call(&["run", "--name", "done", "--label", "tier=db", &image, "sh", "-c", "echo x > /big; exit 3"]).code,
        3
    );
    place.begin_bundle("bundled");
    let id = place.id("web");
    let manifest = place.ok(&["inspect", "-f", "{{.Image}}", "web"]);
    for (words, names) in [
        (&["--filter", "status=exited"][..], &["done"][..]),
        (&["-f", "status=exited"], &["done"]),
        (&["-f", "status=running", "--filter", "status=exited"], &["bundled", "done", "web"]),
        (&["-f", "exited=3"], &["done"]),
        (&["-f", "exited=0"], &[]),
        (&["-f", "name=eb"], &["web"]),
        (&["-a", "-f", "name=^d"], &["done"]),
        (&["-f", &format!("id={}", &id[..5])], &["web"]),
        (&["-af", "label=tier"], &["done", "web"]),
        (&["-af", "label=tier=db"], &["done"]),
        (&["-f", &format!("ancestor={image}")], &["web"]),
        (&["-af", &format!("ancestor={}", manifest.trim_end())], &["done", "web"]),
        (&["-f", "network=none"], &["bundled", "web"]),
        (&["-af", "network=host"], &["done"]),
        (&["-af", "before=done"], &["web"]),
        (&["-af", "since=web"], &["bundled", "done"]),
        (&["-l"], &["bundled"]),
        (&["-n", "2"], &["bundled", "done"]),
    ] {
        let mut found: Vec<String> =
            place.ok(&[&["ps", "--format", "{{.Names}}"], words].concat()).lines().map(str::to_owned).collect();
        found.sort();
        assert_eq!(found, names, "{words:?}");
    }

    let shown = place.ok(&[
        "ps",
        "--format",
        "{{.ID}}|{{.Networks}}|{{.Mounts}}|{{.Label \"tier\"}}|{{.Labels}}",
        "-f",
        "name=web",
    ]);
    let source: String = place.path("bundle").display().to_string().chars().take(14).collect();
    assert_eq!(shown, format!("{}|none|{source}…|web|tier=web\n", &id[..12]));
    let size = place.ok(&["ps", "-af", "name=done", "--format", "{{.Size}}"]);
    let whole =
        size.strip_prefix("4.1kB (virtual ").and_then(|rest| rest.strip_suffix("MB)\n")).expect("Docker's words");
    assert!(whole.parse::<f64>().unwrap() > 0.5, "{size}");
    let table = place.ok(&["ps", "-as", "-f", "name=done"]);
    assert!(table.lines().next().unwrap().ends_with("NAMES     SIZE") && table.contains(size.trim_end()), "{table}");
    let bytes = place.ok(&["inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "done"]);
    let (own, all) = bytes.trim_end().split_once(' ').unwrap();
    assert!(own == "4096" && all.parse::<u64>().unwrap() > 500_000, "{bytes}");
    place.refused(&["inspect", "-f", "{{.SizeRw}}", "done"], "SizeRw");
    let objects = place.ok(&["ps", "-a", "--format", "json"]);
    let objects: Vec<Value> = objects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 3);
    assert_eq!((&objects[1]["Names"], &objects[1]["State"]), (&"done".into(), &"exited".into()));
    assert!(place.ok(&["ps", "--format", "table {{.Names}}\\t{{.Image}}"]).starts_with("NAMES     IMAGE\n"));
    place.refused(&["ps", "--format", "{{.Name}}"], "there is no field .Name");
    place.refused(&["ps", "--filter", "colour=red"], "colour is not one of");
    place.refused(&["ps", "-f", "red"], "the form is KEY=VALUE");
    place.refused(&["ps", "-f", "before=nobody"], "no such container");
    place.refused(&["ps", "-z"], "unexpected argument '-z'");
}

#[test]
fn with_a_word_it_is_runcs() {
    let Some(place) = place() else { return };
    let _web = place.begin("web", &[], "sleep 1000 & wait");
    let pids = |words: &[&str]| -> Vec<i32> { serde_json::from_str(&place.ok(words)).unwrap() };
    let id = place.id("web");
    assert!(pids(&["ps", "--format", "json", "web"]).contains(&place.pid("web")));
    assert_eq!(pids(&["ps", "-f", "json", &id]).len(), 2);
    assert_eq!(pids(&["ps", "--format=json", &id[..4]]).len(), 2);
    assert_eq!(place.ok(&["ps", "web"]).lines().count(), 3);
    assert!(
        place.ok(&["ps", "web", "-o", "pid,comm"]).lines().next().unwrap().split_whitespace().eq(["PID", "COMMAND"])
    );
    place.refused(&["ps", "-a", "web"], "--all is for the list");
    place.refused(&["ps", "-s", "web"], "--size is for the list");
    place.refused(&["ps", "--filter", "name=x", "web"], "--filter is for the list");
    place.refused(&["ps", "--format", "{{.ID}}", "web"], "there are table and json");
    place.refused(&["ps", "we"], "does not exist");
}

#[test]
fn whoever_waited_was_killed() {
    let Some(place) = place() else { return };
    let mut web = place.begin("web", &[], "sleep 1000");
    web.kill().unwrap();
    web.wait().unwrap();
    // Its program goes on, and is found and ended.
    assert_eq!(place.status("web"), "running");
    place.ok(&["kill", "web"]);
    super::kit::soon(|| place.status("web") == "exited");
    let all = place.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}."]);
    assert_eq!(all, "web Exited.\n", "nobody knows how");
    place.ok(&["rm", "web"]);
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
}

#[test]
fn with_another_root() {
    let Some(place) = place() else { return };
    let web = place.begin("web", &[], "sleep 1000");
    place.begin_bundle("bundled");
    let elsewhere = |words: &[&str]| place.call_below("elsewhere", words);
    assert_eq!(elsewhere(&["ps", "--format", "{{.Names}} {{.State}}"]).out, "web running\n");
    assert_eq!(elsewhere(&["exec", "web", "echo", "here"]).out, "here\n");
    assert_eq!(elsewhere(&["kill", "web"]).code, 0);
    assert_eq!(ended(web).code, 137);
    assert_eq!(elsewhere(&["rm", "web"]).code, 0);
    assert_eq!(place.ok(&["ps", "-aq"]), "bundled\n");
}
