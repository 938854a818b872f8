//! From decisions to instructions.
//!
//! The kernel runs a filter in classic BPF: an accumulator of 32 bits, loads from `struct seccomp_data`, comparisons that skip up to
//! 255 instructions forward (never back, so every filter ends), and a return. By hand:
//!
//! ```text
//! $ bpftool prog; grep Seccomp /proc/self/status      # is one installed?
//! $ scmp_bpf_disasm < filter.bpf                      # libseccomp's tools
//! ```
//!
//! A filter is first a graph of questions ([`Graph`]): equal questions with equal answers are one node, so that what two system
//! calls or two architectures share exists once. [`assemble`] writes it from its end to its beginning, because then the targets
//! of a jump are known when the jump is written. What is out of reach of 8 bits gets a nearer copy: of a return, or a `ja`, which
//! reaches everything.
//!
//! What goes wrong: a filter of more than 4096 instructions is refused, and every call that the kernel cannot answer from its bitmap
//! runs through it. A chain with one comparison per name takes 300 steps for the last; a tree takes 9.

use super::hash::Map;
use crate::sys::seccomp::Instruction;

/// The instructions that we use, of `linux/bpf_common.h`.
pub mod code {
    /// Accumulator = 32 bits at offset k (`BPF_LD|BPF_W|BPF_ABS`).
    pub const LOAD: u16 = 0x20;
    /// Skip k (`BPF_JMP|BPF_JA`).
    pub const JUMP: u16 = 0x05;
    /// Is it k? (`BPF_JMP|BPF_JEQ|BPF_K`)
    pub const JUMP_EQUAL: u16 = 0x15;
    /// Above k? (`BPF_JMP|BPF_JGT|BPF_K`)
    pub const JUMP_GREATER: u16 = 0x25;
    /// k or above? (`BPF_JMP|BPF_JGE|BPF_K`)
    pub const JUMP_GREATER_EQUAL: u16 = 0x35;
    /// A bit of k set? (`BPF_JMP|BPF_JSET|BPF_K`)
    pub const JUMP_SET: u16 = 0x45;
    /// Accumulator &= k (`BPF_ALU|BPF_AND|BPF_K`).
    pub const AND: u16 = 0x54;
    /// The verdict is k (`BPF_RET|BPF_K`).
    pub const RETURN: u16 = 0x06;
}

/// What a question looks at: 32 bits of `struct seccomp_data`, masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    /// Offset in bytes.
    pub offset: u8,
    /// Bits that count.
    pub mask: u32,
}

impl Word {
    /// The number of the system call.
    pub const NUMBER: Word = Word { offset: 0, mask: u32::MAX };
    /// The architecture.
    pub const ARCH: Word = Word { offset: 4, mask: u32::MAX };
}

/// A question about a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Is it this?
    Equal(u32),
    /// Is it this or above?
    AtLeast(u32),
    /// Is one of these bits set?
    AnyOf(u32),
}

/// A place in a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Return(u32),
    Ask { word: Word, question: Question, yes: Node, no: Node },
}

/// Questions and verdicts, none of them twice.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Kind>,
    known: Map<Kind, Node>,
}

impl Graph {
    /// A verdict: `SECCOMP_RET_*` with its data.
    pub fn verdict(&mut self, returned: u32) -> Node {
        self.add(Kind::Return(returned))
    }

    /// A question. One whose answer makes no difference is not asked.
    pub fn ask(&mut self, word: Word, question: Question, yes: Node, no: Node) -> Node {
        if yes == no { yes } else { self.add(Kind::Ask { word, question, yes, no }) }
    }

    /// How many nodes there are: about the number of instructions.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    fn add(&mut self, kind: Kind) -> Node {
        let (nodes, known) = (&mut self.nodes, &mut self.known);
        *known.entry(kind).or_insert_with(|| {
            nodes.push(kind);
            Node(nodes.len() as u32 - 1)
        })
    }

    /// The decision over ranges of a word: `parts` are (first value, what then), ascending, the first at 0, each up to the next.
    ///
    /// A single value between two equal neighbours is one question (is it this?) and not two, which is most of what a profile
    /// consists of: ranges of allowed calls with holes.
    pub fn ranges(&mut self, word: Word, parts: &[(u32, Node)]) -> Node {
        let mut runs: Vec<Run> = Vec::with_capacity(parts.len());
        let mut at = 0;
        while at < parts.len() {
            let (first, node) = parts[at];
            match (runs.last_mut(), parts.get(at + 1)) {
                // Same as before the hole: the run goes on.
                (Some(run), _) if run.node == node => at += 1,
                (Some(run), Some(&(next, after))) if next == first + 1 && after == run.node => {
                    run.holes.push((first, node));
                    at += 1;
                }
                _ => {
                    runs.push(Run { first, node, holes: Vec::new() });
                    at += 1;
                }
            }
        }
        self.tree(word, &runs)
    }

    fn tree(&mut self, word: Word, runs: &[Run]) -> Node {
        match runs {
            [run] => self.holes(word, run.node, &run.holes),
            _ => {
                // Halves of equal work, not of equal length.
                let total: usize = runs.iter().map(|run| 1 + run.holes.len()).sum();
                let mut before = 0;
                let middle = runs.iter().position(|run| {
                    before += 1 + run.holes.len();
                    before * 2 >= total
                });
                let middle = (middle.unwrap_or(0) + 1).clamp(1, runs.len() - 1);
                let no = self.tree(word, &runs[..middle]);
                let yes = self.tree(word, &runs[middle..]);
                self.ask(word, Question::AtLeast(runs[middle].first), yes, no)
            }
        }
    }

    fn holes(&mut self, word: Word, around: Node, holes: &[(u32, Node)]) -> Node {
        // Below this a chain is shorter than a tree and not much slower.
        const CHAIN: usize = 4;
        if holes.len() <= CHAIN {
            return holes
                .iter()
                .rev()
                .fold(around, |no, &(value, yes)| self.ask(word, Question::Equal(value), yes, no));
        }
        let middle = holes.len() / 2;
        let no = self.holes(word, around, &holes[..middle]);
        let yes = self.holes(word, around, &holes[middle..]);
        self.ask(word, Question::AtLeast(holes[middle].0), yes, no)
    }
}

