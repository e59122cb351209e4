use super::*;
use crate::call::{Call, CallKind, Flags, Strand};
use crate::stream::live::{FinishedPiece, PieceEnd};
use std::time::Instant;

const TEXT: &str = "default = \"eject\"\n\
    [[rule]]\nkinds = [\"donor\", \"acceptor\"]\nat_least = 2\nwithin = 1000\nmin_score = 0.5\ndecision = \"keep\"\n\
    [[rule]]\nkinds = [\"promoter\"]\nat_least = 1\nwithin = 300\ndecision = \"keep\"\n";

fn call(kind: CallKind, start: u64, score: f32) -> Call {
    Call {
        start,
        end: start + 1,
        strand: Strand::Forward,
        kind,
        score,
        flags: Flags::NONE,
        model: 0,
    }
}

fn piece<'a>(channel: u16, calls: &'a [Call], known_to: u64, ends: bool) -> FinishedPiece<'a> {
    FinishedPiece {
        source: 0,
        channel,
        read: 1,
        name: b"r",
        first: false,
        calls,
        known_to,
        end: ends.then_some(PieceEnd::Complete),
        received: Instant::now(),
    }
}

fn judge() -> Judge {
    Judge::new(Policy::parse(TEXT, "policy".into()).unwrap())
}

#[test]
fn a_rule_is_met_across_pieces_and_decides_once() {
    let mut judge = judge();
    let first = [
        call(CallKind::Donor, 100, 0.9),
        call(CallKind::Donor, 200, 0.4),
    ];
    assert_eq!(judge.piece(&piece(7, &first, 400, false)), None);
    // Another channel's calls do not count.
    assert_eq!(judge.piece(&piece(8, &first, 400, false)), None);
    let second = [call(CallKind::Acceptor, 999, 0.5)];
    let keep = Decided {
        decision: Decision::Keep,
        rule: Some(1),
    };
    assert_eq!(judge.piece(&piece(7, &second, 1000, false)), Some(keep));
    assert_eq!(judge.piece(&piece(7, &second, 2000, false)), None);
    assert_eq!(judge.piece(&piece(7, &[], 3000, true)), None);
}

#[test]
fn the_default_waits_for_the_bases_that_rules_look_at() {
    let mut judge = judge();
    let beyond = [
        call(CallKind::Promoter, 300, 0.9),
        call(CallKind::Donor, 1000, 0.9),
    ];
    assert_eq!(judge.piece(&piece(1, &beyond, 999, false)), None);
    let eject = Decided {
        decision: Decision::Eject,
        rule: None,
    };
    assert_eq!(judge.piece(&piece(1, &[], 1000, false)), Some(eject));
    // A read that ends before them is decided at its end, and the channel's next one anew.
    assert_eq!(judge.piece(&piece(2, &[], 10, true)), Some(eject));
    assert_eq!(judge.piece(&piece(2, &[], 10, true)), Some(eject));
}

#[test]
fn what_is_no_policy_is_refused_with_its_place() {
    let error = |text: &str| {
        Policy::parse(text, "p.toml".into())
            .unwrap_err()
            .to_string()
    };
    assert!(error("default = \"maybe\"\nrule = []").starts_with("p.toml: "));
    assert!(error(&TEXT.replace("at_least = 1", "at_least = 0")).contains("rule 2"));
    assert!(error(&TEXT.replace("[\"promoter\"]", "[]")).contains("rule 2: no kinds"));
    assert!(error(&TEXT.replace("within = 300", "withn = 300")).contains("withn"));
}
