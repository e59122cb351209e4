//! The test of enrichment: the upper tail of the hypergeometric distribution, and the adjustment
//! for many tests.

/// The chance of `hits` or more marked items among `drawn` that are drawn without replacement from
/// `population` items, of which `marked` are marked: the hypergeometric upper tail
/// Σ C(marked, k) · C(population − marked, drawn − k) / C(population, drawn) over k from `hits` on.
/// The same as `scipy.stats.hypergeom.sf(hits - 1, population, drawn, marked)`; `marked` and
/// `drawn` may be exchanged, and count as the population where they are above it.
///
/// The result is right to some 12 digits for populations up to 10^6. Below 10^-308 it becomes 0:
/// see [`ln_hypergeometric_tail`].
pub fn hypergeometric_tail(hits: u64, population: u64, marked: u64, drawn: u64) -> f64 {
    ln_hypergeometric_tail(hits, population, marked, drawn).exp()
}

/// The natural logarithm of [`hypergeometric_tail`], also where that is too small for a number;
/// minus infinity if so many hits cannot be.
///
/// The first term is computed as Loader has it ("Fast and accurate computation of binomial
/// probabilities", 2000): as a quotient of three binomial probabilities, each with its deviation
/// from the mean kept apart, so that no large logarithms cancel. The others follow from it by their
/// ratios.
pub fn ln_hypergeometric_tail(hits: u64, population: u64, marked: u64, drawn: u64) -> f64 {
    let (marked, drawn) = (marked.min(population), drawn.min(population));
    let unmarked = population - marked;
    let fewest = drawn.saturating_sub(unmarked);
    let most = marked.min(drawn);
    if hits <= fewest {
        return 0.0;
    }
    if hits > most {
        return f64::NEG_INFINITY;
    }
    // C(marked, k + 1) · C(unmarked, drawn − k − 1) over C(marked, k) · C(unmarked, drawn − k).
    let ratio = |k: u64| {
        (marked - k) as f64 * (drawn - k) as f64
            / ((k + 1) as f64 * (unmarked + k + 1 - drawn) as f64)
    };
    let ln_point = |k: u64| ln_point(k, population, marked, drawn);

    // Terms fall away from the mean, so each sum starts with its largest term.
    let mean = marked as f64 * drawn as f64 / population as f64;
    if hits as f64 > mean {
        let sum = falling_sum((hits..most).map(ratio));
        (ln_point(hits) + sum.ln()).min(0.0)
    } else {
        let sum = falling_sum((fewest..hits - 1).rev().map(|k| 1.0 / ratio(k)));
        (-sum * ln_point(hits - 1).exp()).ln_1p()
    }
}

/// 1 + r₁ + r₁r₂ + …, as far as it counts.
fn falling_sum(ratios: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for ratio in ratios {
        term *= ratio;
        sum += term;
        if term < sum * f64::EPSILON / 16.0 {
            break;
        }
    }
    sum
}

/// The logarithm of one term: with p = drawn / population the quotient of the binomial chances of k
/// of the marked, of the other draws among the unmarked, and of all draws.
fn ln_point(k: u64, population: u64, marked: u64, drawn: u64) -> f64 {
    let p = drawn as f64 / population as f64;
    let q = (population - drawn) as f64 / population as f64;
    ln_binomial(k, marked, p, q) + ln_binomial(drawn - k, population - marked, p, q)
        - ln_binomial(drawn, population, p, q)
}

/// The logarithm of the chance of `k` successes in `n` trials of chance p, q = 1 − p.
fn ln_binomial(k: u64, n: u64, p: f64, q: f64) -> f64 {
    let times_ln = |n: u64, p: f64, q: f64| {
        if n == 0 {
            0.0
        } else if p > 0.5 {
            n as f64 * (-q).ln_1p()
        } else {
            n as f64 * p.ln()
        }
    };
    if k == 0 {
        return times_ln(n, q, p);
    }
    if k == n {
        return times_ln(n, p, q);
    }
    let (whole, hits, misses) = (n as f64, k as f64, (n - k) as f64);
    let deviation = stirling_error(n)
        - stirling_error(k)
        - stirling_error(n - k)
        - deviance(hits, whole * p)
        - deviance(misses, whole * q);
    deviation + 0.5 * (whole / (std::f64::consts::TAU * hits * misses)).ln()
}

