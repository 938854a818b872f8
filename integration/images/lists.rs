//! `images` and `history`.

use crate::kit::{MADE, Place, can, run};

fn place() -> Place {
    let place = Place::new();
    place.usual();
    place.umoci("other", &[&[("x", "y")]], &["--created", "2025-01-01T00:00:00Z", "--config.label", "tier=db"]);
    place.load("it", "web:1");
    place.load("other", "registry.lan:5000/team/db:9");
    place.corten(&["tag", "web:1", "web:2"]).good();
    place
}

fn shown(place: &Place, args: &[&str]) -> Vec<String> {
    let all = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat();
    let mut lines: Vec<String> = place.corten(&all).good().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_table_has_dockers_columns_and_the_newest_first() {
    if !can(&MADE) {
        return;
    }
    let place = place();
    let (web, db) = (place.id("web:1"), place.id("registry.lan:5000/team/db"));
    let out = place.corten(&["images"]).good();
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert_eq!(rows[1][..3], ["registry.lan:5000/team/db", "9", &db[..12]]);
    assert_eq!(rows[2][..3], ["web", "1", &web[..12]]);
    assert_eq!(rows[3][..3], ["web", "2", &web[..12]]);
    assert!(
        rows[2].ends_with(&["ago", rows[2][rows[2].len() - 1]]) && rows[2].last().unwrap().ends_with("kB"),
        "{out}"
    );
    assert_eq!(rows.len(), 4);
    let header = out.lines().next().unwrap();
    assert_eq!(out.lines().nth(2).unwrap().find("1 "), header.find("TAG"), "{out}");
    // The id is the digest of the configuration, as skopeo sees it too.
    let config = run("skopeo", &["inspect", "--config", "--raw", &place.oci("it")]);
    assert_eq!(crate::registry::sha256(config.as_bytes()), format!("sha256:{web}"));
    assert_eq!(place.corten(&["images", "-q"]).good(), format!("{}\n{}\n{}\n", &db[..12], &web[..12], &web[..12]));
    let digests = place.corten(&["images", "--digests", "--no-trunc", "web:1"]).good();
    assert!(digests.contains("DIGEST") && digests.contains(&format!("sha256:{web}")), "{digests}");
    assert_eq!(digests.matches("sha256:").count(), 2);
}

#[test]
fn templates_and_json() {
    if !can(&MADE) {
        return;
    }
    let place = place();
    let out = place.corten(&["images", "--format", "json", "web:1"]).good();
    let row: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(row["Repository"], "web");
    assert_eq!(row["CreatedAt"], "2024-02-29 12:00:00 +0000 UTC");
    assert_eq!(row["ID"], place.id("web:1")[..12]);
    let out = place.corten(&["images", "--format", r"table {{.Tag}}\t{{.Size}}", "web"]).good();
    assert!(out.starts_with("TAG       SIZE\n1         "), "{out}");
    place.corten(&["images", "--format", "{{.Tga}}"]).refused("Tga");
    place.corten(&["images", "--format", "{{.Tag"]).refused("--format");
}

#[test]
fn filters_and_patterns_choose() {
    if !can(&MADE) {
        return;
    }
    let place = place();
    let db = "registry.lan:5000/team/db:9".to_owned();
    let (one, two) = ("web:1".to_owned(), "web:2".to_owned());
    let web = [one.clone(), two.clone()];
    for (args, wanted) in [
        (&["web"][..], &web[..]),
        (&["web:2"], std::slice::from_ref(&two)),
        (&["w*"], &web),
        (&["docker.io/library/web"], &web),
        (&["--filter", "reference=*:5000/team/*"], std::slice::from_ref(&db)),
        (&["-f", "label=tier=web"], &web),
        (&["-f", "label=tier"], &[db.clone(), one.clone(), two.clone()]),
        (&["-f", "label=tier", "-f", "label=tier=db"], std::slice::from_ref(&db)),
        (&["-f", "label=other"], &[]),
        (&["-f", "dangling=true"], &[]),
        (&["-f", "before=registry.lan:5000/team/db:9"], &web),
        (&["-f", "since=web:1"], std::slice::from_ref(&db)),
        (&["-f", "until=24h"], &[db.clone(), one.clone(), two.clone()]),
        (&["-f", "until=100000000h"], &[]),
        (&["debian"], &[]),
    ] {
        assert_eq!(shown(&place, args), wanted, "{args:?}");
    }
    place.corten(&["images", "-f", "colour=red"]).refused("colour is not one of");
    place.corten(&["images", "-f", "before=nothing"]).refused("--filter before: there is no image \"nothing\"");
    place.corten(&["images", "-f", "until=soon"]).refused("soon");
    // Without names: dangling.
    place.load("other", "web:1");
    place.corten(&["rmi", "-f", "web:2"]).good();
    assert_eq!(shown(&place, &["-f", "dangling=true"]), [""; 0]);
}

#[test]
fn an_image_whose_name_went_to_another_dangles() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.umoci("other", &[&[("x", "y")]], &[]);
    place.load("it", "web:1");
    let id = place.id("web:1");
    place.load("other", "web:1");
    assert_eq!(shown(&place, &[]), ["<none>:<none>", "web:1"]);
    assert_eq!(place.corten(&["images", "-q", "--no-trunc", "-f", "dangling=true"]).good(), format!("sha256:{id}\n"));
    let out = place.corten(&["rmi", &id]).good();
    assert_eq!(out, format!("Deleted: sha256:{id}\n"));
    assert_eq!(shown(&place, &["-f", "dangling=true"]), [""; 0]);
}

#[test]
fn the_history_has_the_last_step_first() {
    if !can(&MADE) {
        return;
    }
    let place = place();
    let id = place.id("web:1");
    let out = place.corten(&["history", "web:1"]).good();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    );
    assert!(lines[1].starts_with(&id[..12]) && lines[2].starts_with("<missing>"), "{out}");
    assert_eq!(lines.len(), 4, "two layers and the configuration: {out}");
    assert!(lines[1].contains("umoci config") && lines[1].contains(" 0B "), "{out}");
    assert!(lines[3].contains("umoci insert") && lines[3].contains("20") && lines[3].contains("kB"), "{out}");
    let ids = place.corten(&["history", "-q", "--no-trunc", "web:1"]).good();
    assert_eq!(ids, format!("sha256:{id}\n<missing>\n<missing>\n"));
    let sizes = place.corten(&["history", "--human=false", "--format", "{{.Size}} {{.CreatedAt}}", "web:1"]).good();
    assert!(sizes.starts_with("0 20") && sizes.lines().all(|line| line.ends_with('Z')), "{sizes}");
    place.corten(&["history", "nothing"]).refused("there is no image \"nothing\" in ");
}
