//! The half that has the PWM chip: one task for each channel in use, from the request that opened the
//! stream until the channel is off, or left running.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use nix::errno::Errno;
use tracing::{debug, info, warn};

use super::enumerate;
use super::hardware::sysfs::SysfsPwm;
use super::hardware::{PwmChannel, PwmHost};
use super::op::{Configure, Configured, OpError, Polarity, Set, decode_empty, encode_empty};
use crate::bus::waiting;
use crate::bus::{
    Answer, BusStream, Caller, End, Grant, Inbound, MAX_AGE_SECS, Outlet, Owned, Present, Refused,
    Serving, Wanted,
};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// PWM chips as the owner's daemon sees them. One chip serves many streams, each channel one of them.
pub const OWNED: Owned = Owned {
    class: "pwm",
    shared: true,
    openers: &[Opcode::GpioPwmConfigure],
    calls: &[],
    list: None,
    look: enumerate::look,
    wanted,
    serve: |grant, stream| -> Serving {
        let host = Arc::new(SysfsPwm::default());
        Box::pin(serve(host, Arc::clone(&HOLDER), grant, stream))
    },
    call,
};

/// Channels that were left running.
static HOLDER: LazyLock<Arc<Holder>> = LazyLock::new(Arc::default);

/// The channels that nobody uses and that go on as they are, because their last user wanted that. They
/// stay taken, since some chips switch a channel off that is given back.
#[derive(Debug, Default)]
pub struct Holder {
    held: Mutex<BTreeSet<(String, u32)>>,
}

impl Holder {
    fn take(&self, chip: &str, channel: u32) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&(chip.to_owned(), channel))
    }

    fn hold(&self, chip: &str, channel: u32) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert((chip.to_owned(), channel));
    }
}

/// A channel in use. Dropping it switches it off, unless it is to be held; that may wait.
struct InUse {
    place: String,
    request: Configure,
    channel: Box<dyn PwmChannel>,
    holder: Arc<Holder>,
    period_ns: u64,
}

fn wanted(opcode: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    match opcode {
        Opcode::GpioPwmConfigure => {
            let request = Configure::decode(payload).map_err(|error| bad(&error))?;
            Ok(Wanted {
                device: request.dev,
                write: true,
            })
        }
        other => Err(Refused::unsupported(format!(
            "{other} opens no PWM channel"
        ))),
    }
}

fn call(_: &Present, _: &Caller, opcode: Opcode, _: &[u8]) -> Answer {
    Err(Refused::unsupported(format!("{opcode} is no PWM call")))
}

/// Answers the opening request and, if the channel can be had, serves it until the stream ends.
///
/// Do not drop the future half-way when it can be helped: the channel is switched off all the same, but
/// on the spot, and that waits for the hardware.
pub async fn serve(
    host: Arc<dyn PwmHost>,
    holder: Arc<Holder>,
    grant: Grant,
    mut stream: BusStream,
) -> End {
    let (corr, told) = (grant.corr, !grant.quiet);
    let device = grant.present.id.clone();
    match waiting(move || InUse::open(&*host, holder, &grant)).await {
        Ok(Ok((channel, answer))) => {
            if told {
                info!(device, channel = channel.request.ch, "PWM channel taken");
            }
            stream.outlet.respond(corr, Status::Ok, answer);
            let end = run(channel, &mut stream).await;
            if told {
                info!(device, ?end, "PWM channel given back");
            }
            end
        }
        Ok(Err(refused)) | Err(refused) => {
            if told {
                info!(device, reason = refused.msg, "PWM channel refused");
            }
            let payload = refused.payload();
            stream.outlet.respond(corr, refused.status, payload);
            End::Refused(refused)
        }
    }
}

async fn run(mut channel: InUse, stream: &mut BusStream) -> End {
    let mut released = None;
    let end = loop {
        let (corr, opcode, payload, age_secs) = match stream.inbound.recv().await {
            Some(Inbound::Request {
                corr,
                opcode,
                payload,
                age_secs,
            }) => (corr, opcode, payload, age_secs),
            Some(Inbound::Reset { .. } | Inbound::Closed) | None => break End::PeerLeft,
            // Requests are answered one by one, before the next message is looked at.
            Some(Inbound::Cancel { .. }) => continue,
            Some(
                Inbound::Response { .. }
                | Inbound::Event { .. }
                | Inbound::Data { .. }
                | Inbound::Writable
                | Inbound::Dropped { .. },
            ) => {
                debug!("the peer sent what no PWM stream carries");
                continue;
            }
        };
        if opcode == Opcode::GpioLineRelease && decode_empty(&payload).is_ok() {
            released = Some(corr);
            break End::Detached;
        }
        let set = check(&channel, opcode, &payload, age_secs);
        let done = waiting(move || {
            let answer = set.and_then(|set| channel.set(set));
            (channel, answer)
        });
        let Ok((back, answer)) = done.await else {
            stream.outlet.reset(Status::InternalError);
            return End::Failed;
        };
        channel = back;
        let gone = answer
            .as_ref()
            .is_err_and(|refused| refused.sub == sub::DEVICE_GONE);
        answer_with(&*stream.outlet, corr, answer);
        if gone {
            break End::DeviceGone;
        }
    };
    if waiting(move || drop(channel)).await.is_err() {
        warn!("the thread that gives a PWM channel back failed");
    }
    match (&end, released) {
        (End::Detached, Some(corr)) => stream.outlet.respond(corr, Status::Ok, encode_empty()),
        (End::DeviceGone, _) => stream.outlet.reset(Status::ServiceUnavailable),
        (End::Detached | End::PeerLeft | End::Failed | End::Refused(_), _) => {}
    }
    end
}

