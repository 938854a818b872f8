//! What `exec` needs to know of a container, in one short file: read in a tenth of the time of config.json.

use crate::input::again;
use crate::input::config::Config;
use crate::sys::seccomp::{Instruction, from_bytes, to_bytes};

/// The parts of the configuration that concern who joins a container, and its filter.
#[derive(Debug)]
pub struct Joining {
    /// `None`: they could not be cut out.
    pub config: Option<Config>,
    /// As it was compiled when the container was made.
    pub filter: Vec<Instruction>,
}

/// How the file begins: the number of instructions.
type Count = [u8; 4];

/// The file: the number of instructions, these as they lie in memory, and the text, which is empty where `configuration` is not of exact wording.
pub fn encode(configuration: &[u8], exact: bool, filter: &[Instruction]) -> Vec<u8> {
    let text = if exact { again::to_join(configuration) } else { None };
    let count: Count = (filter.len() as u32).to_ne_bytes();
    let mut bytes = Vec::with_capacity(count.len() + size_of_val(filter) + text.as_ref().map_or(0, Vec::len));
    bytes.extend_from_slice(&count);
    bytes.extend(to_bytes(filter));
    bytes.extend(text.unwrap_or_default());
    bytes
}

impl Joining {
    /// Out of a file. `None`: it is not whole.
    pub fn decode(bytes: &[u8]) -> Option<Joining> {
        let (count, rest) = bytes.split_first_chunk::<{ size_of::<Count>() }>()?;
        let length = usize::try_from(u32::from_ne_bytes(*count)).ok()?.checked_mul(size_of::<Instruction>())?;
        let (filter, text) = rest.split_at_checked(length).filter(|(filter, _)| !filter.is_empty())?;
        Some(Joining { config: again::read_parts(text), filter: from_bytes(filter) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_not_whole_is_not() {
        let filter =
            [Instruction::from_bytes([6, 0, 0, 0, 1, 0, 0, 0]), Instruction::from_bytes([6, 0, 0, 0, 2, 0, 0, 0])];
        let text = br#"{"ociVersion":"1.0.2","process":{"args":["a"],"cwd":"/","env":["A=1"]},"mounts":[{"destination":"/x"}]}"#;
        let bytes = encode(text, true, &filter);
        let Joining { config, filter: again } = Joining::decode(&bytes).unwrap();
        let config = config.unwrap();
        assert_eq!((config.process.unwrap().env.get(0), config.mounts.len(), &again[..]), ("A=1", 0, &filter[..]));
        for exact in [false, true] {
            let text = if exact { &b"["[..] } else { text };
            assert!(Joining::decode(&encode(text, exact, &filter)).unwrap().config.is_none());
        }
        assert!(Joining::decode(&bytes[..bytes.len() - 1]).unwrap().config.is_none());
        for end in 0..4 + 16 {
            assert!(Joining::decode(&bytes[..end]).is_none(), "{end}");
        }
        assert!(Joining::decode(&encode(text, true, &[])).is_none());
        assert!(Joining::decode(&[0xff; 64]).is_none());
    }
}
