//! The small language that the tests are written in.

mod agent;
mod base;
mod bundle;
mod call;
mod container;
mod disk;
pub mod host;
mod leaks;
mod runtime;
mod terminal;

pub use agent::{Agent, Habit};
pub use base::{add_mount, add_namespace, bind, drop_namespace, mount};
pub use bundle::{Bundle, host_busybox};
pub use call::{Call, Out, Running};
pub use container::Container;
pub use disk::OnDisk;
pub use leaks::processes as processes_of;
pub use runtime::runtime;
pub use terminal::{ConsoleSocket, Pty};

use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Longest that anything may take which a test starts.
pub fn timeout() -> Duration {
    seconds(20)
}

/// A limit in seconds of a machine of usual speed; on an emulated one, `CORTEN_SLOW` times as many.
pub fn seconds(usual: u64) -> Duration {
    Duration::from_secs(usual) * slow()
}

/// By how much this machine is slower than usual: `CORTEN_SLOW`, else 1.
pub fn slow() -> u32 {
    static SLOW: OnceLock<u32> = OnceLock::new();
    *SLOW.get_or_init(|| std::env::var("CORTEN_SLOW").map_or(1, |n| n.parse().expect("CORTEN_SLOW is a number")))
}

/// Of a race's rounds every so-many-th is run: all of them, or on a slow machine every third.
pub fn stride() -> usize {
    if slow() == 1 { 1 } else { 3 }
}

/// The path of the function that contains it, without the crate: `lifecycle::runs_a_program`.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        fn name_of<T>(_: T) -> &'static str {
            std::any::type_name::<T>()
        }
        let name = name_of(here);
        let name = name.strip_suffix("::here").unwrap_or(name);
        name.strip_prefix("integration::").unwrap_or(name).trim_end_matches("::{{closure}}")
    }};
}

/// Leaves the test and says why.
#[macro_export]
macro_rules! skip {
    ($($word:tt)*) => {{
        $crate::harness::say_skipped($crate::test_name!(), &format!($($word)*));
        return;
    }};
}

/// Leaves the test unless it runs against Corten: what it tests is no other runtime's.
#[macro_export]
macro_rules! corten_only {
    ($what:expr) => {
        if !$crate::harness::runtime().is_corten() {
            $crate::skip!("only Corten has {}", $what);
        }
    };
}

/// Leaves the test where the runtime is runc, which lacks this (or does it otherwise).
#[macro_export]
macro_rules! not_on_runc {
    ($why:expr) => {
        if !$crate::harness::runtime().is_corten() {
            $crate::skip!("runc: {}", $why);
        }
    };
}

/// Leaves the test unless this machine can limit through that controller.
#[macro_export]
macro_rules! needs_controller {
    ($name:expr) => {
        if !$crate::harness::host::has_controller($name) {
            $crate::skip!("this cgroup layout has no {} controller", $name);
        }
    };
}

/// Leaves the test unless the tests have this capability, named without `CAP_`.
#[macro_export]
macro_rules! needs_capability {
    ($name:expr) => {
        if !$crate::harness::host::capabilities().contains(&format!("CAP_{}", $name)) {
            $crate::skip!("this machine has no CAP_{}", $name);
        }
    };
}

/// Writes down a skip. Not through `println!`, which libtest swallows.
pub fn say_skipped(name: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skip: {name}: {reason}");
    if let Some(file) = std::env::var_os("CORTEN_SKIPS") {
        let mut file =
            std::fs::File::options().append(true).create(true).open(file).expect("CORTEN_SKIPS can be written");
        // One write, so that lines of parallel tests stay whole.
        file.write_all(format!("{name}\t{reason}\n").as_bytes()).expect("CORTEN_SKIPS can be written");
    }
}

/// How often a race is run: `CORTEN_ROUNDS=10` makes it ten times as often, for a night; a slow machine a third.
pub fn rounds(corten: usize, other: usize) -> usize {
    let times = std::env::var("CORTEN_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    if runtime().is_corten() { (corten * times).div_ceil(stride()) } else { other }
}

/// Asks until the answer is yes; false when [`timeout`] has passed.
pub fn soon(question: impl FnMut() -> bool) -> bool {
    within(timeout(), question)
}

/// Asks until the answer is yes; false when the time has passed.
pub fn within(limit: Duration, mut question: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if question() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
