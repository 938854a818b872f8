//! What needs no kernel: reading a config.json, planning, explaining, compiling a filter.
//!
//! ```console
//! $ cargo bench                     # all
//! $ cargo bench -- seccomp          # those with this word in their name
//! ```
//!
//! Commands as a whole, where the kernel's share is the larger one, are `scripts/bench`'s. Both measure the same configurations, which
//! `scripts/measure/bundle` writes.

use corten::input::bundle;
use corten::input::config::{Arch, Config, Seccomp};
use corten::input::host::Host;
use corten::plan::{self, Console, Request, Root, Start, explain};
use corten::setup::label::Keyring;
use corten::setup::program::Inherited;
use corten::setup::rootfs::Way;
use corten::setup::seccomp;
use divan::Bencher;
use std::process::Command;

/// The allocator of the binary itself would be measured with it, and it never gives back: benches run in one process.
fn main() {
    divan::main();
}

/// Words of `scripts/measure/bundle`: what is measured.
const CONFIGURATIONS: [&str; 4] = ["default", "docker", "default binds=200", "default variables=10000"];

/// A config.json for a root at `/bundle/rootfs`.
fn text(words: &str) -> Vec<u8> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/measure/bundle");
    let out = Command::new(program).arg("/bundle/rootfs").args(words.split(' ')).output().expect("perl");
    assert!(out.status.success(), "{words}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn config(words: &str) -> Config {
    let (config, warnings) = bundle::parse(&text(words)).unwrap_or_else(|faults| panic!("{words}: {faults:?}"));
    assert_eq!(warnings, Vec::<String>::new(), "{words}");
    config
}

fn request() -> Request {
    Request {
        id: "web".into(),
        bundle: "/bundle".into(),
        start: Start::AtOnce,
        console: Console::default(),
        pid_file: None,
        pidfd_socket: None,
        keyring: Keyring::New,
        root: Root::Bundle,
        way: Way::Pivot,
        inherited: Inherited { descriptors: 0, env: vec![] },
    }
}

/// config.json → `Config`, with all checks.
#[divan::bench(args = CONFIGURATIONS)]
fn parse(bencher: Bencher, words: &str) {
    let text = text(words);
    bencher.counter(divan::counter::BytesCount::of_slice(&text)).bench(|| bundle::parse(divan::black_box(&text)));
}

/// `Config` → `Plan`, without the filter's compilation, which is left for later.
#[divan::bench(args = CONFIGURATIONS)]
fn plan(bencher: Bencher, words: &str) {
    let (config, host, request) = (config(words), Host::fixed(), request());
    bencher.bench_local(|| plan::container(divan::black_box(&config), &host, &request));
}

/// `Plan` → the text of `explain`.
#[divan::bench(args = CONFIGURATIONS)]
fn explain(bencher: Bencher, words: &str) {
    let (config, host, request) = (config(words), Host::fixed(), request());
    let (plan, _) = plan::container(&config, &host, &request).expect("a plan");
    bencher.bench_local(|| explain::text(divan::black_box(&plan), "run web", &host));
}

/// Compiles the filter of a configuration for these architectures beside the native one.
fn compile(bencher: Bencher, words: &str, architectures: &[Arch]) {
    let profile = config(words).linux.seccomp.expect("a filter");
    let profile = Seccomp { architectures: architectures.to_vec(), ..(*profile).clone() };
    bencher.bench(|| seccomp::decide_for(divan::black_box(&profile), Arch::X86_64));
}

/// Docker's profile for all three architectures of this kind of machine.
#[divan::bench]
fn seccomp_docker(bencher: Bencher) {
    compile(bencher, "docker", &[Arch::X86_64, Arch::X86, Arch::X32]);
}

/// Rules that ask for an argument each.
#[divan::bench(args = ["default rules=50", "default rules=500"])]
fn seccomp_rules(bencher: Bencher, words: &str) {
    compile(bencher, words, &[Arch::X86_64]);
}
