//! Pulling from docker-registry what skopeo put there.

use crate::images::{double, single};
use crate::kit::{Real, Speaks, Wants, fetch, has, named, run, settings};
use corten::image::registry::Registry;
use corten::image::settings::Mirror;
use corten::image::source::Source;
use oci_spec::image::{ImageIndex, ImageManifest};
use std::io::Read;

const NEEDED: [&str; 2] = ["docker-registry", "skopeo"];

#[test]
fn http_on_this_machine_needs_no_settings() {
    if !has(&NEEDED) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Http, Wants::Nothing), single(1, &[300_000, 5, 0]));
    real.put(&layout, "a/b:1");
    let name = named(&format!("{}/a/b:1", real.host));
    let registry = Registry::connect(&name, &settings(real.dir.path())).unwrap();
    let top = registry.resolve(&name).unwrap();
    assert_eq!(
        (top.digest(), top.size(), top.media_type()),
        (layout.top.digest(), layout.top.size(), layout.top.media_type())
    );
    let manifest: ImageManifest = serde_json::from_slice(&fetch(&registry, &top).unwrap()).unwrap();
    assert_eq!(manifest.layers().len(), 3);
    for blob in manifest.layers().iter().chain([manifest.config()]) {
        let whole = fetch(&registry, blob).unwrap();
        assert_eq!(whole, layout.bytes(blob.digest().as_ref()));
        // And from the middle.
        let mut rest = Vec::new();
        registry.open(blob, blob.size() / 3).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, whole[whole.len() / 3..]);
    }
    // By its digest, with a tag that is only said.
    let name = named(&format!("{}/a/b:other@{}", real.host, top.digest()));
    assert_eq!(registry.resolve(&name).unwrap(), top);
}

#[test]
fn an_index_names_a_manifest_for_each_platform() {
    if !has(&NEEDED) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Http, Wants::Nothing), double(2));
    real.put(&layout, "two:latest");
    let name = named(&format!("{}/two", real.host));
    let registry = Registry::connect(&name, &settings(real.dir.path())).unwrap();
    let top = registry.resolve(&name).unwrap();
    assert_eq!(top.digest(), layout.top.digest());
    let index: ImageIndex = serde_json::from_slice(&fetch(&registry, &top).unwrap()).unwrap();
    assert_eq!(index.manifests().len(), 2);
    for manifest in index.manifests() {
        fetch(&registry, manifest).unwrap();
    }
}

#[test]
fn what_is_not_there_is_said_so() {
    if !has(&NEEDED) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Http, Wants::Nothing), single(3, &[10]));
    real.put(&layout, "there:1");
    for (text, words) in [("there:2", "MANIFEST_UNKNOWN"), ("nowhere:1", "= 404")] {
        let name = named(&format!("{}/{text}", real.host));
        let registry = Registry::connect(&name, &settings(real.dir.path())).unwrap();
        let e = registry.resolve(&name).unwrap_err().to_string();
        assert!(e.contains(text) && e.contains("does not have it") && e.contains(words), "{e}");
        let mut absent = layout.top.clone();
        absent.set_digest(format!("sha256:{}", "a".repeat(64)).parse().unwrap());
        absent.set_media_type("application/octet-stream".into());
        let Err(e) = registry.open(&absent, 0) else { panic!("opened") };
        assert!(e.to_string().contains("does not have it"), "{e}");
    }
    let name = named("127.0.0.1:1/x");
    let e = Registry::connect(&name, &settings(real.dir.path())).unwrap().resolve(&name).unwrap_err().to_string();
    assert!(e.contains("127.0.0.1:1") && e.contains("ECONNREFUSED"), "{e}");
}

