//! Checks of single fields: the verdict of a rule of FORMAT.md, and the sentence of a refusal.

use std::fmt::Debug;

/// A rule's verdict: the reason names the rule and both sides of the mismatch.
pub(super) type Checked<T> = std::result::Result<T, String>;

/// Refuses with `reason` unless `holds`.
pub(super) fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Checked<()> {
    if holds { Ok(()) } else { Err(reason()) }
}

/// Refuses unless both sides are equal.
pub(super) fn same<T: PartialEq + Debug>(rule: &str, field: &str, expected: T, got: T) -> Checked<()> {
    ensure(expected == got, || format!("{rule}: {field}: expected {expected:?}, got {got:?}"))
}

/// Refuses unless the bytes hash to what was stored.
pub(super) fn checksum(rule: &str, what: &str, stored: u64, computed: u64) -> Checked<()> {
    ensure(stored == computed, || {
        format!("{rule}: checksum of the {what}: stored {stored:016x}, computed {computed:016x}: the file is damaged")
    })
}
