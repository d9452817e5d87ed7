//! Quantities in upstream's canonical text (`resource.Quantity`): what clients read back.

/// A decimal or binary number with a suffix: `digits` x 10^`exponent`, exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// In nano units, rounded up, as upstream rounds.
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    BinarySi,
    DecimalSi,
    DecimalExponent,
}

const NANO: i128 = 1_000_000_000;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
/// Longer numbers are refused: no real quantity has more digits.
const MAX_DIGITS: usize = 27;

impl Quantity {
    /// Parses `text`; `None` where upstream refuses it, or where it overflows.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-'))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let negative = number.starts_with('-');
        let number = number.strip_prefix(['-', '+']).unwrap_or(number);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty()
            || digits.len() > MAX_DIGITS
            || !digits.bytes().all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let mantissa: i128 = digits.parse().ok()?;
        let (binary, exponent, format) = Self::suffix(suffix)?;
        let scaled = mantissa.checked_mul(1_i128 << (10 * binary))?;
        let nanos = shift(scaled, exponent + 9 - i32::try_from(fraction.len()).ok()?)?;
        Some(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    fn suffix(text: &str) -> Option<(u32, i32, Format)> {
        if let Some(power) = BINARY.iter().position(|s| !s.is_empty() && *s == text) {
            return Some((u32::try_from(power).ok()?, 0, Format::BinarySi));
        }
        if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == text) {
            return Some((0, *exponent, Format::DecimalSi));
        }
        let exponent: i32 = text.strip_prefix(['e', 'E'])?.parse().ok()?;
        Some((0, exponent, Format::DecimalExponent))
    }

    /// Upstream's canonical text: no fraction, the largest suffix that loses nothing.
    pub(crate) fn canonical(self) -> String {
        if self.nanos == 0 {
            return "0".into();
        }
        let whole = self.nanos % NANO == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANO {
            let mut value = self.nanos / NANO;
            let mut power = 0;
            while value % 1024 == 0 && power + 1 < BINARY.len() {
                value /= 1024;
                power += 1;
            }
            return format!("{value}{}", BINARY[power]);
        }
        let mut value = self.nanos;
        let mut exponent = -9;
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { value.to_string() } else { format!("{value}e{exponent}") };
        }
        let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(s, _)| s);
        format!("{value}{suffix}")
    }

    /// In nano units.
    pub(crate) fn nanos(self) -> i128 {
        self.nanos
    }
}

fn shift(value: i128, exponent: i32) -> Option<i128> {
    match u32::try_from(exponent) {
        Ok(up) => value.checked_mul(10_i128.checked_pow(up)?),
        Err(_) => {
            let divisor = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Some(value / divisor + i128::from(value % divisor != 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn canonical_text_is_upstreams() {
        for (text, expected) in [
            ("0", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1500Mi", "1500Mi"),
            ("1e3", "1e3"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("512Ki", "512Ki"),
            ("0.5Gi", "512Mi"),
            ("1Ki", "1Ki"),
            ("100", "100"),
            ("1.5Gi", "1536Mi"),
            ("-1", "-1"),
            ("2E", "2E"),
            ("0.0000000001", "1n"),
            ("1e1", "10"),
        ] {
            let canonical = Quantity::parse(text).map(Quantity::canonical);
            assert_eq!(canonical.as_deref(), Some(expected), "{text}");
        }
        for text in ["", "x", "1x", "1KI", "1..2", "--1"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }
}
