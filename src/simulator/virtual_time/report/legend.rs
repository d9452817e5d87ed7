//! Which queue has which colour.

use super::html::escaped;
use super::plot::{COLOURS_COUNT, colour};
use crate::simulator::virtual_time::{Inputs, Outcome};
use std::fmt::Write as _;

const OTHERS: &str = "#8a8a8a";

/// Queues with a colour of their own: those that held most over all policies. The others share the
/// last place and are grey, so that no colour stands for two queues and the key stays short.
pub(super) struct Legend {
    names: Vec<String>,
    /// by queue
    places: Vec<usize>,
    named: usize,
}

impl Legend {
    /// O(samples x queues).
    pub(super) fn new(inputs: &Inputs, outcomes: &[Outcome]) -> Self {
        let mut held = vec![0i128; inputs.tenants.len()];
        let samples = outcomes.iter().flat_map(|outcome| outcome.samples.iter());
        for (_, shares) in samples {
            for (sum, share) in held.iter_mut().zip(shares) {
                *sum += i128::from(share.allocated_milli);
            }
        }
        let names: Vec<&str> = inputs.tenants.iter().map(|name| &**name).collect();
        Self::of(&names, &held)
    }

    fn of(tenants: &[&str], held: &[i128]) -> Self {
        let mut order: Vec<usize> = (0..tenants.len()).collect();
        order.sort_by_key(|tenant| (-held[*tenant], *tenant));
        let named = order.len().min(COLOURS_COUNT);
        let others = order.split_off(named);
        order.sort_unstable();
        let mut places = vec![named; tenants.len()];
        for (place, tenant) in order.iter().enumerate() {
            places[*tenant] = place;
        }
        let mut names: Vec<String> = order.iter().map(|t| tenants[*t].to_owned()).collect();
        if !others.is_empty() {
            names.push(format!("{} other queues", others.len()));
        }
        Self { names, places, named }
    }

    /// Places there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The place of a queue.
    pub(super) fn place(&self, tenant: usize) -> usize {
        self.places[tenant]
    }

    /// The colour of a place.
    pub(super) fn colour(&self, place: usize) -> String {
        if place < self.named { colour(place) } else { OTHERS.to_owned() }
    }

    /// A line with the colour of each place.
    pub(super) fn key(&self) -> String {
        let named = self.names.iter().enumerate();
        key(named.map(|(place, name)| (self.colour(place), &**name)))
    }
}

/// A line of colours and what they stand for.
pub(super) fn key<'a>(names: impl Iterator<Item = (String, &'a str)>) -> String {
    let mut line = String::from("<p class='key'>");
    for (colour, name) in names {
        let name = escaped(name);
        let _ = write!(line, "<span><i style='background:{colour}'></i>{name}</span> ");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_that_held_most_have_colours_in_their_order() {
        let names: Vec<String> = (0..COLOURS_COUNT + 3).map(|n| format!("q{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut held = vec![5i128; names.len()];
        held[1..4].fill(4);
        let legend = Legend::of(&names, &held);
        assert_eq!(legend.len(), COLOURS_COUNT + 1);
        assert_eq!([0, 1, 4].map(|tenant| legend.place(tenant)), [0, COLOURS_COUNT, 1]);
        assert_eq!(legend.colour(COLOURS_COUNT), OTHERS);
        assert!(legend.key().contains(&format!("{OTHERS}'></i>3 other queues")));
        let mut colours: Vec<String> = (0..legend.len()).map(|p| legend.colour(p)).collect();
        colours.sort();
        colours.dedup();
        assert_eq!(colours.len(), legend.len(), "no two queues look alike");
        let few = Legend::of(&["a", "b"], &[0, 0]);
        assert_eq!((few.len(), few.place(1)), (2, 1));
    }
}
