//! Archives made by hand, block by block.
use super::*;
