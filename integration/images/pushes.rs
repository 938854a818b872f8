//! `push`.

use crate::kit::{ALL, Place, Real, Speaks, Wants, can, inspect};

#[test]
fn what_is_pulled_goes_back_with_the_same_digest() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    place.usual();
    place.put("it", &real, "team/web:1");
    let (old, new) = (format!("{}/team/web:1", real.host), format!("{}/other/web:2", real.host));
    place.corten(&["pull", &old]).good();
    place.corten(&["tag", &old, &new]).good();
    let out = place.corten(&["push", &new]).good();
    let known = inspect(&format!("docker://{old}"));
    let digest = known["Digest"].as_str().unwrap();
    assert_eq!(inspect(&format!("docker://{new}"))["Digest"], digest);
    assert!(out.starts_with(&format!("The push refers to repository [{}/other/web]\n", real.host)), "{out}");
    // Its layers are the registry's already.
    assert_eq!(out.matches(": Mounted from another repository\n").count(), 2, "{out}");
    assert!(out.lines().last().unwrap().starts_with(&format!("2: digest: {digest} size: ")), "{out}");
    let out = place.corten(&["push", &new]).good();
    assert_eq!(out.matches(": Layer already exists\n").count(), 2, "{out}");

    // To a registry that knows nothing of it.
    let second = Real::start(Speaks::Http, Wants::Nothing);
    for tag in ["a", "b"] {
        place.corten(&["tag", &old, &format!("{}/web:{tag}", second.host)]).good();
    }
    let out = place.corten(&["push", "-a", &format!("{}/web", second.host)]).good();
    assert_eq!(out.matches(": Pushed\n").count(), 2, "{out}");
    for tag in ["a", "b"] {
        assert_eq!(inspect(&format!("docker://{}/web:{tag}", second.host))["Digest"], digest);
    }
    let quiet = format!("{}/web:a", second.host);
    assert_eq!(place.corten(&["push", "-q", &quiet]).good(), format!("{quiet}\n"));
}

#[test]
fn what_cannot_be_pushed_says_so() {
    if !can(&ALL) {
        return;
    }
    let place = Place::new();
    place.corten(&["push", "127.0.0.1:1/web"]).refused("there is no image \"127.0.0.1:1/web:latest\"");
    let digest = format!("web@sha256:{}", "a".repeat(64));
    place.corten(&["push", &digest]).refused("a push needs a tag");
    place.corten(&["push", "-a", "127.0.0.1:1/web:1"]).refused("--all-tags and a tag");
    place.corten(&["push", "-a", "127.0.0.1:1/web"]).refused("there is no image of 127.0.0.1:1/web");
    place.usual();
    place.load("it", "127.0.0.1:1/web");
    place.corten(&["push", "-q", "127.0.0.1:1/web"]).refused("ECONNREFUSED");
}
