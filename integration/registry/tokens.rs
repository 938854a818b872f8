//! Token servers, and who sees which secret.

use crate::faults::{plain, well};
use crate::images::{Blob, image};
use crate::kit::{fetch, named};
use crate::server::{Reply, Request, Server};
use corten::image::credentials::{self, Credentials, Secret};
use corten::image::registry::{Registry, login};
use corten::image::settings::Settings;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

/// Every line of the log of this process, at the level that --debug has.
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn log_lines() -> &'static Lines {
    static LINES: OnceLock<&Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        let lines: &'static Lines = Box::leak(Box::new(Lines(Mutex::new(Vec::new()))));
        log::set_logger(lines).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
        lines
    })
}

fn sample() -> Vec<Blob> {
    image(9, "amd64", &[1000, 2000, 3000])
}

/// The token server of a test, and the registry that sends to it. `TOKEN-n` is the n-th token, and only the last one is good.
fn pair(dir: &Path) -> (Server, Server, Settings, Arc<AtomicUsize>) {
    let issued = Arc::new(AtomicUsize::new(0));
    let count = issued.clone();
    let (tokens, mut settings, _) = plain(move |request: &Request| {
        if request.header("authorization") == Some("Basic dXNlcjp3cjBuZw==") {
            return Reply::new(401, r#"{"details":"no"}"#);
        }
        let number = count.fetch_add(1, Relaxed) + 1;
        Reply::new(200, format!(r#"{{"token":"TOKEN-{number}","expires_in":300}}"#))
    });
    let (realm, valid) = (format!("http://{}/token", tokens.host), issued.clone());
    let blobs = sample();
    let server = Server::start(move |request| {
        let good = format!("Bearer TOKEN-{}", valid.load(Relaxed));
        if request.header("authorization") == Some(&good) {
            return if request.path == "/v2/" { Reply::new(200, "{}") } else { well(&blobs, request) };
        }
        let challenge = format!(r#"Bearer realm="{realm}",service="the service",scope="repository:x:pull""#);
        Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#).header("www-authenticate", challenge)
    });
    settings.plain_http.push(server.host.clone());
    settings.docker = Some(dir.to_owned());
    (tokens, server, settings, issued)
}

#[test]
fn a_token_serves_for_all_that_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (tokens, server, settings, issued) = pair(dir.path());
    let name = named(&format!("{}/x:1", server.host));
    let registry = Registry::connect(&name, &settings).unwrap();
    let top = registry.resolve(&name).unwrap();
    let blobs = sample();
    fetch(&registry, &top).unwrap();
    std::thread::scope(|scope| {
        for blob in &blobs[1..] {
            let registry = &registry;
            scope.spawn(move || fetch(registry, &blob.descriptor()).unwrap());
        }
    });
    // Anonymous, for this repository, once.
    let seen = tokens.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path, "/token?service=the%20service&scope=repository:x:pull");
    assert_eq!(seen[0].header("authorization"), None);
    // It has been withdrawn: another one is asked for, by one of the threads.
    issued.fetch_add(1, Relaxed);
    std::thread::scope(|scope| {
        for blob in &blobs[1..] {
            let registry = &registry;
            scope.spawn(move || fetch(registry, &blob.descriptor()).unwrap());
        }
    });
    assert_eq!(tokens.seen().len(), 2);
}

#[test]
fn a_login_goes_to_the_token_server_and_nowhere_else() {
    let lines = log_lines();
    let dir = tempfile::tempdir().unwrap();
    let (tokens, server, settings, _) = pair(dir.path());
    let wrong = login::login(&server.host, "user", Secret("wr0ng".into()), &settings).unwrap_err();
    assert!(wrong.cause.contains("the login is refused") && !wrong.to_string().contains("wr0ng"), "{wrong}");
    login::login(&server.host, "user", Secret("s3cret".into()), &settings).unwrap();
    let name = named(&format!("{}/x:1", server.host));
    let registry = Registry::connect(&name, &settings).unwrap();
    registry.resolve(&name).unwrap();
    let (basic, seen) = ("Basic dXNlcjpzM2NyZXQ=", tokens.seen());
    assert_eq!(seen.last().unwrap().header("authorization"), Some(basic));
    assert!(seen.last().unwrap().path.contains("account=user"));
    assert!(server.seen().iter().all(|request| request.header("authorization") != Some(basic)));
    // The identity token goes in a body.
    let identity = Credentials::Identity(Secret("1dent1ty".into()));
    credentials::keep(&server.host, &identity, &settings).unwrap();
    Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap();
    let last = tokens.seen().pop().unwrap();
    let body = String::from_utf8(last.body.clone()).unwrap();
    assert_eq!((last.method.as_str(), last.header("authorization")), ("POST", None));
    assert!(body.contains("refresh_token=1dent1ty&scope=repository:x:pull"), "{body}");
    let lines = lines.0.lock().unwrap();
    assert!(!lines.is_empty());
    for secret in ["s3cret", "wr0ng", "1dent1ty", "dXNlcjpzM2NyZXQ", "TOKEN-"] {
        let told: Vec<_> = lines.iter().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn redirects_get_no_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = sample();
    let (elsewhere, _, _) = plain(move |request| match request.path.contains("/locked/") {
        // It would like to have them, and has a token server for that.
        true => Reply::new(401, "")
            .header("www-authenticate", format!("Bearer realm=\"http://{}/give\"", request.header("host").unwrap())),
        false => well(&blobs, request),
    });
    let to = elsewhere.host.clone();
    let (server, mut settings, _) = plain(move |request| match request.header("authorization") {
        None => Reply::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
        Some(_) => Reply::new(307, "").header("location", format!("http://{to}{}?signature=s1gned", request.path)),
    });
    settings.docker = Some(dir.path().to_owned());
    let password = Credentials::Password("user".into(), Secret("s3cret".into()));
    credentials::keep(&server.host, &password, &settings).unwrap();
    // The other host has its own entry: it is not looked up for a redirect either.
    credentials::keep(&elsewhere.host, &password, &settings).unwrap();
    for (repository, works) in [("x", true), ("locked", false)] {
        let name = named(&format!("{}/{repository}:1", server.host));
        let registry = Registry::connect(&name, &settings).unwrap();
        let fetched = registry.resolve(&name);
        assert_eq!(fetched.is_ok(), works);
        if let Err(e) = fetched {
            assert!(!e.to_string().contains("s1gned"), "{e}");
        }
    }
    assert!(server.seen().iter().any(|request| request.header("authorization") == Some("Basic dXNlcjpzM2NyZXQ=")));
    assert!(elsewhere.seen().len() >= 2);
    assert!(elsewhere.seen().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_token_server_may_not_redirect() {
    let dir = tempfile::tempdir().unwrap();
    let (thief, _, _) = plain(|_| Reply::new(200, r#"{"token":"x"}"#));
    let to = format!("http://{}/token", thief.host);
    let (tokens, mut settings, _) = plain(move |_| Reply::new(307, "").header("location", to.clone()));
    let realm = format!("Bearer realm=\"http://{}/token\"", tokens.host);
    let server = Server::start(move |_| Reply::new(401, "").header("www-authenticate", realm.clone()));
    settings.plain_http.push(server.host.clone());
    settings.docker = Some(dir.path().to_owned());
    for held in [Credentials::Password("user".into(), Secret("p".into())), Credentials::Identity(Secret("t".into()))] {
        credentials::keep(&server.host, &held, &settings).unwrap();
        let name = named(&format!("{}/x:1", server.host));
        let e = Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap_err().to_string();
        assert!(e.contains("its token server"), "{e}");
    }
    assert!(thief.seen().is_empty());
}
