//! Which reads are begun under overload, and which are given up.
//!
//! What is scored is to be whole, so reads are shed, not bases:
//!
//! **Admission.** A read is begun where the begun reads of its lane and this one, at the measured
//! rate of a read and cost of a position, keep the lane busy for at most [`SHARE`] of the time, and
//! where the pieces that came just now leave the lane [`CALM`]. A lane without any begins one in
//! any case.
//!
//! **Eviction.** Where calls cannot be written by their deadline nevertheless, a begun read with
//! bases waiting is given up: the youngest, or the one with most of them. Reads follow it until
//! what waits can be scored in time and, where more were begun than the lane can keep up with, as
//! many as are too many.
//!
//! **Turns.** A channel is owed a turn from the first of its reads that was shed to its next that
//! is begun. A channel that is owed none gets one only where there is room for all that are owed
//! one too, or where those are few: at most half as many as reads are begun. One that is owed a
//! turn, while another that was owed none got one meanwhile, is begun whether there is room or not.
//! So no channel is refused twice in a row while another was begun that was not refused once. A
//! channel that was silent for [`SILENT`] is owed nothing.
//!
//! Nothing here looks at a clock, so that a simulation can prove it: `simulation.rs`.

use super::overload::OverloadPolicy;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The part of a lane's time that begun reads may take. The rest is for pieces that come together,
/// and for other programs.
pub(super) const SHARE: f64 = 0.9;

/// The part of the deadline that pieces may wait where a read is begun, and where one is not given
/// up: what waits is estimated, and other programs come in between.
const CALM: f64 = 0.5;
const ALARM: f64 = 0.9;

/// Bases a second of a read, until it is measured: DNA in a nanopore. It counts as a second of one
/// read.
const PORE: f64 = 400.0;

/// How far back rates and costs are measured: by the clock, and of work.
const RATES: f64 = 5.0;
const COSTS: f64 = 2.0;

/// After so long a channel that says nothing is forgotten.
const SILENT: Duration = Duration::from_secs(10);

/// A channel of a source.
pub(super) type Channel = (usize, u16);

/// A begun read, until its last piece has been worked on.
pub(super) type Ticket = u32;

/// A piece as it comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) bases: u64,
    /// The read's last one.
    pub(super) last: bool,
    pub(super) received: Instant,
}

/// A sum that fades.
#[derive(Debug, Clone, Copy)]
struct Ratio {
    over: f64,
    under: f64,
}

impl Ratio {
    fn add(&mut self, over: f64, under: f64, fade: f64) {
        self.over = self.over * fade + over;
        self.under = self.under * fade + under;
    }
}

/// A source's reads: bases that came, and the seconds in which they came.
#[derive(Debug)]
struct Rate {
    bases: Ratio,
    at: Option<Instant>,
}

#[derive(Debug)]
struct Lane {
    /// Begun reads of each source.
    begun: Vec<u32>,
    /// Positions that can be scored with what is queued, and with what is being worked on.
    waiting: u64,
    working: u64,
    /// When the bases that came for it would be scored, if all could be at once; at most a deadline
    /// from now. Reads that begin together have their pieces together ever after, so this bounds
    /// how many do.
    booked: Option<Instant>,
    /// Seconds of work, and the positions that were scored in them.
    costs: Ratio,
    /// The last read was given up.
    corrected: Option<Instant>,
}

#[derive(Debug)]
struct Begun {
    channel: Channel,
    lane: usize,
    /// The greater, the younger.
    number: u64,
    /// Bases so far, and the positions that can be scored with them.
    bases: u64,
    known: u64,
    /// Of these, those that wait.
    waiting: u64,
    given_up: bool,
    in_use: bool,
    last: Instant,
}

/// A channel that is owed a turn.
#[derive(Debug)]
struct Owed {
    /// The decision that refused it first.
    since: u64,
    /// Its last piece.
    seen: Instant,
}

/// The begun reads of a run, and the channels that are owed one.
#[derive(Debug)]
pub(super) struct Admission {
    youngest: bool,
    deadline: Duration,
    /// Bases that must follow a position before it can be scored.
    context: u64,
    lanes: Vec<Lane>,
    rates: Vec<Rate>,
    begun: Vec<Begun>,
    free: Vec<Ticket>,
    owed: HashMap<Channel, Owed>,
    /// Decisions so far, and the last one that gave a turn to a channel that was owed none.
    decisions: u64,
    favoured: u64,
    swept: Option<Instant>,
    /// Reads that were given up, in order.
    #[cfg(test)]
    pub(super) given_up: Vec<Channel>,
}

