//! The words of a mount's `options`, and what each becomes.
//!
//! What the kernel offers: four unrelated things that fstab writes in one list. Attributes belong to one mount (`nosuid`,
//! mount_setattr(2)). Flags belong to the file system and to all of its mounts (`sync`). Propagation says which mounts hear of
//! which (`rslave`, mount_namespaces(7)). All else is for the file system alone (`size=64k`).
//!
//! By hand: `mount -t tmpfs -o nosuid,size=64k none /mnt; grep /mnt /proc/self/mountinfo` shows the attributes in column 6 and
//! the rest after the dash.
//!
//! What we do: one table; the last of two words that contradict each other wins. A word with an `r` in front (`rro`) reaches
//! the mounts below too, a plain `ro` does not. A word that is in no table is data for the file system, as with runc.
//!
//! What goes wrong: the three ways of keeping access times share one field, so setting one must clear the field first, or
//! mount_setattr says EINVAL.

use crate::sys::mount::{Change, Reach, attr};
use nix::mount::MsFlags;

/// What a list of words asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// For the mount itself.
    pub this: Change,
    /// For it and everything below.
    pub tree: Change,
    /// In order: `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, and how far.
    pub propagation: Vec<(MsFlags, Reach)>,
    /// `bind` or `rbind`.
    pub bind: Option<Reach>,
    /// `remount`.
    pub remount: bool,
    /// Words that fsconfig(2) takes for any file system, in order: `sync`, `lazytime`.
    pub flags: Vec<&'static str>,
    /// For the file system alone, in order.
    pub data: Vec<Data>,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// `idmap` or `ridmap`.
    pub idmap: Option<Reach>,
}

/// A word for the file system: `size=64k`, `newinstance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Up to the first `=`.
    pub key: String,
    /// After it.
    pub value: Option<String>,
}

#[derive(Clone, Copy)]
enum Effect {
    Set(u64),
    Clear(u64),
    Atime(u64),
    Flag(&'static str),
    Bind(Reach),
    Propagate(MsFlags, Reach),
    IdMap(Reach),
    Remount,
    CopyUp,
    Nothing,
}

use Effect::*;
use Reach::{This, Tree};

/// Words that also exist with an `r` in front.
const ATTRIBUTES: [(&str, Effect); 18] = [
    ("ro", Set(attr::RDONLY)),
    ("rw", Clear(attr::RDONLY)),
    ("nosuid", Set(attr::NOSUID)),
    ("suid", Clear(attr::NOSUID)),
    ("nodev", Set(attr::NODEV)),
    ("dev", Clear(attr::NODEV)),
    ("noexec", Set(attr::NOEXEC)),
    ("exec", Clear(attr::NOEXEC)),
    ("nodiratime", Set(attr::NODIRATIME)),
    ("diratime", Clear(attr::NODIRATIME)),
    ("nosymfollow", Set(attr::NOSYMFOLLOW)),
    ("symfollow", Clear(attr::NOSYMFOLLOW)),
    ("noatime", Atime(attr::NOATIME)),
    ("strictatime", Atime(attr::STRICTATIME)),
    ("relatime", Atime(attr::RELATIME)),
    // The kernel has no "none of the three": without noatime and strictatime it is relatime.
    ("atime", Atime(attr::RELATIME)),
    ("nostrictatime", Atime(attr::RELATIME)),
    ("norelatime", Nothing),
];

const OTHERS: [(&str, Effect); 29] = [
    ("defaults", Nothing),
    ("bind", Bind(This)),
    ("rbind", Bind(Tree)),
    ("private", Propagate(MsFlags::MS_PRIVATE, This)),
    ("rprivate", Propagate(MsFlags::MS_PRIVATE, Tree)),
    ("shared", Propagate(MsFlags::MS_SHARED, This)),
    ("rshared", Propagate(MsFlags::MS_SHARED, Tree)),
    ("slave", Propagate(MsFlags::MS_SLAVE, This)),
    ("rslave", Propagate(MsFlags::MS_SLAVE, Tree)),
    ("unbindable", Propagate(MsFlags::MS_UNBINDABLE, This)),
    ("runbindable", Propagate(MsFlags::MS_UNBINDABLE, Tree)),
    ("idmap", IdMap(This)),
    ("ridmap", IdMap(Tree)),
    ("remount", Remount),
    ("tmpcopyup", CopyUp),
    ("sync", Flag("sync")),
    ("async", Flag("async")),
    ("dirsync", Flag("dirsync")),
    ("lazytime", Flag("lazytime")),
    ("nolazytime", Flag("nolazytime")),
    ("mand", Flag("mand")),
    ("nomand", Flag("nomand")),
    // Of mount(2) only: how much the kernel logs, and a counter that every file system keeps today.
    ("silent", Nothing),
    ("loud", Nothing),
    ("iversion", Nothing),
    ("noiversion", Nothing),
    // Notes for mount(8), not for the kernel.
    ("auto", Nothing),
    ("noauto", Nothing),
    ("_netdev", Nothing),
];

fn find(table: &[(&str, Effect)], word: &str) -> Option<Effect> {
    table.iter().find(|(name, _)| *name == word).map(|(_, effect)| *effect)
}

/// Reads the words of one mount. Never fails: what is in no table goes to the file system, which may refuse it.
pub fn parse<S: AsRef<str>>(words: &[S]) -> Options {
    let mut options = Options::default();
    for word in words.iter().map(AsRef::as_ref) {
        let plain = find(&ATTRIBUTES, word).or_else(|| find(&OTHERS, word)).map(|effect| (effect, This));
        let recursive = || word.strip_prefix('r').and_then(|w| find(&ATTRIBUTES, w)).map(|effect| (effect, Tree));
        match plain.or_else(recursive) {
            Some((effect, reach)) => options.take(effect, reach),
            None => options.data.extend(split(word)),
        }
    }
    options
}

/// All words that [`parse`] knows, sorted: what `features` prints.
pub fn known() -> Vec<String> {
    let recursive = ATTRIBUTES.iter().map(|(word, _)| format!("r{word}"));
    let mut all: Vec<String> =
        ATTRIBUTES.iter().chain(&OTHERS).map(|(word, _)| word.to_string()).chain(recursive).collect();
    all.sort();
    all
}

impl Options {
    fn take(&mut self, effect: Effect, reach: Reach) {
        let change = match reach {
            This => &mut self.this,
            Tree => &mut self.tree,
        };
        match effect {
            Set(bits) => {
                change.set |= bits;
                change.clear &= !bits;
            }
            Clear(bits) => {
                change.clear |= bits;
                change.set &= !bits;
            }
            Atime(value) => {
                change.clear |= attr::ATIME;
                change.set = change.set & !attr::ATIME | value;
            }
            Flag(word) => self.flags.push(word),
            Bind(reach) => self.bind = Some(reach),
            Propagate(how, reach) => self.propagation.push((how, reach)),
            IdMap(reach) => self.idmap = Some(reach),
            Remount => self.remount = true,
            CopyUp => self.copy_up = true,
            Nothing => {}
        }
    }
}

/// `mode=755,size=1k` is two words for the file system; `\,` is a comma within one (overlay's paths).
fn split(word: &str) -> Vec<Data> {
    let mut parts = vec![String::new()];
    let mut before = ' ';
    for c in word.chars() {
        match c {
            ',' if before != '\\' => parts.push(String::new()),
            c => parts.last_mut().expect("never empty").push(c),
        }
        before = c;
    }
    let data = |part: String| match part.split_once('=') {
        Some((key, value)) => Data { key: key.into(), value: Some(value.into()) },
        None => Data { key: part, value: None },
    };
    parts.into_iter().filter(|part| !part.is_empty()).map(data).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_default_dev() {
        let options = parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.this, Change { set: attr::NOSUID | attr::STRICTATIME, clear: attr::ATIME, propagation: 0 });
        let data = |key: &str, value: &str| Data { key: key.into(), value: Some(value.into()) };
        assert_eq!(options.data, [data("mode", "755"), data("size", "65536k")]);
        assert_eq!(options.tree, Change::default());
    }

