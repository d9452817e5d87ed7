//! What parts of a GPU are worth, as the pods that come use them.
//!
//! Fractions of GPUs are cut from devices as rolls are cut from stock (Gilmore and Gomory, *A
//! Linear Programming Approach to the Cutting-Stock Problem*, Operations Research 9, 1961). With
//! c(m) pods of size m, in thousandths, and patterns p, the multisets of sizes that one device
//! holds, a(m, p) times m each, the fewest devices are
//!
//! ```text
//! min sum over p of x(p)   where   sum over p of a(m, p) x(p) >= c(m) for each m,   x >= 0
//! ```
//!
//! The price y(m) of a size is the dual of its row: the devices that one more pod of it takes. No
//! pattern is worth more than a device, and those that are cut from are worth one. Patterns are
//! generated as needed: the best one under the prices so far is a knapsack over the thousandths of
//! a device.
//!
//! Counts are a sample, and prices jump with them where sizes compete for the same gaps. So they
//! are means of [`SOLVES`]: of the counts as they are, and of counts that are moved by up to
//! [`NOISE`] sqrt(c + 1), evenly.
//!
//! Floats stay within the programme, in fixed order: equal counts have equal prices.

use crate::model::gpu_part::DEVICE;
use crate::model::pod::draw;

/// The worth of a whole device. Divisible by 2 to 10.
pub(super) const PRICE: i32 = 10_080;
/// Sizes that have prices: the commonest.
const SIZES_MAX: usize = 40;
/// Pivots of one solve at most. Prices before the last are close.
const PIVOTS_MAX: usize = 400;
/// Counts that prices are the mean of.
const SOLVES: usize = 8;
/// How far counts are moved, in roots of them.
const NOISE: f64 = 2.0;
/// What is smaller is nothing.
const NOTHING: f64 = 1e-9;
/// Of two that differ by no more, the first is as good.
const TIE: f64 = 1e-12;
/// A pattern has to be worth so much more than a device.
const GAIN: f64 = 1e-6;

/// Prices of sizes and the worth of devices in part.
#[derive(Debug)]
pub(super) struct Prices {
    /// sizes in thousandths with their prices
    sizes: Vec<(u16, i32)>,
    /// by thousandths that are left
    worth: Vec<i32>,
}

