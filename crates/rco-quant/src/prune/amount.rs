//! How many experts are to go, in the user's words.

use std::fmt;
use std::str::FromStr;

/// Digits of a share after the point.
const DIGITS: usize = 6;
/// A percent in units of a share.
const PERCENT: u64 = 1_000_000;
/// All experts in units of a share.
pub(super) const WHOLE: u64 = 100 * PERCENT;

/// A number of experts, or a share of them; exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A number of experts.
    Count(u64),
    /// Millionths of a percent.
    Share(u64),
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a share such as 25% or 12.5%, or a number of experts".to_owned();
        let text = text.trim();
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Count).map_err(|_| wrong());
        };
        let percent = percent.trim_end();
        let (whole, part) = percent.split_once('.').unwrap_or((percent, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > DIGITS {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let part: u64 = format!("{part:0<DIGITS$}").parse().map_err(|_| wrong())?;
        let share = whole.checked_mul(PERCENT).and_then(|w| w.checked_add(part));
        match share {
            Some(share) if share <= WHOLE => Ok(Self::Share(share)),
            _ => Err(format!("{text} is more than all experts")),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(share) => {
                let text = format!("{}.{:06}", share / PERCENT, share % PERCENT);
                write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

/// `part` of `whole` in percent, for people.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let share = u128::from(part) * u128::from(WHOLE) / u128::from(whole.max(1));
    Amount::Share(share as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::Amount;

    #[test]
    fn shares_are_exact() {
        assert_eq!("25%".parse(), Ok(Amount::Share(25_000_000)));
        assert_eq!("12.5 %".parse(), Ok(Amount::Share(12_500_000)));
        assert_eq!("8".parse(), Ok(Amount::Count(8)));
        for text in ["12.5%", "0.000001%", "100%", "33"] {
            assert_eq!(text.parse::<Amount>().unwrap().to_string(), text);
        }
        for wrong in ["", "%", "-1", "1.5", "101%", "1e2%", "0.0000001%", "25 percent", "∞%"] {
            assert!(wrong.parse::<Amount>().is_err(), "{wrong}");
        }
    }
}
