//! A decorator that makes a path as bad as a test wants: delay, loss, reordering, bit flips and a
//! cut, always the same for the same seed, on tokio's clock and therefore on virtual time.
//!
//! Faults befall what arrives at the decorated end; decorate both ends for both directions.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{LocalFuture, MessageReader, Path, PathControl, TransportError};

/// Messages that may be delayed at once; beyond that the sender waits.
const WINDOW: usize = 1024;

/// What goes wrong. The default changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Chooses the course of events.
    pub seed: u64,
    /// Every message arrives this much later.
    pub delay: Duration,
    /// And up to this much more, still in order.
    pub jitter: Duration,
    /// Messages in a thousand that never arrive.
    pub loss: u16,
    /// Messages in a thousand with one bit inverted.
    pub flip: u16,
    /// Messages in a thousand that later ones overtake, by being late by `reorder_by`.
    pub reorder: u16,
    /// How late a message is that others overtake.
    pub reorder_by: Duration,
    /// The path breaks after so many messages have arrived.
    pub cut_after_messages: Option<u64>,
    /// The path breaks after so many bytes have arrived, in the middle of a message.
    pub cut_after_bytes: Option<u64>,
}

/// Puts faults between the peer and `path`.
pub fn inject(path: Path, faults: Faults) -> Path {
    let control: Rc<dyn PathControl> = Rc::new(Control {
        ordered: path.control.ordered() && faults.loss == 0 && faults.reorder == 0,
        inner: path.control,
    });
    Path {
        reader: Box::new(Reader {
            inner: path.reader,
            control: Rc::clone(&control),
            random: SplitMix(faults.seed),
            faults,
            delayed: VecDeque::new(),
            newest: None,
            arrived: (0, 0),
            end: None,
        }),
        writer: path.writer,
        control,
    }
}

struct Reader {
    inner: Box<dyn MessageReader>,
    control: Rc<dyn PathControl>,
    faults: Faults,
    random: SplitMix,
    /// Sorted by the time of arrival.
    delayed: VecDeque<(Instant, Vec<u8>)>,
    /// When the last message that keeps its order arrives.
    newest: Option<Instant>,
    /// Messages and bytes so far.
    arrived: (u64, u64),
    /// How the path ended; told after everything that was on its way.
    end: Option<Result<(), TransportError>>,
}

impl MessageReader for Reader {
    fn recv(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, TransportError>> {
        Box::pin(async move {
            loop {
                let due = self.delayed.front().map(|(due, _)| *due);
                if due.is_some_and(|due| due <= Instant::now()) {
                    return Ok(self.delayed.pop_front().map(|(_, message)| message));
                }
                match (due, self.end.is_some() || self.delayed.len() >= WINDOW) {
                    (Some(due), true) => sleep_until(due).await,
                    (Some(due), false) => tokio::select! {
                        biased;
                        received = self.inner.recv() => self.take(received),
                        () = sleep_until(due) => {}
                    },
                    (None, false) => {
                        let received = self.inner.recv().await;
                        self.take(received);
                    }
                    (None, true) => {
                        return match self.end.replace(Ok(())) {
                            Some(Err(error)) => Err(error),
                            Some(Ok(())) | None => Ok(None),
                        };
                    }
                }
            }
        })
    }
}

impl Reader {
    /// Decides the fate of what came from the inner path.
    fn take(&mut self, received: Result<Option<Vec<u8>>, TransportError>) {
        let mut message = match received {
            Ok(Some(message)) => message,
            Ok(None) => return self.end = Some(Ok(())),
            Err(error) => return self.end = Some(Err(error)),
        };
        let (messages, bytes) = self.arrived;
        self.arrived = (
            messages + 1,
            bytes.saturating_add(u64::try_from(message.len()).unwrap_or(u64::MAX)),
        );
        let past = |limit: Option<u64>, count: u64| limit.is_some_and(|limit| count > limit);
        if past(self.faults.cut_after_messages, self.arrived.0)
            || past(self.faults.cut_after_bytes, self.arrived.1)
        {
            self.control.abort();
            self.end = Some(Err(TransportError::Truncated));
            return;
        }
        // One draw for each kind of fault, so that switching one on leaves the others as they were.
        let [loss, flip, reorder] = [self.faults.loss, self.faults.flip, self.faults.reorder]
            .map(|per_mille| self.random.below(1000) < u64::from(per_mille));
        let (bit, jitter) = (self.random.next(), self.jitter());
        if loss {
            return;
        }
        if flip {
            invert(&mut message, bit);
        }
        self.schedule(message, jitter, reorder);
    }

    fn jitter(&mut self) -> Duration {
        let most = u64::try_from(self.faults.jitter.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.below(most.saturating_add(1)))
    }

    fn schedule(&mut self, message: Vec<u8>, jitter: Duration, reorder: bool) {
        let mut due = Instant::now() + self.faults.delay + jitter;
        if reorder {
            due += self.faults.reorder_by;
        } else {
            due = self.newest.map_or(due, |newest| newest.max(due));
            self.newest = Some(due);
        }
        let place = self.delayed.partition_point(|(other, _)| *other <= due);
        self.delayed.insert(place, (due, message));
    }
}

fn invert(message: &mut [u8], bit: u64) {
    let length = u64::try_from(message.len()).unwrap_or(u64::MAX);
    let place = usize::try_from((bit >> 3) % length.max(1)).unwrap_or(0);
    if let Some(byte) = message.get_mut(place) {
        *byte ^= 1 << (bit & 7);
    }
}

struct Control {
    ordered: bool,
    inner: Rc<dyn PathControl>,
}

impl PathControl for Control {
    fn peer(&self) -> &str {
        self.inner.peer()
    }

    fn ordered(&self) -> bool {
        self.ordered
    }

    fn max_message(&self) -> usize {
        self.inner.max_message()
    }

    fn set_limit(&self, bytes: usize) {
        self.inner.set_limit(bytes);
    }

    fn set_unsent_limit(&self, bytes: u32) -> Result<(), TransportError> {
        self.inner.set_unsent_limit(bytes)
    }

    fn unsent(&self) -> usize {
        self.inner.unsent()
    }

    fn delivery_rate(&self) -> Option<u64> {
        self.inner.delivery_rate()
    }

    fn abort(&self) {
        self.inner.abort();
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): good enough to choose faults, never for keys.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, 0 when that is 0; the bias of the remainder does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }
}