impl Prices {
    /// From sizes below a whole device, each once, and how many pods of them came.
    pub(super) fn new(mut counts: Vec<(u16, u64)>) -> Self {
        counts.retain(|(size, count)| (1..DEVICE).contains(size) && *count > 0);
        counts.sort_unstable_by_key(|(size, count)| (std::cmp::Reverse(*count), *size));
        counts.truncate(SIZES_MAX);
        let mut seed = 777;
        let mut sums = vec![0; counts.len()];
        for solve in 0..SOLVES {
            let mut moved = |count: u64| {
                let drawn = (draw(&mut seed) >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0;
                let most = if solve == 0 { 0.0 } else { NOISE * ((count + 1) as f64).sqrt() };
                (count as f64 + drawn * most).max(0.1)
            };
            let wanted: Vec<_> =
                counts.iter().map(|(size, count)| (*size, moved(*count))).collect();
            for (sum, dual) in sums.iter_mut().zip(duals(&wanted)) {
                #[allow(clippy::cast_possible_truncation)] // 0 to 1
                let price = (dual.clamp(0.0, 1.0) * f64::from(PRICE)).round() as i32;
                *sum += price;
            }
        }
        let sizes: Vec<_> =
            counts.iter().zip(sums).map(|((size, _), sum)| (*size, sum / SOLVES as i32)).collect();
        Self { worth: worth(&sizes), sizes }
    }

    /// The price of what a pod takes: so many thousandths of each of so many GPUs.
    pub(super) fn of(&self, milli: u16, gpus: usize) -> i32 {
        match milli {
            0 => 0,
            DEVICE => PRICE * gpus as i32,
            milli => {
                let found = self.sizes.iter().find(|(size, _)| *size == milli);
                found.map_or(0, |(_, price)| *price)
            }
        }
    }

    /// The most that pods can pay for what is left of a device; a whole one is worth [`PRICE`].
    pub(super) fn worth(&self, left: u16) -> i32 {
        self.worth[usize::from(left.min(DEVICE))]
    }
}

/// worth(g) = max(worth(g - 1), worth(g - m) + y(m) for each size m that fits). O(sizes x 1000).
fn worth(sizes: &[(u16, i32)]) -> Vec<i32> {
    let mut worth = vec![0; usize::from(DEVICE) + 1];
    for left in 1..usize::from(DEVICE) {
        let fitting = sizes.iter().filter_map(|(size, price)| {
            let rest = left.checked_sub(usize::from(*size))?;
            Some(worth[rest] + price)
        });
        worth[left] = fitting.fold(worth[left - 1], i32::max);
    }
    worth[usize::from(DEVICE)] = PRICE;
    worth
}

/// The duals of the sizes, in devices. O(pivots x sizes x (1000 + sizes)).
fn duals(wanted: &[(u16, f64)]) -> Vec<f64> {
    let mut basis = Basis::new(wanted);
    let mut duals = basis.duals();
    for _ in 0..PIVOTS_MAX {
        let surplus = duals.iter().position(|dual| *dual < -NOTHING);
        let entering = match surplus {
            Some(row) => {
                let mut column = vec![0.0; wanted.len()];
                column[row] = -1.0;
                Some((column, 0.0))
            }
            None => best_pattern(wanted, &duals).map(|column| (column, 1.0)),
        };
        let entered = entering.is_some_and(|(column, cost)| basis.enter(&column, cost));
        if !entered {
            break;
        }
        duals = basis.duals();
    }
    duals
}

/// The pattern of most worth, by how often each size is in it; `None`: none is worth more than a
/// device. O(sizes x 1000).
fn best_pattern(sizes: &[(u16, f64)], duals: &[f64]) -> Option<Vec<f64>> {
    let device = usize::from(DEVICE);
    let mut worth = vec![0.0; device + 1];
    let mut last: Vec<Option<usize>> = vec![None; device + 1];
    for left in 1..=device {
        worth[left] = worth[left - 1];
        for (place, ((size, _), dual)) in sizes.iter().zip(duals).enumerate() {
            let Some(rest) = left.checked_sub(usize::from(*size)) else { continue };
            if worth[rest] + dual > worth[left] + TIE {
                worth[left] = worth[rest] + dual;
                last[left] = Some(place);
            }
        }
    }
    if worth[device] <= 1.0 + GAIN {
        return None;
    }
    let mut pattern = vec![0.0; sizes.len()];
    let mut left = device;
    while left > 0 {
        match last[left] {
            None => left -= 1,
            Some(place) => {
                pattern[place] += 1.0;
                left -= usize::from(sizes[place].0);
            }
        }
    }
    Some(pattern)
}

/// The basis of the revised simplex method, one column per size.
struct Basis {
    /// rows of its inverse
    inverse: Vec<Vec<f64>>,
    amounts: Vec<f64>,
    costs: Vec<f64>,
}

impl Basis {
    /// As many of one size as a device holds, for each size.
    fn new(wanted: &[(u16, f64)]) -> Self {
        let sizes = wanted.len();
        let held = |size: u16| f64::from(DEVICE / size);
        let row = |(place, (size, _)): (usize, &(u16, f64))| {
            let mut row = vec![0.0; sizes];
            row[place] = 1.0 / held(*size);
            row
        };
        Self {
            inverse: wanted.iter().enumerate().map(row).collect(),
            amounts: wanted.iter().map(|(size, count)| count / held(*size)).collect(),
            costs: vec![1.0; sizes],
        }
    }

    fn duals(&self) -> Vec<f64> {
        let mut duals = vec![0.0; self.costs.len()];
        for (row, cost) in self.inverse.iter().zip(&self.costs) {
            for (dual, entry) in duals.iter_mut().zip(row) {
                *dual += cost * entry;
            }
        }
        duals
    }

