//! An image of many steps, and what is to be seen of its tree from inside.

use crate::kit::Place;

/// Files are made, removed, covered and linked in one layer after another.
const DOCKERFILE: &str = r#"ARG BASE
FROM $BASE
RUN mkdir -p /t/gone /t/opaque /t/kept && touch /t/gone/f /t/gone-too && echo old >/t/opaque/old && echo old >/t/changed
RUN echo one >/t/kept/a && ln /t/kept/a /t/kept/b && ln -s a /t/kept/link && mkfifo /t/kept/pipe
RUN rm -r /t/gone /t/gone-too /t/opaque && mkdir /t/opaque && echo new >/t/opaque/new && echo changed >/t/changed
COPY given /t/given
RUN cp /bin/cat /t/cap && chown 0:33 /t/given && chmod 2750 /t/given \
 && python3 -c 'import os; os.setxattr("/t/cap", "security.capability", bytes.fromhex("01000002002000000000000000000000") + bytes(4))'
ENV GREETING=hello WORDS="two words"
WORKDIR /t/kept
ENTRYPOINT ["sh", "-c", "echo $GREETING $WORDS from $PWD: $0 $*"]
CMD ["by", "default"]
"#;

/// What `/t` is then: kind, mode, owner, group, links, content.
const EXPECTED: &str = "\
/t/cap f 755 0 0 1 security.capability=0100000200200000000000000000000000000000
/t/changed f 644 0 0 1 changed
/t/given f 2750 0 33 1 given
/t/kept d 755 0 0
/t/kept/a f 644 0 0 2 one
/t/kept/b f 644 0 0 2 one
/t/kept/link l 777 0 0 a
/t/kept/pipe p 644 0 0
/t/opaque d 755 0 0
/t/opaque/new f 644 0 0 1 new
";

/// Prints that, and below it a digest over the whole tree but for what runtimes put there.
const LOOK: &str = r#"import hashlib, os, stat
whole, shown, same = hashlib.sha256(), [], os.path.samefile("/t/kept/a", "/t/kept/b")
put = ("/proc", "/sys", "/dev", "/run", "/code", "/.dockerenv", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab")
for folder, below, files in os.walk("/"):
    below[:] = sorted(name for name in below if os.path.join(folder, name) not in put)
    for name in sorted(below + files):
        path = os.path.join(folder, name)
        if path in put: continue
        s = os.lstat(path)
        kind = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}.get(stat.S_IFMT(s.st_mode), "?")
        line = [path, kind, "%o" % stat.S_IMODE(s.st_mode), str(s.st_uid), str(s.st_gid)]
        if kind == "f": line += [str(s.st_nlink)]
        for attribute in os.listxattr(path, follow_symlinks=False):
            line.append(attribute + "=" + os.getxattr(path, attribute, follow_symlinks=False).hex())
        content = open(path, "rb").read() if kind == "f" else os.readlink(path).encode() if kind == "l" else b""
        if len(content) < 10 and content: line.append(content.decode().strip())
        whole.update(repr((line, 0 if kind == "d" else int(s.st_mtime), content)).encode())
        if path.startswith("/t/"): shown.append(" ".join(line))
print("\n".join(sorted(shown)), same, whole.hexdigest(), sep="\n")
"#;

/// Writes the steps and the look into the folder `steps`, and `code`.
pub fn write(p: &Place) {
    p.write("steps/Dockerfile", DOCKERFILE);
    p.write("steps/given", "given\n");
    p.write("code/look.py", LOOK);
}

/// Looks at the image through Corten, and through a client that has it too: `podman run …`, `docker run …`. Runs it as well.
#[track_caller]
pub fn compare(p: &Place, name: &str, theirs: &str) {
    let look = "--entrypoint python3 -v $PWD/code:/code:ro";
    let seen = p.shell(&format!("corten run --rm {look} {name} -B /code/look.py"));
    let (tree, _) = seen.out.split_once("True\n").unwrap_or_else(|| panic!("{}", seen.tell()));
    assert_eq!(tree, EXPECTED);
    p.apart(&format!("{theirs} {look} {name} -B /code/look.py")).stdout(&seen.out);
    // The file's capability is in force, for a user without one.
    let capable = p.shell(&format!("corten run --rm -u 1000 --entrypoint /t/cap {name} /proc/self/status"));
    capable.stdout_has("CapEff:\t0000000000002000\n");
    for words in ["", "and more"] {
        let ours = p.shell(&format!("corten run --rm {name} {words}"));
        assert!(ours.out.starts_with("hello two words from /t/kept: "), "{}", ours.tell());
        p.apart(&format!("{theirs} {name} {words}")).stdout(&ours.out);
    }
}
