//! `login` and `logout`, and what they are for.

use crate::kit::{ALL, Done, PASSWORD, Place, Real, Speaks, Wants, can, exists};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_login_opens_the_registry_and_a_logout_closes_it() {
    if !can(&[&ALL[..], &["htpasswd", "openssl"]].concat()) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Https, Wants::Login));
    place.usual();
    let trusting = |args: &[&str], input: &str| -> Done {
        let mut command = place.command(args);
        command.env("SSL_CERT_FILE", real.path("ca.crt"));
        let done = place.run(command, input.as_bytes());
        // No secret is ever shown.
        assert!(!done.err.contains("s3cret") && !done.out.contains("s3cret"), "{done:?}");
        done
    };
    let host = real.host.as_str();
    let name = format!("{host}/web:1");
    place.load("it", &name);
    // Whose certificate nobody trusts is not asked.
    place.corten(&["push", "-q", &name]).refused("certificate");
    let err = trusting(&["push", "-q", &name], "").refused("it wants a login");
    assert!(err.contains(&format!("corten login {host}")), "{err}");

    trusting(&["login", "-u", "user", "--password-stdin", host], "s3cret wrong\n").refused("the login is refused");
    assert!(!exists(place.path("docker/config.json")));
    let done = trusting(&["login", "-u", "user", "--password-stdin", host], &format!("{PASSWORD}\n"));
    assert_eq!((done.code, done.out.as_str()), (0, "Login Succeeded\n"));
    assert!(done.err.contains("not encrypted") && done.err.contains("docker/config.json"), "{}", done.err);
    let config = place.path("docker/config.json");
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);

    trusting(&["push", "-q", &name], "").good();
    trusting(&["rmi", &name], "").good();
    trusting(&["pull", "-q", &name], "").good();
    assert_eq!(trusting(&["logout", host], "").good(), format!("Removing login credentials for {host}\n"));
    assert_eq!(trusting(&["logout", host], "").good(), format!("Not logged in to {host}\n"));
    assert!(!fs::read_to_string(&config).unwrap().contains(host));
    trusting(&["pull", "-q", &name], "").refused("it wants a login");

    // On the command line, with a warning.
    let done = trusting(&["login", "-u", "user", "-p", PASSWORD, host], "");
    assert_eq!(done.code, 0);
    assert!(done.err.contains("Use --password-stdin"), "{}", done.err);
    let done = trusting(&["login", "-u", "user", "-p", "s3cret wrong", host], "");
    assert!(done.code == 1 && done.err.contains("the login is refused"), "{}", done.err);
}

#[test]
fn plain_http_is_spoken_where_it_is_asked_for() {
    if !can(&[&ALL[..], &["openssl"]].concat()) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Https, Wants::Nothing));
    let name = format!("{}/web:1", real.host);
    place.usual();
    place.load("it", &name);
    // It has TLS, and so does not understand us: which is what shows that there was none.
    for verb in ["pull", "push"] {
        place.corten(&[verb, "-q", &name]).refused("certificate");
        place.corten(&[verb, "-q", "--plain-http", &name]).refused(&format!("http://{}/v2/web/", real.host));
    }
}

#[test]
fn what_a_login_needs() {
    let place = Place::new();
    place.corten(&["login", "--password-stdin", "x.lan"]).refused("--password-stdin without --username");
    place.corten(&["login", "-u", "u", "-p", "p", "--password-stdin", "x.lan"]).refused("only one of them");
    place.corten(&["login", "-u", "u", "x.lan"]).refused("standard input is no terminal");
    place.corten(&["login", "x.lan"]).refused("standard input is no terminal");
    place.corten(&["logout", "a b"]).refused("registry \"a b\"");
    assert_eq!(place.corten(&["logout"]).good(), "Not logged in to docker.io\n");
}
