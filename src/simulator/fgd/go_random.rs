//! The generator of Go's `math/rand`, bit for bit: the order of pods in the published runs is drawn
//! from it.
//!
//! An additive lagged Fibonacci generator, x(n) = x(n-607) + x(n-273) modulo 2^64. Go starts it
//! from a table of 607 numbers, the state after 7.8 x 10^12 steps from a seed of 1. The table is
//! computed here: as the recurrence is linear, N steps are the remainder of t^N divided by
//! t^607 - t^334 - 1, which takes 43 squarings.

use std::sync::OnceLock;

const LENGTH: usize = 607;
const TAP: usize = 273;
/// The modulus of the generator that seeds: 2^31 - 1.
const SEED_MODULUS: u64 = (1 << 31) - 1;
/// Steps from seed 1 to Go's table.
const STEPS: u64 = 7_800_000_000_000;

/// `rand.New(rand.NewSource(seed))`.
#[derive(Debug)]
pub struct GoRandom {
    state: Vec<u64>,
    tap: usize,
    feed: usize,
}

/// 607 numbers from a seed, each of three draws that are `shift` bits apart.
fn seeded(seed: u64, shift: u32) -> Vec<u64> {
    let mut x = seed;
    let mut draw = || {
        x = x * 48_271 % SEED_MODULUS;
        x
    };
    (0..20).for_each(|_| {
        draw();
    });
    let number = |_| draw() << (2 * shift) ^ draw() << shift ^ draw();
    (0..LENGTH).map(number).collect()
}

/// The product of two polynomials, divided by t^607 - t^334 - 1.
fn product(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut all = vec![0u64; 2 * LENGTH - 1];
    for (i, x) in a.iter().enumerate().filter(|(_, x)| **x != 0) {
        for (j, y) in b.iter().enumerate() {
            all[i + j] = all[i + j].wrapping_add(x.wrapping_mul(*y));
        }
    }
    for degree in (LENGTH..all.len()).rev() {
        let high = all[degree];
        for lower in [degree - LENGTH, degree - TAP] {
            all[lower] = all[lower].wrapping_add(high);
        }
    }
    all.truncate(LENGTH);
    all
}

/// The place of the k-th number to be replaced, counted from the state after `steps`.
fn place(steps: usize, k: usize) -> usize {
    (LENGTH - TAP - 1 + 2 * LENGTH - steps % LENGTH - k) % LENGTH
}

/// Go's `rngCooked`.
fn table() -> &'static [u64] {
    static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let start = seeded(1, 10);
        let mut past: Vec<u64> = (0..LENGTH).map(|k| start[place(0, k)]).collect();
        for k in LENGTH..2 * LENGTH {
            past.push(past[k - LENGTH].wrapping_add(past[k - TAP]));
        }
        let mut power = vec![0; LENGTH];
        let mut t = vec![0; LENGTH];
        (power[0], t[1]) = (1, 1);
        for bit in (0..u64::BITS).rev() {
            power = product(&power, &power);
            if STEPS >> bit & 1 == 1 {
                power = product(&power, &t);
            }
        }
        let steps = usize::try_from(STEPS % LENGTH as u64).expect("below the length");
        let mut table = vec![0; LENGTH];
        for k in 0..LENGTH {
            let terms = power.iter().zip(&past[k..]);
            table[place(steps, k)] =
                terms.fold(0u64, |sum, (p, x)| sum.wrapping_add(p.wrapping_mul(*x)));
        }
        table
    })
}

impl GoRandom {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        let seed = match u64::from(seed) % SEED_MODULUS {
            0 => 89_482_311,
            seed => seed,
        };
        let numbers = seeded(seed, 20).into_iter().zip(table());
        let state = numbers.map(|(number, table)| number ^ table).collect();
        Self { state, tap: 0, feed: LENGTH - TAP }
    }

    /// `Int63`.
    pub fn int63(&mut self) -> u64 {
        self.tap = (self.tap + LENGTH - 1) % LENGTH;
        self.feed = (self.feed + LENGTH - 1) % LENGTH;
        let sum = self.state[self.feed].wrapping_add(self.state[self.tap]);
        self.state[self.feed] = sum;
        sum & (u64::MAX >> 1)
    }

    /// `Intn` for bounds from 1 to 2^31 - 1.
    pub fn below(&mut self, bound: u32) -> usize {
        let bound = u64::from(bound);
        let range = 1u64 << 31;
        let end = if bound.is_power_of_two() { range } else { range - range % bound };
        loop {
            let drawn = self.int63() >> 32;
            if drawn < end {
                return usize::try_from(drawn % bound).expect("below the bound");
            }
        }
    }

    /// `Shuffle`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u32::try_from(last + 1).expect("fewer than 2^32 items");
            items.swap(last, self.below_by_product(bound));
        }
    }

    /// `int31n`: Lemire's way.
    #[allow(clippy::cast_possible_truncation)] // halves of a product
    fn below_by_product(&mut self, bound: u32) -> usize {
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let drawn = (self.int63() >> 31) as u32;
            let product = u64::from(drawn) * u64::from(bound);
            if product as u32 >= unfair {
                return (product >> 32) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As printed by a program of Go 1.2x.
    #[test]
    fn the_numbers_are_those_of_go() {
        let mut one = GoRandom::new(1);
        assert_eq!(one.int63(), 5_577_006_791_947_779_410);
        assert_eq!(one.int63(), 8_674_665_223_082_153_551);
        assert_eq!(one.below(100), 47);
        let mut answer = GoRandom::new(42);
        answer.int63();
        let mut items: Vec<u8> = (0..20).collect();
        answer.shuffle(&mut items);
        let shuffled = [18, 19, 15, 13, 10, 9, 14, 16, 17, 2, 8, 7, 4, 5, 12, 6, 0, 3, 11, 1];
        assert_eq!(items, shuffled);
        assert_eq!((answer.below(8152), answer.below(1024)), (4962, 790));
        assert_eq!(answer.int63(), 2_643_318_057_788_968_173);
    }
}
