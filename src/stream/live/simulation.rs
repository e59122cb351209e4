//! What the admission promises, proved on a virtual clock: channels that sequence reads of 2 to
//! 20 kb in chunks of a second, at several times what the lanes can score.
//!
//! A position is scored when the bases that it depends on are there, at a read's end the rest.
//! Nothing here takes time or depends on it: a seed gives the same run each time.

use super::admission::{Admission, Arrival, Channel, Ticket};
use super::overload::OverloadPolicy;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

const CHUNK: u64 = 400;
const CONTEXT: u64 = 2128;

#[derive(Debug, Clone, Copy)]
struct Setup {
    policy: OverloadPolicy,
    channels: u16,
    lanes: usize,
    /// Bases a second of a channel.
    rate: f64,
    /// How much more comes than all lanes can score.
    load: f64,
    deadline: f64,
    seconds: f64,
    /// From this second on, and for so many, positions cost so many times as much.
    slow: (f64, f64, f64),
    /// The part of a piece's cost that comes with any piece, as that of its window does.
    window: f64,
    /// What the trial said of the cost, over what it is.
    trial: f64,
    seed: u64,
}

const USUAL: Setup = Setup {
    policy: OverloadPolicy::ShedNewest,
    channels: 3000,
    lanes: 2,
    rate: 400.0,
    load: 5.0,
    deadline: 0.5,
    seconds: 70.0,
    slow: (0.0, 0.0, 1.0),
    window: 0.0,
    trial: 1.0,
    seed: 1,
};

/// A read on its channel.
#[derive(Default, Clone)]
struct Read {
    ticket: Option<Ticket>,
    begun: bool,
    lane: usize,
    length: u64,
    /// Bases that came, and positions that were scored, of these in the time that counts.
    came: u64,
    scored: u64,
    counted: u64,
    given_up: bool,
}

#[derive(Clone, Copy)]
struct Piece {
    read: usize,
    /// What can be scored with it.
    positions: u64,
    last: bool,
    received: f64,
}

#[derive(Default)]
struct LaneState {
    queue: VecDeque<Piece>,
    busy: Option<(Piece, u64, f64)>,
    reads: usize,
}

/// What came of a run.
struct Outcome {
    /// Bases scored of reads that were not given up, over what the lanes could have scored.
    whole: f64,
    /// The same of reads that were.
    partial: f64,
    /// Latencies of the pieces that were scored, sorted, and when one was late.
    latencies: Vec<f64>,
    late: Vec<f64>,
    begun: usize,
    refused: usize,
    given_up: usize,
    /// Times that a channel was refused again while another was begun that had not been refused.
    overtaken: usize,
}

impl Outcome {
    fn p999(&self) -> f64 {
        self.latencies[self.latencies.len() * 999 / 1000]
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} whole, {:.3} partial, p99.9 {:.3}, {} begun, {} refused, {} given up, \
             {} overtaken, last late {:?}",
            self.whole,
            self.partial,
            self.p999(),
            self.begun,
            self.refused,
            self.given_up,
            self.overtaken,
            self.late.last(),
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Event {
    Piece(u16),
    Free(usize),
}

/// When, in nanoseconds; a number that makes it unique; what.
type Entry = Reverse<(u64, u64, u8, u16)>;

struct Simulation {
    setup: Setup,
    start: Instant,
    admission: Admission,
    lanes: Vec<LaneState>,
    reads: Vec<Read>,
    of_channel: Vec<usize>,
    events: BinaryHeap<Entry>,
    number: u64,
    random: u64,
    /// Seconds a position.
    cost: f64,
    outcome: Outcome,
    /// For each channel that was refused since its last turn: the decision.
    refused: BTreeMap<u16, u64>,
    decisions: u64,
    favoured: u64,
}

/// Where counting begins.
const FROM: f64 = 10.0;

impl Simulation {
    fn new(setup: Setup) -> Simulation {
        let admission = Admission::new(
            setup.policy,
            Some(Duration::from_secs_f64(setup.deadline)),
            CONTEXT,
            setup.lanes,
            1,
        );
        let offered = f64::from(setup.channels) * setup.rate;
        Simulation {
            setup,
            start: Instant::now(),
            admission: admission.expect("it sheds, with a deadline"),
            lanes: (0..setup.lanes).map(|_| LaneState::default()).collect(),
            reads: vec![],
            of_channel: vec![usize::MAX; setup.channels.into()],
            events: BinaryHeap::new(),
            number: 0,
            random: setup.seed | 1,
            cost: setup.load * setup.lanes as f64 / offered,
            outcome: Outcome {
                whole: 0.0,
                partial: 0.0,
                latencies: vec![],
                late: vec![],
                begun: 0,
                refused: 0,
                given_up: 0,
                overtaken: 0,
            },
            refused: BTreeMap::new(),
            decisions: 0,
            favoured: 0,
        }
    }