impl Admission {
    /// None where `policy` sheds nothing, or no deadline says what is late.
    pub(super) fn new(
        policy: OverloadPolicy,
        deadline: Option<Duration>,
        context: u64,
        lanes: usize,
        sources: usize,
    ) -> Option<Admission> {
        let youngest = match policy {
            OverloadPolicy::ShedNewest => true,
            OverloadPolicy::ShedOldest => false,
            OverloadPolicy::Block | OverloadPolicy::FastTier => return None,
        };
        let lane = |_| Lane {
            begun: vec![0; sources],
            waiting: 0,
            working: 0,
            booked: None,
            costs: Ratio {
                over: 0.0,
                under: 0.0,
            },
            corrected: None,
        };
        let rate = |_| Rate {
            bases: Ratio {
                over: PORE,
                under: 1.0,
            },
            at: None,
        };
        Some(Admission {
            youngest,
            deadline: deadline?,
            context,
            lanes: (0..lanes).map(lane).collect(),
            rates: (0..sources).map(rate).collect(),
            begun: vec![],
            free: vec![],
            owed: HashMap::new(),
            decisions: 0,
            favoured: 0,
            swept: None,
            #[cfg(test)]
            given_up: vec![],
        })
    }

    /// A read begins on `channel`, to be scored on `lane`; `None`: it is shed.
    pub(super) fn ask(&mut self, channel: Channel, lane: usize, now: Instant) -> Option<Ticket> {
        self.forget(now);
        self.decisions += 1;
        let begin = match self.owed.get(&channel) {
            Some(owed) => self.favoured > owed.since || self.has_room(channel.0, lane, 1, now),
            None => {
                let owed = self.owed.len();
                let begun: u32 = self.lanes.iter().flat_map(|lane| &lane.begun).sum();
                let one = self.has_room(channel.0, lane, 1, now);
                let share = owed.div_ceil(self.lanes.len());
                one && (2 * owed <= begun as usize
                    || self.has_room(channel.0, lane, share + 1, now))
            }
        };
        if !begin {
            self.refuse(channel, now);
            return None;
        }
        if self.owed.remove(&channel).is_none() {
            self.favoured = self.decisions;
        }
        self.lanes[lane].begun[channel.0] += 1;
        let begun = Begun {
            channel,
            lane,
            number: self.decisions,
            bases: 0,
            known: 0,
            waiting: 0,
            given_up: false,
            in_use: true,
            last: now,
        };
        Some(match self.free.pop() {
            Some(ticket) => {
                self.begun[ticket as usize] = begun;
                ticket
            }
            None => {
                self.begun.push(begun);
                self.begun.len() as Ticket - 1
            }
        })
    }

    /// A piece of a begun read came. The positions that can be scored with it, for
    /// [`Admission::goes_on`]; `None` where the read is given up.
    pub(super) fn arrived(&mut self, ticket: Ticket, piece: Arrival, now: Instant) -> Option<u64> {
        let begun = &mut self.begun[ticket as usize];
        let (lane, channel) = (begun.lane, begun.channel);
        let last = std::mem::replace(&mut begun.last, piece.received);
        if begun.bases > 0 {
            self.measure(channel.0, piece.bases, last, piece.received, now);
        }
        let begun = &mut self.begun[ticket as usize];
        if begun.given_up {
            self.keep_in_mind(channel, now);
            return None;
        }
        begun.bases += piece.bases;
        let time = self.time(lane, piece.bases);
        let booked = self.lanes[lane].booked.map_or(now, |at| at.max(now));
        self.lanes[lane].booked = Some((booked + time.min(self.deadline)).min(now + self.deadline));
        let begun = &mut self.begun[ticket as usize];
        let context = if piece.last { 0 } else { self.context };
        let known = begun.bases.saturating_sub(context);
        let more = known - std::mem::replace(&mut begun.known, known);
        begun.waiting += more;
        self.lanes[lane].waiting += more;
        if more > 0 {
            while self.late(lane, piece.received, now) && self.give_one_up(lane, now) {}
        }
        (!self.begun[ticket as usize].given_up).then_some(more)
    }

    /// A piece came, not the first, of a read that was refused.
    pub(super) fn passed(&mut self, channel: Channel, piece: Arrival, now: Instant) {
        let Some(owed) = self.owed.get_mut(&channel) else {
            return;
        };
        let last = std::mem::replace(&mut owed.seen, piece.received);
        self.measure(channel.0, piece.bases, last, piece.received, now);
    }

    /// A worker takes a piece with which `positions` can be scored; false where its read is given
    /// up.
    pub(super) fn goes_on(
        &mut self,
        ticket: Ticket,
        positions: u64,
        received: Instant,
        now: Instant,
    ) -> bool {
        let begun = &self.begun[ticket as usize];
        let lane = begun.lane;
        if begun.given_up {
            return false;
        }
        let since = self.lanes[lane].corrected.is_none_or(|at| received > at);
        let ready = now.saturating_duration_since(received) + self.time(lane, positions);
        // The pieces that came before a read was given up were late already.
        if positions > 0 && since && ready > self.deadline {
            self.give_one_up(lane, now);
        }
        let begun = &mut self.begun[ticket as usize];
        if begun.given_up {
            return false;
        }
        begun.waiting -= positions;
        let lane = &mut self.lanes[lane];
        lane.waiting -= positions;
        lane.working = positions;
        true
    }

    /// `scored` positions took a lane `time`.
    pub(super) fn worked(&mut self, lane: usize, scored: u64, time: Duration) {
        let lane = &mut self.lanes[lane];
        lane.working = 0;
        let seconds = time.as_secs_f64();
        lane.costs
            .add(seconds, scored as f64, (-seconds / COSTS).exp());
    }

