//! A gamepad with a touchpad, LEDs and motors that no hardware has, and a program that uses such a
//! thing. The pad says on standard output what it is told, one line for each.

use core::future::poll_fn;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use myclerk::kernel::evdev::codes::{
    ABS_MT_SLOT, ABS_MT_TRACKING_ID, EV_FF, EV_REP, FF_AUTOCENTER, FF_CONSTANT, FF_GAIN,
    FF_PERIODIC, FF_RUMBLE, FF_SQUARE, REP_DELAY, REP_PERIOD,
};
use myclerk::kernel::evdev::{
    Axis, Codes, Description, Effect, Evdev, Event, Ids, Kind, Wave, monotonic,
};
use myclerk::kernel::uinput::{Uinput, Watch, Wish};
use nix::errno::Errno;
use tokio::sync::mpsc;

use crate::say;

const ABS_X: u16 = 0x00;
const ABS_Y: u16 = 0x01;
const STICK: u16 = 0x03;
/// Milliseconds, so many that no key repeats by itself while a case runs.
const REPEAT: [u16; 2] = [40_000, 10_000];
const MT_X: u16 = 0x35;
const MT_Y: u16 = 0x36;

fn pad() -> Description {
    let codes = |codes: &[u16]| codes.iter().copied().collect::<Codes>();
    let axis = |minimum, maximum, resolution| Axis {
        minimum,
        maximum,
        resolution,
        ..Axis::default()
    };
    let stick = Axis {
        fuzz: 16,
        flat: 128,
        ..axis(-32768, 32767, 0)
    };
    Description {
        ids: Ids {
            bus: 3,
            vendor: 0x1209,
            product: 0x4C50,
            version: 0x0111,
        },
        name: "Lab pad".to_owned(),
        // A touchpad's property, and two keys, four buttons, touching.
        props: codes(&[0]),
        keys: codes(&[30, 31, 0x110, 0x111, 0x130, 0x131, 0x145, 0x14A]),
        rel: codes(&[0, 1, 8]),
        abs: vec![
            (ABS_X, axis(0, 4000, 40)),
            (ABS_Y, axis(0, 3000, 40)),
            (STICK, stick),
            (ABS_MT_SLOT, axis(0, 4, 0)),
            (MT_X, axis(0, 4000, 40)),
            (MT_Y, axis(0, 3000, 40)),
            (ABS_MT_TRACKING_ID, axis(0, 65535, 0)),
        ],
        msc: codes(&[4]),
        leds: codes(&[0, 1, 2]),
        sounds: codes(&[1, 2]),
        repeat: Some([250, 33]),
        ff: codes(&[
            FF_RUMBLE,
            FF_PERIODIC,
            FF_CONSTANT,
            FF_SQUARE,
            FF_GAIN,
            FF_AUTOCENTER,
        ]),
        effects: 16,
        ..Description::default()
    }
}

/// Is the pad until the process is ended. Each line of `orders` is a packet: `TYPE CODE VALUE`, with
/// commas between its events.
///
/// # Errors
/// There can be no such device.
pub(crate) fn serve(orders: &Path) -> io::Result<()> {
    let (send, mut packets) = mpsc::unbounded_channel();
    let file = File::options().read(true).write(true).open(orders)?;
    std::thread::spawn(move || {
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let pad = Uinput::create(Path::new("/dev/uinput"), &pad(), "lab/pad")?;
        let node = pad.event_name()?;
        let rates = [REP_DELAY, REP_PERIOD].into_iter().zip(REPEAT);
        let rates: Vec<Event> = rates
            .map(|(code, time)| Event::new(EV_REP, code, i32::from(time)))
            .chain([Event::REPORT])
            .collect();
        pad.write(&rates)?;
        let pad = pad.watch()?;
        say(&format!("node /dev/input/{node}"));
        loop {
            let mut wishes = Vec::new();
            tokio::select! {
                line = packets.recv() => match line {
                    Some(line) => pad.device().write(&packet(&line)?)?,
                    None => return Ok(()),
                },
                read = poll_fn(|context| pad.poll(context, |pad| pad.read(&mut wishes))) => read?,
            }
            for wish in wishes {
                told(&pad, wish)?;
            }
        }
    })
}

