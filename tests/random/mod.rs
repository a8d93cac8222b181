//! Numbers that look random and are the same each time, as tests like them.

use nseekfs::random;

/// The library's stream, whose first numbers its own test holds to the published ones.
pub struct Random(random::Random);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Random(random::Random::new(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.bits()
    }
}
