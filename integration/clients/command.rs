//! The command that Corten began with.

use crate::harness::Pty;
use crate::registry::{Real, Speaks, Wants};

/// Word for word.
const COMMAND: &str = "corten run -it --name i-love-potato --network=host --mount type=bind,source=$PWD/Code,target=/home --entrypoint /bin/bash debian:12";

#[test]
fn a_shell_of_debian_from_a_mirror() {
    let (p, real) = (place!("skopeo"), Real::start(Speaks::Http, Wants::Nothing));
    p.debian();
    p.apart(&format!(
        "skopeo copy -q --dest-tls-verify=false oci:image:debian docker://{}/library/debian:12",
        real.host
    ));
    p.write("registries.toml", &format!("[mirrors]\n\"docker.io\" = [\"{}\"]\n", real.host));
    p.write("Code/potato.txt", "");

    let mut pty = Pty::new(24, 200);
    let shell = p.host("setsid").args(["--ctty", "--wait", "sh", "-i"]).env("PS1", "outside: ").env("ENV", "");
    let shell = shell.stdio(pty.slave(), pty.slave(), pty.slave()).spawn();
    pty.wait_for("outside: ");
    pty.write(&format!("{COMMAND}\r"));
    pty.wait_for("Downloaded newer image for debian:12");
    pty.wait_for(":/# ");
    pty.write("echo $((6*7)); ls /home; exit 3\r");
    pty.wait_for("42\r\npotato.txt\r\nexit\r\noutside: ");
    pty.write("echo code $?\r");
    pty.wait_for("code 3\r\n");
    pty.write("exit 0\r");
    shell.wait().ok();

    let shown = p.corten(&["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Status}}"]).ok();
    shown.stdout_has("i-love-potato debian:12 Exited (3)");
    p.corten(&["rm", "i-love-potato"]).ok();
    p.corten(&["ps", "-aq"]).ok().stdout("");
}
