//! What each queue holds, deserves and waits for over time, in a bounded number of samples.

/// Samples kept at most; with more, every second one is dropped and the distance doubled.
const SAMPLES_MAX: usize = 512;

/// One queue at one time, in thousandths of GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Of its bound pods.
    pub allocated_milli: i64,
    /// `None` where queues deserve nothing.
    pub deserved_milli: Option<i64>,
    /// Of its pods that wait.
    pub pending_milli: i64,
}

/// The cluster at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// By queue.
    pub shares: Vec<Share>,
    /// Thousandths of GPUs of members that do work.
    pub at_work_milli: i64,
    /// Pods that wait.
    pub waiting: i64,
    /// GPUs that are free where a typical pod does not fit.
    pub fragments: f64,
    /// How far the queues that wait are from what they deserve, over the cluster's GPUs.
    pub unfairness: f64,
}

impl Sample {
    /// Thousandths of GPUs of bound pods.
    #[must_use]
    pub fn held_milli(&self) -> i64 {
        self.shares.iter().map(|share| share.allocated_milli).sum()
    }
}

/// Samples at equal distances from the start.
#[derive(Clone, Debug)]
pub struct Samples {
    interval_ms: i64,
    /// by time
    rows: Vec<Sample>,
}

impl Default for Samples {
    fn default() -> Self {
        Self { interval_ms: 1_000, rows: Vec::new() }
    }
}

impl Samples {
    /// When the next sample is to be taken.
    pub(super) fn next_at(&self) -> i64 {
        self.interval_ms * i64::try_from(self.rows.len()).expect("few")
    }

    pub(super) fn add(&mut self, row: Sample) {
        self.rows.push(row);
        if self.rows.len() > SAMPLES_MAX {
            let mut place = 0;
            self.rows.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.interval_ms *= 2;
        }
    }

    /// Times with the shares of all queues.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &[Share])> {
        self.all().map(|(at, row)| (at, row.shares.as_slice()))
    }

    /// Times with all that was sampled.
    pub fn all(&self) -> impl Iterator<Item = (i64, &Sample)> {
        (0..).map(|index: i64| index * self.interval_ms).zip(&self.rows)
    }

    /// The mean of a figure over time; 0 without samples.
    #[must_use]
    pub fn mean(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let sum: f64 = self.rows.iter().map(figure).sum();
        if self.rows.is_empty() { 0.0 } else { sum / self.rows.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stay_few_and_in_their_places() {
        let mut samples = Samples::default();
        for _ in 0..5_000 {
            let at = samples.next_at();
            let shares = vec![Share { allocated_milli: at, ..Share::default() }];
            samples.add(Sample { shares, ..Sample::default() });
        }
        assert!(samples.rows.len() <= SAMPLES_MAX && samples.rows.len() > SAMPLES_MAX / 3);
        assert!(samples.iter().all(|(at, row)| row[0].allocated_milli == at));
    }
}