    /// 0 to 1.
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn push(&mut self, at: f64, event: Event) {
        self.number += 1;
        let (kind, which) = match event {
            Event::Piece(channel) => (0, channel),
            Event::Free(lane) => (1, lane as u16),
        };
        let at = (at * 1e9) as u64;
        self.events.push(Reverse((at, self.number, kind, which)));
    }

    fn run(mut self) -> Outcome {
        let cost = Duration::from_secs_f64(self.cost * self.setup.trial * 10_000.0);
        for lane in 0..self.setup.lanes {
            self.admission.worked(lane, 10_000, cost);
        }
        for channel in 0..self.setup.channels {
            let phase = self.random() * CHUNK as f64 / self.setup.rate;
            self.begin(channel);
            self.push(phase, Event::Piece(channel));
        }
        while let Some(Reverse((at, _, kind, which))) = self.events.pop() {
            let now = at as f64 / 1e9;
            if now > self.setup.seconds {
                break;
            }
            if kind == 0 {
                self.piece(which, now);
            } else {
                self.free(which.into(), now);
            }
        }
        let window = self.setup.seconds - FROM;
        let could = window * self.setup.lanes as f64 / self.cost;
        for read in &self.reads {
            let part = if read.given_up {
                &mut self.outcome.partial
            } else {
                &mut self.outcome.whole
            };
            *part += read.counted as f64 / could;
        }
        self.outcome.latencies.sort_by(f64::total_cmp);
        self.outcome
    }

    fn begin(&mut self, channel: u16) {
        let length = 2000 + (self.random() * 18_000.0) as u64;
        self.of_channel[usize::from(channel)] = self.reads.len();
        self.reads.push(Read {
            length,
            ..Read::default()
        });
    }

    fn piece(&mut self, channel: u16, now: f64) {
        let number = self.of_channel[usize::from(channel)];
        let read = &mut self.reads[number];
        let first = read.came == 0;
        let bases = CHUNK.min(read.length - read.came);
        read.came += bases;
        let last = read.came == read.length;
        if first {
            self.ask(channel, number, now);
        }
        self.keep(channel, number, bases, last, first, now);
        if last {
            let pause = -0.5 * (1.0 - self.random()).ln();
            self.begin(channel);
            self.push(
                now + pause + CHUNK as f64 / self.setup.rate,
                Event::Piece(channel),
            );
        } else {
            self.push(now + CHUNK as f64 / self.setup.rate, Event::Piece(channel));
        }
    }

    fn ask(&mut self, channel: u16, number: usize, now: f64) {
        for (_, channel) in std::mem::take(&mut self.admission.given_up) {
            self.decisions += 1;
            self.refused.entry(channel).or_insert(self.decisions);
        }
        let loads = self.lanes.iter().enumerate();
        let lane = loads.min_by_key(|(_, lane)| lane.reads).expect("a lane").0;
        let who: Channel = (0, channel);
        let ticket = self.admission.ask(who, lane, self.at(now));
        self.decisions += 1;
        if ticket.is_some() {
            self.lanes[lane].reads += 1;
            self.outcome.begun += 1;
            if self.refused.remove(&channel).is_none() {
                self.favoured = self.decisions;
            }
        } else {
            self.outcome.refused += 1;
            let first = *self.refused.entry(channel).or_insert(self.decisions);
            if first != self.decisions && self.favoured > first {
                self.outcome.overtaken += 1;
            }
        }
        let read = &mut self.reads[number];
        (read.ticket, read.lane, read.begun) = (ticket, lane, ticket.is_some());
    }

    fn keep(&mut self, channel: u16, read: usize, bases: u64, last: bool, first: bool, now: f64) {
        let at = self.at(now);
        let piece = Arrival {
            bases,
            last,
            received: at,
        };
        let Some(ticket) = self.reads[read].ticket else {
            if !first {
                self.admission.passed((0, channel), piece, at);
            }
            return;
        };
        let positions = self.admission.arrived(ticket, piece, at);
        if positions.is_some() || last {
            let lane = self.reads[read].lane;
            self.lanes[lane].queue.push_back(Piece {
                read,
                positions: positions.unwrap_or(0),
                last,
                received: now,
            });
            self.work(lane, now);
        }
    }

    /// The next piece of a lane, if it has nothing else to do.
    fn work(&mut self, lane: usize, now: f64) {
        while self.lanes[lane].busy.is_none()
            && let Some(piece) = self.lanes[lane].queue.pop_front()
        {
            let ticket = self.reads[piece.read].ticket.expect("a begun read");
            let (received, at) = (self.at(piece.received), self.at(now));
            if !self
                .admission
                .goes_on(ticket, piece.positions, received, at)
            {
                self.give_up(piece, now);
                continue;
            }
            let scored = piece.positions;
            let (from, long, times) = self.setup.slow;
            let slow = now >= from && now < from + long;
            // A fifth more or less, as it comes.
            let noise = 0.8 + 0.4 * self.random();
            let cost = self.cost * noise * if slow { times } else { 1.0 };
            let window = self.setup.window;
            let mut positions = scored as f64 * (1.0 - window);
            if scored > 0 {
                positions += window * CHUNK as f64;
            }
            let until = now + positions * cost;
            self.lanes[lane].busy = Some((piece, scored, now));
            self.push(until, Event::Free(lane));
        }
    }

