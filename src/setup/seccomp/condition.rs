//! Conditions on arguments, asked 32 bits at a time.
//!
//! An argument has 64 bits and a filter loads 32, so `a0 < 38` is two questions: is the high half zero, and is the low half below
//! 38? The high half comes first. What one rule has asked, the next need not ask again: `Known` is what the path so far has
//! settled, and a question is only asked where it leaves both answers open. So Docker's three rules for `socket` (below 38, 39,
//! above 40) cost one question for the high half and three for the low one.

use super::bpf::{Graph, Node, Question, Word};
use super::hash::Map;
use crate::input::config::{Operator, SeccompArg};
use std::cmp::Ordering;

/// One condition, with as many bits as the architecture's arguments have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    index: u8,
    test: Test,
    /// The condition holds when the test does not.
    negated: bool,
    class: u8,
    datum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Test {
    /// `argument & mask == value`
    Equal { mask: u64, value: u64 },
    /// `argument >= value`
    AtLeast(u64),
    /// Holds for every argument.
    Always,
}

impl Condition {
    /// Reads a profile's condition for an architecture whose arguments have this many bits (32 or 64). Operands are cut off to them:
    /// -1 then means -1 on both, and libseccomp does the same.
    pub fn new(arg: &SeccompArg, bits: u32) -> Condition {
        let width = u64::MAX >> (64 - bits);
        let value = arg.value & width;
        let from = |value: u64, negated: bool| match value {
            0 => (Test::Always, negated),
            _ => (Test::AtLeast(value), negated),
        };
        // Nothing is above the greatest value.
        let above = |negated: bool| if value == width { (Test::Always, !negated) } else { from(value + 1, negated) };
        let ((test, negated), class, datum) = match arg.op {
            Operator::Eq => ((Test::Equal { mask: width, value }, false), 3, value),
            Operator::Ne => ((Test::Equal { mask: width, value }, true), 3, value),
            Operator::MaskedEq if value == 0 => ((Test::Always, false), 3, 0),
            // Bits of the value outside the mask do not count.
            Operator::MaskedEq => {
                let datum = arg.value_two & value;
                ((Test::Equal { mask: value, value: datum }, false), 3, datum)
            }
            Operator::Lt => (from(value, true), 2, value),
            Operator::Le => (above(true), 2, value),
            Operator::Ge => (from(value, false), 1, value),
            Operator::Gt => (above(false), 1, value),
        };
        Condition { index: arg.index, test, negated, class, datum }
    }

    /// Which argument.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// It holds for every argument (`Some(true)`) or for none.
    pub fn constant(&self) -> Option<bool> {
        (self.test == Test::Always).then_some(!self.negated)
    }

    /// Which of two conditions is asked first where their rules disagree, as libseccomp orders them: the later argument; equality,
    /// then "below", then "above"; the greater operand, but the smaller one for "below".
    pub fn order(&self, other: &Condition) -> Ordering {
        let operand = if self.class == 2 { self.datum.cmp(&other.datum) } else { other.datum.cmp(&self.datum) };
        other.index.cmp(&self.index).then(other.class.cmp(&self.class)).then(operand)
    }

    /// Does it hold for this argument? Said in 64 bits, to judge the questions in 32 by.
    #[cfg(test)]
    pub fn holds(&self, args: &[u64; 6], bits: u32) -> bool {
        let argument = args[self.index as usize] & (u64::MAX >> (64 - bits));
        let answer = match self.test {
            Test::Always => true,
            Test::Equal { mask, value } => argument & mask == value,
            Test::AtLeast(value) => argument >= value,
        };
        answer != self.negated
    }

