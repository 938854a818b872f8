//! Arbitrary bytes as config.json and as the file of `exec --process`: never a panic, what is accepted keeps its promises, and its plan the laws.
//!
//! With cargo-fuzz: `cargo +nightly fuzz run --fuzz-dir integration/fuzz config`. Without it, in `integration/fuzz`:
//!
//! ```sh
//! export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
//! cargo +nightly run --target x86_64-unknown-linux-gnu --bin config -- -max_total_time=60 corpus
//! ```
//!
//! `corpus` is a directory of examples, to which the fuzzer adds its own; `corten spec` writes the first.
#![no_main]

use corten::input::bundle::{parse, parse_process};
use corten::input::config::NamespaceKind;
use corten::input::host::Host;
use corten::plan::{Console, Request, Root, Start, container, explain, laws};
use corten::setup::{label::Keyring, program::Inherited, rootfs::Way};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Err(faults) => assert!(!faults.is_empty()),
        Ok((config, _)) => {
            let has = |kind| config.linux.namespaces.iter().any(|namespace| namespace.kind == kind);
            assert!(config.oci_version.starts_with("1."));
            assert!(!config.root.path.as_os_str().is_empty());
            assert!(config.process.as_ref().is_none_or(|process| !process.args.is_empty() && process.cwd.is_absolute()));
            assert!(config.mounts.iter().all(|mount| mount.destination.is_absolute()));
            assert!(config.hostname.is_none() || has(NamespaceKind::Uts));
            assert!(config.linux.uid_mappings.is_empty() || has(NamespaceKind::User));
            assert!(config.linux.sysctl.is_empty() || !config.linux.namespaces.is_empty());
            for (host, start) in [(Host::fixed(), Start::AtOnce), (Host::fixed_v1(), Start::WhenTold)] {
                let request = Request {
                    id: "fuzz".into(),
                    bundle: "/bundle".into(),
                    start,
                    console: Console::default(),
                    pid_file: None,
                    keyring: Keyring::New,
                    root: Root::Bundle,
                    way: Way::Pivot,
                    inherited: Inherited::default(),
                };
                match container(&config, &host, &request) {
                    Ok((plan, _)) => {
                        assert_eq!(laws::broken(&plan), Vec::<&str>::new());
                        assert_eq!(explain::text(&plan, "run fuzz", &host).lines().count(), 1 + plan.lines.len());
                    }
                    Err(faults) => assert!(!faults.is_empty()),
                }
            }
        }
    }
    if let Err(faults) = parse_process(bytes) {
        assert!(!faults.is_empty());
    }
});