    /// The last piece of a begun read has been worked on.
    pub(super) fn over(&mut self, ticket: Ticket) {
        let begun = &mut self.begun[ticket as usize];
        if !begun.in_use {
            return;
        }
        begun.in_use = false;
        let lane = &mut self.lanes[begun.lane];
        if !begun.given_up {
            lane.begun[begun.channel.0] -= 1;
            lane.waiting -= begun.waiting;
        }
        self.free.push(ticket);
    }

    /// The part of its time that a lane's begun reads take, and so many more of a source.
    fn demand(&self, lane: usize, source: usize, more: usize) -> f64 {
        let lane = &self.lanes[lane];
        let mut bases = 0.0;
        for (number, (begun, rate)) in lane.begun.iter().zip(&self.rates).enumerate() {
            let more = if number == source { more } else { 0 };
            let reads = f64::from(*begun) + more as f64;
            if reads > 0.0 {
                bases += reads * rate.per_second();
            }
        }
        bases * lane.cost()
    }

    fn has_room(&self, source: usize, lane: usize, more: usize, now: Instant) -> bool {
        if more == 1 && self.lanes[lane].begun.iter().all(|begun| *begun == 0) {
            return true;
        }
        let most = self.deadline.mul_f64(CALM);
        let booked = self.lanes[lane].booked;
        let booked = booked.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let calm = self.wait(lane) <= most && booked <= most;
        calm && self.demand(lane, source, more) <= SHARE
    }

    /// How long positions take on a lane.
    fn time(&self, lane: usize, positions: u64) -> Duration {
        let cost = self.lanes[lane].cost();
        // Without a cost nothing is known to be late.
        let seconds = Some(cost * positions as f64).filter(|time| time.is_finite());
        Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or(Duration::MAX)
    }

    /// How long what waits on a lane takes.
    fn wait(&self, lane: usize) -> Duration {
        self.time(lane, self.lanes[lane].waiting + self.lanes[lane].working)
    }

    /// True where what waits on a lane will hardly be scored by the deadline of what came at
    /// `received`.
    fn late(&self, lane: usize, received: Instant, now: Instant) -> bool {
        let age = now.saturating_duration_since(received);
        age.saturating_add(self.wait(lane)) > self.deadline.mul_f64(ALARM)
    }

    /// Gives the read up that the policy names; false where none has bases waiting.
    fn give_one_up(&mut self, lane: usize, now: Instant) -> bool {
        let waits = |begun: &&mut Begun| {
            begun.in_use && begun.lane == lane && !begun.given_up && begun.waiting > 0
        };
        let waiting = self.begun.iter_mut().filter(waits);
        let found = if self.youngest {
            waiting.max_by_key(|begun| begun.number)
        } else {
            waiting.max_by_key(|begun| (begun.waiting, begun.number))
        };
        let Some(begun) = found else {
            return false;
        };
        begun.given_up = true;
        let lane = &mut self.lanes[lane];
        lane.begun[begun.channel.0] -= 1;
        lane.waiting -= begun.waiting;
        lane.corrected = Some(now);
        let channel = begun.channel;
        #[cfg(test)]
        self.given_up.push(channel);
        self.decisions += 1;
        self.refuse(channel, now);
        true
    }

    fn refuse(&mut self, channel: Channel, now: Instant) {
        let since = self.decisions;
        self.owed
            .entry(channel)
            .or_insert(Owed { since, seen: now })
            .seen = now;
    }

    fn keep_in_mind(&mut self, channel: Channel, now: Instant) {
        if let Some(owed) = self.owed.get_mut(&channel) {
            owed.seen = now;
        }
    }

    fn measure(&mut self, source: usize, bases: u64, last: Instant, to: Instant, now: Instant) {
        let rate = &mut self.rates[source];
        let since = rate
            .at
            .replace(now)
            .map(|at| now.saturating_duration_since(at));
        let fade = (-since.unwrap_or_default().as_secs_f64() / RATES).exp();
        // One that was silent says little of how fast bases come.
        let took = to.saturating_duration_since(last).min(SILENT);
        rate.bases.add(bases as f64, took.as_secs_f64(), fade);
    }

    /// Forgets channels that say nothing any more.
    fn forget(&mut self, now: Instant) {
        let swept = self.swept.get_or_insert(now);
        if now.saturating_duration_since(*swept) > SILENT / 10 {
            *swept = now;
            self.owed
                .retain(|_, owed| now.saturating_duration_since(owed.seen) < SILENT);
        }
    }
}

impl Rate {
    fn per_second(&self) -> f64 {
        if self.bases.under > 0.0 {
            self.bases.over / self.bases.under
        } else {
            PORE
        }
    }
}

impl Lane {
    /// Seconds a position; without end until one was scored.
    fn cost(&self) -> f64 {
        if self.costs.under > 0.0 {
            self.costs.over / self.costs.under
        } else {
            f64::INFINITY
        }
    }
}
