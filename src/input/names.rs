//! Many short words in one string.
//!
//! A seccomp profile names some 370 system calls. As a `Vec<String>` each has its own block of memory and 24 bytes to find it by; one behind
//! the other, with a NUL behind each, they are 5 KB in one block. JSON's `names` are read straight into it.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// Words, in order. None has a NUL in it: one that is given ends there. (Where config.json has such a word, it was refused.)
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names {
    text: String,
}

impl Names {
    /// Adds a word.
    pub fn push(&mut self, name: &str) {
        self.push_plain(name.split('\0').next().unwrap_or_default());
    }

    /// Adds a word that is known to have no NUL.
    fn push_plain(&mut self, name: &str) {
        self.text.reserve(name.len() + 1);
        self.text.push_str(name);
        self.text.push('\0');
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.text.as_str();
        std::iter::from_fn(move || {
            // Plainly: for words of ten bytes a search made for long texts takes three times as long.
            let end = rest.bytes().position(|byte| byte == 0)?;
            let name = &rest[..end];
            rest = &rest[end + 1..];
            Some(name)
        })
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Names {
        let mut all = Names::default();
        names.into_iter().for_each(|name| all.push(name));
        all
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Words for Names {
    fn push(&mut self, word: &str) {
        Names::push(self, word);
    }

    fn push_plain(&mut self, word: &str) {
        Names::push_plain(self, word);
    }

    fn end(&mut self) {
        self.text.shrink_to_fit();
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Names, D::Error> {
        read(json)
    }
}

/// What a list of strings is read into, without a string for each.
pub trait Words: Default {
    /// Adds a word.
    fn push(&mut self, word: &str);
    /// Adds a word that is known to have no NUL.
    fn push_plain(&mut self, word: &str);
    /// There will be no more.
    fn end(&mut self) {}
}

/// Reads a list of strings, as a `Vec<String>` is read, with the same words about what is none.
pub fn read<'de, D: Deserializer<'de>, W: Words>(json: D) -> Result<W, D::Error> {
    struct List<W>(W);

    impl<'de, W: Words> Visitor<'de> for List<W> {
        type Value = W;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<W, A::Error> {
            while list.next_element_seed(Next(&mut self.0))?.is_some() {}
            self.0.end();
            Ok(self.0)
        }
    }

    json.deserialize_seq(List(W::default()))
}

/// The next word goes to the others.
struct Next<'a, W>(&'a mut W);

impl<'de, W: Words> DeserializeSeed<'de> for Next<'_, W> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de, W: Words> Visitor<'de> for Next<'_, W> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    // Without an escape there can be no NUL: a raw one is a syntax error.
    fn visit_borrowed_str<E: Error>(self, word: &'de str) -> Result<(), E> {
        self.0.push_plain(word);
        Ok(())
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<(), E> {
        self.0.push(word);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_in_order() {
        let words = ["read", "", "é", "read"];
        let names = Names::from_iter(words);
        assert_eq!(names.iter().collect::<Vec<_>>(), words);
        assert_eq!(format!("{names:?}"), r#"["read", "", "é", "read"]"#);
        assert!(!names.is_empty() && !Names::from_iter([""]).is_empty());
        assert!(Names::default().is_empty() && Names::default().iter().next().is_none());
    }

    /// It must not become two names.
    #[test]
    fn a_word_ends_at_a_nul() {
        assert_eq!(Names::from_iter(["a\0read", "b"]), Names::from_iter(["a", "b"]));
    }

    #[test]
    fn they_are_read_as_a_list_of_strings_is() {
        for json in [r#"["read","\u00e9",""]"#, "[]", r#"["a",1]"#, r#"["a",null]"#, r#""a""#, "{}", r#"["a""#] {
            let (ours, plain) = (serde_json::from_str::<Names>(json), serde_json::from_str::<Vec<String>>(json));
            match (ours, plain) {
                (Ok(ours), Ok(plain)) => assert_eq!(ours.iter().collect::<Vec<_>>(), plain),
                (Err(ours), Err(plain)) => assert_eq!(ours.to_string(), plain.to_string()),
                other => panic!("{json}: {other:?}"),
            }
        }
    }
}
