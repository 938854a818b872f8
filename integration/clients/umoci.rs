//! A Debian image by umoci, brought to a registry by skopeo.

use crate::kit::soon;
use crate::registry::{Real, Speaks, Wants};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// The answer to a GET, if somebody is there.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn python_runs_a_script_and_serves_the_host() {
    let (p, real) = (place!("skopeo"), Real::start(Speaks::Http, Wants::Nothing));
    p.whole_debian();
    let name = format!("{}/debian:12", real.host);
    p.apart(&format!("skopeo copy -q --dest-tls-verify=false oci:image:debian docker://{name}"));
    p.corten(&["pull", "-q", &name]).ok();

    p.write("code/script.py", "import os, sys\nprint(os.environ['GREETING'], sys.argv[1], os.getpid(), open('/etc/debian_version').read()[:2])\n");
    p.shell(&format!("corten run --rm -v $PWD/code:/code {name} python3 /code/script.py world"))
        .stdout("hello world 1 12\n");

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(get(port, "/script.py"), None);
    let script = format!(
        "exec corten run --name web -v $PWD/code:/code:ro -w /code {name} python3 -m http.server --bind 127.0.0.1 {port}"
    );
    let web = p.host("sh").args(["-euc", &script]).spawn();
    soon(|| get(port, "/script.py").is_some_and(|answer| answer.contains(" 200 ") && answer.contains("sys.argv[1]")));
    p.corten(&["ps", "--format", "{{.Names}} {{.Image}}"]).ok().stdout(&format!("web {name}\n"));
    // By the image's own signal, which Python takes for Control-C; TERM, as the first process, it would not hear.
    p.corten(&["stop", "-t", "20", "web"]).ok();
    let web = web.wait().ok();
    web.stdout_has("Keyboard interrupt received, exiting.").stderr_has("\"GET /script.py HTTP/1.0\" 200");
    assert_eq!(get(port, "/script.py"), None);
    p.corten(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).ok().stdout_has("web Exited (0)");
    p.corten(&["rm", "web"]).ok();
}
