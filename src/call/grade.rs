//! What a splice site is worth to an aligner that joins exons: a number that it adds to an
//! alignment's score.
//!
//! [`TERM`] + [`SLOPE`] · log2(odds / base odds), within [`RANGE`], where the base odds are those
//! of sites among GT (donors) or AG (acceptors) of the genes that the probability is for. The two
//! numbers are from reads and proteins of genes that the splice models never saw
//! (`benches/peers/junctions.py --fit`). From a slope of 0.5 on, a model that is wrong about two
//! donors next to one another outweighs the bases of the read; a lower term leaves fewer lines and
//! helps proteins less.

/// The lowest and the highest grade. What has the lowest is as good as nothing.
pub const RANGE: (i32, i32) = (-7, 13);

/// The grade of a site of which nothing is known.
pub const TERM: f64 = -2.5;

/// For each doubling of the odds.
pub const SLOPE: f64 = 0.4;

fn odds(probability: f64) -> f64 {
    probability / (1.0 - probability)
}

/// The grade of a site, not rounded; it rises with the probability until it reaches the highest.
pub fn grade(probability: f32, base_rate: f64) -> f64 {
    let ratio = odds(f64::from(probability)) / odds(base_rate);
    (TERM + SLOPE * ratio.log2()).clamp(RANGE.0.into(), RANGE.1.into())
}

/// The probability from which on a site's grade, rounded, is above the lowest.
pub fn least(base_rate: f64) -> f32 {
    let own = odds(base_rate) * ((f64::from(RANGE.0) + 0.5 - TERM) / SLOPE).exp2();
    (own / (1.0 + own)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_rise_with_the_probability() {
        for base_rate in [0.0001, 0.0031, 0.004, 0.05] {
            let least = least(base_rate);
            let rounded = |p| grade(p, base_rate).round() as i32;
            assert_eq!(rounded(least * 0.99), RANGE.0);
            assert_eq!(rounded(least * 1.01), RANGE.0 + 1);
            assert!((grade(base_rate as f32, base_rate) - TERM).abs() < 1e-5);
            // To .99, where a site is all but certain.
            let steps = (1..=1000).map(|i| least + (0.99 - least) * i as f32 / 1000.0);
            let grades: Vec<f64> = steps.map(|p| grade(p, base_rate)).collect();
            assert!(grades.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(grade(0.0, base_rate), f64::from(RANGE.0));
            assert_eq!(grade(1.0, base_rate), f64::from(RANGE.1));
        }
    }
}
