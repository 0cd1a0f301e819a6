//! Figures: medians with their spread, as a table for people and JSON for programs.

use std::time::Duration;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub runs: usize,
}

impl Figure {
    /// Of times, in milliseconds.
    pub fn of_times(name: impl Into<String>, times: &[Duration]) -> Figure {
        let millis: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        Figure::of(name, "ms", &millis)
    }

    pub fn of(name: impl Into<String>, unit: &'static str, values: &[f64]) -> Figure {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 if !sorted.is_empty() => (at(middle - 1) + at(middle)) / 2.0,
            _ => at(middle),
        };
        let last = sorted.len().saturating_sub(1);
        Figure { name: name.into(), unit, median, min: at(0), max: at(last), runs: sorted.len() }
    }
}

pub fn table(figures: &[Figure]) -> String {
    let width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0).max(4);
    let mut text =
        format!("{:width$}  {:>10}  {:>10}  {:>10}  {:<6} {:>5}\n", "what", "median", "min", "max", "unit", "runs");
    for figure in figures {
        text.push_str(&format!(
            "{:width$}  {:>10}  {:>10}  {:>10}  {:<6} {:>5}\n",
            figure.name,
            number(figure.median),
            number(figure.min),
            number(figure.max),
            figure.unit,
            figure.runs
        ));
    }
    text
}

/// Three significant digits are what such a measurement is worth.
fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(Figure::of("x", "ms", &[3.0, 1.0, 2.0]).median, 2.0);
        let figure = Figure::of("x", "ms", &[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((figure.median, figure.min, figure.max, figure.runs), (2.5, 1.0, 4.0, 4));
    }
}
