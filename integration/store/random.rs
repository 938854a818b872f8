//! Random layers: mounted on one another, they show what flattening makes of them.

use crate::kit::*;
use crate::overlay::same;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// One entry. Names are few, so that they meet.
#[derive(Clone, Debug)]
enum Does {
    File(String, u8),
    Dir(String, u8),
    Link(String, String),
    Hard(String, String),
    Hide(String),
    HideAll(String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "l"]), 1..4).prop_map(|words| words.join("/"))
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, n)| Does::File(path, n)),
        4 => (path(), any::<u8>()).prop_map(|(path, n)| Does::Dir(path, n)),
        2 => (path(), prop_oneof![path(), path().prop_map(|path| format!("/{path}")), Just("..".to_owned())])
            .prop_map(|(path, target)| Does::Link(path, target)),
        1 => (path(), path()).prop_map(|(path, target)| Does::Hard(path, target)),
        3 => path().prop_map(Does::Hide),
        1 => path().prop_map(Does::HideAll),
    ]
}

fn name(does: &Does) -> &str {
    match does {
        Does::File(path, _) | Does::Dir(path, _) | Does::Link(path, _) => path,
        Does::Hard(path, _) | Does::Hide(path) | Does::HideAll(path) => path,
    }
}

/// How entries follow one another.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Each name once, directories before what is in them, as builders write.
    Sorted,
    /// As it comes.
    Any,
}

/// A layer: what is removed first, then all else.
fn layer(all: &[Does], order: Order) -> Tar {
    let mut all = all.to_vec();
    if let Order::Sorted = order {
        all.sort_by(|a, b| name(a).cmp(name(b)));
        all.dedup_by(|a, b| name(a) == name(b));
    }
    let (removes, makes): (Vec<&Does>, Vec<&Does>) =
        all.iter().partition(|does| matches!(does, Does::Hide(_) | Does::HideAll(_)));
    removes.into_iter().chain(makes).fold(Tar::new().dir("./"), |tar, does| match does {
        Does::File(path, n) => {
            let head = Head { mode: 0o600 | u32::from(n % 64), owner: (u64::from(*n), 7), ..Head::default() };
            tar.entry(path, head, &[*n])
        }
        Does::Dir(path, n) => {
            let pax = if n % 3 == 0 { vec![("SCHILY.xattr.user.n", vec![*n])] } else { Vec::new() };
            let head =
                Head { kind: b'5', mode: 0o700 | u32::from(n % 64), mtime: u64::from(*n), pax, ..Head::default() };
            tar.entry(path, head, b"")
        }
        Does::Link(path, target) => tar.symlink(path, target),
        Does::Hard(path, target) => tar.hardlink(path, target),
        Does::Hide(path) => {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            tar.file(&format!("{parent}/.wh.{name}"), "")
        }
        Does::HideAll(path) => tar.file(&format!("{path}/.wh..wh..opq"), ""),
    })
}

/// Found by the random ones.
#[test]
fn a_hard_link_to_a_link_that_leads_to_itself() {
    if is_root() {
        same(&[Tar::new().symlink("c", "c"), Tar::new().hardlink("a", "c")]);
    }
}

#[test]
fn random_layers() {
    if !is_root() {
        return;
    }
    // The same 150 each time; `PROPTEST_CASES=5000` looks for others. Known, and left: a hard link to a symbolic link is two links once a later layer
    // goes through one of them, because that one is copied up.
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(12) };
    let config = ProptestConfig {
        cases: asked.unwrap_or(150),
        rng_seed,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let layers = prop::collection::vec(prop::collection::vec(does(), 1..7), 2..5);
    let order = prop::sample::select(vec![Order::Sorted, Order::Sorted, Order::Any]);
    proptest!(config, |(layers in layers, order in order)| {
        let layers: Vec<Tar> = layers.iter().map(|all| layer(all, order)).collect();
        same(&layers);
    });
}
