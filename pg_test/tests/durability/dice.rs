//! Random choices that can be made again: the seed is printed, and `CODEX_TEST_SEED` sets it.

use codex_pg_test::Uuid;

/// A generator of random numbers (xorshift64*); the same seed gives the same numbers.
pub struct Dice(u64);

impl Dice {
    /// One of several from one seed.
    pub fn new(seed: u64, number: u64) -> Self {
        // Neighbouring seeds and numbers must not give neighbouring states, and 0 is no state.
        let mut state = seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 30;
        state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self(state | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.next(), self.next())
    }
}

/// The seed of this run: `CODEX_TEST_SEED`, else one from the clock; printed, so that a failing run can be made again.
pub fn seed(what: &str) -> u64 {
    let seed = match std::env::var("CODEX_TEST_SEED") {
        Ok(seed) => seed
            .parse()
            .unwrap_or_else(|_| panic!("CODEX_TEST_SEED is \"{seed}\", which is no number")),
        Err(_) => Uuid::new_v4().as_u64_pair().0 >> 16,
    };
    println!("{what}: CODEX_TEST_SEED={seed}");
    seed
}

/// A number from the environment, for runs that are longer than usual.
pub fn setting(name: &str, otherwise: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is \"{text}\", which is no number")),
        Err(_) => otherwise,
    }
}