fn packet(line: &str) -> io::Result<Vec<Event>> {
    let event = |words: &str| {
        let numbers: Vec<i32> = words
            .split_whitespace()
            .map(|word| word.parse().map_err(io::Error::other))
            .collect::<io::Result<_>>()?;
        let &[kind, code, value] = numbers.as_slice() else {
            return Err(io::Error::other("an event has three numbers"));
        };
        let number = |value: i32| u16::try_from(value).map_err(io::Error::other);
        Ok(Event {
            time: monotonic(),
            ..Event::new(number(kind)?, number(code)?, value)
        })
    };
    let mut events: Vec<Event> = line.split(',').map(event).collect::<io::Result<_>>()?;
    events.push(Event::REPORT);
    Ok(events)
}

fn told(pad: &Watch<Uinput>, wish: Wish) -> Result<(), Errno> {
    match wish {
        Wish::Event(event) => {
            say(&format!("{} {} {}", event.kind, event.code, event.value));
            Ok(())
        }
        Wish::Upload { request, effect } => {
            let Some(effect) = effect else {
                return pad.device().uploaded(request, Err(Errno::EINVAL));
            };
            let Effect { id, replay, .. } = effect;
            say(&format!("upload {id} {:?} {replay:?}", effect.kind));
            pad.device().uploaded(request, Ok(()))
        }
        Wish::Erase { request, id } => {
            say(&format!("erase {id}"));
            pad.device().erased(request, Ok(()))
        }
    }
}

/// Says what state a device is in, one line for each kind of thing.
///
/// # Errors
/// The device is not there.
pub(crate) fn state(node: &Path) -> io::Result<()> {
    let device = Evdev::open(node)?;
    let state = device.snapshot(&device.description()?)?;
    let list = |codes: &Codes| codes.iter().collect::<Vec<_>>();
    say(&format!("keys {:?}", list(&state.keys)));
    say(&format!("leds {:?}", list(&state.leds)));
    say(&format!("axes {:?}", state.abs));
    say(&format!("contacts {:?}", state.contacts));
    Ok(())
}

/// Sets something of a device: a LED, a sound, the rate of repetition.
///
/// # Errors
/// The device is not there.
pub(crate) fn set(node: &Path, kind: u16, code: u16, value: i32) -> io::Result<()> {
    let device = Evdev::open(node)?;
    device.write(&[Event::new(kind, code, value), Event::REPORT])?;
    Ok(())
}

fn rumble(id: i16, strong: u16) -> Effect {
    Effect {
        id,
        direction: 0x4000,
        trigger: [0, 0],
        replay: [500, 20],
        kind: Kind::Rumble { strong, weak: 7 },
    }
}

/// Has an effect at a device until the process is ended.
///
/// # Errors
/// The device takes no effects.
pub(crate) fn hold(node: &Path) -> io::Result<()> {
    let device = Evdev::open(node)?;
    device.upload(rumble(-1, 1))?;
    loop {
        std::thread::park();
    }
}

/// Uploads two effects, plays, changes and erases the first one, and leaves the second one behind.
///
/// # Errors
/// The device takes no effects.
pub(crate) fn effects(node: &Path) -> io::Result<()> {
    let device = Evdev::open(node)?;
    let first = device.upload(rumble(-1, 60_000))?;
    let wave = Kind::Periodic {
        wave: Wave::Square,
        period: 100,
        magnitude: -3000,
        offset: 4,
        phase: 5,
        envelope: [10, 20, 30, 40],
    };
    let second = device.upload(Effect {
        kind: wave,
        ..rumble(-1, 0)
    })?;
    let play = |code: u16, value| device.write(&[Event::new(EV_FF, code, value), Event::REPORT]);
    play(FF_GAIN, 0x8000)?;
    play(FF_AUTOCENTER, 0x1000)?;
    play(u16::try_from(first).map_err(io::Error::other)?, 2)?;
    device.upload(rumble(first, 1000))?;
    play(u16::try_from(second).map_err(io::Error::other)?, 1)?;
    device.erase(first)?;
    say(&format!("effects {first} and {second}"));
    Ok(())
}
