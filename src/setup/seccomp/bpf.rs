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

use super::hash::Mix;
use crate::sys::seccomp::Instruction;
use std::hash::{Hash, Hasher};
use std::ops::Range;

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
#[derive(Debug)]
pub struct Graph {
    nodes: Vec<Kind>,
    /// Where a node is by its hash, [`FREE`] where there is none; at least twice as many places as nodes, a power of two.
    places: Vec<u32>,
}

/// No node.
const FREE: u32 = u32::MAX;

/// Docker's profile for three architectures has 190 nodes: this many are there without growing.
const USUAL: usize = 256;

impl Default for Graph {
    /// Without nodes.
    fn default() -> Graph {
        Graph { nodes: Vec::with_capacity(USUAL), places: vec![FREE; 2 * USUAL] }
    }
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
        let at = self.place(&kind);
        if self.places[at] != FREE {
            return Node(self.places[at]);
        }
        let node = self.nodes.len() as u32;
        self.nodes.push(kind);
        self.places[at] = node;
        if self.nodes.len() * 2 > self.places.len() {
            self.grow();
        }
        Node(node)
    }

    /// Where this node is, or would be: at its hash, or behind those that were there before it.
    fn place(&self, kind: &Kind) -> usize {
        let mut mix = Mix::default();
        kind.hash(&mut mix);
        let last = self.places.len() - 1;
        let mut at = mix.finish() as usize & last;
        while self.places[at] != FREE && self.nodes[self.places[at] as usize] != *kind {
            at = (at + 1) & last;
        }
        at
    }

    #[cold]
    fn grow(&mut self) {
        self.places = vec![FREE; 4 * self.places.len()];
        for node in 0..self.nodes.len() {
            let at = self.place(&self.nodes[node]);
            self.places[at] = node as u32;
        }
    }

    /// The decision over ranges of a word: `parts` are (first value, what then), ascending, the first at 0, each up to the next.
    ///
    /// A single value between two equal neighbours is one question (is it this?) and not two, which is most of what a profile
    /// consists of: ranges of allowed calls with holes.
    pub fn ranges(&mut self, word: Word, parts: &[(u32, Node)]) -> Node {
        let mut ranges = Ranges { word, runs: Vec::with_capacity(parts.len()), holes: Vec::with_capacity(parts.len()) };
        for (at, &(first, node)) in parts.iter().enumerate() {
            match (ranges.runs.last_mut(), parts.get(at + 1)) {
                // Same as before the hole: the run goes on.
                (Some(run), _) if run.node == node => {}
                (Some(run), Some(&(next, after))) if next == first + 1 && after == run.node => {
                    ranges.holes.push((first, node));
                    run.end = ranges.holes.len();
                }
                _ => ranges.runs.push(Run { first, node, end: ranges.holes.len() }),
            }
        }
        self.tree(&ranges, 0..ranges.runs.len())
    }

    fn tree(&mut self, ranges: &Ranges, runs: Range<usize>) -> Node {
        if runs.len() == 1 {
            let run = &ranges.runs[runs.start];
            return self.holes(ranges.word, run.node, &ranges.holes[ranges.holes_before(runs.start)..run.end]);
        }
        // Halves of equal work, not of equal length.
        let (before, total) = (ranges.work(runs.start), ranges.work(runs.end) - ranges.work(runs.start));
        let half = |end: &usize| (ranges.work(*end) - before) * 2 >= total;
        let middle = (runs.start + 1..runs.end - 1).find(half).unwrap_or(runs.end - 1);
        let no = self.tree(ranges, runs.start..middle);
        let yes = self.tree(ranges, middle..runs.end);
        self.ask(ranges.word, Question::AtLeast(ranges.runs[middle].first), yes, no)
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

/// All values of a word.
struct Ranges {
    word: Word,
    runs: Vec<Run>,
    /// Single values in the runs, which get something else: those of the first run, then those of the second, …
    holes: Vec<(u32, Node)>,
}

/// A range of values with one answer, but for its holes.
struct Run {
    first: u32,
    node: Node,
    /// Where its holes end, which is where the next one's begin.
    end: usize,
}

impl Ranges {
    fn holes_before(&self, run: usize) -> usize {
        run.checked_sub(1).map_or(0, |before| self.runs[before].end)
    }

    /// How many runs and holes there are before a run.
    fn work(&self, run: usize) -> usize {
        run + self.holes_before(run)
    }
}

/// Writes the program that decides from `root` on.
pub fn assemble(graph: &Graph, root: Node) -> Vec<Instruction> {
    let mut writer = Writer {
        graph,
        backwards: Vec::with_capacity(graph.size() + graph.size() / 4 + 16),
        places: vec![[FREE; 2]; graph.size()],
    };
    writer.write(root);
    writer.backwards.reverse();
    writer.backwards
}

struct Writer<'a> {
    graph: &'a Graph,
    /// Last instruction first: a place is the distance from the end.
    backwards: Vec<Instruction>,
    /// Where each node was written last, [`FREE`] if nowhere: for one who must load its word first, and for one who comes with it.
    places: Vec<[u32; 2]>,
}