#[test]
fn https_needs_the_authority() {
    if !has(&[&NEEDED[..], &["openssl", "htpasswd"]].concat()) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Https, Wants::Nothing), single(4, &[100_000]));
    real.put(&layout, "x:1");
    let name = named(&format!("{}/x:1", real.host));
    let mut settings = settings(real.dir.path());
    let resolve = |settings: &_| Registry::connect(&name, settings).unwrap().resolve(&name);
    let e = resolve(&settings).unwrap_err();
    assert!(e.cause.contains("nobody that is trusted"), "{e}");
    assert!(e.hint.unwrap().contains(&format!("{}/ca.crt", real.host)));
    // SSL_CERT_FILE in place of the system's file.
    settings.authorities = Some(real.path("ca.crt"));
    assert_eq!(resolve(&settings).unwrap().digest(), layout.top.digest());
    settings.authorities = None;
    real.trust(&settings);
    let registry = Registry::connect(&name, &settings).unwrap();
    fetch(&registry, &registry.resolve(&name).unwrap()).unwrap();
    // HTTP where TLS is spoken.
    settings.plain_http = vec![real.host.clone()];
    assert!(resolve(&settings).is_err());
    // A name that the certificate does not have: localhost is in it, 127.0.0.2 is not.
    let localhost = real.host.replace("127.0.0.1", "localhost");
    let name = named(&format!("{localhost}/x:1"));
    settings.authorities = Some(real.path("ca.crt"));
    assert!(Registry::connect(&name, &settings).unwrap().resolve(&name).is_ok());
}

#[test]
fn a_certificate_made_for_itself_is_explained() {
    if !has(&[&NEEDED[..], &["openssl"]].concat()) {
        return;
    }
    let real = Real::start(Speaks::Https, Wants::Nothing);
    // The authority itself answers, on a port of its own.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = std::process::Command::new("openssl")
        .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-www"])
        .arg("-cert")
        .arg(real.path("ca.crt"))
        .arg("-key")
        .arg(real.path("ca.key"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut settings = settings(real.dir.path());
    settings.authorities = Some(real.path("ca.crt"));
    let name = named(&format!("127.0.0.1:{port}/x"));
    let mut said = String::new();
    for _ in 0..100 {
        said = Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap_err().to_string();
        if !said.contains("ECONNREFUSED") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(said.contains("that of an authority"), "{said}");
}

#[test]
fn mirrors_are_asked_in_order_and_then_the_registry() {
    if !has(&NEEDED) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Http, Wants::Nothing), single(5, &[1000]));
    real.put(&layout, "library/debian:12");
    real.put(&layout, "hub/library/debian:13");
    let mut settings = settings(real.dir.path());
    let mirror = |text: &str| Mirror::parse(text).unwrap();
    let mirrors = vec![mirror("127.0.0.1:1"), mirror(&real.host), mirror(&format!("{}/hub", real.host))];
    settings.mirrors.insert("docker.io".into(), mirrors);
    for name in [named("debian:12"), named("debian:13")] {
        let registry = Registry::connect(&name, &settings).unwrap();
        let top = registry.resolve(&name).unwrap();
        assert_eq!(top.digest(), layout.top.digest());
        let manifest: ImageManifest = serde_json::from_slice(&fetch(&registry, &top).unwrap()).unwrap();
        fetch(&registry, &manifest.layers()[0]).unwrap();
    }
    // Nobody has it: the registry's own answer comes first, then each mirror's.
    let name = named("127.0.0.1:2/x");
    settings.mirrors.insert("127.0.0.1:2".into(), vec![mirror(&real.host)]);
    let e = Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap_err();
    assert!(e.cause.contains("127.0.0.1:2: connection refused"), "{e}");
    assert!(
        e.details.iter().any(|line| line.contains(&format!("mirror {}: the registry does not have it", real.host))),
        "{e}"
    );
}

#[test]
fn threads_share_a_registry() {
    if !has(&NEEDED) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Http, Wants::Nothing), single(6, &[500_000; 8]));
    real.put(&layout, "many:1");
    let name = named(&format!("{}/many:1", real.host));
    let registry = Registry::connect(&name, &settings(real.dir.path())).unwrap();
    let manifest: ImageManifest =
        serde_json::from_slice(&fetch(&registry, &registry.resolve(&name).unwrap()).unwrap()).unwrap();
    std::thread::scope(|scope| {
        for layer in manifest.layers() {
            scope.spawn(|| fetch(&registry, layer).unwrap());
        }
    });
    assert!(run("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]).contains("many"));
}