    fn give_up(&mut self, piece: Piece, now: f64) {
        let (lane, ticket) = (self.reads[piece.read].lane, self.reads[piece.read].ticket);
        if !std::mem::replace(&mut self.reads[piece.read].given_up, true) {
            self.lanes[lane].reads -= 1;
            self.outcome.given_up += usize::from(now >= FROM);
        }
        if piece.last {
            self.admission.over(ticket.expect("a begun read"));
        }
    }

    fn free(&mut self, lane: usize, now: f64) {
        let (piece, scored, begun) = self.lanes[lane].busy.take().expect("work that ends");
        let took = Duration::from_secs_f64((now - begun).max(0.0));
        self.admission.worked(lane, scored, took);
        let read = &mut self.reads[piece.read];
        read.scored += scored;
        if now >= FROM {
            read.counted += scored;
            self.outcome.latencies.push(now - piece.received);
            if now - piece.received > self.setup.deadline {
                self.outcome.late.push(now);
            }
        }
        if piece.last {
            self.admission.over(read.ticket.expect("a begun read"));
            self.lanes[lane].reads -= 1;
        }
        self.work(lane, now);
    }
}

fn simulate(setup: Setup) -> Outcome {
    Simulation::new(setup).run()
}

/// What is asked of every run: enough is scored, in whole reads, in time, and nobody is overtaken.
#[track_caller]
fn holds(setup: Setup, whole: f64) {
    for policy in [OverloadPolicy::ShedNewest, OverloadPolicy::ShedOldest] {
        let setup = Setup { policy, ..setup };
        let outcome = simulate(setup);
        println!("{setup:?}\n  {outcome}");
        assert!(outcome.whole >= whole, "{setup:?}: {outcome}");
        assert!(outcome.p999() <= setup.deadline, "{setup:?}: {outcome}");
        assert_eq!(outcome.overtaken, 0, "{setup:?}: {outcome}");
    }
}

#[test]
fn five_times_the_load_leaves_four_fifths_in_whole_reads_and_in_time() {
    for seed in [1, 3, 5] {
        holds(Setup { seed, ..USUAL }, 0.8);
    }
}

#[test]
fn so_it_does_with_other_numbers_of_channels_and_lanes() {
    for (channels, lanes, deadline) in [(100, 1, 2.0), (512, 4, 2.0), (4000, 16, 1.0)] {
        let setup = Setup {
            channels,
            lanes,
            deadline,
            ..USUAL
        };
        holds(setup, 0.8);
    }
}

#[test]
fn so_it_does_with_other_deadlines_and_costs() {
    for (deadline, window) in [(0.2, 0.0), (1.0, 0.0), (0.5, 0.8)] {
        let setup = Setup {
            deadline,
            window,
            ..USUAL
        };
        holds(setup, 0.8);
    }
}

#[test]
fn so_it_does_where_bases_come_faster_than_from_a_pore() {
    for (rate, seconds) in [(2000.0, 30.0), (40_000.0, 14.0)] {
        holds(
            Setup {
                rate,
                seconds,
                ..USUAL
            },
            0.8,
        );
    }
}

#[test]
fn so_it_does_where_the_trial_was_wrong() {
    for trial in [0.3, 0.7, 1.5] {
        holds(Setup { trial, ..USUAL }, 0.8);
    }
}

#[test]
fn what_there_is_room_for_is_begun() {
    // Up to the share that begun reads may take, everything is; above it some are in between two
    // reads that count.
    for (load, whole) in [
        (0.5, 0.48),
        (0.85, 0.8),
        (1.2, 0.8),
        (1.6, 0.7),
        (2.0, 0.8),
        (20.0, 0.8),
    ] {
        holds(Setup { load, ..USUAL }, whole);
    }
    let outcome = simulate(Setup {
        load: 0.85,
        ..USUAL
    });
    assert_eq!((outcome.refused, outcome.given_up), (0, 0));
}

#[test]
fn a_lane_that_stands_still_or_slows_down_costs_some_reads_and_no_more() {
    // A second of nothing; half the speed for five.
    for (slow, whole) in [((30.0, 1.0, 100.0), 0.5), ((30.0, 5.0, 2.0), 0.6)] {
        let outcome = simulate(Setup { slow, ..USUAL });
        println!("{slow:?} {outcome}");
        assert!(outcome.whole >= whole && outcome.given_up > 0, "{outcome}");
        assert_eq!(outcome.overtaken, 0, "{outcome}");
        // It is over within a deadline and a second.
        let late = outcome.late.iter().filter(|at| **at > 30.0 + slow.1 + 1.5);
        assert_eq!(late.count(), 0, "{outcome}");
    }
}
