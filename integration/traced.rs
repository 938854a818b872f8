//! Who tries to trace the processes that `exec` puts into its container: row 2 of docs/security.md, in its strict form.

use crate::harness::{Bundle, host};
use serde_json::json;

/// Attaches to each number in turn as soon as there is a process, and writes down what that is executing then: the runtime, or already the program.
const TRACER: &str = r#"
    my $n = 2; $| = 1; open(my $log, '>>', '/caught'); $log->autoflush(1); open(my $ready, '>', '/ready');
    while (1) {
        next if syscall(101, 0x4206, $n, 0, 0) != 0 && ($! + 0 != 3 || !-e "/passed-$n");
        my $exe = $! + 0 == 3 ? 'too late' : readlink("/proc/$n/exe") // "error $!";
        print $log "$exe\n";
        waitpid($n, 0x40000000) if $exe ne 'too late'; $! = 0; $n++;
    }"#;

#[test]
fn a_process_that_joins_is_not_traced() {
    corten_only!("a process of its own for each exec");
    let b = Bundle::busybox().with_usr().user_namespace().args(["perl", "-MIO::Handle", "-e", TRACER]);
    let b = b.edit(|s| {
        for set in ["bounding", "effective", "permitted"] {
            s["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE", "CAP_KILL", "CAP_DAC_OVERRIDE"]);
        }
    });
    let c = b.start();
    c.wait_for_file("/ready");
    for n in 2..202 {
        c.exec(["/bin/true"]).ok();
        std::fs::write(b.in_rootfs(&format!("/passed-{n}")), "").expect("written");
    }
    let caught = host::read(b.in_rootfs("/caught"));
    let attached = caught.lines().filter(|line| *line != "too late").count();
    // Who has ended executes nothing any more.
    let fine = ["too late", "/bin/busybox", "error No such file or directory"];
    let early = caught.lines().filter(|line| !fine.contains(line)).collect::<Vec<_>>();
    assert!(attached > 0, "it never attached at all: {caught}");
    assert_eq!(early, Vec::<&str>::new(), "of {attached}: attached before the program");
}