    #[test]
    fn the_last_of_two_contradicting_words_wins() {
        assert_eq!(parse(&["nosuid", "suid"]).this, Change { set: 0, clear: attr::NOSUID, propagation: 0 });
        assert_eq!(parse(&["rw", "ro"]).this, Change::set(attr::RDONLY));
        let options = parse(&["noatime", "strictatime"]);
        assert_eq!((options.this.set, options.this.clear), (attr::STRICTATIME, attr::ATIME));
        assert_eq!(parse(&["strictatime", "nostrictatime"]).this.set, 0);
    }

    #[test]
    fn an_r_in_front_reaches_the_tree() {
        let options = parse(&["rro", "rnosuid", "ratime", "ro"]);
        assert_eq!(options.tree, Change { set: attr::RDONLY | attr::NOSUID, clear: attr::ATIME, propagation: 0 });
        assert_eq!(options.this, Change::set(attr::RDONLY));
    }

    #[test]
    fn relatime_remount_rw_and_rbind_are_not_recursive_words() {
        let options = parse(&["relatime", "remount", "rw", "rbind", "rslave"]);
        assert_eq!(options.tree, Change::default());
        assert_eq!((options.remount, options.bind), (true, Some(Tree)));
        assert_eq!(options.propagation, [(MsFlags::MS_SLAVE, Tree)]);
    }

    #[test]
    fn unknown_words_are_data() {
        let options = parse(&["rsync", "newinstance", "lowerdir=/a\\,b,upperdir=/c", "mode=", ""]);
        let text: Vec<(&str, Option<&str>)> =
            options.data.iter().map(|d| (d.key.as_str(), d.value.as_deref())).collect();
        let expected = [
            ("rsync", None),
            ("newinstance", None),
            ("lowerdir", Some("/a\\,b")),
            ("upperdir", Some("/c")),
            ("mode", Some("")),
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn flags_keep_their_order() {
        assert_eq!(parse(&["sync", "silent", "async", "lazytime"]).flags, ["sync", "async", "lazytime"]);
    }

    #[test]
    fn no_word_stands_twice() {
        let all = known();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
        assert!(all.contains(&"rnostrictatime".to_owned()));
    }
}
