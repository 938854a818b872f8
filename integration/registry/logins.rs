//! Logins against a registry with TLS and htpasswd, in a config.json of the test's own.

use crate::images::single;
use crate::kit::{PASSWORD, Real, Speaks, Wants, fetch, has, named, run, settings};
use corten::image::credentials::{Kept, Secret};
use corten::image::registry::{Registry, login};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_login_is_checked_kept_used_and_forgotten() {
    if !has(&["docker-registry", "skopeo", "openssl", "htpasswd"]) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Https, Wants::Login), single(1, &[1000]));
    real.put(&layout, "x:1");
    let settings = settings(real.dir.path());
    real.trust(&settings);
    let name = named(&format!("{}/x:1", real.host));
    let resolve = || Registry::connect(&name, &settings).unwrap().resolve(&name);

    let e = resolve().unwrap_err();
    assert!(e.cause.contains("it wants a login"), "{e}");
    assert_eq!(e.hint, Some(format!("corten login {}", real.host)));

    let wrong = login::login(&real.host, "user", Secret("wr0ng".into()), &settings).unwrap_err().to_string();
    assert!(wrong.contains("refused") && !wrong.contains("wr0ng"), "{wrong}");
    let path = real.path("docker/config.json");
    assert!(!path.exists(), "a wrong login is kept");

    let kept = login::login(&real.host, "user", Secret(PASSWORD.into()), &settings).unwrap();
    assert_eq!(kept, Kept::File(fs::canonicalize(&path).unwrap()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let registry = Registry::connect(&name, &settings).unwrap();
    assert_eq!(
        fetch(&registry, &registry.resolve(&name).unwrap()).unwrap(),
        layout.bytes(layout.top.digest().as_ref())
    );
    // Others understand what we wrote.
    let (authfile, url) = (path.display().to_string(), format!("docker://{name}"));
    run("skopeo", &["inspect", "--tls-verify=false", "--authfile", &authfile, &url]);

    // And we what others write.
    fs::remove_file(&path).unwrap();
    run("skopeo", &["login", "--tls-verify=false", "--authfile", &authfile, "-u", "user", "-p", PASSWORD, &real.host]);
    assert!(resolve().is_ok());
    assert!(login::logout(&real.host, &settings).unwrap().is_some());
    assert!(login::logout(&real.host, &settings).unwrap().is_none());
    assert!(resolve().unwrap_err().cause.contains("it wants a login"));
}

#[test]
fn a_helper_keeps_what_the_file_would() {
    if !has(&["docker-registry", "skopeo", "htpasswd"]) {
        return;
    }
    let (real, layout) = (Real::start(Speaks::Http, Wants::Login), single(2, &[1000]));
    real.put(&layout, "x:1");
    let mut settings = settings(real.dir.path());
    let (helper, kept) = (real.path("docker-credential-mine"), real.path("kept"));
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) exec cat >{0};;\nget) exec cat {0} || echo credentials not found;;\nerase) exec rm {0};;\nesac\n",
        kept.display()
    );
    let script = script.replace(
        &format!("exec cat {0} ||", kept.display()),
        &format!("[ -e {0} ] && exec cat {0} ||", kept.display()),
    );
    fs::write(&helper, script.replace("echo credentials not found", "{ echo credentials not found; exit 1; }"))
        .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", real.dir.path().display(), std::env::var("PATH").unwrap());
    settings.environment = vec![("PATH".into(), path.into())];
    fs::create_dir(real.path("docker")).unwrap();
    fs::write(real.path("docker/config.json"), r#"{"credsStore": "mine", "x": 1}"#).unwrap();
    let name = named(&format!("{}/x:1", real.host));
    let resolve = || Registry::connect(&name, &settings).unwrap().resolve(&name);
    assert!(resolve().unwrap_err().cause.contains("it wants a login"));
    let told = login::login(&real.host, "user", Secret(PASSWORD.into()), &settings).unwrap();
    assert_eq!(told, Kept::Helper("mine".into()));
    assert!(fs::read_to_string(&kept).unwrap().contains(PASSWORD));
    let file = fs::read_to_string(real.path("docker/config.json")).unwrap();
    assert!(!file.contains("auth\"") && file.contains("\"x\": 1"), "{file}");
    assert!(resolve().is_ok());
    assert_eq!(login::logout(&real.host, &settings).unwrap(), Some(Kept::Helper("mine".into())));
    assert!(!kept.exists());
    assert!(resolve().is_err());
}
