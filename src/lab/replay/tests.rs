use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn reads(lengths: &[usize]) -> Arc<[ReadData]> {
    let read = |(i, &length): (usize, &usize)| ReadData {
        name: format!("r{i}").into_bytes(),
        letters: vec![b'A'; length],
    };
    lengths.iter().enumerate().map(read).collect()
}

proptest! {
    #[test]
    fn every_read_comes_once_in_order_and_at_its_rate(
        lengths in proptest::collection::vec(0..3000usize, 0..30),
        channels in 1..9u16, chunk in 1..700usize, seed: u64,
    ) {
        let config = FlowCellConfig { channels, chunk, seed, ..FlowCellConfig::default() };
        let events: Vec<Event> = FlowCell::new(reads(&lengths), config).collect();
        prop_assert!(events.is_sorted_by_key(|e| e.at));
        let mut so_far: HashMap<usize, (u16, u32, usize, Duration)> = HashMap::new();
        let mut over = vec![false; lengths.len()];
        for event in &events {
            prop_assert!(!over[event.read]);
            let state = (event.channel, event.number, event.bases.end, event.at);
            let known = so_far.insert(event.read, state);
            if let Some((channel, number, end, at)) = known {
                let follows = (event.channel, event.number, event.bases.start);
                prop_assert_eq!((channel, number, end), follows);
                let took = (event.at - at).as_secs_f64();
                prop_assert!((took - event.bases.len() as f64 / 400.0).abs() < 1e-6);
            } else {
                prop_assert!(event.first());
            }
            prop_assert!(event.bases.len() <= chunk);
            over[event.read] = event.last;
            prop_assert_eq!(event.last, event.bases.end == lengths[event.read]);
        }
        prop_assert!(over.iter().all(|o| *o));
        let again: Vec<Event> = FlowCell::new(reads(&lengths), config).collect();
        prop_assert_eq!(events, again);
    }
}

#[test]
fn a_duration_cuts_reads_off_and_fills_the_time() {
    let config = FlowCellConfig {
        channels: 16,
        duration: Some(60.0),
        speed: 10.0,
        pause: 0.0,
        ..FlowCellConfig::default()
    };
    let events: Vec<Event> = FlowCell::new(reads(&[900, 5000]), config).collect();
    let bases: usize = events.iter().map(|e| e.bases.len()).sum();
    // 16 channels at 400 bases a second, but for the phase at the start and the last chunk.
    let full = 16 * 400 * 60;
    assert!(
        bases <= full && bases + 16 * 1200 >= full,
        "{bases} of {full}"
    );
    assert!(events.iter().all(|e| e.at <= Duration::from_secs(6)));
    for channel in 1..=16 {
        let last = events.iter().rev().find(|e| e.channel == channel);
        assert!(last.is_some_and(|e| e.last));
    }
}
