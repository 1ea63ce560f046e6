//! What goes over the streams of a device, counted: bytes, requests and how long they took. Nothing here
//! allocates for a request, and a device that makes no requests costs a few words.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::daemon::control::message::Traffic;
use crate::wire::time::Mono;

/// Requests whose answer is waited for at the same time, each in the place that its number gives it. Of
/// two in one place the older is not measured.
const PLACES: usize = 64;
/// How long a window of latencies is.
const WINDOW: Duration = Duration::from_secs(30);
/// Places of a histogram for each doubling.
const STEPS: u32 = 4;
/// Doublings, from 1 µs to about 17 minutes.
const DOUBLINGS: u32 = 30;
const BUCKETS: usize = (STEPS * DOUBLINGS) as usize;

/// Counts of one device, one stream or one daemon.
#[derive(Debug, Default)]
pub struct Meter {
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    requests: Cell<u64>,
    drops: Cell<u64>,
    /// Made by the first request.
    timing: RefCell<Option<Box<Timing>>>,
}

/// A look at a [`Meter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Bytes of payloads that came.
    pub bytes_in: u64,
    /// Bytes of payloads that went.
    pub bytes_out: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Events that were not sent for lack of credit.
    pub drops: u64,
    /// Half of the requests of the last half minute took no longer.
    pub p50: Option<Duration>,
    /// 99 of 100 did not.
    pub p99: Option<Duration>,
}

impl From<Reading> for Traffic {
    fn from(reading: Reading) -> Self {
        let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self {
            bytes_in: reading.bytes_in,
            bytes_out: reading.bytes_out,
            requests: reading.requests,
            drops: reading.drops,
            p50_us: reading.p50.map(micros),
            p99_us: reading.p99.map(micros),
        }
    }
}

#[derive(Debug, Default)]
struct Timing {
    pending: Pending,
    latency: Latency,
}

#[derive(Debug)]
struct Pending([Option<(u32, Mono)>; PLACES]);

impl Default for Pending {
    fn default() -> Self {
        Self([None; PLACES])
    }
}

impl Pending {
    fn place(&mut self, number: u32) -> Option<&mut Option<(u32, Mono)>> {
        let place = usize::try_from(number).ok()? % PLACES;
        self.0.get_mut(place)
    }
}

impl Meter {
    /// So many bytes of payload came.
    pub fn came(&self, bytes: usize) {
        add(&self.bytes_in, bytes);
    }

    /// So many bytes of payload went.
    pub fn went(&self, bytes: usize) {
        add(&self.bytes_out, bytes);
    }

    /// So many events were not sent.
    pub fn dropped(&self, count: u32) {
        self.drops
            .set(self.drops.get().saturating_add(u64::from(count)));
    }

    /// A request began; its number tells it from others.
    pub fn asked(&self, number: u32, now: Mono) {
        let mut timing = self.timing.borrow_mut();
        let timing = timing.get_or_insert_default();
        if let Some(place) = timing.pending.place(number) {
            *place = Some((number, now));
        }
    }

    /// It was answered: how long it took, if that is known.
    pub fn answered(&self, number: u32, now: Mono) -> Option<Duration> {
        let mut timing = self.timing.borrow_mut();
        let place = timing.as_deref_mut()?.pending.place(number)?;
        let (_, began) = place.take_if(|(begun, _)| *begun == number)?;
        drop(timing);
        let took = now.since(began);
        self.took(took, now);
        Some(took)
    }

    /// A request was answered after so long.
    pub fn took(&self, took: Duration, now: Mono) {
        self.served();
        let mut timing = self.timing.borrow_mut();
        timing.get_or_insert_default().latency.add(took, now);
    }

    /// A request was answered, no matter when it came.
    pub fn served(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// The counts now.
    pub fn read(&self, now: Mono) -> Reading {
        let mut timing = self.timing.borrow_mut();
        let mut quantile = |percent| {
            let latency = &mut timing.as_deref_mut()?.latency;
            latency.turn(now);
            latency.quantile(percent)
        };
        Reading {
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            requests: self.requests.get(),
            drops: self.drops.get(),
            p50: quantile(50),
            p99: quantile(99),
        }
    }

    /// Answered requests by how long they took, since the beginning.
    pub fn spread(&self) -> Spread {
        let timing = self.timing.borrow();
        timing
            .as_deref()
            .map_or_else(Spread::default, |timing| timing.latency.spread)
    }
}

fn add(counter: &Cell<u64>, bytes: usize) {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    counter.set(counter.get().saturating_add(bytes));
}

/// Upper ends of the places of a [`Spread`], in microseconds.
pub const BOUNDS: [u64; 12] = [
    100, 250, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// How many requests took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Those above the bound before and not above this one.
    pub counts: [u64; BOUNDS.len()],
    /// All, also those above the last bound.
    pub count: u64,
    /// Microseconds of all together.
    pub sum: u64,
}

impl Spread {
    fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(micros);
    }
}