    /// Takes a column in for the one that it uses up first; `false`: it uses none.
    fn enter(&mut self, column: &[f64], cost: f64) -> bool {
        let product = |row: &Vec<f64>| row.iter().zip(column).map(|(a, b)| a * b).sum();
        let use_of: Vec<f64> = self.inverse.iter().map(product).collect();
        let mut leaving: Option<(usize, f64)> = None;
        for (row, (amount, used)) in self.amounts.iter().zip(&use_of).enumerate() {
            let lasts = amount / used;
            if *used > NOTHING && leaving.is_none_or(|(_, least)| lasts < least - TIE) {
                leaving = Some((row, lasts));
            }
        }
        let Some((leaving, lasts)) = leaving else { return false };
        for (amount, used) in self.amounts.iter_mut().zip(&use_of) {
            *amount -= lasts * used;
        }
        (self.amounts[leaving], self.costs[leaving]) = (lasts, cost);
        let scaled: Vec<f64> =
            self.inverse[leaving].iter().map(|entry| entry / use_of[leaving]).collect();
        for (row, used) in self.inverse.iter_mut().zip(&use_of) {
            for (entry, scaled) in row.iter_mut().zip(&scaled) {
                *entry -= used * scaled;
            }
        }
        self.inverse[leaving] = scaled;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solved(wanted: &[(u16, f64)]) -> Vec<f64> {
        let rounded = |dual: &f64| (dual * 1e6).round() / 1e6;
        duals(wanted).iter().map(rounded).collect()
    }

    #[test]
    fn duals_of_small_instances_are_those_worked_out_by_hand() {
        assert_eq!(solved(&[(500, 7.0)]), [0.5], "two to a device");
        assert_eq!(solved(&[(810, 3.0)]), [1.0], "one to a device");
        assert_eq!(solved(&[(300, 9.0)]), [1.0 / 3.0].map(|y: f64| (y * 1e6).round() / 1e6));
        // more 300s than gaps beside the 700s: three take a device, which leaves 700 the rest
        assert_eq!(solved(&[(300, 9.0), (700, 2.0)]), [0.333_333, 0.666_667]);
        // more gaps than 300s: these cost nothing
        assert_eq!(solved(&[(700, 9.0), (300, 2.0)]), [1.0, 0.0]);
        // 550 + 450 fill a device, the other 450s share devices
        assert_eq!(solved(&[(450, 5.0), (550, 2.0)]), [0.5, 0.5]);
        assert_eq!(solved(&[]), [0.0; 0]);
    }

    /// Sizes and counts much like a real cluster's.
    fn mixed_counts() -> Vec<(u16, u64)> {
        let sizes = [470, 810, 110, 160, 460, 650, 230, 320, 50, 550, 490, 350, 260, 900, 730];
        sizes
            .iter()
            .enumerate()
            .map(|(place, size)| (*size, 3 + 7919 * place as u64 % 97))
            .collect()
    }

    #[test]
    fn duals_are_optimal() {
        let wanted: Vec<(u16, f64)> =
            mixed_counts().into_iter().map(|(size, count)| (size, count as f64)).collect();
        let duals = duals(&wanted);
        assert!(duals.iter().all(|dual| (-NOTHING..=1.0 + GAIN).contains(dual)), "{duals:?}");
        assert_eq!(best_pattern(&wanted, &duals), None, "no pattern is worth more than a device");
        // the dual programme's value is at least the load, and at most a count of first fits
        let value: f64 = wanted.iter().zip(&duals).map(|((_, count), dual)| count * dual).sum();
        let load: f64 = wanted.iter().map(|(size, count)| f64::from(*size) * count / 1000.0).sum();
        let alone: f64 = wanted.iter().map(|(size, n)| n / f64::from(DEVICE / size)).sum();
        assert!(load <= value + NOTHING && value <= alone, "{load} <= {value} <= {alone}");
    }

    #[test]
    fn prices_are_of_the_counts_and_not_of_their_order() {
        let mut counts = mixed_counts();
        let prices = Prices::new(counts.clone());
        counts.reverse();
        let again = Prices::new(counts);
        assert_eq!((&prices.sizes, &prices.worth), (&again.sizes, &again.worth));
        assert_eq!((prices.of(0, 0), prices.of(DEVICE, 8)), (0, 8 * PRICE));
        assert_eq!(prices.of(333, 1), 0, "a size that never came");
        assert!(prices.worth.is_sorted() && prices.worth(DEVICE) == PRICE);
        for (size, price) in &prices.sizes {
            assert!(prices.worth(*size) >= *price);
        }
        assert_eq!(prices.worth(49), 0, "nothing is that small");
    }

    #[test]
    fn the_commonest_sizes_have_prices() {
        let prices = Prices::new((1..=50).map(|place| (10 * place, u64::from(place))).collect());
        assert_eq!(prices.sizes.len(), SIZES_MAX);
        assert_eq!((prices.of(100, 1), prices.worth(100)), (0, 0));
        assert!(prices.of(110, 1) > 0);
        assert_eq!(Prices::new(Vec::new()).worth(999), 0);
    }
}
