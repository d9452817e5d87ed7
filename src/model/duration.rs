//! Durations in the form upstream's files use: `1m30s`, `500ms`, `1.5h`.

use std::time::Duration;

/// Units by the length of their names, so that `ms` is tried before `m`; nanoseconds each.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration; `None` if it is malformed, negative or too long for 64-bit nanoseconds.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (name, unit) = UNITS.iter().find(|(name, _)| tail.starts_with(name))?;
        total = total.checked_add(scaled(number, *unit)?)?;
        rest = &tail[name.len()..];
    }
    (!text.is_empty()).then(|| Duration::from_nanos(total))
}

/// `number` (digits with at most one point) times `unit`, rounded down to a nanosecond.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 15 {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    let part = u128::from(parse(fraction)?) * u128::from(unit) / 10_u128.pow(fraction.len() as u32);
    parse(whole)?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

/// Writes a duration the way it is read, largest unit first, without parts that are zero.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for name in ["h", "m", "s", "ms", "us", "ns"] {
        let unit = UNITS.iter().find(|(unit, _)| *unit == name).map_or(1, |(_, nanos)| *nanos);
        if rest >= unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_upstream_writes() {
        for (text, millis) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("1h0m0s", 3_600_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            (".5s", 500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "15", "s", "-1s", "1d", "1 s", "1.2.3s", ".s", "999999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["0s", "15s", "1m30s", "1h", "10ms", "1s500ms", "3us"] {
            assert_eq!(format(parse(text).expect(text)), text);
        }
    }
}
