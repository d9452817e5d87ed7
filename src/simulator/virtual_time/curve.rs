//! How fast an elastic gang works with how many members.

/// The speed of a gang by its running members, in thousandths of that of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Curve {
    /// by members, from 1; never empty
    rates: Box<[i64]>,
}

/// Largest speed that is taken, in thousandths: with ten years of run time it fits 64 bits.
const RATE_MAX: f64 = 10_000_000.0;

impl Curve {
    /// From speeds with 1, 2, 3 and more members, in any unit. `None` if there is none, or one is
    /// not above zero, or above ten thousand times the first.
    #[must_use]
    pub fn from_speeds(speeds: &[f64]) -> Option<Self> {
        let one = speeds.first()?;
        let rates = speeds.iter().map(|speed| (speed / one * 1000.0).round());
        let sane = |rate: &f64| (1.0..=RATE_MAX).contains(rate);
        let rates: Option<Box<[i64]>> =
            rates.map(|rate| Some(rate as i64).filter(|_| sane(&rate))).collect();
        rates.map(|rates| Self { rates })
    }

    /// The speed of so many members, in thousandths; with more than were measured, that of the
    /// most that were; of none, 0.
    #[must_use]
    pub fn rate(&self, members: i64) -> i64 {
        let last = self.rates.len() - 1;
        let place = usize::try_from(members - 1).ok();
        place.map_or(0, |place| self.rates[place.min(last)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_relative_to_that_of_one_member() {
        let curve = Curve::from_speeds(&[200.0, 390.0, 500.0]).expect("speeds");
        let rates = [-1, 0, 1, 2, 3, 9].map(|members| curve.rate(members));
        assert_eq!(rates, [0, 0, 1000, 1950, 2500, 2500]);
        let none: [&[f64]; 5] = [&[], &[0.0], &[1.0, -1.0], &[1.0, f64::NAN], &[1e-9, 1e9]];
        none.iter().for_each(|speeds| assert_eq!(Curve::from_speeds(speeds), None, "{speeds:?}"));
    }
}
