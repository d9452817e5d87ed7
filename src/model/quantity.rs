//! Kubernetes quantities, parsed exactly.
//!
//! Grammar of `resource.Quantity`: a signed decimal number, then a binary suffix (`Ki` to `Ei`), a
//! decimal suffix (`n` `u` `m` `k` `M` `G` `T` `P` `E`) or a decimal exponent (`e3`, `E-2`).
//! No float is involved: the number is kept as an integer and a power of ten.

/// Largest value taken, in base units: 2^52. The sum of 2^11 such values still fits an `i64`, so
/// the sums over a node's pods cannot overflow.
pub const VALUE_MAX: i64 = 1 << 52;

/// Most significant digits read; more cannot matter below [`VALUE_MAX`] and nano resolution.
const DIGITS_MAX: u32 = 30;

/// Parses `text` in units of 10^-`scale` (3: milli), rounding up as upstream's `Value()` and
/// `MilliValue()` do. `None`: malformed, negative, or above [`VALUE_MAX`].
#[must_use]
pub fn parse(text: &str, scale: u32) -> Option<i64> {
    parse_bounded(text, scale, VALUE_MAX)
}

/// Parses `text` in thousandths, rounding up, whatever the unit: what sums of quantities are made
/// of before they are rounded to base units once, at the end. `None`: malformed, negative, or
/// above 1000 times [`VALUE_MAX`], which an `i64` still holds.
#[must_use]
pub fn parse_milli(text: &str) -> Option<i64> {
    parse_bounded(text, 3, VALUE_MAX * 1000)
}

fn parse_bounded(text: &str, scale: u32, max: i64) -> Option<i64> {
    let body = text.strip_prefix('+').unwrap_or(text);
    let end = body.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(body.len());
    let (number, suffix) = body.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut digits: u128 = 0;
    let mut fraction_digits: i32 = 0;
    let mut rest = false;
    let mut significant = 0;
    for (byte, is_fraction) in
        whole.bytes().map(|b| (b, false)).chain(fraction.bytes().map(|b| (b, true)))
    {
        if significant >= DIGITS_MAX {
            // a further whole digit means a number far above the limit; a further fraction digit
            // can only round up
            if !is_fraction {
                return None;
            }
            rest |= byte != b'0';
            continue;
        }
        digits = digits * 10 + u128::from(byte - b'0');
        significant += u32::from(digits != 0);
        fraction_digits += i32::from(is_fraction);
    }
    let (binary_power, ten_power) = suffix_powers(suffix)?;
    let exponent =
        ten_power.checked_sub(fraction_digits)?.checked_add(i32::try_from(scale).ok()?)?;
    scaled(digits, binary_power, exponent, rest).filter(|value| *value <= max)
}

/// `digits * 2^binary * 10^exponent`, rounded up.
fn scaled(digits: u128, binary: u32, exponent: i32, rest: bool) -> Option<i64> {
    if digits == 0 {
        return Some(i64::from(rest));
    }
    let shifted = digits.checked_mul(1u128 << binary)?;
    let value = if exponent >= 0 {
        shifted.checked_mul(10u128.checked_pow(exponent.unsigned_abs())?)?
    } else {
        match 10u128.checked_pow(exponent.unsigned_abs()) {
            Some(divisor) => shifted.div_ceil(divisor) + u128::from(rest && shifted % divisor == 0),
            None => 1,
        }
    };
    i64::try_from(value).ok()
}

/// `(power of two, power of ten)` of a suffix.
fn suffix_powers(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let digits = !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit());
            // beyond 10^60 either everything is zero or nothing fits
            let power: i32 = if digits { exponent.parse().ok()? } else { return None };
            (0, power.clamp(-60, 60))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let cases: &[(&str, u32, Option<i64>)] = &[
            ("0", 0, Some(0)),
            ("1", 3, Some(1000)),
            ("100m", 3, Some(100)),
            ("0.1", 3, Some(100)),
            (".5", 3, Some(500)),
            ("5.", 0, Some(5)),
            ("1.5Gi", 0, Some(1_610_612_736)),
            ("128974848", 0, Some(128_974_848)),
            ("129e6", 0, Some(129_000_000)),
            ("129M", 0, Some(129_000_000)),
            ("123Mi", 0, Some(128_974_848)),
            ("100m", 0, Some(1)), // rounded up
            ("1n", 3, Some(1)),
            ("2000000000n", 0, Some(2)),
            ("1e-3", 3, Some(1)),
            ("4E", 0, None), // 4 exa is above 2^52
            ("4P", 0, Some(4_000_000_000_000_000)),
            ("4Pi", 0, Some(VALUE_MAX)),
            ("5Pi", 0, None),
            ("-1", 0, None),
            ("", 0, None),
            (".", 0, None),
            ("1.2.3", 0, None),
            ("1 Gi", 0, None),
            ("1gi", 0, None),
            ("1e", 0, None),
            ("1e+", 0, None),
            ("99999999999999999999999999999999999999999999", 0, None),
            ("0.000000000000000000000000000000000000000000001", 0, Some(1)),
            ("1e999999999999", 0, None),
            ("0e99999", 0, Some(0)),
        ];
        for (text, scale, expected) in cases {
            assert_eq!(parse(text, *scale), *expected, "{text:?} at scale {scale}");
        }
    }

    #[test]
    fn thousandths_reach_as_far_as_whole_units() {
        assert_eq!(parse_milli("4Pi"), Some(VALUE_MAX * 1000));
        assert_eq!(parse_milli("5Pi"), None);
        assert_eq!(parse_milli("1u"), Some(1));
        assert_eq!(parse_milli("1500m"), Some(1500));
    }
}
