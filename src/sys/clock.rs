//! A clock that is read without a system call, and that no namespace and no filter changes.
//!
//! What the kernel offers: clock_gettime(2), which needs no system call where the vDSO knows the machine's clock (vdso(7)). But a time namespace
//! shifts CLOCK_MONOTONIC and CLOCK_BOOTTIME (time_namespaces(7)), for the child from its birth and for `exec` in the middle of its plan;
//! where the vDSO does not know the clock it becomes a system call, which the container's filter may refuse or kill; and CLOCK_REALTIME can be set.
//!
//! What we do: read the processor's own counter (`rdtsc`, `cntvct_el0`), an instruction, and compare it with CLOCK_REALTIME twice, in the
//! parent alone: what it counted between the two says how long a tick is. By hand: `grep -o -m1 'constant_tsc\|nonstop_tsc' /proc/cpuinfo`.
//!
//! What goes wrong: a counter that differs from processor to processor, or stops, which current ones do not do; and a clock that is set between
//! the two comparisons makes every length wrong by the same factor.

use std::time::SystemTime;

/// The variable that hands [`ticks`] of the beginning on to the sealed program.
pub const HANDED_ON: &str = "CORTEN_BEGAN";

/// The processor's counter now.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a counter; every x86_64 has it, and Linux leaves it open to programs.
    let now = unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    let now = {
        let count: u64;
        // SAFETY: reads a register that Linux leaves open to programs, and touches nothing else.
        unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) };
        count
    };
    now
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    ticks: u64,
    time: SystemTime,
}

impl Moment {
    /// When it was.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// This one.
    pub fn now() -> Self {
        Moment { ticks: ticks(), time: SystemTime::now() }
    }
}

/// Between these two moments ticks are compared with time.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    nanoseconds_per_tick: f64,
}

impl Scale {
    /// The later the second, the better the scale.
    pub fn between(first: Moment, second: Moment) -> Scale {
        let nanoseconds = second.time.duration_since(first.time).unwrap_or_default().as_nanos() as f64;
        let ticks = second.ticks.saturating_sub(first.ticks).max(1) as f64;
        Scale { nanoseconds_per_tick: nanoseconds / ticks }
    }

    /// Microseconds from one reading of [`ticks`] to another; 0 where the second is the earlier.
    pub fn microseconds(&self, from: u64, to: u64) -> f64 {
        to.saturating_sub(from) as f64 * self.nanoseconds_per_tick / 1000.0
    }
}

/// Leaves it in the environment, for the sealed program.
pub(super) fn hand_on(began: u64) {
    // SAFETY: there is one thread.
    unsafe { std::env::set_var(HANDED_ON, began.to_string()) };
}

/// When the program began that has sealed itself and become this one. Nobody after us finds it.
pub fn handed_on() -> Option<u64> {
    let began = std::env::var(HANDED_ON).ok()?.parse().ok();
    // SAFETY: there is one thread.
    unsafe { std::env::remove_var(HANDED_ON) };
    began
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn ticks_become_microseconds() {
        let (first, begin, began) = (Moment::now(), ticks(), Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (end, ended) = (ticks(), began.elapsed());
        let scale = Scale::between(first, Moment::now());
        let (found, real) = (scale.microseconds(begin, end), ended.as_secs_f64() * 1e6);
        assert!((found - real).abs() < real / 20.0 + 200.0, "{found} µs, and {real} by the other clock");
        assert_eq!(scale.microseconds(end, begin), 0.0);
    }
}
