//! Memory for a program that ends soon: an arena that hands out and hardly takes back.
//!
//! **What the libc offers.** musl's malloc is made small and hard to attack: every call takes a slot out of a group's bit mask, and checks
//! the group's metadata again on the way back. By hand: `valgrind --tool=callgrind corten state x`, then `callgrind_annotate`; two fifths of
//! all instructions were in malloc and free.
//!
//! **What we do.** The first thread takes its small allocations from a static arena, a pointer that moves up. A block is taken back
//! if it is the last one, which is what a growing string or vector asks for; of the others one is remembered, the largest, and new blocks are taken
//! from it first: the memory is there already. Two fifths of what a `run` would touch are left behind by lists that grew. What does not fit, what is
//! large, and all that another thread asks for goes to the libc. So a verb that ends after a millisecond hardly frees, and one that unpacks gigabytes
//! wastes no more than the arena.
//!
//! Zeroed memory costs nothing where the arena was never used: a large buffer for a short message touches one page.
//!
//! **What goes wrong.** What is never freed is touched once, and a first touch is a page fault for every 4 KiB. *Rejected:* lists of freed
//! blocks by their size, for small blocks are most of the number and little of the memory; and populating 128 KiB at the start, which saves 3 % of
//! `explain` and costs 8 % of `state`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Bytes of the arena. It lies in `.bss`: what is not used costs address space only.
const SIZE: usize = 4 << 20;
/// Larger blocks are few, and often grow: they would leave holes.
const LARGEST: usize = 64 << 10;
/// As many bytes are made zero rather than taken where they are so.
const FEW: usize = 1 << 10;
#[repr(align(16))]
struct Space(UnsafeCell<[MaybeUninit<u8>; SIZE]>);

// SAFETY: only the thread that set `TAKEN` makes references into it, by blocks that do not overlap.
unsafe impl Sync for Space {}

static SPACE: Space = Space(UnsafeCell::new([MaybeUninit::uninit(); SIZE]));
static TAKEN: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The address of the next free byte: 0 before the first allocation, 1 in a thread without an arena. Alone, because musl maps memory for what is
    /// local to the first thread as soon as that is more than 112 bytes with std's own (`readelf -lW corten | grep TLS`).
    static NEXT: Cell<usize> = const { Cell::new(0) };
}
/// From this address on nothing was ever handed out: it is zero, and not touched yet. This and the next are for the thread alone that has the arena.
static HIGHEST: AtomicUsize = AtomicUsize::new(0);
/// What is left of the block that came back, first and end: new blocks are taken from it, where they fit, before more of the arena is touched.
static HOLE: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
/// See [`lend`].
static LENT: AtomicBool = AtomicBool::new(false);

/// As long as the memory is lent to a child that holds copies of its parent's values, no block comes back, and none becomes shorter.
pub fn lend(lent: bool) {
    LENT.store(lent, Relaxed);
}

/// The allocator: an arena for the first thread that allocates, and the libc's for the rest.
pub struct Arena;

fn base() -> *mut u8 {
    SPACE.0.get().cast()
}

fn holds(block: *mut u8) -> bool {
    block.addr().wrapping_sub(base().addr()) < SIZE
}

/// Every block begins at a multiple of this, whatever is asked: nix lays control messages into bytes, as if all memory were malloc's.
const ALIGNMENT: usize = 8;

/// The address of a new block in what came back, if it fits there.
#[inline]
fn reuse(layout: Layout) -> Option<usize> {
    let align = layout.align().max(ALIGNMENT);
    let at = (HOLE[0].load(Relaxed) + align - 1) & !(align - 1);
    if NEXT.get() <= 1 || at + layout.size() > HOLE[1].load(Relaxed) {
        return None;
    }
    HOLE[0].store(at + layout.size(), Relaxed);
    Some(at)
}

/// The address of a new block in the rest of the arena, if it has one here.
#[inline]
fn place(layout: Layout) -> Option<usize> {
    let align = layout.align().max(ALIGNMENT);
    let at = (NEXT.get() + align - 1) & !(align - 1);
    if fits(at, layout.size()) {
        hand_out(at + layout.size());
        return Some(at);
    }
    if NEXT.get() == 0 { claim(layout) } else { None }
}

/// A block came back. The last one is free again.
#[inline]
fn take_back(block: usize, size: usize) {
    match NEXT.get() {
        next if block + size == next => NEXT.set(block),
        // Another thread's.
        0 | 1 => {}
        _ => remember(block, size),
    }
}

/// Of blocks that are not the last the largest is remembered, which a list has left behind that grew; and what lies beside what is remembered.
#[inline]
fn remember(block: usize, size: usize) {
    let [hole, end] = [HOLE[0].load(Relaxed), HOLE[1].load(Relaxed)];
    if block + size == hole {
        HOLE[0].store(block, Relaxed);
    } else if block == end {
        HOLE[1].store(block + size, Relaxed);
    } else if size > end - hole {
        HOLE[0].store(block, Relaxed);
        HOLE[1].store(block + size, Relaxed);
    }
}

