//! A straight line through daily means, with what it is worth: R², and the interval in which the
//! next value lies with 95 % confidence (<https://en.wikipedia.org/wiki/Simple_linear_regression>).
//! Where the days are too few or the line explains too little, there is no forecast.

/// Days that a forecast needs.
pub const MIN_DAYS: usize = 7;
/// Hours of a day that must be known for its mean to count.
pub const MIN_HOURS: usize = 12;
/// R² below which the line is not believed.
pub const MIN_FIT: f64 = 0.5;
/// A change within a week that is none, as a part of the limit.
pub const STEADY: f64 = 0.01;
/// Days that are looked ahead.
pub const AHEAD: usize = 365;

/// 97.5 % quantiles of Student's t by degrees of freedom, from 1 on
/// (<https://en.wikipedia.org/wiki/Student%27s_t-distribution>).
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// A line through points.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Line {
    /// Its value at day 0.
    pub intercept: f64,
    /// What it gains a day.
    pub slope: f64,
    /// R²: the share of the variation that it explains.
    pub fit: f64,
    /// How many points it goes through.
    pub days: usize,
    /// The last of them.
    pub last: f64,
    error: f64,
    mean: f64,
    spread: f64,
}

impl Line {
    /// The line of least squares through points (day, value); at least three.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let count = points.len() as f64;
        let mean = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|(x, _)| (x - mean).powi(2)).sum();
        let variation: f64 = points.iter().map(|(_, y)| (y - mean_y).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let slope = points
            .iter()
            .map(|(x, y)| (x - mean) * (y - mean_y))
            .sum::<f64>()
            / spread;
        let intercept = mean_y - slope * mean;
        let residual: f64 = points
            .iter()
            .map(|(x, y)| (y - intercept - slope * x).powi(2))
            .sum();
        // Of values that do not vary a line explains nothing; what is left of them is rounding.
        let fit = if variation > 1e-18 * count {
            (1.0 - residual / variation).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let error = (residual / (count - 2.0)).sqrt();
        let last = points.iter().map(|(x, _)| *x).fold(f64::MIN, f64::max);
        Some(Line {
            intercept,
            slope,
            fit,
            days: points.len(),
            last,
            error,
            mean,
            spread,
        })
    }

    /// Its value on a day.
    pub fn at(&self, day: f64) -> f64 {
        self.intercept + self.slope * day
    }

    /// How far from it a value on that day may lie, with 95 % confidence.
    pub fn margin(&self, day: f64) -> f64 {
        let t = T.get(self.days.saturating_sub(3)).copied().unwrap_or(1.96);
        t * self.error
            * (1.0 + 1.0 / self.days as f64 + (day - self.mean).powi(2) / self.spread).sqrt()
    }

    /// The first day after the last one on which the line, moved by `margin` times its margin, is
    /// at the limit or beyond.
    pub fn reaches(&self, limit: f64, rising: bool, margin: f64) -> Option<usize> {
        let is_there = |ahead: &usize| {
            let day = self.last + *ahead as f64;
            let value = self.at(day) + margin * self.margin(day);
            if rising {
                value >= limit
            } else {
                value <= limit
            }
        };
        (1..=AHEAD).find(is_there)
    }
}

/// What is to be expected.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outlook {
    /// So many days are known, which are too few.
    TooShort(usize),
    /// No change that matters.
    Steady(Line),
    /// The line explains too little.
    PoorFit(Line),
    /// The line is worth something.
    Trend(Line),
}

/// The outlook of daily means; `scale` is what counts as whole, such as the limit.
pub fn outlook(points: &[(f64, f64)], scale: f64) -> Outlook {
    if points.len() < MIN_DAYS {
        return Outlook::TooShort(points.len());
    }
    match Line::through(points) {
        None => Outlook::TooShort(points.len()),
        Some(line)
            if (line.slope * 7.0).abs() < STEADY * scale.abs()
                && line.error < 2.0 * STEADY * scale.abs() =>
        {
            Outlook::Steady(line)
        }
        Some(line) if line.fit < MIN_FIT => Outlook::PoorFit(line),
        Some(line) => Outlook::Trend(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<(f64, f64)> {
        values
            .iter()
            .enumerate()
            .map(|(day, value)| (day as f64, *value))
            .collect()
    }

    /// Figures of `numpy.polyfit` and of the textbook's formula.
    #[test]
    fn the_line_is_that_of_least_squares_with_its_fit_and_margin() {
        let line = Line::through(&points(&[1.0, 3.0, 2.0, 5.0, 4.0])).expect("points");
        assert!(
            (line.slope - 0.8).abs() < 1e-12
                && (line.intercept - 1.4).abs() < 1e-12
                && (line.fit - 0.64).abs() < 1e-12
        );
        // s = sqrt(3.6 / 3), t(3) = 3.182, at day 5: sqrt(1 + 1/5 + 9/10)
        assert!((line.margin(5.0) - 3.182 * (3.6_f64 / 3.0).sqrt() * 2.1_f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn what_is_short_steady_or_noisy_has_no_forecast() {
        assert_eq!(outlook(&points(&[0.1; 6]), 1.0), Outlook::TooShort(6));
        assert!(matches!(
            outlook(
                &points(&[0.4, 0.401, 0.4, 0.399, 0.4, 0.401, 0.4, 0.4]),
                1.0
            ),
            Outlook::Steady(_)
        ));
        assert!(matches!(
            outlook(&points(&[0.2, 0.9, 0.1, 0.8, 0.3, 0.9, 0.2, 0.85]), 1.0),
            Outlook::PoorFit(_)
        ));
        let growing: Vec<f64> = (0..10).map(|day| 0.5 + 0.02 * f64::from(day)).collect();
        let Outlook::Trend(line) = outlook(&points(&growing), 1.0) else {
            panic!("a trend")
        };
        assert_eq!(
            line.reaches(1.0, true, 0.0),
            Some(16),
            "0.68 on day 9, 1.0 on day 25"
        );
        assert_eq!(line.reaches(0.0, false, 0.0), None);
    }
}