/// A range of values with one answer, but for single values in it.
struct Run {
    first: u32,
    node: Node,
    holes: Vec<(u32, Node)>,
}

/// Writes the program that decides from `root` on.
pub fn assemble(graph: &Graph, root: Node) -> Vec<Instruction> {
    let mut writer = Writer {
        graph,
        backwards: Vec::with_capacity(graph.size() + 16),
        places: Map::with_capacity_and_hasher(graph.size(), Default::default()),
    };
    writer.write(root);
    writer.backwards.reverse();
    writer.backwards
}

struct Writer<'a> {
    graph: &'a Graph,
    /// Last instruction first: a place is the distance from the end.
    backwards: Vec<Instruction>,
    /// Where a node was written last, for each content of the accumulator with which it is entered. A verdict needs none.
    places: Map<Key, usize>,
}

/// A node, and what the accumulator holds on entering it.
type Key = (Node, Option<Word>);

/// What is still to write. A stack of its own, because a chain of questions may be thousands long.
enum Task {
    Enter(Key),
    Ask { key: Key, yes: Key, no: Key },
}

impl Writer<'_> {
    /// Where to look for a node that is entered with `held` in the accumulator.
    fn key(&self, node: Node, held: Option<Word>) -> Key {
        match self.graph.nodes[node.0 as usize] {
            Kind::Ask { word, .. } if held == Some(word) => (node, held),
            // Who must load anyway shares one copy.
            _ => (node, None),
        }
    }

    /// Writes a node, entered with nothing useful in the accumulator, after everything that it leads to.
    fn write(&mut self, root: Node) {
        let mut tasks = vec![Task::Enter((root, None))];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Enter(key) if self.places.contains_key(&key) => {}
                Task::Enter(key) => match self.graph.nodes[key.0.0 as usize] {
                    Kind::Return(k) => {
                        self.push(code::RETURN, 0, 0, k);
                        self.places.insert(key, self.backwards.len() - 1);
                    }
                    Kind::Ask { word, yes, no, .. } => {
                        let (yes, no) = (self.key(yes, Some(word)), self.key(no, Some(word)));
                        tasks.extend([Task::Ask { key, yes, no }, Task::Enter(no), Task::Enter(yes)]);
                    }
                },
                Task::Ask { key, yes, no } => self.ask(key, yes, no),
            }
        }
    }

    fn ask(&mut self, key: Key, yes: Key, no: Key) {
        let Kind::Ask { word, question, .. } = self.graph.nodes[key.0.0 as usize] else { return };
        let (jt, jf) = self.reach(yes, no);
        let (code, k) = match question {
            Question::Equal(k) => (code::JUMP_EQUAL, k),
            Question::AtLeast(k) => (code::JUMP_GREATER_EQUAL, k),
            Question::AnyOf(k) => (code::JUMP_SET, k),
        };
        self.push(code, jt, jf, k);
        if key.1.is_none() {
            if word.mask != u32::MAX {
                self.push(code::AND, 0, 0, word.mask);
            }
            self.push(code::LOAD, 0, 0, word.offset as u32);
        }
        self.places.insert(key, self.backwards.len() - 1);
    }

    /// How far to skip for each answer, after nearer copies were made of what is too far away.
    fn reach(&mut self, yes: Key, no: Key) -> (u8, u8) {
        loop {
            let skip = |key| self.backwards.len() - self.places[&key] - 1;
            match (u8::try_from(skip(yes)), u8::try_from(skip(no))) {
                (Ok(jt), Ok(jf)) => return (jt, jf),
                (Err(_), _) => self.bring_near(yes),
                (_, Err(_)) => self.bring_near(no),
            }
        }
    }

    fn bring_near(&mut self, key: Key) {
        match self.graph.nodes[key.0.0 as usize] {
            Kind::Return(k) => self.push(code::RETURN, 0, 0, k),
            Kind::Ask { .. } => {
                let skip = self.backwards.len() - self.places[&key] - 1;
                self.push(code::JUMP, 0, 0, skip as u32);
            }
        }
        self.places.insert(key, self.backwards.len() - 1);
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.backwards.push(Instruction { code, jt, jf, k });
    }
}