/// The next block will lie where nothing was ever handed out.
#[cold]
fn skip_used() {
    let (next, highest) = (NEXT.get(), HIGHEST.load(Relaxed));
    if next > 1 && highest > next {
        NEXT.set(highest);
        remember(next, highest - next);
    }
}

/// Is a block of this size at this address one of the arena's? Small addresses, which stand for a thread without one, are not.
#[inline]
fn fits(at: usize, size: usize) -> bool {
    let offset = at.wrapping_sub(base().addr());
    size <= LARGEST && offset <= SIZE && size <= SIZE - offset
}

/// The arena is given away up to here.
#[inline]
fn hand_out(up_to: usize) {
    NEXT.set(up_to);
    if up_to > HIGHEST.load(Relaxed) {
        HIGHEST.store(up_to, Relaxed);
    }
}

/// The first allocation of a thread.
#[cold]
fn claim(layout: Layout) -> Option<usize> {
    if TAKEN.swap(true, Relaxed) {
        NEXT.set(1);
        return None;
    }
    NEXT.set(base().addr());
    place(layout)
}

// SAFETY: blocks of the arena lie behind one another, aligned as asked, and a block's bytes are handed out again only after that block
// came back: as the end of what is given away, or of the hole; everything else is the system allocator's, told apart by its address.
unsafe impl GlobalAlloc for Arena {
    // Never inlined: in every place that allocates, these few lines are 400 KB.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match reuse(layout).or_else(|| place(layout)) {
            Some(at) => base().with_addr(at),
            // SAFETY: the layout is the caller's.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // A large one is mostly a buffer for a short message: what was never used is zero without being touched.
        let again = if layout.size() <= FEW { reuse(layout) } else { None };
        if again.is_none() && layout.size() > FEW {
            skip_used();
        }
        let highest = HIGHEST.load(Relaxed);
        match again.or_else(|| place(layout)) {
            Some(at) => {
                let block = base().with_addr(at);
                let used = highest.saturating_sub(at).min(layout.size());
                // SAFETY: the block is new and has this size or more. What was in use before is made zero; what never was is in `.bss`.
                unsafe { block.write_bytes(0, used) };
                block
            }
            // SAFETY: the layout is the caller's.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if LENT.load(Relaxed) {
            return;
        }
        if !holds(block) {
            // SAFETY: not from the arena, so from the system allocator, with this layout.
            return unsafe { System.dealloc(block, layout) };
        }
        take_back(block.addr(), layout.size());
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if LENT.load(Relaxed) {
            // SAFETY: the caller's word.
            return unsafe { self.moved(block, layout, size) };
        }
        if !holds(block) {
            // SAFETY: not from the arena, so from the system allocator, with this layout.
            return unsafe { System.realloc(block, layout, size) };
        }
        let after = block.addr() + layout.size();
        if after == NEXT.get() && fits(block.addr(), size) {
            hand_out(block.addr() + size);
            return block;
        }
        if after == HOLE[0].load(Relaxed) && NEXT.get() > 1 && block.addr() + size <= HOLE[1].load(Relaxed) {
            HOLE[0].store(block.addr() + size, Relaxed);
            return block;
        }
        // SAFETY: the caller's word.
        unsafe { self.moved(block, layout, size) }
    }
}

