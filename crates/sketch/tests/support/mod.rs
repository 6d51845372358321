//! Samples of known distributions, the same ones in each run.
#![allow(dead_code, reason = "each test file uses its part")]

use codex_sketch::Sketch;

/// A generator of pseudo-random numbers (SplitMix64: Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A name, and how to draw a sample.
pub type Distribution = (&'static str, fn(&mut Random) -> f64);

pub const DISTRIBUTIONS: [Distribution; 11] = [
    ("uniform", |random| 30.0 * random.unit()),
    ("log-normal", |random| (0.5 + 0.8 * random.normal()).exp()),
    ("wide log-normal", |random| (2.0 * random.normal()).exp()),
    ("pareto", |random| 0.2 * random.unit().powf(-1.0 / 1.1)),
    ("constant", |_| 2.345),
    ("bimodal", |random| {
        let centre = if random.unit() < 0.7 { 0.004 } else { 90.0 };
        centre * (1.0 + 0.02 * random.normal())
    }),
    ("all zeros", |_| 0.0),
    ("half zeros", |random| {
        if random.unit() < 0.5 {
            0.0
        } else {
            random.unit()
        }
    }),
    ("tiny", |random| 1e-9 * (1.0 + random.unit())),
    ("huge", |random| 1e12 * random.unit()),
    ("log-uniform from 1e-9 to 1e12", |random| {
        10_f64.powf(-9.0 + 21.0 * random.unit())
    }),
];

pub fn draw(distribution: Distribution, count: usize) -> Vec<f64> {
    let mut random = Random(count as u64);
    (0..count).map(|_| distribution.1(&mut random)).collect()
}

pub fn sketch_of(samples: &[f64]) -> Sketch {
    let mut sketch = Sketch::new();
    for &sample in samples {
        sketch.add(sample).expect("the sample is in range");
    }
    sketch
}

/// The sample that `percentile_disc(q)` names. Reorders the samples.
pub fn exact(samples: &mut [f64], q: f64) -> f64 {
    let rank = ((q * samples.len() as f64).ceil() as usize).clamp(1, samples.len());
    *samples.select_nth_unstable_by(rank - 1, f64::total_cmp).1
}
