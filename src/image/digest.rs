//! Digests: what names a blob, and what proves that it is the one.
//!
//! A digest is `ALGORITHM:HEX` (image-spec, descriptor.md). By hand: `sha256sum < blobs/sha256/HEX` prints HEX again.

use crate::error;
use crate::error::Result;
use sha2::Digest as _;
use std::fmt;

/// A digest whose algorithm we can compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Which function.
    pub algorithm: Algorithm,
    /// Lower-case hexadecimal digits, exactly as many as the algorithm has: safe as a file name.
    pub hex: String,
}

/// The registered algorithms that occur in images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `sha256`
    Sha256,
    /// `sha512`
    Sha512,
}

/// Name, hexadecimal digits, algorithm.
const ALGORITHMS: [(&str, usize, Algorithm); 2] =
    [("sha256", 64, Algorithm::Sha256), ("sha512", 128, Algorithm::Sha512)];

impl Digest {
    /// Parses strictly: what passes here holds no `/` and no `.`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, hex) = text.split_once(':').ok_or_else(|| error!("{text:?} is not a digest"))?;
        let Some(&(_, digits, algorithm)) = ALGORITHMS.iter().find(|(known, ..)| *known == name) else {
            return Err(error!("the digest {text:?} is neither sha256 nor sha512"));
        };
        if hex.len() != digits || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error!("the digest {text:?} does not have {digits} lower-case hexadecimal digits"));
        }
        Ok(Digest { algorithm, hex: hex.to_owned() })
    }

    /// The algorithm's name: `sha256`, also the directory below `blobs`.
    pub fn name(&self) -> &'static str {
        ALGORITHMS.iter().find(|(_, _, algorithm)| *algorithm == self.algorithm).map_or("", |(name, ..)| name)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name(), self.hex)
    }
}

/// A digest being computed.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// Of sha256.
    Sha256(sha2::Sha256),
    /// Of sha512.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Begins.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Ends.
    pub fn digest(self) -> Digest {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => Digest { algorithm: Algorithm::Sha256, hex: hex(&hasher.finalize()) },
            Hasher::Sha512(hasher) => Digest { algorithm: Algorithm::Sha512, hex: hex(&hasher.finalize()) },
        }
    }
}

/// The digest of bytes at hand.
pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of(Algorithm::Sha256, b"").to_string(), empty);
        assert_eq!(Digest::parse(empty).unwrap().to_string(), empty);
        assert_eq!(of(Algorithm::Sha512, b"").hex.len(), 128);
    }

    #[test]
    fn parsing_is_strict() {
        let upper = format!("sha256:{}", "A".repeat(64));
        let path = format!("sha256:../{}", "a".repeat(61));
        for text in ["", "sha256", "sha256:", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", &upper, &path] {
            assert!(Digest::parse(text).is_err(), "{text}");
        }
    }
}
