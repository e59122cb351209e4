use super::*;
use crate::model::manifest::Tier;

fn config() -> BenchConfig {
    BenchConfig {
        seconds: 0.5,
        warm_up: 0.1,
        threads: 1,
        options: Options {
            tier: Tier::Fast,
            ..Options::default()
        },
        cell: FlowCellConfig {
            channels: 16,
            chunk: 40,
            ..FlowCellConfig::default()
        },
        deadline: None,
        overload: OverloadPolicy::Block,
    }
}

#[test]
fn every_scenario_is_measured_and_reported() {
    let stop = Arc::new(AtomicBool::new(false));
    let report = bench(&config(), &Scenario::DEFAULT, None, &stop).unwrap();
    assert_eq!(report.results.len(), 3);
    for measured in &report.results {
        assert!(
            measured.bases > 0 && measured.bases_per_second > 0.0,
            "{measured:?}"
        );
        assert_eq!(measured.shed, 0);
    }
    let [single, multi, offline] = &report.results[..] else {
        panic!("{report:?}")
    };
    for measured in [single, multi] {
        let latency = measured.latency.as_ref().unwrap();
        let ordered = [
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.max,
        ];
        assert!(ordered.is_sorted() && latency.p50 > 0.0, "{latency:?}");
        let counted: u64 = latency.histogram.iter().map(|(_, n)| n).sum();
        assert!(counted > 0);
    }
    assert!(offline.latency.is_none() && offline.calls > 0 && offline.reads >= 150);
    // 16 channels for half a second at 400 bases a second, but for the phase at the start and the
    // last chunk.
    assert!(
        multi.bases <= 3200 && multi.bases >= 1600,
        "{}",
        multi.bases
    );
    assert_eq!(report.accuracy.len(), 2);
    assert!(
        report
            .accuracy
            .iter()
            .all(|row| row.top_k > 0.5 && row.auprc > 0.5)
    );

    let json = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(again.results.len(), 3);
    let lines = compared(&report, &report);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("offline: 1.00 times")),
        "{lines:?}"
    );
    let page = html(&report, &lines);
    assert!(page.contains("<polyline") && page.contains("offline: 1.00 times"));
    // Nothing is fetched from anywhere.
    assert!(!page.contains("http://") && !page.contains("https://"));
    let table = report.table();
    assert!(
        table.contains("single stream") && table.contains("p99.9"),
        "{table}"
    );
}

#[test]
fn channels_are_found_by_search() {
    let stop = Arc::new(AtomicBool::new(false));
    let started = BenchConfig {
        seconds: 1.2,
        ..config()
    };
    let report = match bench(&started, &[Scenario::Channels], None, &stop) {
        Ok(report) => report,
        // An emulator may be too slow for a single one.
        Err(error) => return assert!(error.to_string().contains("none kept"), "{error}"),
    };
    let [found] = &report.results[..] else {
        panic!("{report:?}")
    };
    // Whatever else the machine does: what was found kept its promise, with that many channels.
    assert!(found.latency.as_ref().unwrap().p999 <= WITHIN, "{found:?}");
    let (_, load) = found.load.split_once(": ").unwrap();
    let channels: f64 = load.split(' ').next().unwrap().parse().unwrap();
    assert!(channels >= 1.0 && found.bases as f64 <= channels * 400.0 * 0.3 + 1.0);
    if cfg!(target_os = "linux") {
        assert!(found.seconds_per_megabase.is_some());
    }
}

#[test]
fn doubts_take_the_headline() {
    let stop = Arc::new(AtomicBool::new(false));
    let mut report = bench(&config(), &[Scenario::SingleStream], None, &stop).unwrap();
    report.results[0].watched.doubts.clear();
    assert!(report.holds() && !report.table().contains("NO HEADLINE"));
    report.results[0]
        .watched
        .doubts
        .push("the processor was throttled".into());
    assert!(!report.holds() && report.table().contains("NO HEADLINE"));
    assert!(html(&report, &[]).contains("No headline"));
}