/// By how much ln n! exceeds Stirling's ln(√(2πn) · (n / e)^n), for n from 1 on.
fn stirling_error(n: u64) -> f64 {
    let x = n as f64;
    if n <= 16 {
        // Factorials up to 18! are exact in double precision.
        let factorial: f64 = (1..=n).map(|i| i as f64).product();
        return factorial.ln() - (x + 0.5) * x.ln() + x - 0.5 * std::f64::consts::TAU.ln();
    }
    // The series of ln Γ; from 17 on the next term is below 10^-16.
    let square = x * x;
    let series = 1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / (1188.0 * square)) / square;
    (1.0 / 12.0 - (1.0 / 360.0 - series / square) / square) / x
}

/// x · ln(x / mean) + mean − x, without cancellation where x is close to the mean.
fn deviance(x: f64, mean: f64) -> f64 {
    let difference = x - mean;
    if difference.abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() - difference;
    }
    // ln(x / mean) = 2 · artanh(v) with v = (x − mean) / (x + mean), as a power series in v.
    let v = difference / (x + mean);
    let mut sum = difference * v;
    let mut power = 2.0 * x * v;
    for j in 1..1000 {
        power *= v * v;
        let next = sum + power / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// The p-values adjusted by Benjamini and Hochberg (1995) for the false discovery rate, in the
/// order of the given ones: of m p-values the one of rank i becomes p · m / i, or what a greater
/// one becomes if that is less; at most 1. The same as `statsmodels`' `multipletests` with
/// `fdr_bh`.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least: f64 = 1.0;
    for (below, &i) in order.iter().enumerate().rev() {
        // In this order of operations rounding is that of statsmodels.
        least = least.min(p[i] / ((below + 1) as f64 / p.len() as f64));
        adjusted[i] = least;
    }
    adjusted
}

#[cfg(test)]
#[allow(
    clippy::excessive_precision,
    reason = "exact values, as many digits as they were given"
)]
mod tests {
    use crate::study::motifs::significance::{
        benjamini_hochberg, hypergeometric_tail, ln_hypergeometric_tail,
    };

    /// x, N, K, n and the tail, summed in whole numbers with Python's `math.comb` and divided with
    /// `decimal` to 40 digits. SciPy 1.17.1 gives the same to 13 digits up to N = 10^5, and to 9 at
    /// N = 10^6, where its logarithms cancel.
    const EXACT: [(u64, u64, u64, u64, f64); 19] = [
        (3, 20, 7, 12, 0.947884416924664603),
        (1, 1_000, 500, 1, 0.5),
        (12, 2_000, 1_000, 13, 1.661745894396570e-3),
        (40, 2_000, 1_000, 45, 2.899299250563598e-8),
        (250, 2_000, 1_000, 300, 1.496527045172295e-38),
        (5, 10_000, 5_000, 5, 3.121875156406308e-2),
        (130, 10_000, 5_000, 150, 1.627752399221740e-21),
        (300, 40_000, 20_000, 520, 2.385933102839264e-4),
        (700, 40_000, 20_000, 1_000, 1.133016992042171e-38),
        (120, 100_000, 3_000, 2_500, 4.782780322786080e-7),
        (9_000, 100_000, 50_000, 17_800, 4.996786599186810e-2),
        (60, 1_000_000, 500_000, 70, 3.997474885232351e-10),
        (510, 1_000_000, 500_000, 1_000, 2.738862268871692e-1),
        (2_000, 1_000_000, 100_000, 10_000, 9.327563024224553e-198),
        (1_100, 1_000_000, 100_000, 10_000, 4.991347888581216e-4),
        (5_200, 1_000_000, 500_000, 10_000, 3.028294880623670e-5),
        (250_500, 1_000_000, 500_000, 500_000, 2.285830305678909e-2),
        (30, 1_000_000, 1_000, 1_500, 8.752196896139609e-29),
        (4_900, 1_000_000, 500_000, 10_000, 9.783174765443576e-1),
    ];

