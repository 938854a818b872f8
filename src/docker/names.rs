//! Names and ids: what a container is called when nobody says, and how few letters find it.
//!
//! By hand: `docker ps --format '{{.ID}} {{.Names}}'`, then `docker inspect` with the first four digits.
//!
//! An id is 32 bytes of the kernel's randomness (getrandom(2)), written as 64 hexadecimal digits; a name is an adjective and a noun. A word finds the container
//! that is called so, whole; only if there is none, the one whose generated id begins with it.
//!
//! What goes wrong: a prefix that is too generous. With `web2` alive, `delete web` must find nothing. So prefixes are of
//! generated ids only, never of names or of ids that somebody chose, and have four digits at least.

use crate::error;
use crate::error::Result;

/// How many digits a generated id has.
pub const DIGITS: usize = 64;

/// How many digits are shown.
pub const SHOWN: usize = 12;

/// The fewest digits that find an id.
const FEWEST: usize = 4;

const ADJECTIVES: &str = "\
    able agile airy alert amber ample azure balmy bold brave breezy bright brisk busy calm candid careful cheery chilly civil clean clear clever \
    coastal cosy crisp curious dainty daring deft dense dewy early earnest easy eager fair famous fancy fast fine firm fluent fond frank free fresh \
    frosty gentle glad golden good grand green handy happy hardy hazy honest humble icy ideal jolly keen kind large lasting light lively loyal lucid \
    lucky lunar mellow merry mild modest mossy neat nimble noble open patient placid plain polar polite prime proud pure quick quiet rapid rare ready \
    rosy round rustic sandy serene sharp shiny silent silver simple sleek smart smooth snowy sober solar solid spare spry stable steady still stout \
    sunny sure swift tame tidy tranquil trim true upbeat urban vast velvet vivid warm wide wise witty young zesty";

const NOUNS: &str = "\
    acorn alder almond anchor anvil apple apricot arch aspen aster badger balcony barley basil basin bay beacon beaver beech bell birch bison bobbin \
    bramble bridge brook canal candle canyon cedar chestnut chisel cliff clover cobble comet compass coral cove cricket crocus dahlia daisy delta dolphin \
    dove dune eagle egret elder elm ember falcon fennel fern ferry fig finch fjord flint forge fountain fox gable garden ginger glacier grove gull hamlet \
    harbor hazel hedge heron hill hollow island ivy jasmine juniper kestrel kettle lagoon lantern larch lark laurel ledge lemon lilac linden loom lotus \
    lynx magnolia maple marble marmot meadow mill mint moor moss nettle oak oasis olive orchard osprey otter oyster pear pebble pepper pier pine plover \
    plum pond poplar poppy prairie quarry quartz quill rapids raven reed reef ridge river robin rudder saffron sage sail sparrow spring spruce starling \
    stork swallow swan sycamore thistle thyme tulip tundra valley vine violet walnut weaver willow wren";

/// How many names are tried before a number is added.
pub const TRIES: usize = 32;

/// A name that `taken` does not know, out of two random numbers for each try.
pub fn generate(mut random: impl FnMut() -> u32, taken: impl Fn(&str) -> bool) -> String {
    let adjectives: Vec<&str> = ADJECTIVES.split_ascii_whitespace().collect();
    let nouns: Vec<&str> = NOUNS.split_ascii_whitespace().collect();
    let mut pick = |list: &[&'static str]| list[random() as usize % list.len()];
    let mut name = String::new();
    for _ in 0..TRIES {
        name = format!("{}_{}", pick(&adjectives), pick(&nouns));
        if !taken(&name) {
            return name;
        }
    }
    let free = (2_u64..).map(|number| format!("{name}{number}")).find(|name| !taken(name));
    free.unwrap_or(name)
}

/// 64 hexadecimal digits out of 32 random bytes. An id of decimal digits alone would be taken for a pid or a number somewhere, so the caller tries again where
/// this gives `None`: of the twelve digits that are shown one is a letter.
pub fn id(random: &[u8; DIGITS / 2]) -> Option<String> {
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    text[..SHOWN].bytes().any(|b| b.is_ascii_alphabetic()).then_some(text)
}

/// Is it a generated id? Somebody could have chosen one that looks so; that does no harm.
pub fn is_generated(id: &str) -> bool {
    id.len() == DIGITS && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The twelve digits that stand for a generated id; any other id as it is.
pub fn short(id: &str) -> &str {
    if is_generated(id) { &id[..SHOWN] } else { id }
}

/// Docker's rule for `--name`, which is narrower than that for a bundle's id.
pub fn check(name: &str) -> std::result::Result<(), &'static str> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    match first && name.len() >= 2 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        _ if is_generated(name) => Err("looks like a generated id"),
        true if name.len() <= crate::input::id::MAX_LENGTH => Ok(()),
        true => Err("is longer than 255 bytes"),
        false => Err("a name is a letter or digit, and then one or more letters, digits, _ . -"),
    }
}

