//! A server that does everything wrong. Each time there is a success or an error that says what happened, within seconds.

use crate::images::{Blob, MANIFEST, image};
use crate::kit::{fetch, named, noise, sha256};
use crate::server::{Manner, Reply, Request, Server};
use corten::image::named::Named;
use corten::image::registry::Registry;
use corten::image::settings::Settings;
use corten::image::source::Source;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What a registry with these blobs answers when it is well.
pub fn well(blobs: &[Blob], request: &Request) -> Reply {
    let wanted = request.path.split('?').next().unwrap().rsplit('/').next().unwrap();
    let Some(blob) = blobs.iter().find(|blob| blob.digest() == wanted).or(blobs.first().filter(|_| wanted == "1"))
    else {
        return Reply::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"not here"}]}"#);
    };
    let kind = blob.descriptor["mediaType"].as_str().unwrap();
    let reply = |status, body: &[u8]| {
        Reply::new(status, body).header("docker-content-digest", blob.digest()).header("content-type", kind)
    };
    match request.from() {
        Some(from) => {
            let (length, last) = (blob.bytes.len(), blob.bytes.len() - 1);
            reply(206, &blob.bytes[from..]).header("content-range", format!("bytes {from}-{last}/{length}"))
        }
        None => reply(200, &blob.bytes),
    }
}

/// A server, and the settings that know that it has no TLS.
pub fn plain(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Server, Settings, Named) {
    let server = Server::start(answer);
    let mut settings = crate::kit::settings(std::path::Path::new("/nowhere"));
    settings.plain_http = vec![server.host.clone()];
    let name = named(&format!("{}/x:1", server.host));
    (server, settings, name)
}

/// An image of one large layer, and that layer's number.
fn sample() -> Vec<Blob> {
    image(7, "amd64", &[400_000])
}

const LAYER: usize = 2;