    #[test]
    fn tails_are_right_up_to_a_million() {
        for (hits, population, marked, drawn, exact) in EXACT {
            let tail = hypergeometric_tail(hits, population, marked, drawn);
            let error = (tail / exact - 1.0).abs();
            assert!(
                error < 1e-12,
                "{hits} {population} {marked} {drawn}: {tail:e}, {error:e}"
            );
            // Marked and drawn change places.
            let tail = hypergeometric_tail(hits, population, drawn, marked);
            assert!((tail / exact - 1.0).abs() < 1e-12);
        }
        // 1 / C(10^6, 5 · 10^5) is too small for a number, its logarithm is not; from `decimal`.
        let all = (500_000, 1_000_000, 500_000, 500_000);
        assert_eq!(hypergeometric_tail(all.0, all.1, all.2, all.3), 0.0);
        let ln = ln_hypergeometric_tail(all.0, all.1, all.2, all.3);
        assert!((ln / -693_140.047_013_063_7 - 1.0).abs() < 1e-12, "{ln}");
    }

    #[test]
    fn a_few_tails_by_hand() {
        // Two draws from 2 marked of 4: both marked in 1 of 6 ways, at least one in 5.
        assert!((hypergeometric_tail(2, 4, 2, 2) - 1.0 / 6.0).abs() < 1e-15);
        assert!((hypergeometric_tail(1, 4, 2, 2) - 5.0 / 6.0).abs() < 1e-15);
        assert_eq!(hypergeometric_tail(0, 4, 2, 2), 1.0);
        assert_eq!(hypergeometric_tail(3, 4, 2, 2), 0.0);
        // All are drawn, all are marked, none is, there is nothing to draw from.
        assert_eq!(hypergeometric_tail(2, 4, 2, 4), 1.0);
        assert_eq!(hypergeometric_tail(3, 4, 4, 3), 1.0);
        assert_eq!(hypergeometric_tail(1, 4, 0, 3), 0.0);
        assert_eq!(hypergeometric_tail(0, 0, 0, 0), 1.0);
        assert_eq!(hypergeometric_tail(1, 0, 5, 5), 0.0);
    }

    /// In small populations the sum over all subsets of a size can be made in whole numbers.
    #[test]
    fn all_tails_of_small_populations() {
        let choose = |n: u64, k: u64| (0..k).fold(1u64, |c, i| c * (n - i) / (i + 1));
        for population in 0..=14 {
            for marked in 0..=population {
                for drawn in 0..=population {
                    for hits in 0..=population {
                        let ways: u64 = (hits..=drawn.min(marked))
                            .filter(|k| drawn - k <= population - marked)
                            .map(|k| choose(marked, k) * choose(population - marked, drawn - k))
                            .sum();
                        let exact = ways as f64 / choose(population, drawn) as f64;
                        let tail = hypergeometric_tail(hits, population, marked, drawn);
                        assert!((tail - exact).abs() <= 1e-14, "{tail} {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn adjusted_p_are_those_of_the_definition() {
        // Ranks 1 to 5: 0.01 · 5 / 1, then 0.02 · 5 / 2 = 0.05, 0.03 · 5 / 3 = 0.05, 0.04 · 5 / 4
        // and 0.05: all are 0.05. In another order, and with a tie.
        let adjusted = benjamini_hochberg(&[0.05, 0.01, 0.03, 0.02, 0.04]);
        assert!(adjusted.iter().all(|p| (p - 0.05).abs() < 1e-15));
        // 0.5 · 4 / 4; 0.4 · 4 / 3 = 0.533 is lowered to 0.5; 0.001 · 4 / 2 for both that tie.
        let adjusted = benjamini_hochberg(&[0.4, 0.001, 0.5, 0.001]);
        assert_eq!(adjusted, [0.5, 0.002, 0.5, 0.002]);
        assert_eq!(benjamini_hochberg(&[1.0, 0.9]), [1.0, 1.0]);
        assert!(benjamini_hochberg(&[]).is_empty());
    }
}
