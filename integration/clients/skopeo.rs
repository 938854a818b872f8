//! One image in every form that skopeo makes of it.

use crate::registry::{Real, Speaks, Wants};

/// By tag: skopeo's options, and what the manifest must say then.
const FORMS: [(&str, &str, &str); 3] = [
    ("oci", "--format oci", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ("docker", "--format v2s2", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ("zstd", "--format oci --dest-compress-format zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
];

#[test]
fn forms_and_compressions() {
    let (p, real) = (place!("skopeo"), Real::start(Speaks::Http, Wants::Nothing));
    p.debian();
    // Layers of an archive of Docker's are not compressed.
    let mut sources =
        vec!["oci:image:debian".to_owned(), "docker-archive:docker.tar".to_owned(), "oci-archive:oci.tar".to_owned()];
    for archive in &sources[1..] {
        p.shell(&format!("skopeo copy -q oci:image:debian {archive}:debian:12"));
    }
    for (tag, options, expected) in FORMS {
        // A repository for each, or the registry would say of a layer that it is there.
        let name = format!("{}/{tag}/debian:12", real.host);
        p.apart(&format!("skopeo copy -q --dest-tls-verify=false {options} oci:image:debian docker://{name}"));
        p.shell(&format!("skopeo inspect --raw --tls-verify=false docker://{name}")).stdout_has(expected);
        sources.push(name);
    }
    for source in &sources {
        // Each into a store of its own, so that nothing is there already.
        let seen = p.shell(&format!(
            "CORTEN_STORE=$PWD/store-of-one
             export CORTEN_STORE
             rm -rf $CORTEN_STORE
             corten run --rm {source} python3 -c 'import os, ssl, sqlite3; print(os.environ[\"GREETING\"])'"
        ));
        assert_eq!(seen.out, "hello\n", "{source}");
    }
}