    /// Does it hold? As far as that is known; otherwise the question that comes next.
    fn status(&self, known: &Known) -> Status {
        let (high, low) = (self.index as usize * 2 + 1, self.index as usize * 2);
        let answer = match self.test {
            Test::Always => Ok(true),
            Test::Equal { mask, value } => known
                .equal(high, (mask >> 32) as u32, (value >> 32) as u32)
                .and_then(|same| if same { known.equal(low, mask as u32, value as u32) } else { Ok(false) }),
            Test::AtLeast(value) => {
                let (h, l) = ((value >> 32) as u32, value as u32);
                match l {
                    0 => known.at_least(high, h),
                    _ => match if h == u32::MAX { Ok(false) } else { known.at_least(high, h + 1) } {
                        Ok(false) => known
                            .at_least(high, h)
                            .and_then(|same| if same { known.at_least(low, l) } else { Ok(false) }),
                        other => other,
                    },
                }
            }
        };
        match answer {
            Ok(holds) => Status::Known(holds != self.negated),
            Err(fact) => Status::Ask(fact),
        }
    }
}

enum Status {
    Known(bool),
    Ask(Fact),
}

/// A question about one half of an argument: half `2 * index` is the low one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fact {
    half: usize,
    question: Question,
    /// Bits that count, for `Equal`.
    mask: u32,
}

/// How many answers that are no bounds are kept.
const REMEMBERED: usize = 8;

/// What is settled about the twelve halves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    /// Smallest and greatest value still possible.
    bounds: [(u32, u32); 12],
    /// Answers that are no bounds.
    facts: Vec<(Fact, bool)>,
}

impl Known {
    /// What is settled before the first question, for arguments of this many bits: of the high half of a 32-bit argument, that
    /// nobody looks at it.
    fn start(bits: u32) -> Known {
        let high = if bits == 32 { 0 } else { u32::MAX };
        Known {
            bounds: std::array::from_fn(|half| (0, if half % 2 == 1 { high } else { u32::MAX })),
            facts: Vec::new(),
        }
    }

    fn at_least(&self, half: usize, value: u32) -> Result<bool, Fact> {
        let (low, high) = self.bounds[half];
        if value <= low {
            return Ok(true);
        }
        if value > high {
            return Ok(false);
        }
        // "One or more" is "not zero": the question that an equality asks as well.
        let question = if value == 1 { Question::AnyOf(u32::MAX) } else { Question::AtLeast(value) };
        self.look_up(Fact { half, question, mask: u32::MAX })
    }

    fn equal(&self, half: usize, mask: u32, value: u32) -> Result<bool, Fact> {
        let (low, high) = self.bounds[half];
        if low == high {
            return Ok(low & mask == value);
        }
        match (mask, value) {
            (0, _) => Ok(true),
            (u32::MAX, value) if value < low || value > high => Ok(false),
            // A test for bits leaves the accumulator as it is, where a mask does not.
            (mask, 0) => self.look_up(Fact { half, question: Question::AnyOf(mask), mask: u32::MAX }).map(|any| !any),
            (mask, value) if mask == value && mask.is_power_of_two() => {
                self.look_up(Fact { half, question: Question::AnyOf(mask), mask: u32::MAX })
            }
            (mask, value) => self.look_up(Fact { half, question: Question::Equal(value), mask }),
        }
    }

    fn look_up(&self, fact: Fact) -> Result<bool, Fact> {
        self.facts.iter().find(|(known, _)| *known == fact).map(|&(_, answer)| answer).ok_or(fact)
    }

    fn with(&self, fact: Fact, answer: bool) -> Known {
        let mut next = self.clone();
        let (low, high) = &mut next.bounds[fact.half];
        match (fact.question, answer) {
            (Question::AtLeast(value), true) => *low = value,
            (Question::AtLeast(value), false) => *high = value - 1,
            (Question::Equal(value), true) if fact.mask == u32::MAX => (*low, *high) = (value, value),
            (Question::AnyOf(u32::MAX), true) if *low == 0 => *low = 1,
            (Question::AnyOf(u32::MAX), false) => *high = 0,
            _ => {
                // To forget is never wrong, and a thousand inequalities would be carried along by each of them.
                if next.facts.len() == REMEMBERED {
                    next.facts.remove(0);
                }
                next.facts.push((fact, answer));
            }
        }
        next
    }

    /// Forgets what no later rule asks for, so that paths meet again.
    fn only(mut self, halves: u16, start: &Known) -> Known {
        for half in 0..12 {
            if halves >> half & 1 == 0 {
                self.bounds[half] = start.bounds[half];
            }
        }
        self.facts.retain(|(fact, _)| halves >> fact.half & 1 == 1);
        self
    }
}

