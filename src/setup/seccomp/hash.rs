//! Maps from small plain keys.
//!
//! std's hasher withstands keys that are chosen to collide, and for that took 22 % of all instructions of a plan with Docker's profile. These
//! keys are a few numbers each, and one multiplication mixes a number. Who writes a profile may choose it so that all keys collide: then
//! comparing them costs more, but there are no more of them than the limits on a config.json and on a filter allow.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A hash map with the fast hasher.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// The state: all numbers so far, mixed.
#[derive(Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    // An odd number whose bits look random: the digits of the golden ratio.
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    // A product's high bits are the well mixed ones, but a map looks first at the low ones.
    fn finish(&self) -> u64 {
        (self.0 ^ (self.0 >> 32)).rotate_left(20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    #[test]
    fn small_numbers_spread_over_low_and_high_bits() {
        let hash = |key: &dyn Fn(&mut Mix)| {
            let mut mix = BuildHasherDefault::<Mix>::default().build_hasher();
            key(&mut mix);
            mix.finish()
        };
        let hashes: Vec<u64> = (0..1024_u32)
            .flat_map(|n| [hash(&|mix| (n, 1_u8).hash(mix)), hash(&|mix| (1_usize, Some(n)).hash(mix))])
            .collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 2048);
        // The table's place and its tag: random ones would fill 63 % of 2048 places, and all 128 tags.
        assert!(hashes.iter().map(|hash| hash % 2048).collect::<HashSet<_>>().len() > 1000);
        assert!(hashes.iter().map(|hash| hash >> 57).collect::<HashSet<_>>().len() > 100);
    }
}
