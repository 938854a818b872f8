//! No password, no token and no signature is ever shown: at each verb that asks a registry, whatever that answers, in every form of log.

use crate::kit::{Done, MADE, Place, can, run};
use crate::server::{Manner, Reply, Request, Server};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PASSWORD: &str = "s3cret-Pa55word";
const TOKEN: &str = "t0ken-of-the-server";
const IDENTITY: &str = "1dentity-t0ken";
const SIGNATURE: &str = "s1gnature-of-a-bl0b";
const PROXY: &str = "pr0xy-Pa55word";

fn basic(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// In whatever form they may be shown.
fn secrets() -> Vec<String> {
    let plain = [PASSWORD, TOKEN, IDENTITY, SIGNATURE, PROXY].map(str::to_owned);
    plain.into_iter().chain([basic("me", PASSWORD), basic("px", PROXY)]).collect()
}

#[track_caller]
fn silent(what: &str, text: &[u8]) {
    for secret in secrets() {
        let shown = text.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!shown, "{what} shows {secret}:\n{}", String::from_utf8_lossy(text));
    }
}

/// All files below a directory.
fn silent_below(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        silent("a name", path.as_os_str().as_encoded_bytes());
        match (kind.is_dir(), kind.is_file()) {
            (true, _) => silent_below(&path),
            (_, true) => silent(&path.display().to_string(), &fs::read(&path).unwrap()),
            _ => {}
        }
    }
}

type Answer = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A registry that behaves so, and what is known of it in config.json.
struct Case {
    name: &'static str,
    answer: Answer,
    known: Value,
}

/// Says again all that it was told: in the body, in the challenge, wherever a client looks.
fn echo(status: u16, request: &Request) -> Reply {
    let said = request.header("authorization").unwrap_or("nothing").to_owned();
    let all = format!("{said} at {} with {}", request.path, String::from_utf8_lossy(&request.body));
    let message: String = all.chars().filter(|c| !c.is_control()).take(250).collect();
    Reply::new(status, json!({"errors": [{"code": said, "message": message}]}).to_string())
        .header("www-authenticate", format!("Basic realm=\"{said}\", error=\"{said}\""))
        .header("retry-after", said.clone())
        .header("docker-content-digest", said.clone())
        .header("location", format!("/{}?x={SIGNATURE}", request.path.len()))
        .header("warning", said)
}

