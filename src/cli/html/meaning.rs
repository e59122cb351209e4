//! What scores mean, and what they do not: nothing that the model cards do not say.

use super::charts::kinds;
use super::text::{share, table, whole};
use crate::annotate::{Clade, ModelInfo, Options};
use crate::call::CallKind;
use crate::stream::tally::Tally;

/// Where a site of a kind could be: of what its base rate is a part.
fn places(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Donor => "of GT",
        CallKind::Acceptor => "of AG",
        CallKind::Promoter => "of bases",
        _ => "of windows",
    }
}

/// The section on calibration.
pub(super) fn section(tally: &Tally, models: &[ModelInfo], options: &Options) -> String {
    let kinds = kinds(tally);
    let probable = kinds.iter().filter(|kind| kind.is_probability());
    let rows = probable.clone().map(|&kind| {
        let own = &tally.scores[kind as usize];
        vec![
            kind.to_string(),
            rate(kind, models, options),
            whole(own.calls()),
            format!("{:.1}", own.sum),
            share(own.sum, own.calls() as f64),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut out = "<section id=\"meaning\"><h2>What a score means</h2>".to_string();
    if rows.is_empty() {
        out += "<p>No call of this run has a probability as its score.</p>";
    } else {
        let head = ["kind", "sites among", "calls", "expected true", "share"];
        out += "<p>A score is a calibrated probability: of a hundred calls of score 0.8, eighty \
                are expected to be true, <em>where sites are as common as the model assumes</em>. \
                So all scores added are the expected number of true calls.</p>";
        out += &table("Expected true calls", 2, &head, &rows);
        out += "<p>That number holds no better than the assumption. Where sites are rarer, as \
                between genes, calls of the same score are more often false, and fewer are true \
                than the table expects. <code>--prior KIND=RATE</code> states another rate, and \
                moves every score of the kind.</p>";
    }
    let has = |kind: CallKind| kinds.contains(&kind);
    let mut limits: Vec<&str> = vec![];
    if has(CallKind::Donor) || has(CallKind::Acceptor) {
        limits.push(match options.clade {
            Clade::Vertebrate => {
                "Splice sites: the built-in model is calibrated on error-free human genes, on the \
                 strand of the gene. Between genes, about a hundred calls a megabase and strand \
                 are no sites."
            }
            _ => {
                "Splice sites: the built-in model of this clade was measured in one species only, \
                 and its probabilities were not calibrated between genes."
            }
        });
        limits.push(
            "Read errors cost many sites and make probabilities less exact. Spliced reads (cDNA, \
             mature RNA) hold no introns.",
        );
        limits.push(
            "<code>short-context</code>: near the end of a read the model sees less, and fewer \
             sites are found.",
        );
    }
    if has(CallKind::Promoter) {
        limits.push(
            "Promoters: a call is a place where transcription could start, as its sequence says, \
             not a claim that it does in a given cell. The built-in model finds a fifth to a \
             quarter of known promoters.",
        );
    }
    if has(CallKind::Tf) {
        limits.push("Transcription factors: see the card of your model.");
    }
    if has(CallKind::Expression) {
        limits.push(
            "Expression: the score is a mean ribosome load, no probability. Compare it between \
             5'UTRs, not between cells.",
        );
    }
    if has(CallKind::PromoterStrength) {
        limits.push(
            "Promoter strength: the score is the natural logarithm of a rate over that of a \
             reference promoter, for designed <i>E. coli</i> promoters.",
        );
    }
    let limits: String = limits
        .iter()
        .map(|limit| format!("<li>{limit}</li>"))
        .collect();
    out += &format!(
        "<ul>{limits}</ul><p class=\"note\">Figures stand in <code>docs/accuracy.md</code>, the \
         model cards in <code>models/README.md</code>.</p></section>\n"
    );
    out
}

/// How often sites of a kind are assumed, by each model that calls it.
fn rate(kind: CallKind, models: &[ModelInfo], options: &Options) -> String {
    if let Some(rate) = options.priors.of(kind) {
        return format!("{rate} {} (--prior)", places(kind));
    }
    let rates = models.iter().flat_map(|model| &model.base_rates);
    let mut rates: Vec<f64> = rates
        .filter(|(own, rate)| *own == kind && *rate > 0.0)
        .map(|(_, rate)| *rate)
        .collect();
    rates.sort_by(f64::total_cmp);
    match rates[..] {
        [] => "not stated".to_string(),
        [rate] => format!("{rate} {}", places(kind)),
        [low, .., high] => format!("{low} to {high} {}", places(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotate::Priors;
    use crate::call::{Call, Flags, Strand};
    use crate::stream::observe::{ReadObserver, SeenRead};

    #[test]
    fn expected_calls_are_the_sum_of_probabilities() {
        let mut tally = Tally::default();
        let call = |kind, score| Call {
            start: 0,
            end: 1,
            strand: Strand::Forward,
            kind,
            score,
            flags: Flags::NONE,
            model: 0,
        };
        let calls = [
            call(CallKind::Donor, 0.75),
            call(CallKind::Donor, 0.5),
            call(CallKind::Expression, 7.0),
        ];
        let read = SeenRead {
            id: (0, 0),
            name: b"r",
        };
        tally.calls(read, &calls);
        let own = Options::default();
        let html = section(&tally, &[], &own);
        assert!(
            html.contains("<bdi>1.2</bdi>") && html.contains("<bdi>62.5 %</bdi>"),
            "{html}"
        );
        assert!(
            html.contains("not stated") && html.contains("human genes"),
            "{html}"
        );
        assert!(
            html.contains("mean ribosome load") && !html.contains("Promoters:"),
            "{html}"
        );
        assert!(
            !html.contains("<bdi>expression</bdi>"),
            "a load is no probability"
        );
        let rare = Options {
            priors: Priors::new(&[(CallKind::Donor, 0.001)]).unwrap(),
            clade: Clade::Insect,
            ..own
        };
        let html = section(&tally, &[], &rare);
        assert!(
            html.contains("0.001 of GT (--prior)") && html.contains("one species"),
            "{html}"
        );
        let html = section(&Tally::default(), &[], &rare);
        assert!(html.contains("No call of this run"), "{html}");
    }
}
