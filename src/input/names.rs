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
        self.push_whole(name.split('\0').next().unwrap_or_default());
    }

    /// Adds a word that is known to have no NUL.
    fn push_whole(&mut self, name: &str) {
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

/// As a `Vec<String>` is read, with the same words about what is none.
impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Names, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Names::default();
                while list.next_element_seed(Next(&mut names))?.is_some() {}
                names.text.shrink_to_fit();
                Ok(names)
            }
        }

        json.deserialize_seq(List)
    }
}

/// The next word goes to the others.
struct Next<'a>(&'a mut Names);

impl<'de> DeserializeSeed<'de> for Next<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Next<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    // Without an escape there can be no NUL: a raw one is a syntax error.
    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<(), E> {
        self.0.push_whole(name);
        Ok(())
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        self.0.push(name);
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