#[test]
fn a_connection_cut_at_every_blob_is_taken_up_again() {
    let blobs = sample();
    let (server, settings, name) = plain(move |request| well(&blobs, request).manner(Manner::Cut(90_000)));
    let blobs = sample();
    let registry = Registry::connect(&name, &settings).unwrap();
    let top = registry.resolve(&name).unwrap();
    assert_eq!(fetch(&registry, &top).unwrap(), blobs[0].bytes);
    assert_eq!(fetch(&registry, &blobs[LAYER].descriptor()).unwrap(), blobs[LAYER].bytes);
    let froms: Vec<_> = server.seen().iter().filter(|r| r.path.contains("/blobs/")).map(Request::from).collect();
    assert_eq!(froms, [None, Some(90_000), Some(180_000), Some(270_000), Some(360_000)]);
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_of_it_again() {
    let (blobs, times) = (sample(), AtomicUsize::new(0));
    let (server, settings, name) = plain(move |request| {
        let whole = Request { headers: Vec::new(), ..request.clone() };
        let cut = if times.fetch_add(1, Relaxed) < 2 { Manner::Cut(100_000) } else { Manner::Whole };
        well(&blobs, &whole).manner(cut)
    });
    let blobs = sample();
    let registry = Registry::connect(&name, &settings).unwrap();
    assert_eq!(fetch(&registry, &blobs[LAYER].descriptor()).unwrap(), blobs[LAYER].bytes);
    assert_eq!(server.count("/blobs/"), 3);
}

#[test]
fn a_server_that_always_cuts_is_given_up() {
    for (manner, words) in [
        (Manner::Cut(0), "the connection was cut"),
        (Manner::Close, "the connection was cut"),
        (Manner::Cut(100), "100 of 400000"),
    ] {
        let blobs = sample();
        // The first piece comes, and from then on nothing more.
        let (server, settings, name) = plain(move |request| {
            well(&blobs, request).manner(match request.from() {
                Some(_) => Manner::Cut(0),
                None => manner,
            })
        });
        let registry = Registry::connect(&name, &settings).unwrap();
        let mut bytes = Vec::new();
        let read = registry.open(&sample()[LAYER].descriptor(), 0).map_err(|e| e.to_string());
        let e = read.and_then(|mut r| r.read_to_end(&mut bytes).map_err(|e| e.to_string())).unwrap_err();
        assert!(e.contains(words) && e.contains(&server.host), "{manner:?}: {e}");
        assert!((3..=8).contains(&server.count("/blobs/")), "{manner:?}: {}", server.count("/blobs/"));
    }
}

#[test]
fn who_drips_or_hangs_is_left() {
    let pause = Duration::from_millis(20);
    for manner in [Manner::Drip(pause), Manner::DripBody(pause), Manner::Hang] {
        let blobs = sample();
        let (_server, mut settings, name) = plain(move |request| well(&blobs, request).manner(manner));
        settings.patience.tries = 2;
        settings.patience.answer = Duration::from_millis(900);
        let registry = Registry::connect(&name, &settings).unwrap();
        let (begun, mut bytes) = (Instant::now(), Vec::new());
        let read = registry.open(&sample()[LAYER].descriptor(), 0).map_err(|e| e.to_string());
        let e = read.and_then(|mut r| r.read_to_end(&mut bytes).map_err(|e| e.to_string())).unwrap_err();
        assert!(e.contains("too slowly") || e.contains("in time"), "{manner:?}: {e}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{manner:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn what_the_registry_says_of_a_blob_is_compared() {
    let other = sha256(b"other");
    type Spoil = fn(Reply, &str) -> Reply;
    let cases: [(Spoil, &str); 4] = [
        (|reply, other| reply.header("docker-content-digest", other), "answers with sha256:"),
        (|reply, _| Reply { body: vec![0; 10], ..reply }, "sends 10 bytes, not 400000"),
        (|reply, _| reply.header("content-length", "500000"), "sends 500000 bytes, not 400000"),
        (
            |_, _| Reply::new(200, chunked(&vec![1; 400_001])).header("transfer-encoding", "chunked"),
            "more than 400000 bytes",
        ),
    ];
    for (spoil, words) in cases {
        let (blobs, other) = (sample(), other.clone());
        let (_server, settings, name) = plain(move |request| {
            let mut reply = well(&blobs, request);
            reply.headers.retain(|(name, _)| name != "docker-content-digest");
            spoil(reply, &other)
        });
        let registry = Registry::connect(&name, &settings).unwrap();
        let mut bytes = Vec::new();
        let read = registry.open(&sample()[LAYER].descriptor(), 0).map_err(|e| e.to_string());
        let e = read.and_then(|mut r| r.read_to_end(&mut bytes).map_err(|e| e.to_string())).unwrap_err();
        assert!(e.contains(words), "{e}");
    }
}

fn chunked(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n0\r\n\r\n"].concat()
}

#[test]
fn what_a_name_leads_to_is_compared() {
    let manifest = sample()[0].bytes.clone();
    let digest = sha256(&manifest);
    let other = format!("x:1@{}", sha256(b"other"));
    // Without a digest in its head: the document is read. Without any type: it says its own.
    let bare = manifest.clone();
    let (server, settings, name) = plain(move |_| Reply::new(200, bare.clone()));
    let registry = Registry::connect(&name, &settings).unwrap();
    let top = registry.resolve(&name).unwrap();
    assert_eq!((top.digest().to_string(), top.media_type().to_string()), (digest, MANIFEST.to_owned()));
    let e = registry.resolve(&named(&format!("{}/{other}", server.host))).unwrap_err().to_string();
    assert!(e.contains("and got a document with"), "{e}");
    // With another digest in its head than in its body, and with one that was not asked for.
    let wrong = manifest.clone();
    let (server, settings, name) = plain(move |request| {
        let reply = Reply::new(200, wrong.clone()).header("docker-content-digest", sha256(b"third"));
        if request.method == "HEAD" { reply } else { reply.header("content-type", MANIFEST) }
    });
    let registry = Registry::connect(&name, &settings).unwrap();
    assert!(registry.resolve(&name).unwrap_err().cause.contains("the registry says"));
    assert!(
        registry.resolve(&named(&format!("{}/{other}", server.host))).unwrap_err().cause.contains("got a document")
    );
    // Too large, and no JSON.
    for (body, words) in [(noise(1, (4 << 20) + 1), "more than 4194304 bytes"), (b"<html>".to_vec(), "no manifest")] {
        let (_server, settings, name) = plain(move |_| Reply::new(200, body.clone()));
        let e = Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    for (status, wait) in [(429, Some("0")), (503, None), (500, None), (502, Some("1")), (504, None)] {
        let (blobs, times) = (sample(), AtomicUsize::new(0));
        let (server, settings, name) = plain(move |request| match (times.fetch_add(1, Relaxed) % 3, wait) {
            (2, _) => well(&blobs, request),
            (_, Some(wait)) => Reply::new(status, "busy").header("retry-after", wait),
            _ => Reply::new(status, "busy"),
        });
        let registry = Registry::connect(&name, &settings).unwrap();
        let begun = Instant::now();
        registry.resolve(&name).unwrap();
        assert_eq!(server.seen().len(), 3, "{status}");
        if wait == Some("1") {
            assert!(begun.elapsed() >= Duration::from_secs(2));
        }
    }
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    for (status, words) in [(500, "a fault of its own"), (503, "not available"), (429, "too many requests")] {
        let (server, settings, name) = plain(move |_| Reply::new(status, "busy"));
        let registry = Registry::connect(&name, &settings).unwrap();
        let Err(e) = registry.open(&sample()[LAYER].descriptor(), 0) else { panic!("opened") };
        assert!(e.cause.contains(words) && e.details[0].contains(&format!("= {status}")), "{e}");
        assert_eq!(server.seen().len(), 4);
    }
    // An hour is not waited.
    let (server, settings, name) = plain(|_| Reply::new(429, "").header("retry-after", "3600"));
    let begun = Instant::now();
    let Err(e) = Registry::connect(&name, &settings).unwrap().open(&sample()[LAYER].descriptor(), 0) else {
        panic!("opened")
    };
    assert!(e.to_string().contains("try again in 3600 s") && e.hint.is_some(), "{e}");
    assert!(server.seen().len() == 1 && begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn redirects_are_followed_and_counted() {
    let blobs = sample();
    let (elsewhere, _, _) = plain(move |request| well(&blobs, request));
    let to = format!("http://{}", elsewhere.host);
    let (server, settings, name) = plain(move |request| {
        let next =
            if request.path.contains("/manifests/") { request.path.clone() } else { format!("{to}{}", request.path) };
        Reply::new(307, "").header("location", next)
    });
    let registry = Registry::connect(&name, &settings).unwrap();
    let blobs = sample();
    assert_eq!(fetch(&registry, &blobs[LAYER].descriptor()).unwrap(), blobs[LAYER].bytes);
    assert_eq!((server.seen().len(), elsewhere.seen().len()), (1, 1));
    let e = registry.resolve(&name).unwrap_err().to_string();
    assert!(e.contains("more than 5 redirects"), "{e}");
}

#[test]
fn a_push_to_a_faulty_registry_ends() {
    use crate::images::single;
    use corten::image::registry::push::Pushed;
    let layout = single(8, &[50_000]);
    let push = |settings: &Settings, name: &Named| {
        let pushed = Pushed { source: &layout, top: &layout.top, near: None, told: &|_, _| {} };
        Registry::connect(name, settings).unwrap().push(name, &pushed).unwrap_err().to_string()
    };
    for (manner, words) in [(Manner::Close, "connection was cut"), (Manner::Hang, "in time")] {
        let (_server, mut settings, name) = plain(move |request| match request.method.as_str() {
            "HEAD" => Reply::new(404, ""),
            "POST" => Reply::new(202, "").header("location", "/upload?state=s3cret"),
            _ => Reply::new(201, "").manner(manner),
        });
        settings.patience.answer = Duration::from_millis(50);
        let e = push(&settings, &name);
        assert!(e.contains(words) && !e.contains("s3cret"), "{manner:?}: {e}");
    }
    let (_server, settings, name) = plain(|request| match request.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, ""),
        _ => Reply::new(201, ""),
    });
    assert!(push(&settings, &name).contains("does not say where"));
    let (server, settings, name) = plain(|request| match request.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").header("location", "/upload"),
        _ => Reply::new(507, r#"{"errors":[{"code":"SIZE_INVALID","message":"disk is full"}]}"#),
    });
    assert!(push(&settings, &name).contains("SIZE_INVALID: disk is full"));
    assert_eq!(server.seen().iter().filter(|r| r.path.contains("/manifests/")).count(), 0);
}
