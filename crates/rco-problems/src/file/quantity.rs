//! Amounts with units: `5900000000`, `5.9GB`, `512 KiB`.

use std::str::FromStr;

use rco_core::BudgetKind;

/// Units and their sizes; the first letter decides, `i` makes it binary.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Digits after the point that are read; more cannot matter below 2⁶³ in any unit.
const MAX_DECIMALS: usize = 18;

/// An amount that was written with or without a unit. Computed in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    /// The amount, rounded down to a whole number.
    pub value: u64,
    /// Whether nothing was rounded away.
    pub exact: bool,
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantityError {
    /// It does not start with a number.
    #[error("`{text}` is not an amount: write a whole number or one with a unit, such as 5.9GB")]
    NotANumber {
        /// The text.
        text: String,
    },
    /// It is negative.
    #[error("`{text}` is negative: an amount is 0 or more")]
    Negative {
        /// The text.
        text: String,
    },
    /// The unit is not known.
    #[error(
        "`{text}` has the unknown unit `{unit}`: use B, KB, MB, GB, TB (powers of 1000) or \
         KiB, MiB, GiB, TiB (powers of 1024)"
    )]
    UnknownUnit {
        /// The text.
        text: String,
        /// The unit found.
        unit: String,
    },
    /// It does not fit into 63 bits.
    #[error("`{text}` is more than 2^63 - 1: use a larger unit of cost")]
    TooLarge {
        /// The text.
        text: String,
    },
    /// A number with a point but no unit.
    #[error("`{text}` is not whole: without a unit an amount is a whole number")]
    Fraction {
        /// The text.
        text: String,
    },
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let owned = || text.to_owned();
        let trimmed = text.trim();
        if trimmed.starts_with(['-', '\u{2212}']) {
            return Err(QuantityError::Negative { text: owned() });
        }
        let end = trimmed
            .find(|c: char| !(c.is_ascii_digit() || c == '_' || c == '.'))
            .unwrap_or(trimmed.len());
        let (number, unit) = (&trimmed[..end], trimmed[end..].trim_start());
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let is_number = whole.starts_with(|c: char| c.is_ascii_digit())
            && !decimals.contains(['.', '_'])
            && !(number.contains('.') && decimals.is_empty());
        if !is_number {
            return Err(QuantityError::NotANumber { text: owned() });
        }
        let factor = if unit.is_empty() {
            1
        } else {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .ok_or_else(|| QuantityError::UnknownUnit { text: owned(), unit: unit.to_owned() })?
                .1
        };
        let decimals = decimals.trim_end_matches('0');
        if unit.is_empty() && !decimals.is_empty() {
            return Err(QuantityError::Fraction { text: owned() });
        }
        let too_large = || QuantityError::TooLarge { text: owned() };
        let whole = digits(whole).and_then(|w| w.checked_mul(u128::from(factor)));
        let kept = &decimals[..decimals.len().min(MAX_DECIMALS)];
        let scaled = digits(kept).unwrap_or(0) * u128::from(factor);
        let scale = 10_u128.pow(kept.len() as u32);
        let total = whole.and_then(|w| w.checked_add(scaled / scale)).ok_or_else(too_large)?;
        let value = i64::try_from(total).map_err(|_| too_large())?.unsigned_abs();
        let exact = scaled.is_multiple_of(scale) && kept.len() == decimals.len();
        Ok(Self { value, exact })
    }
}

/// The value of a string of digits and underscores; `None` if it is too large.
fn digits(text: &str) -> Option<u128> {
    text.bytes()
        .filter(|&b| b != b'_')
        .try_fold(0_u128, |sum, b| sum.checked_mul(10)?.checked_add(u128::from(b - b'0')))
}

/// A budget given beside the file: `5.9GB`, `bytes=5.9GB`, or `experts==128` for equality.
///
/// It replaces the limit of the file's budget for that resource, or adds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetOverride {
    /// The resource; `None` means the only one there is.
    pub resource: Option<String>,
    /// The new limit.
    pub limit: u64,
    /// The new kind; `None` keeps the file's (or is an upper limit).
    pub kind: Option<BudgetKind>,
}

impl FromStr for BudgetOverride {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (resource, amount, kind) = if let Some((resource, amount)) = text.split_once("==") {
            (Some(resource), amount, Some(BudgetKind::Exactly))
        } else if let Some((resource, amount)) = text.split_once("<=") {
            (Some(resource), amount, Some(BudgetKind::AtMost))
        } else if let Some((resource, amount)) = text.split_once('=') {
            (Some(resource), amount, None)
        } else {
            (None, text, None)
        };
        let quantity: Quantity = amount.parse()?;
        if kind == Some(BudgetKind::Exactly) && !quantity.exact {
            return Err(QuantityError::Fraction { text: text.to_owned() });
        }
        let resource = resource.map(|r| r.trim().to_owned()).filter(|r| !r.is_empty());
        Ok(Self { resource, limit: quantity.value, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> u64 {
        text.parse::<Quantity>().unwrap().value
    }

    #[test]
    fn decimal_and_binary_units_are_exact() {
        assert_eq!(value("5900000000"), 5_900_000_000);
        assert_eq!(value("5_900_000_000"), 5_900_000_000);
        assert_eq!(value("5.9GB"), 5_900_000_000);
        assert_eq!(value("5.9 gb"), 5_900_000_000);
        assert_eq!(value("512KiB"), 524_288);
        assert_eq!(value("1.5GiB"), 1_610_612_736);
        assert_eq!(value("0.5B"), 0);
        assert_eq!(value("12.0"), 12);
    }

    #[test]
    fn a_fraction_of_a_byte_is_rounded_down_and_reported() {
        let quantity: Quantity = "3.3GiB".parse().unwrap();
        assert_eq!(quantity, Quantity { value: 3_543_348_019, exact: false });
    }

    #[test]
    fn what_is_no_amount_is_refused_by_kind() {
        let error = |text: &str| text.parse::<Quantity>().unwrap_err();
        assert!(matches!(error("-1GB"), QuantityError::Negative { .. }));
        assert!(matches!(error("5.9GBs"), QuantityError::UnknownUnit { .. }));
        assert!(matches!(error("10M"), QuantityError::UnknownUnit { .. }));
        assert!(matches!(error("9999999999TB"), QuantityError::TooLarge { .. }));
        assert!(matches!(error(&"9".repeat(60)), QuantityError::TooLarge { .. }));
        assert!(matches!(error("1.5"), QuantityError::Fraction { .. }));
        for text in ["", "GB", "1.2.3GB", "1.GB", ".5GB", "NaN"] {
            assert!(matches!(error(text), QuantityError::NotANumber { .. }), "{text}");
        }
    }

    #[test]
    fn an_override_names_resource_limit_and_kind() {
        let parse = |text: &str| text.parse::<BudgetOverride>().unwrap();
        assert_eq!(parse("1KB"), BudgetOverride { resource: None, limit: 1000, kind: None });
        assert_eq!(parse("bytes=2KiB").limit, 2048);
        assert_eq!(parse("experts == 128").kind, Some(BudgetKind::Exactly));
        assert_eq!(parse("experts <= 128").resource.as_deref(), Some("experts"));
    }
}