/// A container as far as it can be found.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id: of an image's container generated, of a bundle's chosen.
    pub id: &'a str,
    /// Of an image's container.
    pub name: Option<&'a str>,
}

impl Entry<'_> {
    fn by_prefix(&self) -> bool {
        self.name.is_some() && is_generated(self.id)
    }
}

/// The place in `entries` of the container that a word means; `None` if there is none.
///
/// An id or a name that is the whole word wins. Otherwise the word must be four digits or more at the beginning of one generated id of an image's container. Several
/// are an error that names them.
pub fn resolve(word: &str, entries: &[Entry]) -> Result<Option<usize>> {
    if let Some(at) = entries.iter().position(|entry| entry.id == word) {
        return Ok(Some(at));
    }
    if let Some(at) = entries.iter().position(|entry| entry.name == Some(word)) {
        return Ok(Some(at));
    }
    let digits = word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if word.len() < FEWEST || !digits {
        return Ok(None);
    }
    let found: Vec<usize> =
        (0..entries.len()).filter(|at| entries[*at].by_prefix() && entries[*at].id.starts_with(word)).collect();
    match found[..] {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        _ => {
            // As many digits as tell them apart.
            let shown = |at: &usize| {
                let apart = found
                    .iter()
                    .filter(|other| *other != at)
                    .map(|other| common(entries[*other].id, entries[*at].id) + 1)
                    .max();
                let digits = apart.unwrap_or(SHOWN).clamp(SHOWN, DIGITS);
                format!("{} ({})", &entries[*at].id[..digits], entries[*at].name.unwrap_or_default())
            };
            let all: Vec<String> = found.iter().map(shown).collect();
            Err(error!("{word}: {} containers have an id that begins so: {}", all.len(), all.join(", ")))
        }
    }
}

fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_lists_are_long_and_have_no_word_twice() {
        for list in [ADJECTIVES, NOUNS] {
            let words: Vec<&str> = list.split_whitespace().collect();
            assert!(words.len() >= 60, "{}", words.len());
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
            assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())));
        }
    }

    #[test]
    fn a_name_is_valid_and_never_one_that_is_taken() {
        let mut seed = 1_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        let mut taken = BTreeSet::new();
        for _ in 0..2000 {
            let name = generate(&mut random, |name| taken.contains(name));
            assert_eq!(check(&name), Ok(()), "{name}");
            assert!(crate::input::id::Id::parse(&name).is_ok());
            assert!(taken.insert(name));
        }
        // Always the same two words.
        let twice = generate(|| 0, |name| name == "able_acorn" || name == "able_acorn2");
        assert_eq!(twice, "able_acorn3");
    }

    #[test]
    fn ids() {
        assert_eq!(id(&[0xab; 32]), Some("ab".repeat(32)));
        assert_eq!(id(&[0x12; 32]), None);
        let id = id(&[0x1f; 32]).unwrap();
        assert!(is_generated(&id));
        assert_eq!((short(&id), short("web")), ("1f1f1f1f1f1f", "web"));
    }

    #[test]
    fn names_that_are_none() {
        for good in ["ab", "i-love-potato", "a.b_c-9", "9a"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "-a", "_a", ".a", "a/b", "a b", "é", "a\n", &"a".repeat(256), &"a".repeat(64)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_word_finds() {
        let (one, two, like) =
            ("abcd1".to_owned() + &"0".repeat(59), "abcd2".to_owned() + &"0".repeat(59), "beef".repeat(16));
        let entries = [
            Entry { id: &one, name: Some("quiet_fox") },
            Entry { id: &two, name: Some("web2") },
            Entry { id: "web3", name: None },
            // A bundle's id that looks generated.
            Entry { id: &like, name: None },
            Entry { id: "abcd", name: None },
            Entry { id: &"dead".repeat(16), name: Some("abcd1") },
        ];
        let found = |word: &str| resolve(word, &entries);
        for (word, at) in [
            (one.as_str(), Some(0)),
            ("quiet_fox", Some(0)),
            ("abcd2", Some(1)),
            ("web2", Some(1)),
            ("web3", Some(2)),
            (&like, Some(3)),
            // The whole id of a bundle, and a name: both before prefixes.
            ("abcd", Some(4)),
            ("abcd1", Some(5)),
            ("dead", Some(5)),
            ("web", None),
            ("quiet", None),
            ("beef", None),
            ("dea", None),
            ("DEAD", None),
            ("", None),
        ] {
            assert_eq!(found(word), Ok(at), "{word}");
        }
        let error = resolve("abcd", &entries[..2]).unwrap_err().to_string();
        assert_eq!(
            error,
            "abcd: 2 containers have an id that begins so: abcd10000000 (quiet_fox), abcd20000000 (web2)"
        );
    }
}
