//! A proxy of our own that connects where it is told: the registry's name is known to it alone.

use crate::faults::{plain, well};
use crate::images::image;
use crate::kit::{fetch, named};
use crate::server::{Request, read};
use corten::image::registry::Registry;
use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers CONNECT with a connection to `to`, whatever was asked for. What it was asked is kept.
fn proxy(to: String, times: usize) -> (String, Arc<Mutex<Vec<Request>>>, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (host, seen) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
    let requests = seen.clone();
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut client = stream.unwrap();
            let request = read(&mut BufReader::new(&client)).unwrap().unwrap();
            requests.lock().unwrap().push(request);
            let mut server = TcpStream::connect(&to).unwrap();
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let up = std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(Shutdown::Write);
            });
            let _ = std::io::copy(&mut server, &mut client);
            let _ = client.shutdown(Shutdown::Both);
            up.join().unwrap();
        }
    });
    (host, seen, thread)
}

#[test]
fn a_registry_behind_a_proxy() {
    let blobs = image(3, "amd64", &[200_000]);
    let (server, mut settings, _) = plain(move |request| well(&blobs, request));
    let (host, seen, thread) = proxy(server.host.clone(), 2);
    settings.plain_http.push("registry.test:5000".into());
    settings.proxies.http = Some(format!("http://me:pr0xy@{host}"));
    let name = named("registry.test:5000/x:1");
    let registry = Registry::connect(&name, &settings).unwrap();
    registry.resolve(&name).unwrap();
    fetch(&registry, &image(3, "amd64", &[200_000])[2].descriptor()).unwrap();
    drop(registry);
    thread.join().unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for request in seen.iter() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("CONNECT", "registry.test:5000"));
        assert_eq!(request.header("proxy-authorization"), Some("Basic bWU6cHIweHk="));
    }
    // The registry does not see what was for the proxy.
    assert!(server.seen().iter().all(|request| request.header("proxy-authorization").is_none()));

    // Not through the proxy: nobody knows the name.
    settings.proxies.none = vec![".test".into()];
    let e = Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap_err().to_string();
    assert!(e.contains("this host is not known"), "{e}");
    // A proxy that is not there, and its password in no error.
    settings.proxies.none = Vec::new();
    settings.proxies.http = Some("http://me:pr0xy@127.0.0.1:1".into());
    let e = Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap_err().to_string();
    assert!(e.contains("ECONNREFUSED") && !e.contains("pr0xy"), "{e}");
    // A proxy that is said to have TLS, and has none.
    let dir = tempfile::tempdir().unwrap();
    if !crate::kit::has(&["openssl"]) {
        return;
    }
    crate::kit::certificates(dir.path());
    settings.authorities = Some(dir.path().join("ca.crt"));
    settings.proxies.http = Some(format!("https://me:pr0xy@{}", server.host));
    let e = Registry::connect(&name, &settings).unwrap().resolve(&name).unwrap_err().to_string();
    assert!(!e.contains("pr0xy") && e.contains("registry.test:5000"), "{e}");
}
