//! Images by buildah, run by podman and by Corten.

use crate::registry::{Real, Speaks, Wants};
use crate::trees;

/// podman finds the image where buildah has put it.
pub const PODMAN: &str = "podman run --rm --network=host --cgroup-parent /$ID";

#[test]
fn steps_from_scratch() {
    let (p, real) = (place!("buildah", "podman", "runc", "conmon"), Real::start(Speaks::Http, Wants::Nothing));
    trees::write(&p);
    p.slim();
    let host = &real.host;
    p.apart(&format!(
        "c=$(buildah from scratch)
         buildah add -q $c debian.tar /
         buildah config --cmd 'bash -c \"echo $BASH_VERSION\"' $c
         buildah commit -q --rm $c {host}/debian:12
         buildah bud -q --layers --build-arg BASE={host}/debian:12 -t {host}/steps:1 steps
         buildah push -q --tls-verify=false {host}/debian:12
         buildah push -q --tls-verify=false {host}/steps:1"
    ));
    p.corten(&["pull", "-q", &format!("{host}/debian:12")]).ok();
    let bash = p.shell(&format!("corten run --rm {host}/debian:12"));
    assert!(bash.out.starts_with("5."), "{}", bash.tell());
    // Below the steps lies what is here already.
    let pulled = p.corten(&["pull", &format!("{host}/steps:1")]).ok();
    assert_eq!(pulled.out.matches(": Already exists\n").count(), 1, "{}", pulled.tell());
    assert!(pulled.out.matches(": Pull complete\n").count() > 4, "{}", pulled.tell());
    trees::compare(&p, &format!("{host}/steps:1"), PODMAN);

    // Without the registry, in both forms of an archive.
    for format in ["oci", "docker"] {
        let moved = p.apart(&format!(
            "podman rmi -f {host}/steps:1
             corten save --format {format} {host}/steps:1 | podman load
             {PODMAN} {host}/steps:1"
        ));
        moved.stdout_has("hello two words from /t/kept: by default\n");
    }
}
