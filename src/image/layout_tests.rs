//! Which image an index means, and which documents are refused.
use super::*;
