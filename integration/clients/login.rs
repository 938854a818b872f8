//! A registry with TLS of a private authority, a name and a password: there and back, and on to podman and docker.

use crate::buildah::PODMAN;
use crate::docker::DOCKER;
use crate::registry::{PASSWORD, Real, Speaks, Wants};

#[test]
fn there_and_back() {
    let p = place!("skopeo", "podman", "runc", "conmon", "docker", "dockerd", "openssl", "htpasswd");
    let real = Real::start(Speaks::Https, Wants::Login);
    // Each finds the certificate in its own directory below /etc: nobody is told to trust blindly.
    p.trust(&real);
    let _daemon = match p.dockerd() {
        Ok(daemon) => daemon,
        Err(why) => skip!("{why}"),
    };
    let host = &real.host;
    let (name, back) = (format!("{host}/team/debian:12"), format!("{host}/back/debian:12"));
    p.debian();
    p.apart(&format!("skopeo copy -q --dest-creds 'user:{PASSWORD}' oci:image:debian docker://{name}"));

    p.corten(&["pull", &name]).code(1).stderr_has("certificate");
    p.apart(&format!("! corten pull {name}")).stderr_has(&format!("corten login {host}"));
    let login = format!("corten login -u user --password-stdin {host}");
    p.apart(&format!("echo 's3cret wrong' | {{ ! {login}; }}")).stderr_has("the login is refused");
    p.apart(&format!("echo '{PASSWORD}' | {login}")).stdout("Login Succeeded\n");
    let script = "bash -c 'echo $GREETING from $(. /etc/os-release; echo $ID $VERSION_ID); exit 7'";
    let run = |client: &str, name: &str| {
        let out = p.apart(&format!("code=0; {client} {name} {script} || code=$?; [ $code = 7 ]"));
        out.stdout("hello from debian 12\n");
    };
    run("corten run --rm", &name);

    let pushed = p.apart(&format!("corten tag {name} {back}; corten push {back}")).text().to_owned();
    assert!(pushed.contains("12: digest: sha256:"), "{pushed}");
    // With the login that Corten has kept, like everybody below.
    let digest = p.apart(&format!("skopeo inspect --format '{{{{.Digest}}}}' docker://{back}")).text().to_owned();
    assert!(pushed.contains(&format!("12: digest: {digest} ")), "{digest}: {pushed}");
    p.apart(&format!("podman pull -q {back}; podman pull -q {host}/back/debian@{digest}"));
    run(PODMAN, &back);
    p.apart(&format!("docker pull -q {back}"));
    run(DOCKER, &back);
    run(DOCKER, &format!("{host}/back/debian@{digest}"));
    // What docker has pulled by this digest is the same image, to the digest of its configuration.
    let ids = p.apart(&format!(
        "corten images -q --no-trunc {back}; docker images -q --no-trunc {back}; podman images -q --no-trunc {back}"
    ));
    let ids = ids.lines();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    p.apart(&format!("corten rmi {back} {name}; corten logout {host}; ! corten pull {name}"))
        .stderr_has("wants a login");
}
