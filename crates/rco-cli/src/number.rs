//! Numbers for people.

use std::time::Duration;

/// Digits in groups of three: `5,899,999,232`.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An amount of a resource; bytes also in decimal units: `5,900,000,000 bytes (5.90 GB)`.
pub(crate) fn amount(value: u64, resource: &str) -> String {
    let plain = format!("{} {resource}", grouped(value));
    if resource != "bytes" || value < 1000 {
        return plain;
    }
    let (mut scaled, mut unit) = (value as f64 / 1000.0, "KB");
    for larger in ["MB", "GB", "TB", "PB", "EB"] {
        if scaled < 1000.0 {
            break;
        }
        (scaled, unit) = (scaled / 1000.0, larger);
    }
    format!("{plain} ({scaled:.2} {unit})")
}

/// A loss, with as many digits as tell plans apart; `-` if there is none.
pub(crate) fn loss(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => significant(value, 8),
        _ => "-".to_owned(),
    }
}

fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-5..12).contains(&magnitude) {
        return format!("{value:.*e}", (digits - 1) as usize);
    }
    let text = format!("{value:.*}", (digits - 1 - magnitude).max(0) as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A share in percent, rounded so that only the whole is called 100 %.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let share = 100.0 * part as f64 / whole as f64;
    if part == whole {
        return "100 %".to_owned();
    }
    for digits in 1..=7 {
        let text = format!("{share:.digits$}");
        if !text.starts_with("100") {
            return format!("{text} %");
        }
    }
    "almost 100 %".to_owned()
}

/// A time: `0.8 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let whole = duration.as_secs();
    match whole {
        0 => format!("{:.1} ms", duration.as_secs_f64() * 1000.0),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A count with its noun: `1 group`, `252 groups`.
pub(crate) fn count(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(5_899_999_232), "5,899,999,232");
    }

    #[test]
    fn bytes_are_also_shown_in_decimal_units() {
        assert_eq!(amount(5_900_000_000, "bytes"), "5,900,000,000 bytes (5.90 GB)");
        assert_eq!(amount(5_900_000_000, "experts"), "5,900,000,000 experts");
        assert_eq!(amount(12, "bytes"), "12 bytes");
    }

    #[test]
    fn a_loss_that_is_no_number_is_a_dash() {
        assert_eq!(loss(None), "-");
        assert_eq!(loss(Some(f64::NAN)), "-");
        assert_eq!(loss(Some(f64::INFINITY)), "-");
        assert_eq!(loss(Some(0.125)), "0.125");
        assert_eq!(loss(Some(-1_234.567_891_2)), "-1234.5679");
        assert_eq!(loss(Some(1.5e-9)), "1.5000000e-9");
        assert_eq!(loss(Some(1e10)), "10000000000");
    }

    #[test]
    fn only_the_whole_is_100_percent() {
        assert_eq!(percent(1, 1), "100 %");
        assert_eq!(percent(999_999_999, 1_000_000_000), "99.9999999 %");
        assert_eq!(percent(1, 2), "50.0 %");
        assert_eq!(percent(0, 0), "-");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(duration(0.0008), "0.8 ms");
        assert_eq!(duration(12.34), "12.3 s");
        assert_eq!(duration(245.0), "4 min 05 s");
        assert_eq!(duration(7800.0), "2 h 10 min");
        assert_eq!(duration(f64::NAN), "0.0 ms");
    }
}
