//! Nodes and their GPUs at one time.

use super::html::escaped;
use super::legend::Legend;
use crate::simulator::virtual_time::gpus::WHOLE;
use crate::simulator::virtual_time::inputs::gpus_in;
use crate::simulator::virtual_time::outcome::Holding;
use crate::simulator::virtual_time::{Inputs, NodeMap};
use std::fmt::Write as _;

const WIDTH: i64 = 860;
/// Side of a square, and the room between two.
const SQUARE: i64 = 7;
const GAP: i64 = 1;
/// Room between two rows of nodes.
const ROW_GAP: i64 = 8;
/// Most nodes that are drawn.
const NODES_MAX: usize = 5_000;

/// A column for each node with GPUs, a square for each GPU, in the colour of the queue that holds
/// it, those that are shared last; rows of columns, as many as fit.
pub(super) fn drawn(about: &str, inputs: &Inputs, legend: &Legend, map: &NodeMap) -> String {
    let (room, shared) = (inputs.cluster.room(), inputs.cluster.shared());
    let whole = |node: usize| gpus_in(&room[node]);
    let gpus = |node: usize| whole(node) + i64::try_from(shared[node].len()).expect("few");
    let nodes: Vec<usize> =
        (0..map.nodes.len()).filter(|node| gpus(*node) > 0).take(NODES_MAX).collect();
    let tallest = nodes.iter().map(|node| gpus(*node)).max().unwrap_or(0);
    let (step, columns) = (SQUARE + GAP, WIDTH / (SQUARE + 2 * GAP));
    let row_height = tallest * step + ROW_GAP;
    let rows = (i64::try_from(nodes.len()).unwrap_or(0) + columns - 1) / columns;
    let height = (rows * row_height).max(1);
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{about}'>");
    for (place, node) in (0..).zip(&nodes) {
        let x = place % columns * (SQUARE + 2 * GAP);
        let y = place / columns * row_height;
        let name = escaped(&inputs.cluster.nodes[*node].name);
        let _ = write!(svg, "<g><title>{name}</title>");
        let look = |held: &Holding| format!("fill='{}'", legend.colour(legend.place(held.tenant)));
        let mut next = 0;
        for held in map.nodes[*node].iter().filter(|held| held.device.is_none()) {
            let count = held.milli / WHOLE;
            squares(&mut svg, (x, y + next * step), count, &look(held));
            next += count;
        }
        squares(&mut svg, (x, y + next * step), whole(*node) - next, "class='free'");
        for (device, row) in shared[*node].iter().zip(whole(*node)..) {
            let (top, mut taken) = (y + row * step, 0);
            for held in map.nodes[*node].iter().filter(|held| held.device == Some(device)) {
                part(&mut svg, (x, top), (taken, held.milli), &look(held));
                taken += held.milli;
            }
            part(&mut svg, (x, top), (taken, WHOLE - taken), "class='free'");
        }
        svg += "</g>";
    }
    svg + "</svg>"
}

/// So many squares below each other, as one path.
fn squares(svg: &mut String, (x, y): (i64, i64), count: i64, look: &str) {
    if count < 1 {
        return;
    }
    let mut path = String::new();
    for number in 0..count {
        let top = y + number * (SQUARE + GAP);
        let _ = write!(path, "M{x} {top}h{SQUARE}v{SQUARE}h-{SQUARE}z");
    }
    let _ = write!(svg, "<path d='{path}' {look}/>");
}

/// Of one square the part from so many thousandths on.
fn part(svg: &mut String, (x, y): (i64, i64), (from, milli): (i64, i64), look: &str) {
    if milli < 1 {
        return;
    }
    let along = |milli: i64| (SQUARE * milli) as f64 / WHOLE as f64;
    let (left, width) = (x as f64 + along(from), along(milli));
    let _ = write!(svg, "<path d='M{left} {y}h{width}v{SQUARE}h-{width}z' {look}/>");
}

#[cfg(test)]
mod tests {
    use super::super::plot::colour;
    use super::*;

    #[test]
    fn every_gpu_is_a_square_in_the_colour_of_its_queue() {
        let cluster = "nodes: [{name: n, count: 2, allocatable: {nvidia.com/gpu: 4}}, \
                       {name: c, allocatable: {cpu: 4}}]";
        let gangs = "gangs: [{name: a, queue: x, run: 1h, requests: {}}, \
                     {name: b, queue: y, run: 1h, requests: {}}]";
        let inputs = Inputs::from_texts(cluster, gangs, None).expect("well-formed");
        let held = |tenant, gpus| Holding { tenant, device: None, milli: gpus * WHOLE };
        let nodes = vec![vec![held(1, 1), held(0, 2)], vec![], vec![]];
        let map = NodeMap { at_ms: 0, nodes };
        let legend = Legend::new(&inputs, &[]);
        let svg = drawn("a", &inputs, &legend, &map);
        assert_eq!(svg.matches("<title>").count(), 2, "{svg}");
        assert_eq!(svg.matches('M').count(), 8, "{svg}");
        let of = |place: usize| format!("fill='{}'", colour(place));
        assert_eq!(svg.matches("class='free'").count(), 2, "{svg}");
        assert!(svg.contains(&of(0)) && svg.contains(&of(1)) && !svg.contains(&of(2)), "{svg}");
    }

    #[test]
    fn parts_of_a_gpu_share_its_square() {
        let cluster = "nodes: [{name: n, shared-gpus: true, allocatable: {nvidia.com/gpu: 2}}]";
        let gangs = "gangs: [{name: a, queue: x, run: 1h, requests: {}, gpu-milli: 500}]";
        let inputs = Inputs::from_texts(cluster, gangs, None).expect("well-formed");
        let held = |device, milli| Holding { tenant: 0, device: Some(device), milli };
        let nodes = vec![vec![held(1, 500), held(1, 250)]];
        let svg = drawn("a", &inputs, &Legend::new(&inputs, &[]), &NodeMap { at_ms: 0, nodes });
        for part in ["M0 0h7v7h-7z' class='free'", "M0 8h3.5v7", "M3.5 8h1.75v7", "M5.25 8h1.75v7"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(svg.matches("class='free'").count(), 2, "{svg}");
    }
}
