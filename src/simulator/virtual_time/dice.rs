//! Seeded numbers: the same for the same seed and purpose.

use crate::model::pod::draw;
pub(super) use crate::model::pod::mixed;

/// A generator of numbers: SplitMix64 (Steele, Lea and Flood, OOPSLA'14).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// For one purpose of a seed; another purpose gives other numbers.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self(mixed(seed ^ mixed(purpose)))
    }

    /// A number from 0 up to, but not, 1.
    pub(super) fn unit(&mut self) -> f64 {
        (draw(&mut self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }

    /// Normally distributed around 0 with deviation 1 (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = self.exponential(2.0).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A place among weights, of which at least one is above 0.
    pub(super) fn among(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (place, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return place;
            }
        }
        weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distributed_as_they_say() {
        let count = 100_000;
        let mean = |draw: &mut dyn FnMut() -> f64| {
            (0..count).map(|_| draw()).sum::<f64>() / f64::from(count)
        };
        let mut dice = Dice::new(7, 1);
        let unit = mean(&mut || dice.unit());
        assert!((unit - 0.5).abs() < 0.01, "{unit}");
        let waits = mean(&mut || dice.exponential(30.0));
        assert!((waits - 30.0).abs() < 0.5, "{waits}");
        let (normal, square) = (mean(&mut || dice.normal()), mean(&mut || dice.normal().powi(2)));
        assert!(normal.abs() < 0.02 && (square - 1.0).abs() < 0.03, "{normal} {square}");
        let second = mean(&mut || dice.among(&[1.0, 3.0, 0.0]) as f64);
        assert!((second - 0.75).abs() < 0.01, "{second}");
    }

    #[test]
    fn seeds_and_purposes_differ() {
        let first = |seed, purpose| Dice::new(seed, purpose).unit().to_bits();
        assert_eq!(first(1, 1), first(1, 1));
        assert!(first(1, 1) != first(2, 1) && first(1, 1) != first(1, 2));
    }
}