fn answer_with(outlet: &dyn Outlet, corr: u32, answer: Answer) {
    match answer {
        Ok(payload) => outlet.respond(corr, Status::Ok, payload),
        Err(refused) => outlet.respond(corr, refused.status, refused.payload()),
    }
}

fn check(channel: &InUse, opcode: Opcode, payload: &[u8], age_secs: u32) -> Result<Set, Refused> {
    if opcode != Opcode::GpioPwmSet {
        let text = format!("{opcode} does not run on a PWM channel");
        return Err(Refused::unsupported(text));
    }
    if age_secs > MAX_AGE_SECS {
        let text = format!("a PWM channel is not set {age_secs} s late");
        return Err(Refused::new(Status::Forbidden, sub::TOO_OLD, text));
    }
    let set = Set::decode(payload).map_err(|error| bad(&error))?;
    if set.duty_ns > channel.period_ns {
        return Err(Refused::bad(format!(
            "a duty cycle of {} ns is longer than the period of {} ns",
            set.duty_ns, channel.period_ns
        )));
    }
    Ok(set)
}

impl InUse {
    /// Takes the channel that a peer wants; the payload of the answer comes with it. May wait.
    fn open(
        host: &dyn PwmHost,
        holder: Arc<Holder>,
        grant: &Grant,
    ) -> Result<(Self, Vec<u8>), Refused> {
        let request = Configure::decode(&grant.payload).map_err(|error| bad(&error))?;
        if !grant.write {
            let text = "a PWM channel needs the right to write";
            return Err(Refused::new(Status::Forbidden, sub::ACL, text));
        }
        let (place, ch) = (grant.present.place.clone(), request.ch);
        let channels = host
            .channels(&place)
            .map_err(|errno| io_error("cannot look at the chip", errno))?;
        if ch >= channels {
            let text = format!("there is no channel {ch}, the chip has {channels}");
            return Err(Refused::bad(text));
        }
        let held = holder.take(&place, ch);
        let channel = host.open(&place, ch, held).map_err(|errno| match errno {
            Errno::EBUSY => Refused::new(
                Status::ServiceUnavailable,
                sub::BUSY,
                format!(
                    "channel {ch} is in use at its owner; if nobody wants it any more, there: \
                    echo {ch} > /sys/class/pwm/{place}/unexport"
                ),
            ),
            errno => io_error("cannot take the channel", errno),
        })?;
        let mut taken = Self {
            period_ns: request.period_ns,
            place,
            request,
            channel,
            holder,
        };
        let configured = taken.configure();
        if configured.is_err() {
            // It never ran for this peer, so there is nothing to be held.
            taken.request.hold = false;
        }
        Ok((taken, configured?))
    }

    fn configure(&mut self) -> Answer {
        let inversed = self.request.pol == Polarity::Inversed;
        let done = self.channel.configure(self.request.period_ns, inversed);
        let state = done
            .and_then(|()| self.channel.state())
            .map_err(|errno| match errno {
                Errno::EINVAL | Errno::ERANGE | Errno::EOPNOTSUPP => Refused::bad(format!(
                    "the hardware cannot do a period of {} ns with {} polarity",
                    self.request.period_ns, self.request.pol
                )),
                errno => io_error("cannot configure the channel", errno),
            })?;
        self.period_ns = state.period_ns;
        let configured = Configured {
            period_ns: state.period_ns,
            pol: if state.inversed {
                Polarity::Inversed
            } else {
                Polarity::Normal
            },
        };
        configured.encode().map_err(|error| internal(&error))
    }

    fn set(&mut self, set: Set) -> Answer {
        let done = if set.on {
            self.channel.run(set.duty_ns)
        } else {
            self.channel.stop()
        };
        let state = done.and_then(|()| self.channel.state());
        let state = state.map_err(|errno| io_error("cannot set the channel", errno))?;
        let set = Set {
            duty_ns: state.duty_ns,
            on: state.on,
        };
        set.encode().map_err(|error| internal(&error))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let (place, channel) = (&self.place, self.request.ch);
        if self.request.hold {
            self.holder.hold(place, channel);
            return;
        }
        let stopped = self.channel.stop();
        if let Err(errno) = stopped.and_then(|()| self.channel.unexport())
            && !is_gone(errno)
        {
            warn!(place, channel, %errno, "cannot switch a PWM channel off and give it back");
        }
    }
}

/// Files of sysfs are gone with their device.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

fn io_error(what: &str, errno: Errno) -> Refused {
    if is_gone(errno) {
        Refused::gone()
    } else {
        Refused::io(what, errno)
    }
}

fn bad(error: &OpError) -> Refused {
    Refused::bad(error.to_string())
}

fn internal(error: &dyn core::error::Error) -> Refused {
    Refused::new(Status::InternalError, sub::INTERNAL, error.to_string())
}
