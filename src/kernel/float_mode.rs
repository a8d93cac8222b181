//! The floating-point mode of the thread: nearest rounding, subnormals kept, whatever the process
//! has set. Libraries built with `-ffast-math` turn flush-to-zero on for the threads that load
//! them; our bits may not depend on it.

/// Sets the standard mode for as long as it lives, then restores what was there.
#[derive(Debug)]
pub struct FloatMode {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    saved: u64,
}

impl FloatMode {
    /// Enters the standard mode on this thread.
    pub fn standard() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let mut saved: u32 = 0;
            // SAFETY: stmxcsr stores four bytes to the address of a live u32.
            unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut saved, options(nostack)) };
            // All exceptions masked, nearest rounding, FTZ and DAZ clear: Intel SDM vol. 1, 10.2.3.
            load_mxcsr(0x1f80);
            FloatMode { saved: u64::from(saved) }
        }
        #[cfg(target_arch = "aarch64")]
        {
            let saved: u64;
            // SAFETY: reads the thread's own FPCR.
            unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) saved, options(nostack)) };
            load_fpcr(0);
            FloatMode { saved }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        FloatMode {}
    }
}

impl Drop for FloatMode {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        load_mxcsr(self.saved as u32);
        #[cfg(target_arch = "aarch64")]
        load_fpcr(self.saved);
    }
}

#[cfg(target_arch = "x86_64")]
fn load_mxcsr(value: u32) {
    // SAFETY: ldmxcsr reads four bytes from the address of a live u32 that is either the standard
    // value or one that stmxcsr gave, so no reserved bit is set.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &value, options(nostack)) };
}

#[cfg(target_arch = "aarch64")]
fn load_fpcr(value: u64) {
    // SAFETY: writes the thread's own FPCR with zero or a value read from it.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) value, options(nostack)) };
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn flush_to_zero_ends_inside_and_returns_outside() {
        let tiny = std::hint::black_box(f32::from_bits(1));
        // Nearest rounding with FTZ (bit 15) and DAZ (bit 6).
        load_mxcsr(0x1f80 | 1 << 15 | 1 << 6);
        let flushed = std::hint::black_box(tiny) * std::hint::black_box(2.0);
        let kept = {
            let _mode = FloatMode::standard();
            std::hint::black_box(tiny) * std::hint::black_box(2.0)
        };
        let flushed_again = std::hint::black_box(tiny) * std::hint::black_box(2.0);
        load_mxcsr(0x1f80);
        assert_eq!((flushed, kept.to_bits(), flushed_again), (0.0, 2, 0.0));
    }
}
