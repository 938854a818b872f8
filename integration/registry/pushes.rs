//! Pushing to docker-registry, and what skopeo finds there.

use crate::images::{double, single};
use crate::kit::{Layout, PASSWORD, Real, Speaks, Wants, has, named, run, settings};
use corten::image::credentials::Secret;
use corten::image::registry::push::{How, Pushed};
use corten::image::registry::{Registry, login};
use std::sync::Mutex;

fn push(real: &Real, layout: &Layout, name: &str, near: Option<&str>) -> corten::error::Result<Vec<How>> {
    let name = named(&format!("{}/{name}", real.host));
    let told = Mutex::new(Vec::new());
    let tell = |_: &_, how| told.lock().unwrap().push(how);
    let registry = Registry::connect(&name, &settings(real.dir.path())).unwrap();
    let digest = registry.push(&name, &Pushed { source: layout, top: &layout.top, near, told: &tell })?;
    assert_eq!(digest.to_string(), layout.top.digest().to_string());
    // Complete: skopeo reads and verifies all of it.
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (format!("docker://{name}"), format!("oci:{}:it", copy.path().display()));
    run("skopeo", &["copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", &from, &to]);
    Ok(told.into_inner().unwrap())
}

#[test]
fn what_is_there_is_not_sent_again() {
    if !has(&["docker-registry", "skopeo"]) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Http, Wants::Nothing), single(1, &[700_000, 0, 3, 100_000]));
    assert_eq!(push(&real, &layout, "a/first:1", None).unwrap(), [How::Sent; 5]);
    assert_eq!(push(&real, &layout, "a/first:2", None).unwrap(), [How::There; 5]);
    assert_eq!(push(&real, &layout, "a/second:1", Some("a/first")).unwrap(), [How::Mounted; 5]);
    // Near is only a hope.
    assert_eq!(push(&real, &layout, "a/third:1", Some("a/nowhere")).unwrap(), [How::Sent; 5]);
    let e = push(&real, &layout, &format!("a/x@sha256:{}", "a".repeat(64)), None).unwrap_err();
    assert!(e.cause.contains("the image has the digest"), "{e}");
}

#[test]
fn an_index_goes_with_all_that_it_names() {
    if !has(&["docker-registry", "skopeo"]) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Http, Wants::Nothing), double(2));
    let told = push(&real, &layout, "two:1", None).unwrap();
    assert_eq!(told, [How::Sent; 5]);
    let tags = run("skopeo", &["list-tags", "--tls-verify=false", &format!("docker://{}/two", real.host)]);
    assert!(tags.contains("\"1\""), "{tags}");
}

#[test]
fn a_push_with_tls_and_a_login() {
    if !has(&["docker-registry", "skopeo", "openssl", "htpasswd"]) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Https, Wants::Login), single(3, &[2_000_000, 10]));
    let settings = settings(real.dir.path());
    real.trust(&settings);
    let name = named(&format!("{}/x:1", real.host));
    let told = Mutex::new(Vec::new());
    let tell = |_: &_, how| told.lock().unwrap().push(how);
    let push = || {
        let pushed = Pushed { source: &layout, top: &layout.top, near: None, told: &tell };
        Registry::connect(&name, &settings).unwrap().push(&name, &pushed)
    };
    assert!(push().unwrap_err().cause.contains("it wants a login"));
    login::login(&real.host, "user", Secret(PASSWORD.into()), &settings).unwrap();
    push().unwrap();
    assert_eq!(*told.lock().unwrap(), [How::Sent; 3]);
    let resolved = Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap();
    assert_eq!(resolved.digest(), layout.top.digest());
}