/// Wants name and password, and then does this.
fn after_basic(then: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Answer {
    Box::new(move |request| match request.header("authorization") {
        Some(_) => then(request),
        None => Reply::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
    })
}

/// Is its own token server, and then does this with who has a token.
fn after_token(then: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Answer {
    Box::new(move |request| {
        if request.path.starts_with("/token") {
            return Reply::new(
                200,
                json!({"token": TOKEN, "access_token": TOKEN, "refresh_token": IDENTITY}).to_string(),
            );
        }
        match request.header("authorization") {
            Some(bearer) if bearer.ends_with(TOKEN) => then(request),
            _ => Reply::new(401, "").header("www-authenticate", realm(request, "token", "")),
        }
    })
}

fn realm(request: &Request, path: &str, more: &str) -> String {
    let host = request.header("host").unwrap();
    format!("Bearer realm=\"http://{host}/{path}\",service=\"s\",scope=\"repository:x:pull\"{more}")
}

/// What the layout has, as a registry gives it.
pub fn serve(layout: &Path, request: &Request) -> Reply {
    let wanted = request.path.split('?').next().unwrap().rsplit('/').next().unwrap();
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = match wanted.strip_prefix("sha256:") {
        Some(_) => wanted.to_owned(),
        None => index["manifests"][0]["digest"].as_str().unwrap().to_owned(),
    };
    match fs::read(layout.join("blobs").join(digest.replace(':', "/"))) {
        Ok(bytes) => Reply::new(200, bytes)
            .header("docker-content-digest", digest)
            .header("content-type", "application/vnd.oci.image.manifest.v1+json"),
        Err(_) => Reply::new(404, ""),
    }
}

fn cases(layout: &Path, elsewhere: &str) -> Vec<Case> {
    let password = json!({"auth": basic("me", PASSWORD)});
    let identity = json!({"auth": STANDARD.encode("<token>:"), "identitytoken": IDENTITY});
    let case = |name, answer: Answer, known: &Value| Case { name, answer, known: known.clone() };
    let signed = move |request: &Request, to: &str| {
        Reply::new(307, "").header("location", format!("{to}{}?X-Amz-Signature={SIGNATURE}&y=1", request.path))
    };
    let (there, here) = (format!("http://{elsewhere}"), layout.to_owned());
    let mut all = Vec::new();
    for status in [400, 401, 403, 404, 418, 429, 500] {
        let token = if status % 2 == 0 { &identity } else { &password };
        all.push(case("echo after a password", after_basic(move |request| echo(status, request)), &password));
        all.push(case("echo after a token", after_token(move |request| echo(status, request)), token));
        // The token server itself, which has seen the password or the identity token.
        let server: fn(u16) -> Answer = |status| {
            Box::new(move |request| match request.path.starts_with("/token") {
                true => echo(status, request),
                false => Reply::new(401, "").header("www-authenticate", realm(request, "token", "")),
            })
        };
        all.push(case("echo of the token server", server(status), &password));
        all.push(case("echo of the token server, identity", server(status), &identity));
    }
    let to = there.clone();
    all.push(case("a redirect to who refuses", after_basic(move |request| signed(request, &to)), &password));
    all.push(case("a redirect in a circle", after_token(move |request| signed(request, "")), &password));
    all.push(case(
        "a redirect to nobody",
        after_basic(move |request| signed(request, "http://127.0.0.1:1")),
        &password,
    ));
    all.push(case("a redirect to no address", after_basic(move |request| signed(request, "ftp://h/")), &password));
    all.push(case("a document of a type that is a secret", after_token(echoing_document), &password));
    all.push(case(
        "a document that is a text",
        after_token(|request| Reply::new(200, json!(request.header("authorization")).to_string())),
        &password,
    ));
    all.push(case(
        "a token that is none",
        Box::new(|request| match request.path.starts_with("/token") {
            true => Reply::new(200, format!("{{\"token\": \"{TOKEN}\u{1}")),
            false => Reply::new(401, "").header("www-authenticate", realm(request, "token", "")),
        }),
        &password,
    ));
    all.push(case(
        "the connection ends",
        after_token(|request| {
            Reply::new(200, "").header("x", request.header("authorization").unwrap()).manner(Manner::Close)
        }),
        &password,
    ));
    all.push(case(
        "a realm that says it again",
        after_basic(|request| {
            let said = request.header("authorization").unwrap().rsplit(' ').next().unwrap().to_owned();
            match request.path.starts_with("/v2/") {
                true => Reply::new(401, "").header("www-authenticate", realm(request, &said, "")),
                false => Reply::new(500, ""),
            }
        }),
        &password,
    ));
    all.push(case("no login is known", after_token(|request| echo(500, request)), &json!({})));
    all.push(case(
        "auth is no base64",
        after_basic(|_| Reply::new(200, "")),
        &json!({"auth": format!("*{PASSWORD}*")}),
    ));
    all.push(case(
        "all is well",
        after_token(move |request| match request.path.contains("/blobs/") {
            true => signed(request, &there),
            false => serve(&here, request),
        }),
        &password,
    ));
    all
}

fn echoing_document(request: &Request) -> Reply {
    Reply::new(200, json!({"schemaVersion": 2, "mediaType": request.header("authorization")}).to_string())
}

/// A place with an image that has a program, and a registry in its layout.
fn place() -> Place {
    let place = Place::new();
    place.umoci("it", &[&[("word", "1")]], &["--config.entrypoint", "/data/busybox", "--config.cmd", "true"]);
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| fs::exists(path).unwrap()).unwrap();
    let tree = place.path("program");
    fs::create_dir(&tree).unwrap();
    fs::copy(busybox, tree.join("busybox")).unwrap();
    run("umoci", &["insert", "--image", &format!("{}:it", place.at("layout")), tree.to_str().unwrap(), "/data"]);
    place
}

/// Runs a verb with its log on standard error and in files of either format, and looks at all that it has said.
fn all_logs(place: &Place, home: &Path, words: &[&str], input: &str, more: &[(&str, &str)]) -> Vec<Done> {
    let log = format!("{}/log-{}", home.display(), words.len() * 100 + words[0].len());
    let files: [&[&str]; 3] =
        [&["--debug"], &["--debug", "--log", &log], &["--debug", "--log", &log, "--log-format=json"]];
    // Each of them with the verb that says most; those that wait for another try are many.
    let forms = if words[0] == "pull" { &files[..] } else { &files[1..2] };
    let done = forms.iter().map(|form| {
        let mut command = place.command(&[form, &["--root", &place.at("root")][..], words].concat());
        command
            .env("DOCKER_CONFIG", home)
            .env("RUST_LOG", "trace")
            .env("CORTEN_LOG", "trace")
            .envs(more.iter().copied());
        let done = place.run(command, input.as_bytes());
        silent(&format!("{words:?} {form:?}"), format!("{}{}", done.out, done.err).as_bytes());
        done
    });
    let done = done.collect();
    let told = fs::read(&log).unwrap();
    silent(&format!("the log of {words:?}"), &told);
    done
}

#[test]
fn whatever_a_registry_answers() {
    if !can(&MADE) {
        return;
    }
    let place = Arc::new(place());
    place.load("it", "it");
    let layout = place.path("layout");
    let blobs = layout.clone();
    let elsewhere = Server::start(move |request| match request.path.contains("/blobs/") {
        true => serve(&blobs, request),
        false => echo(403, request),
    });
    let ended: Vec<(&str, Vec<i32>)> = std::thread::scope(|scope| {
        let cases = cases(&layout, &elsewhere.host).into_iter().enumerate().map(|(number, case)| {
            let place = place.clone();
            scope.spawn(move || {
                let server = Server::start(case.answer);
                let (home, name) = (place.path(&format!("docker-{number}")), format!("{}/x:1", server.host));
                fs::create_dir(&home).unwrap();
                let known = json!({"auths": {&server.host: case.known}}).to_string();
                fs::write(home.join("config.json"), &known).unwrap();
                place.corten(&["tag", "it", &name]).good();
                let verbs: [&[&str]; 5] = [
                    &["pull", &name],
                    &["pull", "-q", &name],
                    &["push", &name],
                    &["run", "--rm", "--pull", "always", &name],
                    &["run", "--rm", "--trace", "--pull=always", &name, "true"],
                ];
                let codes: Vec<i32> = std::thread::scope(|scope| {
                    let (place, home) = (&place, &home);
                    let verbs = verbs.map(|words| scope.spawn(move || all_logs(place, home, words, "", &[])));
                    verbs.into_iter().flat_map(|verb| verb.join().unwrap()).map(|done| done.code).collect()
                });
                all_logs(&place, &home, &["login", "-u", "me", "--password-stdin", &server.host], PASSWORD, &[]);
                all_logs(&place, &home, &["logout", &server.host], "", &[]);
                assert!(!server.seen().is_empty(), "{}", case.name);
                // Nothing of it in the log by another way, and the password only where Docker has it.
                for entry in fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()) {
                    if !entry.ends_with("config.json") {
                        silent(&entry.display().to_string(), &fs::read(&entry).unwrap());
                    }
                }
                (case.name, codes)
            })
        });
        let threads: Vec<_> = cases.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // A pull failed, of all but the one that is well: so errors were shown.
    for (name, codes) in ended {
        assert_eq!(codes[0] == 0, name == "all is well", "{name}: {codes:?}");
    }
    silent_below(&place.path("store"));
    silent_below(&place.path("root"));
}

/// A proxy that refuses and says again what it was told, one that is not there, one that is no proxy.
#[test]
fn whatever_a_proxy_answers() {
    if !can(&MADE) {
        return;
    }
    let place = place();
    fs::write(place.path("registries.toml"), "plain-http = [\"registry.test:5000\"]\n").unwrap();
    let name = "registry.test:5000/x:1";
    place.load("it", name);
    let proxy = Server::start(|request| {
        let said = request.header("proxy-authorization").unwrap_or("nothing").to_owned();
        Reply::new(407, said.clone()).header("proxy-authenticate", format!("Basic realm=\"{said}\"")).header("x", said)
    });
    let home = place.path("docker");
    fs::create_dir(&home).unwrap();
    for address in [
        format!("http://px:{PROXY}@{}", proxy.host),
        format!("http://px:{PROXY}@127.0.0.1:1"),
        format!("px:{PROXY}@{}", proxy.host),
        format!("socks5://px:{PROXY}@{}", proxy.host),
        format!("http://px:{PROXY}@"),
        format!("://px:{PROXY}@{}", proxy.host),
        format!("http://px:{PROXY}@{}:port", proxy.host),
        format!("https://px:{PROXY}@{}", proxy.host),
    ] {
        let more = [("HTTP_PROXY", address.as_str()), ("HTTPS_PROXY", &address)];
        for words in [
            &["pull", name][..],
            &["push", name],
            &["run", "--rm", "--pull=always", name],
            &["login", "-u", "me", "--password-stdin", "registry.test:5000"],
        ] {
            for done in all_logs(&place, &home, words, PASSWORD, &more) {
                assert_ne!(done.code, 0, "{address} {words:?}");
            }
        }
    }
    assert!(proxy.seen().iter().any(|request| request.header("proxy-authorization").is_some()));
    // What is run has nothing of it, in whatever way it may look.
    let look = "busybox=/data/busybox; $busybox cat /proc/1/environ /proc/self/environ /proc/1/cmdline; $busybox env";
    let words = ["run", "--rm", "--trace", "--entrypoint", "/data/busybox", name, "sh", "-c", look];
    let more = [("HTTP_PROXY", format!("http://px:{PROXY}@{}", proxy.host)), ("http_proxy", PROXY.to_owned())];
    let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for done in all_logs(&place, &home, &words, "", &more) {
        assert!(done.code == 0 && done.out.contains("PATH="), "{}{}", done.out, done.err);
    }
    silent_below(&place.path("store"));
    silent_below(&place.path("root"));
}

/// A helper that fails, and says what it should not on both its outputs; and what it is told besides.
#[test]
fn whatever_a_helper_says() {
    if !can(&MADE) {
        return;
    }
    let place = place();
    let server = Server::start(|request| match request.header("authorization") {
        Some(_) => Reply::new(200, "{}"),
        None => Reply::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
    });
    let (name, home, bin) = (format!("{}/x:1", server.host), place.path("docker"), place.path("bin"));
    place.load("it", &name);
    fs::create_dir(&home).unwrap();
    fs::create_dir(&bin).unwrap();
    fs::write(home.join("config.json"), r#"{"credsStore": "test"}"#).unwrap();
    let helper: PathBuf = bin.join("docker-credential-test");
    let told = place.at("told");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let answer = format!("{{\"ServerURL\":\"s\",\"Username\":\"me\",\"Secret\":\"{PASSWORD}\"}}");
    for body in [
        // In order: it refuses and repeats its question; its answer, but it fails; half an answer; somebody else's words.
        format!("cat; cat >&2; echo {PASSWORD} >&2; exit 1"),
        format!("[ $1 = store ] && echo no {PASSWORD}; exit 1"),
        format!("echo '{answer}'; echo '{answer}' >&2; exit 1"),
        format!("printf '\\n%s' '{answer}'; exit 3"),
        format!("echo '{answer}' | head -c 50; echo password {PASSWORD} >&2"),
        format!("echo '{{\"Username\": 5, \"Secret\": \"{PASSWORD}\"}}'"),
        format!("echo '{{\"Username\": \"a:b\", \"Secret\": \"{PASSWORD}\"}}'"),
        format!("echo '{answer}'; kill -9 $$"),
    ] {
        let noted = format!("cat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/environ /proc/$PPID/cmdline >>{told}");
        fs::write(&helper, format!("#!/bin/sh\n{noted}\n{body}\n")).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        for words in [
            &["pull", &name][..],
            &["push", "-q", &name],
            &["run", "--rm", "--pull=always", &name],
            &["login", "-u", "me", "--password-stdin", &server.host],
            &["logout", &server.host],
        ] {
            for done in all_logs(&place, &home, words, PASSWORD, &[("PATH", &path)]) {
                // Who wants to keep or to forget something has no use for an answer.
                assert!(done.code != 0 || words[0].starts_with("log"), "{body} {words:?} {}", done.out);
            }
        }
    }
    let told = fs::read(told).unwrap();
    assert!(!told.is_empty());
    silent("an environment or a command line", &told);
    silent_below(&place.path("store"));
}