/// A node as it is entered.
#[derive(Clone, Copy)]
struct Key {
    node: Node,
    /// The accumulator holds its word. Never so for a verdict, which needs none.
    held: bool,
}

/// What is still to write. A stack of its own, because a chain of questions may be thousands long.
enum Task {
    Enter(Key),
    Ask { key: Key, yes: Key, no: Key },
}

impl Writer<'_> {
    /// A node that is entered with a word in the accumulator. Who must load another one anyway shares one copy.
    fn key(&self, node: Node, accumulator: Word) -> Key {
        let held = matches!(self.kind(node), Kind::Ask { word, .. } if word == accumulator);
        Key { node, held }
    }

    fn kind(&self, node: Node) -> Kind {
        self.graph.nodes[node.0 as usize]
    }

    fn place(&mut self, key: Key) -> &mut u32 {
        &mut self.places[key.node.0 as usize][key.held as usize]
    }

    /// The last instruction is where this begins.
    fn begins(&mut self, key: Key) {
        *self.place(key) = self.backwards.len() as u32 - 1;
    }

    /// How many instructions lie between the next one to be written and this.
    fn skip(&mut self, key: Key) -> usize {
        self.backwards.len() - *self.place(key) as usize - 1
    }

    /// Writes a node, entered with nothing useful in the accumulator, after everything that it leads to.
    fn write(&mut self, root: Node) {
        let mut tasks = vec![Task::Enter(Key { node: root, held: false })];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Enter(key) if *self.place(key) != FREE => {}
                Task::Enter(key) => match self.kind(key.node) {
                    Kind::Return(k) => {
                        self.push(code::RETURN, 0, 0, k);
                        self.begins(key);
                    }
                    Kind::Ask { word, yes, no, .. } => {
                        let (yes, no) = (self.key(yes, word), self.key(no, word));
                        tasks.extend([Task::Ask { key, yes, no }, Task::Enter(no), Task::Enter(yes)]);
                    }
                },
                Task::Ask { key, yes, no } => self.ask(key, yes, no),
            }
        }
    }

    fn ask(&mut self, key: Key, yes: Key, no: Key) {
        let Kind::Ask { word, question, .. } = self.kind(key.node) else { return };
        let (jt, jf) = self.reach(yes, no);
        let (code, k) = match question {
            Question::Equal(k) => (code::JUMP_EQUAL, k),
            Question::AtLeast(k) => (code::JUMP_GREATER_EQUAL, k),
            Question::AnyOf(k) => (code::JUMP_SET, k),
        };
        self.push(code, jt, jf, k);
        if !key.held {
            if word.mask != u32::MAX {
                self.push(code::AND, 0, 0, word.mask);
            }
            self.push(code::LOAD, 0, 0, word.offset as u32);
        }
        self.begins(key);
    }

    /// How far to skip for each answer, after nearer copies were made of what is too far away.
    fn reach(&mut self, yes: Key, no: Key) -> (u8, u8) {
        loop {
            match (u8::try_from(self.skip(yes)), u8::try_from(self.skip(no))) {
                (Ok(jt), Ok(jf)) => return (jt, jf),
                (Err(_), _) => self.bring_near(yes),
                (_, Err(_)) => self.bring_near(no),
            }
        }
    }

    fn bring_near(&mut self, key: Key) {
        match self.kind(key.node) {
            Kind::Return(k) => self.push(code::RETURN, 0, 0, k),
            Kind::Ask { .. } => {
                let skip = self.skip(key);
                self.push(code::JUMP, 0, 0, skip as u32);
            }
        }
        self.begins(key);
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.backwards.push(Instruction { code, jt, jf, k });
    }
}