impl Arena {
    /// The block itself if that is large enough, or its content in a new one.
    ///
    /// # Safety
    ///
    /// As for `realloc`.
    unsafe fn moved(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size <= layout.size() {
            return block;
        }
        // SAFETY: the size is the caller's, not zero and not beyond isize::MAX with this alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: two blocks that do not overlap, both at least as large as the old one.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size()) };
            // SAFETY: the old block, which the caller gave up.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// One test: the arena belongs to the first thread that asks, and each test has a thread of its own.
    #[test]
    fn the_arena_serves_one_thread_and_the_libc_the_rest() {
        // SAFETY: every block is used within its size and given back at most once, with its layout.
        unsafe {
            let (one, two) = (Arena.alloc(layout(3, 1)), Arena.alloc(layout(40, 16)));
            assert!(holds(one) && holds(two));
            assert_eq!(two.addr() % 16, 0);
            assert!(two.addr() >= one.addr() + 3);
            // The last block grows where it is, shrinks, and comes again; one below it moves.
            two.write_bytes(7, 40);
            assert_eq!(Arena.realloc(two, layout(40, 16), 400), two);
            assert_eq!(Arena.realloc(two, layout(400, 16), 40), two);
            one.write_bytes(5, 3);
            let moved = Arena.realloc(one, layout(3, 1), 30);
            assert_eq!(moved.addr(), two.addr() + 40);
            assert_eq!(std::slice::from_raw_parts(moved, 3), [5, 5, 5]);
            assert_eq!(Arena.realloc(one, layout(3, 1), 2), one);
            Arena.dealloc(moved, layout(30, 1));
            let zeroed = Arena.alloc_zeroed(layout(30, 1));
            assert_eq!(zeroed, moved);
            assert_eq!(std::slice::from_raw_parts(zeroed, 30), [0; 30]);
            assert_eq!(std::slice::from_raw_parts(two, 40), [7; 40]);
            // Partly used before: all of it is zero.
            let before = Arena.alloc(layout(20, 1));
            before.write_bytes(9, 20);
            Arena.dealloc(before, layout(20, 1));
            let zeroed_again = Arena.alloc_zeroed(layout(60, 1));
            assert_eq!(zeroed_again, before);
            assert_eq!(std::slice::from_raw_parts(zeroed_again, 60), [0; 60]);
            Arena.dealloc(zeroed_again, layout(60, 1));
            // Lent: nothing comes back, and nothing shrinks or grows over what follows.
            let kept = Arena.alloc(layout(32, 8));
            kept.write_bytes(6, 32);
            lend(true);
            assert_eq!(Arena.realloc(kept, layout(32, 8), 8), kept);
            let elsewhere = Arena.realloc(kept, layout(32, 8), 64);
            Arena.dealloc(elsewhere, layout(64, 8));
            Arena.dealloc(kept, layout(32, 8));
            let behind = Arena.alloc(layout(32, 8));
            lend(false);
            assert!(elsewhere >= kept.add(32) && behind >= elsewhere.add(64));
            assert_eq!(std::slice::from_raw_parts(kept, 32), [6; 32]);
            Arena.dealloc(behind, layout(32, 8));
            // What was not the last is given away again, in pieces, to what fits; the rest comes from the arena.
            let last = Arena.alloc(layout(8, 8));
            Arena.dealloc(two, layout(40, 16));
            let (piece, other) = (Arena.alloc(layout(24, 8)), Arena.alloc(layout(24, 8)));
            assert_eq!(piece, two);
            assert!(other > last);
            // The last piece grows where it is, as far as there is room, and is zero where that is asked.
            assert_eq!(Arena.realloc(piece, layout(24, 8), 40), two);
            two.write_bytes(9, 40);
            assert_eq!(Arena.realloc(two, layout(40, 8), 32), two);
            let moved = Arena.realloc(two, layout(32, 8), 48);
            assert!(moved > other);
            assert_eq!(std::slice::from_raw_parts(moved, 32), [9; 32]);
            let zeroed_again = Arena.alloc_zeroed(layout(16, 8));
            assert_eq!((zeroed_again, std::slice::from_raw_parts(zeroed_again, 16)), (two, &[0; 16][..]));
            // A smaller one is not remembered, a larger one is; neighbours become one.
            assert_eq!(Arena.alloc(layout(24, 8)), two.add(16));
            let (large, small, end) =
                (Arena.alloc(layout(400, 8)), Arena.alloc(layout(24, 8)), Arena.alloc(layout(8, 8)));
            Arena.dealloc(large, layout(400, 8));
            Arena.dealloc(other, layout(24, 8));
            assert_eq!(Arena.alloc(layout(100, 8)), large);
            Arena.dealloc(small, layout(24, 8));
            assert_eq!(Arena.alloc(layout(320, 8)), large.add(104));
            assert!(Arena.alloc(layout(8, 8)) > end);
            // A large zeroed one lies where nothing was; what is in front of it is given away first.
            let used = Arena.alloc(layout(FEW, 8));
            used.write_bytes(9, FEW);
            Arena.dealloc(used, layout(FEW, 8));
            let buffer = Arena.alloc_zeroed(layout(FEW + 8, 8));
            assert!(buffer >= used.add(FEW));
            assert_eq!(std::slice::from_raw_parts(buffer, FEW + 8), [0; FEW + 8]);
            assert_eq!(Arena.alloc(layout(FEW - 8, 8)), used);
            Arena.dealloc(buffer, layout(FEW + 8, 8));

            let large = Arena.alloc_zeroed(layout(LARGEST + 1, 8));
            assert!(!holds(large));
            let large = Arena.realloc(large, layout(LARGEST + 1, 8), 2 * LARGEST);
            assert_eq!(*large.add(LARGEST), 0);
            Arena.dealloc(large, layout(2 * LARGEST, 8));
            // A block that outgrows the arena's kind moves out of it.
            let grown = Arena.alloc(layout(8, 8));
            grown.write_bytes(9, 8);
            let grown = Arena.realloc(grown, layout(8, 8), LARGEST + 1);
            assert!(!holds(grown));
            assert_eq!(std::slice::from_raw_parts(grown, 8), [9; 8]);
            Arena.dealloc(grown, layout(LARGEST + 1, 8));

            let address = zeroed.expose_provenance();
            std::thread::spawn(move || {
                let other = Arena.alloc(layout(8, 8));
                assert!(!holds(other));
                Arena.dealloc(other, layout(8, 8));
                // Another thread's block is left alone, and its content taken along.
                let moved = Arena.realloc(std::ptr::with_exposed_provenance_mut(address), layout(30, 1), 64);
                assert!(!holds(moved));
                assert_eq!(std::slice::from_raw_parts(moved, 30), [0; 30]);
                Arena.dealloc(moved, layout(64, 1));
            })
            .join()
            .unwrap();

            // Full: the libc goes on.
            let mut blocks = 0;
            while holds(Arena.alloc(layout(LARGEST, 8))) {
                blocks += 1;
            }
            assert_eq!(blocks, SIZE / LARGEST - 1);
        }
    }
}
