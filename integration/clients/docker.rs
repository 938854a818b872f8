//! Images by docker, also without a registry between, and by containerd.

use crate::registry::{Real, Speaks, Wants};
use crate::trees;

pub const DOCKER: &str = "docker run --rm --network=host";

#[test]
fn steps_from_an_import() {
    let (p, real) = (place!("docker", "dockerd", "ctr"), Real::start(Speaks::Http, Wants::Nothing));
    let _daemon = match p.dockerd() {
        Ok(daemon) => daemon,
        Err(why) => skip!("{why}"),
    };
    trees::write(&p);
    p.slim();
    let host = &real.host;
    p.shell(&format!(
        "docker import -c 'CMD [\"bash\"]' debian.tar {host}/debian:12
         docker build -q --network=host --build-arg BASE={host}/debian:12 -t {host}/steps:1 steps
         docker push -q {host}/steps:1"
    ));
    p.corten(&["pull", "-q", &format!("{host}/steps:1")]).ok();
    trees::compare(&p, &format!("{host}/steps:1"), DOCKER);

    // From one to the other through a pipe, and back.
    p.shell(&format!("docker tag {host}/steps:1 one:1; docker save one:1 | corten load"))
        .stdout("Loaded image: one:1\n");
    let ids = p.shell("corten images -q --no-trunc one:1; docker images -q --no-trunc one:1");
    assert!(ids.lines().len() == 2 && ids.lines()[0] == ids.lines()[1], "{}", ids.tell());
    p.shell("corten tag one:1 two:1; corten save two:1 | docker load").stdout("Loaded image: two:1\n");
    p.shell("docker run --rm --network=host two:1").stdout("hello two words from /t/kept: by default\n");

    // An archive of OCI's for containerd, which pushes the image; and Corten has it back by its digest.
    p.shell(&format!(
        "ctr() {{ command ctr --address dockerd/exec/containerd/containerd.sock --namespace clients \"$@\"; }}
         corten tag one:1 {host}/three:1
         corten save --format oci {host}/three:1 | ctr image import --no-unpack -
         ctr image push --plain-http {host}/three:1"
    ));
    let digest = p.shell(&format!("corten rmi {host}/three:1 >&2; corten pull -q {host}/three:1")).text().to_owned();
    let name = format!("{host}/three@{}", digest.rsplit('@').next().unwrap());
    p.corten(&["rmi", &format!("{host}/three:1")]).ok();
    p.corten(&["run", "--rm", &name]).ok().stdout("hello two words from /t/kept: by default\n");
}