/// The latencies of this window and of the one before.
#[derive(Debug)]
struct Latency {
    spread: Spread,
    began: Mono,
    now: [u32; BUCKETS],
    before: [u32; BUCKETS],
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            spread: Spread::default(),
            began: Mono::default(),
            now: [0; BUCKETS],
            before: [0; BUCKETS],
        }
    }
}

impl Latency {
    fn add(&mut self, took: Duration, now: Mono) {
        self.spread.add(took);
        self.turn(now);
        if let Some(count) = self.now.get_mut(bucket(took)) {
            *count = count.saturating_add(1);
        }
    }

    /// Begins another window when it is time.
    fn turn(&mut self, now: Mono) {
        let age = now.since(self.began);
        if age < WINDOW {
            return;
        }
        self.before = if age < 2 * WINDOW {
            self.now
        } else {
            [0; BUCKETS]
        };
        self.now = [0; BUCKETS];
        self.began = now;
    }

    /// The upper end of the bucket in which that percentage is reached.
    fn quantile(&self, percent: u64) -> Option<Duration> {
        let counts = || self.now.iter().zip(&self.before);
        let count = |(now, before): (&u32, &u32)| u64::from(*now) + u64::from(*before);
        let total: u64 = counts().map(count).sum();
        let wanted = (total * percent).div_ceil(100);
        let mut sum = 0;
        let found = counts().position(|pair| {
            sum += count(pair);
            sum >= wanted
        });
        found.filter(|_| total > 0).map(upper)
    }
}

/// Four buckets for each doubling: a quantile is at most a quarter too high.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2().min(DOUBLINGS - 1);
    // The part of the doubling that is reached.
    let step = ((u128::from(micros) * u128::from(STEPS)) >> doubling) - u128::from(STEPS);
    let step = u32::try_from(step).unwrap_or(u32::MAX).min(STEPS - 1);
    usize::try_from(doubling * STEPS + step).unwrap_or(BUCKETS - 1)
}

fn upper(bucket: usize) -> Duration {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let (doubling, step) = (bucket / u64::from(STEPS), bucket % u64::from(STEPS));
    let micros = ((u64::from(STEPS) + step + 1) << doubling) / u64::from(STEPS);
    Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn quantiles_are_at_most_a_quarter_too_high() {
        let meter = Meter::default();
        let now = Mono::from_secs(1000);
        for count in 1..=1000 {
            meter.took(Duration::from_micros(count), now);
        }
        let reading = meter.read(now);
        for (found, right) in [(reading.p50, 500), (reading.p99, 990)] {
            let found = found.unwrap().as_micros();
            assert!(
                (right..=right * 5 / 4).contains(&found),
                "{found} for {right}"
            );
        }
        assert_eq!(reading.requests, 1000);
    }

    #[test]
    fn extremes_have_a_place_too() {
        for took in [Duration::ZERO, Duration::from_micros(1), Duration::MAX] {
            assert!(bucket(took) < BUCKETS, "{took:?}");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_spread_counts_each_request_once_by_its_bound() {
        let meter = Meter::default();
        let now = Mono::from_secs(1000);
        for took in [100, 101, 250, 10_000_000, 10_000_001] {
            meter.took(Duration::from_micros(took), now);
        }
        let spread = meter.spread();
        assert_eq!(spread.counts[..3], [1, 2, 0]);
        assert_eq!((spread.counts[11], spread.count), (1, 5));
        assert_eq!(spread.sum, 100 + 101 + 250 + 10_000_000 + 10_000_001);
    }

    #[test]
    fn old_latencies_are_forgotten_after_two_windows() {
        let meter = Meter::default();
        let at = |seconds: u64| Mono::from_secs(1000 + seconds);
        meter.took(ms(100), at(0));
        assert!(meter.read(at(31)).p50 >= Some(ms(100)));
        meter.took(ms(1), at(31));
        let reading = meter.read(at(32));
        assert!(
            reading.p50 < Some(ms(2)) && reading.p99 >= Some(ms(100)),
            "{reading:?}"
        );
        assert!(meter.read(at(62)).p99 < Some(ms(2)));
        assert_eq!(meter.read(at(200)).p99, None);
        assert_eq!(meter.read(at(200)).requests, 2);
    }

    #[test]
    fn requests_are_measured_by_their_number_in_bounded_room() {
        let meter = Meter::default();
        let at = |seconds: u64| Mono::from_secs(1000 + seconds);
        meter.asked(1, at(0));
        meter.asked(2, at(1));
        assert_eq!(meter.answered(2, at(2)), Some(ms(1000)));
        assert_eq!(meter.answered(2, at(2)), None);
        for number in 100..1_100_u32 {
            meter.asked(number, at(3));
        }
        assert_eq!(meter.answered(1, at(4)), None, "another one took its place");
        assert_eq!(meter.answered(1_099, at(4)), Some(ms(1000)));
        assert_eq!(meter.read(at(4)).requests, 2);
    }
}