/// A rule as the compiler takes it: all conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// `SECCOMP_RET_*` with its data.
    pub verdict: u32,
    /// By ascending index.
    pub conditions: Vec<Condition>,
}

/// The decision of rules in this order for arguments of this many bits: the first that matches, else the default. `None`: it takes
/// more than [`LIMIT`] questions.
pub fn first_match(graph: &mut Graph, rules: &[Rule], bits: u32, default: u32) -> Option<Node> {
    // Which halves the rules from here on look at.
    let mut halves = vec![0_u16; rules.len() + 1];
    for (at, rule) in rules.iter().enumerate().rev() {
        halves[at] = rule.conditions.iter().fold(halves[at + 1], |set, c| set | 3 << (c.index * 2));
    }
    let default = graph.verdict(default);
    let start = Known::start(bits);
    let mut search = Search { graph, rules, halves, start: start.clone(), default, met: Map::default() };
    // Remembering pays while it saves questions. Without it every condition asks at most three.
    let most = 3 * rules.iter().map(|rule| rule.conditions.len()).sum::<usize>();
    search.from((0, 0, start.clone()), most).or_else(|| {
        search.halves.fill(0);
        search.met.clear();
        search.from((0, 0, start), LIMIT)
    })
}

/// As many as the kernel takes instructions.
pub const LIMIT: usize = crate::sys::seccomp::MAX_INSTRUCTIONS;

struct Search<'a> {
    graph: &'a mut Graph,
    rules: &'a [Rule],
    halves: Vec<u16>,
    start: Known,
    default: Node,
    met: Map<Place, Node>,
}

/// From this condition of this rule on.
type Place = (usize, usize, Known);

/// What is still to do. A stack of its own: a profile may have thousands of rules, and each would be a call deeper.
enum Task {
    Decide(Place),
    Join(Place, Fact),
}

/// How far one gets without a question.
enum Settled {
    At(Node),
    Ask(Place, Fact),
}

impl Search<'_> {
    fn from(&mut self, start: Place, limit: usize) -> Option<Node> {
        let (mut tasks, mut done, mut asked) = (vec![Task::Decide(start)], Vec::new(), 0);
        while let Some(task) = tasks.pop() {
            match task {
                Task::Decide(place) => match self.settle(place) {
                    Settled::At(node) => done.push(node),
                    Settled::Ask(place, fact) => {
                        asked += 1;
                        if asked > limit {
                            return None;
                        }
                        let after = |answer| Task::Decide((place.0, place.1, place.2.with(fact, answer)));
                        let both = [after(true), after(false)];
                        tasks.push(Task::Join(place, fact));
                        tasks.extend(both);
                    }
                },
                Task::Join(place, fact) => {
                    let (yes, no) = (done.pop()?, done.pop()?);
                    let word = Word { offset: 16 + 4 * fact.half as u8, mask: fact.mask };
                    let node = match fact.question {
                        // The same instruction for "not zero" and "zero", so that equal graphs stay equal.
                        Question::AnyOf(u32::MAX) => self.graph.ask(word, Question::Equal(0), no, yes),
                        question => self.graph.ask(word, question, yes, no),
                    };
                    self.met.insert(place, node);
                    done.push(node);
                }
            }
        }
        done.pop()
    }

    /// As far as it goes without a question: to a verdict, to a place met before, or to the question.
    fn settle(&mut self, (mut rule, mut condition, mut known): Place) -> Settled {
        loop {
            let Some(current) = self.rules.get(rule) else { return Settled::At(self.default) };
            let Some(next) = current.conditions.get(condition) else {
                return Settled::At(self.graph.verdict(current.verdict));
            };
            match next.status(&known) {
                Status::Known(true) => condition += 1,
                Status::Known(false) => {
                    (rule, condition) = (rule + 1, 0);
                    known = known.only(self.halves[rule], &self.start);
                }
                Status::Ask(fact) => {
                    let place = (rule, condition, known);
                    return match self.met.get(&place) {
                        Some(&node) => Settled::At(node),
                        None => Settled::Ask(place, fact),
                    };
                }
            }
        }
    }
}
