//! Lines of a published output that are no calls: how far the run has come, and decisions.

use crate::metrics::{LiveSummary, Summary};
use crate::sink::{Notes, clean};
use crate::stream::decide::{Decisions, ReadDecision};
use serde_json::{Value, json};
use std::io;

/// Lines that are no calls.
#[derive(Debug, Clone)]
pub(super) struct Events {
    notes: Notes,
    /// Fields of each.
    labels: Vec<(String, String)>,
}

impl Events {
    pub(super) fn new(labels: &[(String, String)]) -> Events {
        Events {
            notes: Notes::default(),
            labels: labels.to_vec(),
        }
    }

    pub(super) fn notes(&self) -> Notes {
        self.notes.clone()
    }

    fn add(&self, mut event: Value) {
        for (key, value) in &self.labels {
            event[key] = Value::from(value.as_str());
        }
        self.notes.add(&event.to_string());
    }

    /// How far a run has come.
    pub(super) fn status(&self, summary: &Summary, ended: bool) {
        let calls = summary.calls.iter().filter(|(_, count)| *count > 0);
        let calls = calls.map(|(kind, count)| ((*kind).to_owned(), Value::from(*count)));
        let mut event = json!({
            "event": "status",
            "seconds": (summary.elapsed.as_secs_f64() * 1e3).round() / 1e3,
            "reads_in": summary.reads_in,
            "reads_out": summary.reads_out,
            "reads_rejected": summary.rejected,
            "reads_shed": summary.shed,
            "reads_passed": summary.passed,
            "bases_in": summary.bases_in,
            "bases_out": summary.bases_out,
            "calls": Value::Object(calls.collect()),
            "ended": ended,
        });
        if let Some(LiveSummary {
            late,
            keep,
            eject,
            bases_shed,
            ..
        }) = summary.live
        {
            event["late"] = late.into();
            event["keep"] = keep.into();
            event["eject"] = eject.into();
            event["bases_shed"] = bases_shed.into();
        }
        self.add(event);
    }

    fn decision(&self, made: &ReadDecision<'_>) {
        let decided = made.decided;
        let rule = match decided.rule {
            Some(rule) => Value::from(rule),
            None if decided.overload => Value::from("overload"),
            None => Value::from("default"),
        };
        self.add(json!({
            "event": "decision",
            "read": clean(made.piece.name),
            "link": clean(made.source.as_bytes()),
            "channel": made.piece.channel,
            "decision": decided.decision.to_string(),
            "rule": rule,
        }));
    }
}

/// Decisions as events, before they go where they go besides.
pub(super) struct WithEvents<D>(pub Option<Events>, pub D);

impl<D: Decisions> Decisions for WithEvents<D> {
    fn decision(&mut self, made: &ReadDecision<'_>) -> io::Result<()> {
        if let Some(events) = &self.0 {
            events.decision(made);
        }
        self.1.decision(made)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }

    fn unwritten(&self) -> u64 {
        self.1.unwritten()
    }
}
